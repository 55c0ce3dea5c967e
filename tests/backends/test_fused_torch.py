"""The fused CUDA kernels on PyTorch's tensors: in the host's memory, in the place of a device's."""

import numpy as np
import pytest

import agclip
import fused_host
from agclip_backends._cuda.fused import Room
from agclip_backends._cuda.table import Terms

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest_plugins = ["fused_fixtures"]


@pytest.fixture
def torch_room(library):
    import fused_rehearsal

    return Room(fused_rehearsal.CpuLibrary(fused_host.HostLibrary(library)))


DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_clip_of_tensors_is_that_of_agclip(torch_room, dtype):
    generator = torch.Generator().manual_seed(0)
    leaves = [torch.randn(n, generator=generator, dtype=dtype) for n in (0, 5, 300)]
    wanted, norm = agclip.clip_by_global_norm([x.clone() for x in leaves], 0.5)
    done = torch_room.clip(leaves, None, Terms(), 0.5)
    assert done.norm.dtype == norm.dtype
    assert torch.allclose(done.norm, norm, rtol=1e-15)
    for x, y in zip(leaves, wanted, strict=True):
        assert torch.equal(x, y) or torch.allclose(x, y, rtol=1e-14)


@pytest.mark.parametrize("bound", [1e9, 0.5])
def test_new_leaves_are_written_though_an_empty_one_has_no_address(torch_room, bound):
    leaves = [torch.ones(0), torch.ones(9)]
    targets = [torch.ones(0), torch.zeros(9)]
    assert leaves[0].data_ptr() == targets[0].data_ptr() == 0
    torch_room.clip(leaves, targets, Terms(), bound)
    wanted, _ = agclip.clip_by_global_norm(leaves, bound)
    assert torch.equal(targets[1], wanted[1])


def test_autograd_learns_that_tensors_were_overwritten(torch_room):
    x, target = torch.ones(3), torch.ones(3)
    versions = x._version, target._version
    torch_room.clip([x], [target], Terms(), 0.5)
    assert (x._version, target._version) == (versions[0], versions[1] + 1)
    torch_room.clip([x], None, Terms(), 0.5)
    assert x._version == versions[0] + 1
    assert torch_room.within([x], None, (0.0,) * 4, (1.0,) * 4)
    assert x._version == versions[0] + 2


def test_a_product_saved_before_a_clip_is_not_used_after_it(torch_room):
    w = torch.ones(3, requires_grad=True)
    x = torch.ones(3)
    y = (w * x).sum()
    torch_room.clip([x], None, Terms(), 0.5)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


@pytest.mark.parametrize(
    ("made", "taken"),
    [
        (lambda: torch.ones(4, 6).T, True),
        (lambda: torch.ones(4, 6)[1:3], True),
        (lambda: torch.ones(1, 6, 1).permute(2, 0, 1), True),
        (lambda: torch.ones(2, 3, 4, 5).to(memory_format=torch.channels_last), True),
        (lambda: torch.ones(()), True),
        (lambda: torch.ones(4, 6)[:, 1:], False),
        (lambda: torch.ones(1).expand(5), False),
        (lambda: torch.ones(3, dtype=torch.int32), False),
        (lambda: torch.ones(3, dtype=torch.complex64).conj(), False),
        (lambda: torch.ones(3, dtype=torch.complex64).conj().imag, False),
        (lambda: torch.ones(1, dtype=torch.complex64).conj().imag, False),
        (lambda: torch.eye(3).to_sparse(), False),
    ],
)
def test_which_tensors_the_kernels_take(torch_room, made, taken):
    described = torch_room.library.describe([torch.ones(3), made()])
    assert (described is not None) == taken


def test_tensors_elsewhere_are_left_alone():
    from agclip_backends.torch.fused import TorchLibrary

    assert Room(TorchLibrary()).clip([torch.ones(3)], None, Terms(), 1.0) is None


def test_scalars_on_the_device_are_read_there(torch_room):
    x, y = torch.ones(9), torch.ones(9)
    torch_room.clip([x], None, Terms(), torch.tensor(0.25), torch.tensor(2.0, dtype=torch.float64))
    torch_room.clip([y], None, Terms(), 0.25, 2.0)
    assert torch.equal(x, y)
    assert float(np.linalg.norm(x.numpy())) == pytest.approx(0.25)
