"""Leaves that share memory, in place: the same memory is written once, a part of it is refused."""

import re

import numpy as np
import pytest

import agclip
import arrays
from agclip._trees import distinct, gather

VALUES = [3.0, -4.0, 0.0, 12.0]

# Of two leaves with the entries of VALUES; what comes out is what the rule gives one such leaf, or,
# of the functions with one norm for all, √2 times less.
FUNCTIONS = {
    "clip_by_value_": (lambda t: agclip.clip_by_value_(t, -1.0, 2.0, loss_scale=2.0), 1),
    "clip_by_norm_": (lambda t: agclip.clip_by_norm_(t, 1.0), 1),
    "clip_by_average_norm_": (lambda t: agclip.clip_by_average_norm_(t, 0.5), 1),
    "clip_by_rms_": (lambda t: agclip.clip_by_rms_(t, 0.5), 1),
    "clip_by_global_norm_": (lambda t: agclip.clip_by_global_norm_(t, 1.0), 2),
    "adaptive_grad_clip_": (lambda t: agclip.adaptive_grad_clip_(t, ones(t), unit_axes=whole), 1),
    "ClipByValue": (lambda t: step(agclip.ClipByValue(-1.0, 2.0, loss_scale=2.0), t), 1),
    "ClipByNorm": (lambda t: step(agclip.ClipByNorm(1.0), t), 1),
    "ClipByGlobalNorm": (lambda t: step(agclip.ClipByGlobalNorm(1.0), t), 2),
    "SpikeClip": (lambda t: step(agclip.SpikeClip(threshold=2.0, warmup=0), t), 1),
}
ALONE = {
    "clip_by_value_": [1.5, -1.0, 0.0, 2.0],
    "clip_by_norm_": [3 / 13, -4 / 13, 0.0, 12 / 13],
    "clip_by_average_norm_": [6 / 13, -8 / 13, 0.0, 24 / 13],
    "clip_by_rms_": [3 / 13, -4 / 13, 0.0, 12 / 13],
    "clip_by_global_norm_": [3 / 13, -4 / 13, 0.0, 12 / 13],
    "adaptive_grad_clip_": [0.06 / 13, -0.08 / 13, 0.0, 0.24 / 13],
    "ClipByValue": [1.5, -1.0, 0.0, 2.0],
    "ClipByNorm": [3 / 13, -4 / 13, 0.0, 12 / 13],
    "ClipByGlobalNorm": [3 / 13, -4 / 13, 0.0, 12 / 13],
}


def whole(path, leaf):
    """Every leaf is one unit, whatever its shape."""


def ones(tree):
    return [leaf * 0 + 1 for leaf in tree]


def step(rule, tree):
    return rule.update_(tree, rule.init(tree))


@pytest.fixture(params=arrays.SHARING)
def lib(request):
    return arrays.library(request.param)


@pytest.fixture(params=ALONE)
def function(request):
    return (*FUNCTIONS[request.param], ALONE[request.param])


def reshaped(lib, x, shape):
    """The same memory in another shape."""
    if lib.name == "array_api_strict":
        return x.__array_namespace__().reshape(x, shape, copy=False)
    return x.reshape(shape)


SAME = {
    "the array itself": lambda lib, x: x,
    "a view": lambda lib, x: x[:],
    "another shape": lambda lib, x: reshaped(lib, x, (2, 2)),
    "another order": lambda lib, x: reshaped(lib, x, (2, 2)).T,
    "one more axis": lambda lib, x: x[None, :],
}


@pytest.fixture(params=SAME)
def same(request):
    return SAME[request.param]


def test_the_same_memory_is_written_once(lib, same, function):
    clip, count, alone = function
    x = lib.array(VALUES, "float64")
    clip([x, same(lib, x)])
    expected = [value / count**0.5 for value in alone]
    assert lib.entries(x).tolist() == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("dtype", ["float16", "float32", "complex64"])
