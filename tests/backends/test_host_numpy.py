"""NumPy arrays that are no plain memory: the same results, in the same kind of array."""

import pickle

import numpy as np
import pytest

import agclip
import arrays
import hosts

pytest_plugins = ["host_fixtures"]

SHAPE = (6, 8)
TAGGED = np.dtype("float32", metadata={"unit": "m"})


class Labelled(np.ndarray):
    """A subclass, as of arrays with units."""


def plain():
    return np.array(hosts.drawn("float32", 48)).reshape(SHAPE)


def spread(step):
    """Put the numbers in every second place of larger memory."""
    base = np.full((12, 16), np.nan, "float32")
    view = base[::step, ::step]
    view[...] = plain()
    return view


def unaligned():
    return np.frombuffer(bytearray(b"." + plain().tobytes()), "float32", offset=1).reshape(SHAPE)


LAYOUTS = {
    "C order": plain,
    "F order": lambda: np.asfortranarray(plain()),
    "one number": lambda: np.array(0.75, "float32"),
    "axes swapped": lambda: plain().reshape(2, 4, 6).transpose(1, 0, 2),
    "gaps": lambda: spread(2),
    "reversed": lambda: spread(-2),
    "unaligned": unaligned,
    "bytes swapped": lambda: plain().astype(plain().dtype.newbyteorder()),
    "metadata": lambda: plain().astype(TAGGED),
    "subclass": lambda: plain().view(Labelled),
    "unpickled": lambda: pickle.loads(pickle.dumps(plain())),
    "one row": lambda: plain()[:1],
    "one column": lambda: plain()[:, :1],
}
COMPILED = ("C order", "F order", "one number", "one row")
CLIPS = {
    **hosts.CLIPS,
    "largest": (
        lambda t: agclip.clip_by_global_norm([t], 0.01, ord=np.inf)[0][0],
        lambda t: agclip.clip_by_global_norm_([t], 0.01, ord=np.inf)[0][0],
    ),
    "reproducible": (
        lambda t: agclip.clip_by_rms(t, 0.01, reproducible=True),
        lambda t: agclip.clip_by_rms_(t, 0.01, reproducible=True),
    ),
}


layout = hosts.one_of(LAYOUTS)


@pytest.fixture(params=CLIPS)
def clips(request):
    return CLIPS[request.param]


def test_a_clip_of_any_layout_is_that_of_plain_memory(accelerate, leaf, clips):
    clip, _ = clips
    wanted = clip(np.array(leaf, "float32", order="C", subok=False))
    with arrays.unchanged(leaf):
        clipped = clip(leaf)
    assert not np.shares_memory(clipped, leaf)
    assert np.array_equal(clipped, wanted)


def test_the_kind_of_array_is_kept(accelerate, leaf, clips):
    clipped = clips[0](leaf)
    assert (type(clipped), clipped.shape) == (type(leaf), leaf.shape)
    assert clipped.dtype == leaf.dtype
    assert clipped.dtype.isnative == leaf.dtype.isnative


@pytest.mark.parametrize("layout", ["C order", "F order", "axes swapped"])
@pytest.mark.parametrize("name", ["norm", "reproducible"])
def test_dense_memory_keeps_its_order_of_axes(accelerate, leaf, name):
    assert CLIPS[name][0](leaf).strides == leaf.strides


def test_any_layout_is_clipped_in_its_own_memory(accelerate, leaf, clips):
    clip, clip_in_place = clips
    wanted, address, strides = clip(leaf.copy()), leaf.ctypes.data, leaf.strides
    assert clip_in_place(leaf) is leaf
    assert np.array_equal(leaf, wanted)
    assert (leaf.ctypes.data, leaf.strides) == (address, strides)


def test_what_lies_between_the_entries_is_not_touched(accelerate):
    view = spread(2)
    agclip.clip_by_norm_(view, 0.5)
    assert np.isnan(view.base).sum() == view.base.size - view.size


def test_which_layouts_the_compiled_kernels_take(layout, leaf):
    with hosts.accelerated("numba"):
        assert hosts.compiled([leaf]) is (layout in COMPILED)


@pytest.mark.parametrize("layout", ["gaps", "bytes swapped", "subclass"])
def test_one_odd_leaf_changes_nothing_for_the_others(accelerate, leaf):
    tree = [plain(), leaf, plain().astype("float64")]
    with arrays.unchanged(*tree):
        clipped, norm = agclip.clip_by_global_norm(tree, 0.5)
    joined = np.concatenate([np.asarray(x, "float64").ravel() for x in tree])
    assert float(norm) == pytest.approx(np.linalg.norm(joined), rel=2.0**-50)
    entries = np.concatenate([np.asarray(x, "float64").ravel() for x in clipped])
    assert entries == pytest.approx(joined * (0.5 / float(norm)), rel=2.0**-22)


