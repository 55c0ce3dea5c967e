"""What has the methods of DLPack and no others is clipped in the configured library."""

import math

import numpy as np
import pytest

import agclip
import arrays

WORDS = (
    r"an object that only DLPack reads \(config.test_config_dlpack.Bare\)|"
    r"an object that only DLPack reads \(test_config_dlpack.Bare\)"
)


class Bare:
    """Memory of another program: no dtype, no shape, no arithmetic."""

    def __init__(self, values):
        self._values = values

    def __dlpack__(self, **options):
        return self._values.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._values.__dlpack_device__()


CLOSED = "not for you"


class Closed(Bare):
    def __dlpack__(self, **_):
        raise BufferError(CLOSED)


@pytest.fixture(params=["numpy", "torch"])
def home(request):
    """A library that is configured, and converts what comes."""
    lib = arrays.library(request.param)
    with agclip.config_context(backend=lib.name, on_foreign="convert"):
        yield lib


CALLS = {
    "value": (lambda t: agclip.clip_by_value(t, -2.0, 3.5), [3.0, -2.0], [3.5, 0.5]),
    "norm": (lambda t: agclip.clip_by_norm(t, 2.5), [1.5, -2.0], [2.4, 0.3]),
    "global norm": (
        lambda t: agclip.clip_by_global_norm(t, math.sqrt(41.25) / 2)[0],
        [1.5, -2.0],
        [2.0, 0.25],
    ),
    "adaptive": (
        lambda t: agclip.adaptive_grad_clip(t, t, 0.5, unit_axes=lambda *_: None),
        [1.5, -2.0],
        [2.0, 0.25],
    ),
    "a rule": (lambda t: agclip.QuantileClip(1e9).update(t, ())[0], [3.0, -4.0], [4.0, 0.5]),
}


@pytest.fixture(params=CALLS)
def call(request):
    return CALLS[request.param]


def tree(lib):
    return {"a": Bare(np.asarray([3.0, -4.0])), "b": [None, lib.array([4.0, 0.5], "float64")]}


def test_it_comes_back_as_an_array_of_the_configured_library(home, call):
    function, first, second = call
    found = function(tree(home))
    assert type(found["a"]) is type(home.array([1.0]))
    assert home.entries(found["a"]).tolist() == pytest.approx(first, rel=5e-2)
    assert home.entries(found["b"][1]).tolist() == pytest.approx(second, rel=5e-2)


@pytest.mark.parametrize(
    "values",
    [
        np.arange(6.0)[::-2],
        np.ones((2, 3)).T,
        np.ones(()),
        np.ones((0, 2)),
        np.ones(2, "complex64"),
    ],
    ids=["backwards", "transposed", "of no axes", "empty", "complex"],
)
def test_every_layout_goes_over_as_it_is(home, values):
    clipped = agclip.clip_by_norm([Bare(values)], 1e9)[0]
    np.testing.assert_array_equal(home.entries(clipped), values, strict=True)


def test_beside_an_array_of_a_third_library_each_has_its_own_way_back(home):
    other = arrays.library("array_api_strict").array([3.0, 4.0])
    one, two = agclip.clip_by_norm([Bare(np.asarray([3.0, 4.0])), other], 1.0)
    assert type(one) is type(home.array([1.0]))
    assert type(two) is type(other)


def test_the_object_is_read_and_never_written(home):
    values = np.asarray([3.0, 4.0])
    agclip.clip_by_norm([Bare(values)], 1.0)
    with pytest.raises(TypeError, match=f"written in place; got ({WORDS}) at t\\[1\\]"):
        agclip.clip_by_norm_([home.array([3.0]), Bare(values)], 1.0)
    assert values.tolist() == [3.0, 4.0]


def test_what_it_holds_is_checked_like_an_array(home):
    with pytest.raises(TypeError, match=r"floating-point arrays; got int64 at t\[0\]"):
        agclip.clip_by_norm([Bare(np.ones(2, "int64"))], 1.0)


def test_one_that_refuses_is_an_error_that_says_so(home):
    with pytest.raises(
        TypeError,
        match=rf"converted to {home.name}; got one of .*Closed at t\[0\], "
        r"which refuses \(BufferError: not for you\)",
    ):
        agclip.clip_by_norm([Closed(np.ones(2))], 1.0)


@pytest.mark.parametrize("settings", [{}, {"backend": "numpy"}], ids=["auto", "error"])
def test_unless_arrays_are_converted_it_is_no_array(settings):
    with agclip.config_context(**settings), pytest.raises(TypeError, match="must be an array"):
        agclip.clip_by_norm([Bare(np.ones(2))], 1.0)


def test_a_container_with_such_methods_is_opened(home, tmp_path):
    class Box(Bare):
        pass

    with arrays.registry(tmp_path):
        agclip.register_container(Box, lambda x: ((x._values,), None), lambda _, new: Box(*new))
        assert type(agclip.clip_by_norm([Box(np.ones(2))], 1.0)[0]) is Box