@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_the_same_memory_is_multiplied_once_in_every_dtype(name, same, dtype):
    lib = arrays.library(name)
    x, alone = lib.array([3.0, 0.0, 0.0, 4.0], dtype), lib.array([3.0, 0.0, 0.0, 4.0], dtype)
    agclip.clip_by_norm_([x, same(lib, x)], 1.0)
    agclip.clip_by_norm_([alone], 1.0)
    assert lib.entries(x).tolist() == lib.entries(alone).tolist()


def test_two_views_of_one_array_count_twice_and_are_multiplied_once():
    b = np.array([3.0, 4.0])
    _, norm = agclip.clip_by_global_norm_([b, b[:]], 1.0)
    assert norm == np.sqrt(50.0)
    assert b.tolist() == pytest.approx([0.42426406871192851, 0.56568542494923802])


@pytest.mark.parametrize("backwards", [lambda x: x[::-1], lambda x: x[2:0:-1]])
def test_an_array_read_backwards_is_the_same_memory(backwards):
    x = np.array([3.0, 4.0, 0.0, 12.0])
    forwards = x if backwards(x).size == 4 else x[1:3]
    before = forwards / np.linalg.norm(forwards)
    agclip.clip_by_norm_([backwards(x), forwards], 1.0)
    assert forwards.tolist() == pytest.approx(before.tolist())


def test_gaps_in_memory_are_kept_apart_from_what_lies_in_them():
    x = np.array([[3.0, 30.0], [4.0, 40.0]])
    agclip.clip_by_norm_([x[:, 0], x[:, 1], x[:, 0][None, ::-1]], 1.0)
    assert x.ravel().tolist() == pytest.approx([0.6, 0.6, 0.8, 0.8])


def test_the_parts_of_a_complex_array_do_not_share_memory():
    z = np.array([3 + 30j, 4 + 40j])
    agclip.clip_by_norm_([z.real, z.imag], 1.0)
    assert z.tolist() == pytest.approx([0.6 + 0.6j, 0.8 + 0.8j])


@pytest.mark.parametrize("kind", [list, lambda t: {"a": t[0], "b": [t[1]]}])
def test_slices_of_one_buffer_are_leaves_of_their_own(lib, kind):
    buffer = lib.array([3.0, 4.0, 30.0, 40.0])
    agclip.clip_by_norm_(kind([buffer[:2], buffer[2:]]), 1.0)
    assert lib.entries(buffer).tolist() == pytest.approx([0.6, 0.8, 0.6, 0.8])


PARTS = {
    "a slice": lambda lib, x: [x, x[1:3]],
    "an entry": lambda lib, x: [x[1:2], x],
    "neighbours": lambda lib, x: [x[:3], x[2:]],
    "every other": lambda lib, x: [x[::2], x[1:3]],
    "a row": lambda lib, x: [reshaped(lib, x, (2, 2))[0, :], x],
    "a column": lambda lib, x: [reshaped(lib, x, (2, 2))[:, 1], x[2:]],
    "of three": lambda lib, x: [x[:1], x[:1], x[:2]],
}
PATHS = {"of three": (0, 2)}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_the_memory_is_refused_before_anything_is_written(lib, name, part):
    x = lib.array(VALUES, "float64")
    tree = PARTS[part](lib, x)
    argument = "t_list" if "global" in name else "t"
    argument = "grads" if name[0].isupper() or "adaptive" in name else argument
    one, other = (f"{argument}[{i}]" for i in PATHS.get(part, (0, 1)))
    text = (
        f"`{argument}` must hold arrays that can be written in place; got two that share a part of "
        f"their memory, at {one} and {other}. Use the function without the underscore, which "
        f"returns new arrays."
    )
    with pytest.raises(TypeError, match=f"^{re.escape(text)}$"):
        FUNCTIONS[name][0](tree)
    assert lib.entries(x).tolist() == VALUES