def frozen():
    x = plain()
    x.flags.writeable = False
    return x


def test_read_only_arrays_are_clipped_to_new_ones(accelerate, clips):
    clipped = clips[0](frozen())
    assert clipped.flags.writeable
    assert np.array_equal(clipped, clips[0](plain()))


UNWRITABLE = {
    "is read-only": frozen,
    "holds several elements in the same memory": lambda: np.lib.stride_tricks.as_strided(
        plain(), (4, 3), (4, 4)
    ),
    "is an immutable scalar": lambda: np.float32(3.0),
}


@pytest.mark.parametrize("reason", UNWRITABLE)
def test_what_cannot_be_written_is_refused_and_nothing_is_written(accelerate, clips, reason):
    odd = UNWRITABLE[reason]()
    ordinary = plain()
    with arrays.unchanged(ordinary), pytest.raises(TypeError, match=reason):
        agclip.clip_by_norm_([ordinary, odd], 0.5)
    with pytest.raises(TypeError, match=f"can be written in place; got one that {reason}"):
        clips[1](odd)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)], ids=str)
@pytest.mark.parametrize("dtype", hosts.DTYPES)
def test_empty_leaves_are_left_alone(accelerate, shape, dtype):
    empty, full = np.empty(shape, hosts.dtype_named(dtype)), plain()
    clipped, norm = agclip.clip_by_global_norm([empty, full, empty], 0.5)
    assert float(norm) == pytest.approx(float(agclip.global_norm([full])), rel=2.0**-23)
    assert (clipped[0].shape, clipped[0].dtype) == (shape, empty.dtype)
    agclip.clip_by_global_norm_([empty, full, empty], 0.5)
    assert np.array_equal(full, clipped[1])


def aliases(kind):
    base = np.array(hosts.drawn("float32", 3 * hosts.BLOCK))
    tree = {
        "overlapping": [base[: 2 * hosts.BLOCK], base[hosts.BLOCK :]],
        "the same memory": [base, base.view()],
        "the same array": [base, base],
        "within": [base, base[5:9]],
        "side by side": [base[:5], base[5:]],
    }
    return base, tree[kind]


ALIASES = ("the same memory", "the same array", "side by side")


@pytest.mark.parametrize("kind", ALIASES, ids=hosts.kebab)
@pytest.mark.parametrize("name", ["global", "leaf", "value"])
def test_leaves_that_share_memory_are_overwritten_as_without_kernels(kind, name):
    results = [overwritten(kind, name, mode) for mode in hosts.MODES]
    assert results[0] == results[1]


@pytest.mark.parametrize("mode", hosts.MODES)
@pytest.mark.parametrize("kind", ["overlapping", "within"])
@pytest.mark.parametrize("name", ["global", "leaf", "value"])
def test_leaves_that_share_a_part_of_their_memory_are_refused_with_and_without_kernels(
    kind, name, mode
):
    with pytest.raises(TypeError, match="share a part of their memory"):
        overwritten(kind, name, mode)


def overwritten(kind, name, mode):
    base, tree = aliases(kind)
    with hosts.accelerated(mode):
        if name == "global":
            agclip.clip_by_global_norm_(tree, 0.5)
        elif name == "leaf":
            agclip.clip_by_norm_(tree, 0.5)
        else:
            agclip.clip_by_value_(tree, -0.1, 0.2)
    return base.tobytes()


def test_an_array_that_is_held_twice_counts_twice_and_is_multiplied_once(host):
    x = host.array([3.0, 4.0])
    _, norm = agclip.clip_by_global_norm_([x, x], 1.0)
    assert float(norm) == pytest.approx(50**0.5, rel=2.0**-23)
    assert host.entries(x).tolist() == pytest.approx([3 / 50**0.5, 4 / 50**0.5], rel=2.0**-22)


def test_the_table_holds_the_arrays_for_as_long_as_they_are_worked_on(accelerate):
    clipped, _ = agclip.clip_by_global_norm((np.full(5000, k + 1.0) for k in range(50)), 1.0)
    joined = np.concatenate(clipped)
    assert np.linalg.norm(joined) == pytest.approx(1.0, rel=1e-14)
