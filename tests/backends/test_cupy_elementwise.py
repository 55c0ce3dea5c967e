"""What is done to CuPy's arrays entry by entry: compiled for the host, and on a real GPU.

CuPy's own kernels take float32 below the normal range for zero, and lose bfloat16 and the sign of
zero in places. None of that may reach a result.
"""

import math

import numpy as np
import pytest

import agclip
import cuda_host

cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")

TINY = [1e-45, -1e-40, 1.1754942e-38, -0.0, 0.0, 1.5, -math.inf]
HALF = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


@pytest.fixture(scope="module")
def entries(tmp_path_factory):
    if cuda_host.COMPILER is None:
        pytest.skip("there is no C++ compiler here")
    return cuda_host.HostEntries(cuda_host.build(tmp_path_factory.mktemp("cuda")))


@pytest.fixture
def namespace(monkeypatch, entries):
    """The adapter's namespace with NumPy in CuPy's place."""
    from agclip_backends.cupy import namespace as module

    monkeypatch.setattr(module, "cupy", np)
    monkeypatch.setattr(module, "xp", agclip.get_backend("numpy").xp)
    monkeypatch.setattr(module, "elementwise", entries)
    return module


@pytest.fixture
def gpu():
    from agclip_backends.cupy import backend

    reason = backend.usable()
    if reason:
        pytest.skip(f"CuPy cannot be used here: {reason}")
    return backend


def test_casts_keep_subnormals_and_round_once(namespace):
    x = np.array(TINY, np.float32)
    wide = namespace.astype(x, np.float64)
    assert (wide.dtype, wide.tolist()) == (np.float64, x.tolist())
    y = np.array([1e-45, 1.4e-40, 1 + 2.0**-24, 1 + 2.0**-24 + 2.0**-50])
    assert namespace.astype(y, np.float32).tobytes() == y.astype(np.float32).tobytes()


def test_parts_of_complex_numbers_are_cast_alike(namespace):
    x = np.array([complex(1e-40, -1e-45), complex(-0.0, math.inf)], np.complex64)
    assert namespace.astype(x, np.complex128).tobytes() == x.astype(np.complex128).tobytes()


def test_subnormals_are_compared(namespace):
    x = np.array(TINY, np.float32)
    assert namespace.less_equal(x, np.float32(0)).tolist() == [v <= 0 for v in TINY]
    assert namespace.less_equal(np.float32(1e-45), x).tolist() == [v >= 1e-45 for v in TINY]


@pytest.mark.parametrize("name", HALF)
@pytest.mark.parametrize("pair", [(1.0, 1.0), (2.0**-64, 0.7), (1.0, np.array([[0.5], [1.0]]))])
def test_half_types_are_multiplied_and_rounded_once(entries, name, pair):
    x = np.arange(1 << 16, dtype=np.uint16).view(HALF[name]).reshape(2, -1)
    with np.errstate(all="ignore"):
        expected = x.astype(np.float32)
        for part in pair:
            expected = expected * np.asarray(part, np.float32)
        expected = expected.astype(HALF[name])
    found = np.empty_like(x)
    entries.multiply(x, found, *pair)
    same = (found.view(np.uint16) == expected.view(np.uint16)) | (expected != expected)
    assert same.all()


def test_entries_of_bfloat16_are_chosen_as_they_are(namespace):
    x = np.arange(1 << 16, dtype=np.uint16).view(ml_dtypes.bfloat16)
    found = namespace.where(np.arange(x.size) % 2 == 0, x, np.zeros_like(x))
    assert found.dtype == x.dtype
    assert found[::2].tobytes() == x[::2].tobytes()
    assert not found[1::2].view(np.uint16).any()


def test_a_zero_keeps_its_sign(namespace, monkeypatch):
    monkeypatch.setattr(namespace.xp, "asarray", lambda *_, dtype, **__: np.zeros((), dtype))
    assert math.copysign(1, namespace.asarray(-0.0, dtype=np.float32)) == -1
    assert math.copysign(1, namespace.asarray(0.0, dtype=np.float32)) == 1


# --- on a GPU ----------------------------------------------------------------------------------

LAYOUTS = {"dense": lambda x: x, "gaps": lambda x: x[::2]}


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["float32", "bfloat16", "float64"])
def test_subnormals_within_the_bound_keep_their_bits(name, layout):
    values = [1e-310, -5e-324] if name == "float64" else [1e-40, -1e-38]
    x = np.array(values * 8, HALF.get(name, name))
    there = LAYOUTS[layout](cupy.asarray(x))
    clips = [
        agclip.clip_by_global_norm([there], 100.0)[0][0],
        agclip.clip_by_norm(there, 100.0, axes=0),
        agclip.clip_by_value(there, -1.0, 1.0),
    ]
    assert {clip.get().tobytes() for clip in clips} == {LAYOUTS[layout](x).tobytes()}


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("order", [1, 2, 3, math.inf])
def test_norms_of_subnormals_are_numpys(layout, order):
    x = np.full(1000, 1e-40, np.float32)
    found = agclip.global_norm([LAYOUTS[layout](cupy.asarray(x))], order)
    expected = agclip.global_norm([LAYOUTS[layout](x)], order)
    assert float(found) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.usefixtures("gpu")
def test_entries_beyond_a_bound_of_zero_are_clipped():
    x = cupy.asarray(np.array([1e-40, -1e-40], np.float32))
    assert agclip.clip_by_value(x, 0.0, 1.0).get().tolist() == [float(np.float32(1e-40)), 0.0]
    assert agclip.clip_by_value(x, -1.0, 0.0).get().tolist() == [0.0, float(np.float32(-1e-40))]


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("policy", ["propagate", "zero", "skip"])
def test_bfloat16_stays_bfloat16(policy):
    x = cupy.asarray(np.array([1.0, -3.0], ml_dtypes.bfloat16))
    (clipped,), _ = agclip.clip_by_global_norm([x], 1.0, nonfinite=policy)
    assert clipped.dtype == x.dtype
    assert agclip.clip_by_value(x, -1.0, 1.0).dtype == x.dtype


@pytest.mark.usefixtures("gpu")
def test_a_zero_on_the_device_keeps_its_sign(gpu):
    assert np.signbit(gpu.xp.asarray(-0.0, dtype=cupy.float32).get())
