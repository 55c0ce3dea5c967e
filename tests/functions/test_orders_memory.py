"""Peak memory of norms of every order: two MiB beside the leaves, in host memory."""

import numpy as np
import pytest

import agclip
from peak_memory import MIB, SMALL_CHANGE

pytest_plugins = ["host_fixtures"]

ENTRIES = 1 << 21
ORDERS = (0.5, 1, 2, 3, "inf")


@pytest.fixture(params=["float32", "float64", "complex64"])
def leaf(request, host):
    return host.copy(np.full((ENTRIES // 2, 2), 0.5, request.param))


@pytest.fixture(params=ORDERS)
def order(request):
    return request.param


def test_a_norm_of_any_order_takes_two_mib(peak, leaf, order):
    assert peak(lambda t: agclip.global_norm(t, ord=order), [leaf]) <= 2 * MIB + SMALL_CHANGE


def test_a_clip_in_place_of_any_order_takes_two_mib(peak, leaf, order):
    call = lambda t: agclip.clip_by_global_norm_(t, 1.0, ord=order)  # noqa: E731
    assert peak(call, [leaf]) <= 2 * MIB + SMALL_CHANGE


def test_a_norm_over_leading_axes_takes_two_mib(peak, leaf, order):
    if "complex" in str(leaf.dtype):
        pytest.skip("complex leaves are multiplied into new memory along axes")
    call = lambda t: agclip.clip_by_norm_(t, 1.0, axes=0, ord=order)  # noqa: E731
    assert peak(call, [leaf]) <= 2 * MIB + SMALL_CHANGE
