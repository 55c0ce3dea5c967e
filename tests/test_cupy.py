"""CuPy: the adapter's own code on a stand-in everywhere, and the real thing where a GPU is."""

import numpy as np
import pytest

import agclip
from agclip._kernels import Factor

cupy = pytest.importorskip("cupy", reason="CuPy is not installed")


@pytest.fixture
def gpu():
    reason = agclip.get_backend("numpy") and adapter().usable()
    if reason:
        pytest.skip(f"CuPy cannot be used here: {reason}")


def adapter():
    from agclip_backends.cupy import backend

    return backend


def test_the_probe_tells_why_an_importable_cupy_cannot_be_used():
    row = next(row for row in agclip.backends() if row.name == "cupy")
    assert row.usable == (not row.reason)
    assert row.usable or "Error" in row.reason


def test_asking_for_an_unusable_cupy_says_why():
    reason = adapter().usable()
    if reason is None:
        pytest.skip("CuPy can be used here")
    with pytest.raises(RuntimeError, match="the backend 'cupy' must be usable here; got: CUDA"):
        agclip.get_backend("cupy")


@pytest.mark.parametrize(
    ("name", "number"),
    [("cuda:1", 1), ("cuda", 0), ("cuda:2", None), ("cuda:x", None), ("cpu", None)],
)
def test_a_device_is_found_by_its_name(monkeypatch, name, number):
    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", lambda: 2)
    monkeypatch.setattr(cupy.cuda, "Device", lambda found: found)
    assert adapter().named_device(cupy, name) == number


@pytest.fixture
def stand_in(monkeypatch):
    """The adapter's module with NumPy in the place of CuPy: its logic, not its library."""
    import agclip_backends.cupy as module

    monkeypatch.setattr(module, "cupy", np)
    monkeypatch.setattr(module, "BLOCK", 4)
    return module


def test_blocks_add_up_to_the_sum_of_squares(stand_in):
    x = np.arange(30.0, dtype=np.float32).reshape(5, 6)
    xp = agclip.get_backend("numpy").xp
    assert stand_in._sum_squares(xp, [x], np.float64, 1.0) == [float((x.astype(float) ** 2).sum())]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_scaling_in_place_multiplies_by_both_parts(stand_in, dtype):
    x = np.arange(10.0).astype(dtype)
    expected = x * np.asarray(0.125, dtype)
    parts = (np.float64(0.5), np.float64(0.25))
    xp = agclip.get_backend("numpy").xp
    stand_in._scale_in_place(xp, [x], Factor(narrow=parts, wide=parts))
    assert x.dtype == dtype
    assert x.tolist() == expected.tolist()


@pytest.mark.usefixtures("gpu")
def test_clipping_on_the_device_leaves_the_arrays_there():
    x = cupy.asarray([3.0, 4.0], dtype="float32")
    clipped, norm = agclip.clip_by_global_norm([x], 1.0)
    assert isinstance(clipped[0], cupy.ndarray)
    assert isinstance(norm, cupy.ndarray)
    assert clipped[0].get().tolist() == pytest.approx([0.6, 0.8])
    assert agclip.clip_by_norm_(x, 1.0) is x
    assert x.get().tolist() == pytest.approx([0.6, 0.8])
