"""What only a device would show, as far as the host can tell: memory that is not there, or ready.

Each test names the kind of fault. CPU tensors and NumPy's arrays pass for those of a device.
"""

import threading

import numpy as np
import pytest

import fused_host
from agclip_backends._cuda import driver, kept
from agclip_backends._cuda.fused import Room
from agclip_backends._cuda.fused_source import INLINE
from agclip_backends._cuda.table import Place, Terms

pytest_plugins = ["fused_fixtures"]


# --- memory that is written in the order of another stream ----------------------------------------


@pytest.fixture(params=[3, INLINE + 1], ids=["inline", "uploaded"])
def leaves(request):
    return [np.full(5, i, np.float32) for i in range(request.param)]


def test_threads_with_default_streams_of_their_own_share_no_memory_of_the_device(library, leaves):
    """A table that one thread uploads is not there yet when another one's kernel begins."""
    host = fused_host.HostLibrary(library)
    host.stream = kept._PER_THREAD
    room, spaces = Room(host), []

    def clip():
        work = room.decide(leaves, None, Terms(), 1e9)
        spaces.append((work.workspace.address, work.table.memory, work))

    for _ in range(2):
        clip()
    assert host.uploads == (len(leaves) > INLINE)
    # One after the other: the second may have the number of the first, which has ended.
    for _ in range(2):
        thread = threading.Thread(target=clip)
        thread.start()
        thread.join()
    addresses = [address for address, _, _ in spaces]
    assert addresses[0] == addresses[1]
    assert len(set(addresses)) == 3
    assert host.uploads == 3 * (len(leaves) > INLINE)


def test_threads_of_one_stream_share_what_is_there(library, leaves):
    host = fused_host.HostLibrary(library)
    room = Room(host)
    for _ in range(2):
        thread = threading.Thread(target=room.decide, args=(leaves, None, Terms(), 1e9))
        thread.start()
        thread.join()
    assert host.uploads == (len(leaves) > INLINE)
    assert len(room._ordered.workspaces) == 1


# --- what CUDA forbids while a graph is captured --------------------------------------------------


@pytest.mark.parametrize("ask", ["load", "function"])
def test_kernels_are_loaded_outside_of_the_mode_of_a_capture(monkeypatch, ask):
    """A module that is loaded lazily is loaded when a kernel is asked for."""
    modes, current = [], [0]

    class Fake:
        def cuThreadExchangeStreamCaptureMode(self, mode):
            mode._obj.value, current[0] = current[0], mode._obj.value
            return 0

        def cuModuleLoadData(self, *_):
            modes.append(current[0])
            return 0

        cuModuleGetFunction = cuModuleLoadData

    monkeypatch.setattr(driver, "_driver", Fake)
    driver.load(b"", 0) if ask == "load" else driver.function(None, "agclip_norm_2")
    assert modes == [2]
    assert current == [0]


# --- tensors whose elements are not what lies at their address ------------------------------------


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed")


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_zeros_without_memory_are_not_read_by_kernels(torch, dtype):
    """A kernel that reads address zero ends the process's use of the device."""
    from agclip_backends.torch.fused import TorchLibrary

    made = torch._efficientzerotensor(5, dtype=getattr(torch, dtype))
    assert made.data_ptr() == 0
    ordinary = torch.ones(3)
    library = TorchLibrary()
    assert library.describe([ordinary, made]) is None
    assert library.describe([ordinary, torch.ones(0)]) is not None


def test_zeros_without_memory_are_clipped_by_the_general_program(torch, seam, seam_host):
    import agclip
    from fused_rehearsal import device

    made = torch._efficientzerotensor(5)
    with device(seam, seam):
        new, norm = agclip.clip_by_global_norm([made, torch.full((4,), 2.0)], 1.0)
    assert seam_host.launches == []
    assert float(norm) == 4.0
    assert new[0].tolist() == [0.0] * 5
    assert new[1].tolist() == [0.5] * 4


SCALARS = {
    "a negative view": lambda torch: torch.tensor(1 - 2j).conj().imag,
    "zero without memory": lambda torch: torch._efficientzerotensor(()),
    "with an axis": lambda torch: torch.ones(1),
    "an integer": lambda torch: torch.tensor(1),
    "of autograd": lambda torch: torch.tensor(1.0, requires_grad=True),
}


@pytest.mark.parametrize("name", SCALARS)
def test_a_bound_that_is_not_what_memory_holds_is_not_read_there(torch, name):
    from agclip_backends.torch.fused import TorchLibrary

    assert TorchLibrary().scalar(Place(-1, 7, False), SCALARS[name](torch)) is None
    plain = torch.tensor(0.5)
    assert TorchLibrary().scalar(Place(-1, 7, False), plain) == (plain.data_ptr(), 2)
