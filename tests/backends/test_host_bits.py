"""With and without compiled kernels, on any number of threads: the same bits."""

import math

import numpy as np
import pytest

import agclip
import arrays
import hosts
from agclip_backends._host import tables
from agclip_backends.numpy import ndarrays

pytest_plugins = ["host_fixtures"]

FACTORS = (0.3, 0.9999, 2.0**-20)
THREE = 3.0
"""A loss scale that is no power of two: division by it has to be rounded."""


@pytest.fixture(params=["float16", "bfloat16"])
def every_half(request):
    """All patterns of 16 bits."""
    patterns = np.arange(1 << 16, dtype=np.uint16)
    return patterns.view(hosts.dtype_named(request.param))


@pytest.fixture(params=[False, True], ids=["functional", "in-place"])
def inplace(request):
    return request.param


@pytest.mark.parametrize("factor", FACTORS)
def test_every_half_number_is_multiplied_in_float32_and_rounded_once(
    host, every_half, factor, inplace
):
    clip = agclip.clip_by_global_norm_ if inplace else agclip.clip_by_global_norm
    (got,), _ = clip([host.copy(every_half)], factor * 8, 8.0)
    wanted = hosts.scaled(every_half, factor)
    assert hosts.bits(host.entries(got)) == hosts.bits(wanted)


def test_every_half_number_is_divided_by_a_loss_scale(host, every_half):
    (got,), _ = agclip.clip_by_global_norm([host.copy(every_half)], math.inf, 1.0, loss_scale=THREE)
    wanted = hosts.scaled(every_half, 1 / THREE)
    assert hosts.bits(host.entries(got)) == hosts.bits(wanted)


def test_every_half_number_is_clipped_by_value(host, every_half, inplace):
    clip = agclip.clip_by_value_ if inplace else agclip.clip_by_value
    got = host.entries(clip(host.copy(every_half), -0.3, 1000))
    low, high = (np.asarray(bound).astype(got.dtype) for bound in (-0.3, 1000))
    with np.errstate(invalid="ignore"):
        wanted = np.where(every_half > high, high, np.where(every_half < low, low, every_half))
    assert hosts.bits(got) == hosts.bits(wanted)


@pytest.mark.parametrize("order", [1, 2, math.inf])
def test_every_finite_half_number_counts(host, every_half, order):
    with np.errstate(invalid="ignore"):
        finite = every_half[np.isfinite(every_half)]
    sizes = np.abs(finite.astype(float)).tolist()
    exact = {
        1: math.fsum(sizes),
        2: math.sqrt(math.fsum(x * x for x in sizes)),
        math.inf: max(sizes),
    }
    norm = float(agclip.global_norm([host.copy(finite)], order))
    with np.errstate(over="ignore"):
        assert norm == np.float32(exact[order])


CALLS = {
    "global": agclip.clip_by_global_norm,
    "global, strict, scaled": lambda t, c: agclip.clip_by_global_norm(
        t, c, strict=True, loss_scale=THREE
    ),
    "global, largest": lambda t, c: agclip.clip_by_global_norm(t, c / 50, ord=math.inf),
    "leaf": lambda t, c: (agclip.clip_by_norm(t, c / 2), 0),
    "rms": lambda t, c: (agclip.clip_by_rms(t, c / 100), 0),
    "average": lambda t, c: (agclip.clip_by_average_norm(t, c / 9000), 0),
    "adaptive": lambda t, c: (agclip.adaptive_grad_clip(t, t, c / 9e3, unit_axes=(0,)), 0),
    "per example": agclip.clip_per_example,
    "value": lambda t, c: (agclip.clip_by_value(t, -c, c), 0),
    "global, reproducible": lambda t, c: agclip.clip_by_global_norm(t, c, reproducible=True),
    "order 1, reproducible": lambda t, c: agclip.clip_by_global_norm(
        t, c, ord=1, reproducible=True
    ),
}
WIDE = tuple(name for name in CALLS if name.endswith("reproducible") or name == "value")


def cases():
    """Every call, with the dtypes that it promises the same bits for."""
    return [
        pytest.param(call, dtype, id=f"{call}-{dtype}".replace(", ", "-").replace(" ", "-"))
        for call in CALLS
        for dtype in hosts.DTYPES
        if (dtype in hosts.NARROW or call in WIDE)
        and not (dtype in hosts.COMPLEX and ("order 1" in call or call in ("value", "adaptive")))
        and not (dtype in hosts.COMPLEX and "largest" in call)
    ]


def result(library, mode, call, leaves):
    """Return the bits of every array that a call returns."""
    arrays.library(library)
    bound = 0.1 * float(np.linalg.norm(hosts.parts(leaves[0])))
    with hosts.accelerated(mode):
        host = hosts.Host(library, mode)
        clipped, number = CALLS[call]([*map(host.copy, leaves)], bound)
        if "per example" in call:
            number = int(number)
        elif not isinstance(number, int):
            number = hosts.bits(host.entries(number))
        return [hosts.bits(host.entries(leaf)) for leaf in clipped], number


@pytest.mark.parametrize("library", hosts.LIBRARIES)
@pytest.mark.parametrize(("call", "dtype"), cases())
def test_compiled_kernels_change_no_bit(library, call, dtype):
    sizes = (9000, 64, 0, 3 * hosts.BLOCK + 1)
    if call == "per example":
        sizes = (9000, 9000)
    leaves = [hosts.drawn(dtype, size, seed=7) for size in sizes]
    wanted, got = (result(library, mode, call, leaves) for mode in hosts.MODES)
    assert got == wanted


@pytest.fixture(params=[1, 2, 3], ids=lambda n: f"{n}-threads")
def threads(request, monkeypatch):
    monkeypatch.setattr(
        ndarrays,
        "_LIBRARY",
        ndarrays._LIBRARY._replace(threads=lambda: request.param),
    )
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


SHARED_CALLS = ("global", "value", "order 1, reproducible")


@pytest.mark.parametrize("library", hosts.LIBRARIES)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_threads_change_no_bit(threads, library, dtype):
    call = "global, reproducible" if dtype == "float64" else "global"
    leaves = [hosts.drawn(dtype, size, seed=8) for size in (hosts.SHARED + 5, 9, 300_000)]
    assert result(library, "numba", call, leaves) == unthreaded(library, call, dtype, leaves)


_unthreaded = {}


def unthreaded(library, call, dtype, leaves):
    key = library, call, dtype
    if key not in _unthreaded:
        _unthreaded[key] = result(library, "off", call, leaves)
    return _unthreaded[key]


@pytest.mark.parametrize("library", hosts.LIBRARIES)
def test_threads_change_no_bit_of_any_kernel(threads, library):
    x = hosts.drawn("float32", hosts.SHARED + 5, seed=9)
    got = [result(library, "numba", call, [x]) for call in SHARED_CALLS]
    assert got == [unthreaded(library, call, "all", [x]) for call in SHARED_CALLS]


@pytest.mark.parametrize("entries", [hosts.SHARED - 1, hosts.SHARED])
def test_only_much_work_is_shared(threads, compiled_host, entries, monkeypatch):
    asked = []
    work_off = tables.work_off
    monkeypatch.setattr(tables, "work_off", lambda s, n: asked.append(n) or work_off(s, n))
    with agclip.config_context(threads="own"):  # others share as much: see test_host_team.py
        agclip.global_norm([compiled_host.copy(hosts.drawn("float32", entries))])
    assert asked == ([threads] if entries >= hosts.SHARED else [])
