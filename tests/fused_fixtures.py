"""Fixtures of the tests of the fused CUDA kernels: compiled for the host, run on its memory."""

from __future__ import annotations

import pytest

import fused_cases
import fused_host
from agclip_backends._cuda.fused import Room


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    if fused_host.COMPILER is None:
        pytest.skip("there is no C++ compiler here")
    return fused_host.build(tmp_path_factory.mktemp("fused"))


@pytest.fixture
def host_library(library):
    return fused_host.HostLibrary(library)


@pytest.fixture
def room(host_library):
    return Room(host_library)


@pytest.fixture(params=[*fused_cases.NARROW, "float64"])
def dtype(request):
    return fused_cases.dtype_named(request.param)


@pytest.fixture(params=fused_cases.NARROW)
def narrow(request):
    return fused_cases.dtype_named(request.param)


@pytest.fixture(scope="module")
def seam(library):
    """The kernels as fields of a backend, on CPU tensors."""
    return pytest.importorskip("fused_rehearsal", reason="PyTorch is not installed").seam(library)


@pytest.fixture
def seam_host(seam):
    """What the seam has launched in a test."""
    host = seam.room.library.host
    host.launches.clear()
    host.recorded.clear()
    return host
