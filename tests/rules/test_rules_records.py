"""Records: what their arrays share, and where the paths of leaves come from."""

import pickle

import pytest

import agclip
import arrays

LIBRARIES = ("numpy", "torch")
"""Those whose values are free to read: a record is made of floats there."""


class Key(str):
    """A key that spells itself, and is equal to another."""

    __slots__ = ()


@pytest.fixture(params=LIBRARIES)
def lib(request):
    return arrays.library(request.param)


@pytest.fixture(params=[1, 3], ids=["one leaf", "several"])
def grads(request, lib):
    return [lib.array([3.0, 4.0], "float32") for _ in range(request.param)]


def step(grads):
    return agclip.ClipByGlobalNorm(1.0).update(grads, ())[2]


def test_a_record_is_of_new_arrays_at_every_step(grads):
    first, wanted = step(grads), step(grads).to_host()
    for value in (*first[:5], first.skip, *first.leaf_norms.values()):
        value[...] = 0
    assert step(grads).to_host() == wanted


def test_numbers_of_a_record_share_no_memory(grads):
    info = step(grads)
    wanted = info.to_host()
    info.scale[...] = 0.0
    info.clipped[...] = False
    assert info.to_host() == wanted._replace(scale=0.0, clipped=False)


def test_the_norm_of_all_leaves_shares_no_memory_with_that_of_one_of_several(lib):
    info = step([lib.array([3.0, 4.0], "float32") for _ in range(3)])
    info.norm[...] = 0.0
    assert list(info.to_host().leaf_norms.values()) == [5.0, 5.0, 5.0]


def test_a_record_is_a_plain_tuple_that_can_be_pickled(grads):
    info = step(grads)
    assert type(info) is agclip.ClipInfo
    again = pickle.loads(pickle.dumps(info))
    assert type(again.leaf_norms) is type(info.to_host().leaf_norms) is dict
    assert again.to_host() == info.to_host()


def test_leaf_norms_beyond_float32_are_infinite_and_scaling_is_right(lib):
    grads = [lib.array([3e38, 3e38], "float32"), lib.array([1.0], "float32")]
    info = step(grads).to_host()
    assert list(info.leaf_norms.values()) == [float("inf"), 1.0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_dtype_of_norms_is_that_of_the_function(lib, dtype):
    grads = [lib.array([3.0, 4.0], dtype), lib.array([1.0], dtype)]
    info, (_, norm) = step(grads), agclip.clip_by_global_norm(grads, 1.0)
    assert {x.dtype for x in (info.norm, *info.leaf_norms.values())} == {norm.dtype}


# --- paths -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        (["a", "b"], ["a", "b"]),
        (["a", "a.b"], ["a", "['a.b']"]),
        ([0, 1], ["0", "1"]),
        ([True, 0], ["[True]", "0"]),
        ([Key("a"), "b"], ["a", "b"]),
        (["1", 2], ["1", "2"]),
    ],
)
def test_paths_are_the_same_when_they_are_asked_for_again(lib, keys, wanted):
    grads = {key: lib.array([3.0, 4.0], "float32") for key in keys}
    assert [list(step(grads).leaf_norms) for _ in range(2)] == [wanted, wanted]


def test_keys_that_are_equal_but_spelled_differently_keep_their_spelling(lib):
    leaf = lib.array([3.0, 4.0], "float32")
    found = [next(iter(step({key: leaf}).leaf_norms)) for key in (1, True, "1")]
    assert found == ["1", "[True]", "1"]


# --- scalars -----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [1.5, float("inf"), True])
def test_a_scalar_is_a_new_array_beside_another(lib, value):
    backend = agclip.get_backend(lib.name)
    leaf = lib.array([1.0], "float32")
    dtype = backend.xp.bool if value is True else backend.xp.float64
    made, other = (backend.scalar_like(backend.xp, value, dtype, leaf) for _ in range(2))
    assert (made.shape, made.dtype, type(made)) == ((), dtype, type(leaf))
    assert backend.device(made) == backend.device(leaf)
    assert made is not other
    other[...] = 0
    assert made == value
