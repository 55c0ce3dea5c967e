"""CuPy: why it cannot be used here, the leaves that its kernels do not take, and a real GPU."""

import contextlib
import math

import numpy as np
import pytest

import agclip
import cuda_host
from agclip._backends import kernels as kernels_
from agclip._backends.contract import Factor

cupy = pytest.importorskip("cupy", reason="CuPy is not installed")

DTYPES = ["float16", "float32", "float64", "complex64", "complex128"]

SPIN = """
extern "C" __global__ void spin(long long cycles) {
    long long begin = clock64();
    while (clock64() - begin < cycles) {}
}
"""


def adapter():
    from agclip_backends.cupy import backend

    return backend


@pytest.fixture
def gpu():
    reason = adapter().usable()
    if reason:
        pytest.skip(f"CuPy cannot be used here: {reason}")
    return cupy.cuda.Device()


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


@pytest.fixture(scope="session")
def kernels(tmp_path_factory):
    if cuda_host.COMPILER is None:
        pytest.skip("there is no C++ compiler here")
    return cuda_host.build(tmp_path_factory.mktemp("cuda"))


@pytest.fixture
def stand_in(monkeypatch, kernels):
    """The adapter's module with NumPy in CuPy's place, and no leaf that the kernels take."""
    import agclip_backends.cupy.adapter as module

    monkeypatch.setattr(module, "cupy", np)
    monkeypatch.setattr(module, "BLOCK", 4)
    monkeypatch.setattr(module, "_places", lambda _: [])
    monkeypatch.setattr(module, "on", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(module, "elementwise", cuda_host.HostEntries(kernels))
    monkeypatch.setattr(module, "_empty_like", np.empty_like)
    return module


@pytest.fixture
def xp():
    return agclip.get_backend("numpy").xp


def gaps(dtype, shape=(10, 6)):
    """An array with gaps in memory."""
    values = np.arange(math.prod(shape) * 2, dtype=np.float64).reshape(shape[0], -1) - 20
    return (values * (1 + 0.5j) if dtype.startswith("c") else values).astype(dtype)[:, ::2]


@pytest.mark.parametrize("dtype", DTYPES)
def test_blocks_of_a_leaf_with_gaps_add_up(stand_in, xp, dtype):
    x = gaps(dtype)
    (found,) = stand_in._sum_squares(xp, [x], np.float64, 1.0)
    assert float(found) == (np.abs(x.astype(complex)) ** 2).sum()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("parts", [(None, np.array(0.125)), (np.array(0.5), np.array(0.25))])
def test_a_leaf_with_gaps_is_multiplied_by_both_parts(stand_in, xp, dtype, parts):
    x = gaps(dtype)
    expected = (x * 0.125).astype(dtype).tolist()
    (new,) = stand_in._scale(xp, [x], Factor(parts, parts))
    assert (new.dtype, new.tolist()) == (x.dtype, expected)
    stand_in._scale_in_place(xp, [x], Factor(parts, parts))
    assert (x.dtype, x.tolist()) == (dtype, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_factors_may_have_axes_of_their_own(stand_in, xp, dtype):
    x, rows = gaps(dtype), np.array([[0.5]] * 9 + [[0.25]])
    expected = (x * rows).astype(dtype).tolist()
    stand_in._scale_in_place(xp, [x], Factor((None, rows), (None, rows)))
    assert x.tolist() == expected


def test_infinite_parts_of_complex_entries_stay_infinite(stand_in, xp):
    x = np.array([complex(np.inf, 1.0), 0, complex(2.0, -np.inf), 0], np.complex64)[::2]
    pair = (None, np.array(0.5))
    stand_in._scale_in_place(xp, [x], Factor(pair, pair))
    assert x.tolist() == [complex(np.inf, 0.5), complex(1.0, -np.inf)]


@pytest.mark.usefixtures("gpu")
def test_clipping_on_the_device_leaves_the_arrays_there():
    x = cupy.asarray([3.0, 4.0], dtype="float32")
    clipped, norm = agclip.clip_by_global_norm([x], 1.0)
    assert isinstance(clipped[0], cupy.ndarray)
    assert isinstance(norm, cupy.ndarray)
    assert clipped[0].get().tolist() == pytest.approx([0.6, 0.8])
    assert agclip.clip_by_norm_(x, 1.0) is x
    assert x.get().tolist() == pytest.approx([0.6, 0.8])


@pytest.fixture
def leaves():
    """Leaves of all dtypes that NumPy has too: none, one and many chunks, and gaps."""
    rng = np.random.default_rng(0)
    shapes = [(), (0,), (7,), (300, 411)]
    made = [rng.standard_normal(shape) for shape in shapes] * len(DTYPES)
    return [x.astype(dtype) for x, dtype in zip(made, sorted(DTYPES * len(shapes)), strict=True)]


def viewed(made):
    """Leaves, and views of some: in another order, and with gaps."""
    return [*made, made[3].T, made[7][:, ::2], made[15][1:, 1:]]


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_sums_on_the_device_are_right(leaves, scale):
    there = viewed([cupy.asarray(leaf) for leaf in leaves])
    found = adapter().sum_squares(adapter().xp, there, cupy.float64, scale)
    wide = [leaf.astype(complex).ravel() for leaf in viewed(leaves)]
    expected = [math.fsum((x * x.conj()).real) for x in wide]
    assert [float(x) for x in found] == pytest.approx([scale**2 * x for x in expected], rel=1e-13)


@pytest.mark.usefixtures("gpu")
def test_a_sum_on_the_device_has_the_same_bits_wherever_the_leaf_lies():
    x = cupy.random.default_rng(0).standard_normal(1 << 20, dtype="float32")
    moved = cupy.empty(x.size + 1, dtype="float32")[1:]
    moved[...] = x
    sums = adapter().sum_squares(adapter().xp, [x, moved, x[:9], x], cupy.float64, 1.0)
    alone = adapter().sum_squares(adapter().xp, [x], cupy.float64, 1.0)
    assert {float(sums[i]) for i in (0, 1, 3)} == {float(alone[0])}


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("pair", [(None, 0.3), (2.0**-64, 0.7), (1.0, 1.0)])
def test_products_on_the_device_have_the_bits_of_numpys(xp, leaves, pair):
    expected = kernels_.scale(xp, viewed(leaves), Factor(pair, pair))
    arrays = tuple(None if part is None else cupy.asarray(part, dtype="float64") for part in pair)
    there = viewed([cupy.asarray(leaf) for leaf in leaves])
    new = adapter().scale(adapter().xp, there, Factor(arrays, arrays))
    assert [x.get().tobytes() for x in new] == [x.tobytes() for x in expected]
    own = [x.copy() for x in there]
    adapter().scale_(adapter().xp, own, Factor(arrays, arrays))
    assert [x.get().tobytes() for x in own] == [x.tobytes() for x in expected]


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("name", ["clip_by_global_norm", "clip_by_global_norm_", "clip_by_norm_"])
def test_clipping_never_waits_for_the_device(name):
    clip = getattr(agclip, name)
    leaves = [cupy.ones(1000, dtype=dtype) for dtype in ("float16", "float32", "float64")]
    clip(leaves, 100.0)  # compiles, loads and allocates
    spin = cupy.RawKernel(SPIN, "spin")
    spin((1,), (1,), (np.int64(1),))
    stream = cupy.cuda.get_current_stream()
    stream.synchronize()
    spin((1,), (1,), (np.int64(2_000_000_000),))
    clip(leaves, 1.0)
    busy = not stream.done
    stream.synchronize()
    assert busy
