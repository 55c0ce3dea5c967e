"""What the driver is told of a launch: layouts of its structures, against a driver that is not."""

import ctypes
import struct
from types import SimpleNamespace

import pytest

from agclip_backends._cuda import driver


@pytest.fixture
def told(monkeypatch):
    """What a driver in the place of NVIDIA's has been told."""
    calls = []

    def extended(config, handle, parameters, extra):
        # CUlaunchConfig and CUlaunchAttribute as cuda.h of CUDA 13 lays them out.
        *numbers, stream, attributes, count = struct.unpack("=7I4xQQI4x", config)
        kind, allowed = struct.unpack("=I4xi", ctypes.string_at(attributes, 12))
        calls.append(("early", numbers, stream, kind, allowed, count, handle, parameters, extra))
        return 0

    def plain(*given):
        calls.append(("plain", *given))
        return 0

    fake = SimpleNamespace(cuLaunchKernelEx=extended, cuLaunchKernel=plain)
    monkeypatch.setattr(driver, "_driver", lambda: fake)
    return calls


def test_a_launch_in_its_turn(told):
    driver.launch(11, 5, 256, 7, "parameters", 0)
    assert told == [("plain", 11, 5, 1, 1, 256, 1, 1, 0, 7, "parameters", None)]


def test_a_launch_that_may_begin_early(told):
    driver.launch(11, 5, 256, 7, "parameters", 0, early=True)
    numbers = [5, 1, 1, 256, 1, 1, 0]
    assert told == [("early", numbers, 7, 6, 1, 1, 11, "parameters", None)]


def test_sizes_of_the_structures():
    assert driver._CONFIG.size == 56
    assert ctypes.sizeof(driver._EARLY) == 72
