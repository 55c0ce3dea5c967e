"""Fixtures of every test of host memory: the library, and compiled kernels off and on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import arrays
import hosts
from peak_memory import peak_of_numpy, peak_of_torch


@pytest.fixture(params=hosts.MODES)
def accelerate(request: pytest.FixtureRequest) -> Iterator[str]:
    """Whether compiled kernels are used."""
    with hosts.accelerated(request.param):
        yield request.param


@pytest.fixture(params=hosts.LIBRARIES)
def host(request: pytest.FixtureRequest, accelerate: str) -> hosts.Host:
    """A library with or without compiled kernels."""
    arrays.library(request.param)
    return hosts.Host(request.param, accelerate)


@pytest.fixture(params=hosts.LIBRARIES)
def compiled_host(request: pytest.FixtureRequest) -> Iterator[hosts.Host]:
    """A library with compiled kernels."""
    arrays.library(request.param)
    with hosts.accelerated("numba"):
        yield hosts.Host(request.param, "numba")


@pytest.fixture
def leaf(request: pytest.FixtureRequest, layout: str) -> Any:
    """An array of one of the module's layouts."""
    return request.module.LAYOUTS[layout]()


@pytest.fixture
def peak(host):
    """A function that tells how much more memory than before was in use during a call."""
    if host.library == "numpy":
        yield lambda *call: peak_of_numpy(*warmed(host, *call))
        return
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # memory does not depend on it, and threads cost time
    yield lambda *call: peak_of_torch(*warmed(host, *call))
    torch.set_num_threads(before)


def warmed(host, function, tree):
    """Return a call whose imports have been made."""
    function([host.array([3.0, 4.0])])
    return function, tree
