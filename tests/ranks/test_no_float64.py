"""Ranks whose device has no float64 beside ranks of the host: one norm, in whatever units.

The kind of fault: a rank reads what came in the units of its own dtype, and the other in its own.
"""

import math
import warnings

import numpy as np
import pytest

import agclip
from libraries import LIBRARIES
from ranks.thread_ranks import together

VALUES = {
    "ordinary": ([3.0, 4.0], [12.0, 84.0]),
    "the device's are large": ([1e30, 2e30], [1.0, 2.0]),
    "the device's are small": ([1e-30, 2e-30], [1e-32, 1e-31]),
    "all are large": ([1e30, 2e30], [3e30, 1e29]),
    "all are subnormal": ([1e-40, 3e-40], [1e-41, 2e-40]),
    "the host's are large": ([1.0, 2.0], [1e30, 3e30]),
    "the host's are small": ([1.0, 2.0], [1e-30, 3e-30]),
    "beyond the device": ([1e38, 3e38], [3e38, 3e38]),
    "the device has an infinity": ([1.0, math.inf], [1.0, 2.0]),
    "the host has a NaN": ([1.0, 2.0], [1.0, math.nan]),
}
COMPLEX = {
    "complex, ordinary": ([3.0 + 4.0j], [1.0 + 2.0j]),
    "complex, a modulus beyond the device": ([3e38 + 3e38j], [1.0 + 2.0j]),
}
ORDERS = [1, 2, 3, 0.5, 200.0, math.inf]
# The 200th power of a modulus next to a part that is as large leaves the range of float32.
COMPLEX_ORDERS = [order for order in ORDERS if order != 200]
DEVICES = ["mlx-no-float64", "strict-no-float64"]


@pytest.fixture(params=DEVICES)
def device(request):
    """A library of a device without float64."""
    module, opened = LIBRARIES[request.param]
    if module == "mlx":
        module = "mlx.core"
    pytest.importorskip(module, reason=f"{module} is not installed")
    with opened() as library:
        yield library


def expected(found, order):
    magnitudes = np.abs(np.asarray(found, np.complex128 if np.iscomplexobj(found) else float))
    top = magnitudes.max()
    if order == math.inf or not 0 < top < math.inf:
        return float(top)
    return float(top * np.sum((magnitudes / top) ** order) ** (1 / order))


def on_both(device, here, there, host, order):
    """Return the coefficient and the norm of the device, and those of the host."""
    dtype = "complex64" if np.iscomplexobj(here) else "float32"

    def program(rank, met):
        tree = [device.array(here, dtype) if rank else np.asarray(there, host)]
        comm = met.communicator(rank)
        norm = agclip.global_norm(tree, order, comm=comm)
        new, _ = agclip.clip_by_global_norm(tree, 2.0, ord=order, comm=comm)
        return float(norm), np.asarray(device.numbers(new[0]) if rank else new[0])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of the libraries' own arithmetic
        return together(2, program)


def require(found, here, there, host, order):
    wanted = expected([*here, *there], order)
    largest = float(np.finfo(host).max)
    reported = wanted if not wanted > largest else math.inf
    factor = min(1.0, 2.0 / wanted) if wanted > 0 else 1.0
    assert not any(isinstance(one, str) for one in found), found
    for (norm, new), leaf in zip(found, (there, here), strict=True):
        assert norm == pytest.approx(reported, rel=1e-5, abs=2e-44, nan_ok=True)
        if math.isfinite(wanted):
            clipped = np.asarray(leaf) * factor
            np.testing.assert_allclose(new, clipped, rtol=1e-5, atol=2e-44)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", VALUES)
def test_units_are_those_of_the_message(name, order, device):
    here, there = VALUES[name]
    require(on_both(device, here, there, "float32", order), here, there, "float32", order)


@pytest.mark.parametrize("order", COMPLEX_ORDERS)
@pytest.mark.parametrize("name", COMPLEX)
def test_moduli_are_those_of_the_message(name, order, device):
    here, there = COMPLEX[name]
    require(on_both(device, here, there, "complex64", order), here, there, "float32", order)