@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_the_memory_is_no_matter_where_nothing_is_written(lib, part):
    x = lib.array(VALUES, "float64")
    tree = PARTS[part](lib, x)
    clipped, right = agclip.clip_by_norm(tree, 1.0), [agclip.clip_by_norm(y, 1.0) for y in tree]
    assert [lib.entries(y).tolist() for y in clipped] == [lib.entries(y).tolist() for y in right]


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_one_memory_in_two_dtypes_is_refused(name):
    lib = arrays.library(name)
    x = np.array(VALUES, dtype="float32")
    views = [lib.convert(x), lib.convert(x.view("complex64"))]
    with pytest.raises(TypeError, match=r"share a part of their memory, at t\[0\] and t\[1\]"):
        agclip.clip_by_norm_(views, 1.0)
    assert x.tolist() == VALUES


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_memory_is_judged_before_arrays_are_converted(project, name):
    lib = arrays.library(name)
    home = "array_api_strict"
    arrays.library(home)
    agclip.set_config(backend=home, on_foreign="convert")
    x = lib.array(VALUES)
    agclip.clip_by_value_([x, x[:]], -1.0, 2.0, loss_scale=2.0)
    assert lib.entries(x).tolist() == [1.5, -1.0, 0.0, 2.0]
    with pytest.raises(TypeError, match=r"share a part of their memory, at t\['b'\] and t\['c'\]"):
        agclip.clip_by_norm_({"a": lib.array([5.0]), "b": x, "c": x[:2]}, 1.0)
    assert lib.entries(x).tolist() == [1.5, -1.0, 0.0, 2.0]


def test_the_first_of_several_decides_what_is_written_of_slices():
    x = np.array([[3.0, 30.0], [4.0, 40.0]])
    agclip.clip_by_norm_([x, x.T], 1.0, axes=0)
    assert x.ravel().tolist() == pytest.approx([0.6, 0.6, 0.8, 0.8])


def test_empty_arrays_share_nothing():
    x = np.array([3.0, 4.0])
    agclip.clip_by_norm_([x[:0], x, x[:0], x[2:]], 1.0)
    assert x.tolist() == pytest.approx([0.6, 0.8])


def test_arrays_of_a_library_that_shows_no_addresses_are_told_apart_by_themselves():
    toy = pytest.importorskip("third_party.toyarray", reason="it lies beside the tests")
    x = toy.Array(np.array([3.0, 4.0]))
    agclip.clip_by_norm_([x, x], 1.0)
    assert x._data.tolist() == pytest.approx([0.6, 0.8])


class OnDevice:
    """An array that shows its memory as CuPy's do, and holds a part of a NumPy array."""

    def __init__(self, values):
        self._values = values
        self.__cuda_array_interface__ = {**values.__array_interface__, "version": 3}

    shape = property(lambda self: self._values.shape)
    dtype = property(lambda self: self._values.dtype)


def test_memory_on_a_device_is_told_by_its_addresses():
    backend = agclip.Backend(name="tests", xp=np)
    x = np.array(VALUES)
    views = [OnDevice(view) for view in (x, x[1:], x.reshape(2, 2), x[1:], x[::-1], x[:1])]
    assert distinct.same_memory(backend, views) == [0, 1, 0, 1, 0, 5]


@pytest.mark.parametrize("name", arrays.WRITABLE)
def test_arrays_of_their_own_are_known_to_be_distinct(name):
    lib = arrays.library(name)
    leaves = gather.gather([lib.array(VALUES) for _ in range(5)], "t", inplace=True)
    assert leaves.arrays.distinct


def test_interleaved_arrays_of_many_axes_are_told_apart():
    x = np.arange(1.0, 2 * 3 * 4 * 5 + 1).reshape(2, 3, 4, 5)
    parts = [x[i::2, j::3, :, k::5] for i in range(2) for j in range(3) for k in range(5)]
    norms = [float(np.linalg.norm(part.ravel())) for part in parts]
    before = [part.copy() for part in parts]
    agclip.clip_by_norm_(parts, 0.5)
    right = [part / norm / 2 for part, norm in zip(before, norms, strict=True)]
    assert all(np.allclose(a, b, rtol=1e-14) for a, b in zip(parts, right, strict=True))
