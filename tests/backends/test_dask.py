"""Dask: a call builds a graph and computes nothing; chunks and dtypes are kept."""

import pytest

import agclip

dask = pytest.importorskip("dask", reason="Dask is not installed")
da = pytest.importorskip("dask.array", reason="Dask's arrays are not installed")

FUNCTIONS = {
    "norm": lambda v: agclip.clip_by_norm(v, 1.0),
    "norm of order 3": lambda v: agclip.clip_by_norm(v, 1.0, ord=3),
    "norm along axes": lambda v: agclip.clip_by_norm(v, 1.0, axes=0),
    "lazy bound": lambda v: agclip.clip_by_norm(v, da.asarray(1.0)),
    "average norm": lambda v: agclip.clip_by_average_norm(v, 0.5),
    "rms": lambda v: agclip.clip_by_rms(v, 0.5),
    "global norm": lambda v: agclip.clip_by_global_norm([v], 1.0)[0][0],
    "adaptive": lambda v: agclip.adaptive_grad_clip(v, v, unit_axes="out_in"),
    "per example": lambda v: agclip.clip_per_example(v, 1.0)[0],
    "value": lambda v: agclip.clip_by_value(v, -1.0, 1.0),
    "value, lazy bounds": lambda v: agclip.clip_by_value(v, v - 1, v + 1),
}


@pytest.fixture(params=FUNCTIONS, ids=lambda name: name.replace(" ", "-").replace(",", ""))
def clip(request):
    return FUNCTIONS[request.param]


@pytest.fixture
def nothing_computes():
    def compute(*_, **__):
        msg = "a lazy array was computed"
        raise AssertionError(msg)

    with dask.config.set(scheduler=compute):
        yield


@pytest.mark.usefixtures("nothing_computes")
def test_a_call_computes_nothing(clip):
    assert isinstance(clip(da.ones((4, 6), chunks=3, dtype="float32")), da.Array)


def test_the_guard_of_the_test_above_can_fail(nothing_computes):
    with pytest.raises(AssertionError, match="computed"):
        float(da.ones(2).sum())


def test_chunks_do_not_change_the_result(clip):
    x = da.arange(1.0, 25.0).reshape(4, 6).astype("float32")
    whole, cut = (clip(x.rechunk(chunks)).compute() for chunks in ((4, 6), (2, 2)))
    assert whole == pytest.approx(cut, rel=1e-6)


def test_chunks_and_dtype_are_kept():
    x = da.ones((4, 6), chunks=(2, 3), dtype="float16") * 300
    clipped, norm = agclip.clip_by_global_norm([x], 1.0)
    assert (clipped[0].chunks, clipped[0].dtype) == (x.chunks, x.dtype)
    assert float(norm.compute()) == pytest.approx(300 * 24**0.5, rel=1e-6)


def test_the_error_policy_computes_because_it_is_asked_to():
    with pytest.raises(FloatingPointError, match=r"got NaN at t\[1\]"):
        agclip.clip_by_norm([da.ones(2), da.ones(2) * float("nan")], 1.0, nonfinite="error")
