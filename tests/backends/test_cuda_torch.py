"""What PyTorch's tensors on a device go through: run on the CPU, without data, and on a GPU."""

import math

import pytest

import agclip
from agclip._backends import kernels, registry
from agclip._backends.contract import Factor
from agclip.testing import Library

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402 - PyTorch is optional

import fake_cuda  # noqa: E402 - likewise
import suites  # noqa: E402 - likewise
from agclip_backends.torch import cuda  # noqa: E402 - likewise

# PyTorch says so once in a process when it is first asked to tell of waits.
pytestmark = pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")

READS = ("_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal", "masked_select")
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


class Watch(TorchDispatchMode):
    """Notes which operations run, and which of them need a value on the host."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.calls.append(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))

    @property
    def reads(self):
        return [name for name in self.calls if name in READS]


@pytest.fixture
def xp():
    return agclip.get_backend("torch").xp


@pytest.fixture(params=DTYPES, ids=str)
def dtype(request):
    return request.param


@pytest.fixture
def small_is_large(monkeypatch):
    monkeypatch.setattr(cuda, "LARGE", 4)


def entries(shape, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator, dtype=torch.float64) * 4).to(dtype)


def scalar(value):
    return torch.tensor(value, dtype=torch.float64)


def same(a, b):
    return a.dtype == b.dtype and torch.equal(torch.nan_to_num(a, 7.0), torch.nan_to_num(b, 7.0))


@pytest.mark.parametrize("shape", [(), (1,), (0,), (7, 11), (300, 41)])
def test_sums_of_squares_are_right(xp, dtype, shape):
    leaf = entries(shape, dtype)
    (found,) = cuda.sum_squares(xp, [leaf], torch.float64, 1.0)
    assert (found.dtype, found.ndim) == (torch.float64, 0)
    expected = math.fsum(x * x for x in leaf.double().flatten().tolist())
    assert found.item() == pytest.approx(expected, rel=1e-12, abs=0)


def test_every_leaf_has_its_own_sum_in_its_own_place(xp):
    dtypes = [*DTYPES, torch.complex64, torch.complex128]
    leaves = [entries((k,), dtype, k) for k in (0, 3, 5) for dtype in dtypes]
    found = cuda.sum_squares(xp, leaves, torch.float64, 1.0)
    expected = kernels.sum_squares(xp, leaves, torch.float64, 1.0)
    assert torch.stack(found).tolist() == pytest.approx(torch.stack(expected).tolist(), rel=1e-14)


@pytest.mark.parametrize("size", [3.4e38, 1e-30, 1e-45], ids=str)
def test_squares_of_float32_leave_no_range(xp, size):
    leaf = torch.tensor([size, size], dtype=torch.float32)
    (found,) = cuda.sum_squares(xp, [leaf], torch.float64, 1.0)
    assert found.item() == pytest.approx(2 * leaf[0].item() ** 2, rel=2.0**-50)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_sums_tell_of_entries_that_are_not_finite(xp, dtype, value):
    leaf = entries((9,), dtype)
    leaf[4] = value
    (found,) = cuda.sum_squares(xp, [leaf], torch.float64, 1.0)
    assert not found.isfinite()
    assert found.isnan().item() == math.isnan(value)


def test_scaled_squares_go_the_default_way(xp):
    leaf = torch.tensor([1e200, 1e200], dtype=torch.float64)
    (found,) = cuda.sum_squares(xp, [leaf], torch.float64, scalar(2.0**-600))
    assert found.item() == pytest.approx(2 * (1e200 * 2.0**-600) ** 2)


def test_the_total_is_the_sum_on_the_device(xp):
    assert cuda.total(xp, [scalar(1.0), scalar(2.0), scalar(4.0)]).item() == 7.0
    assert cuda.total(xp, [scalar(3.0)]).item() == 3.0


PAIRS = [
    (None, 0.3),
    (None, scalar(0.3)),
    (scalar(1.0), scalar(0.3)),
    (scalar(1.0), scalar(math.nan)),
    (scalar(2.0**-64), scalar(2.0**-60 * 0.7)),
]


@pytest.mark.parametrize("pair", PAIRS, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (17, 5)])
@pytest.mark.usefixtures("small_is_large")
def test_products_have_the_bits_of_the_default(xp, dtype, shape, pair):
    leaf = entries(shape, dtype) * 2**10
    before, factor = leaf.clone(), Factor(pair, pair)
    (expected,) = kernels.scale(xp, [leaf], factor)
    (new,) = cuda.scale(xp, [leaf], factor)
    assert same(new, expected)
    assert same(leaf, before)
    cuda.scale_(xp, [leaf], factor)
    assert same(leaf, expected)


@pytest.mark.parametrize("large", [4, 1 << 20])
def test_one_pass_and_two_have_the_same_bits(xp, monkeypatch, large):
    monkeypatch.setattr(cuda, "LARGE", large)
    leaf = entries((999,), torch.float32)
    pair = (scalar(1.0), scalar(1 / 3))
    (expected,) = kernels.scale(xp, [leaf], Factor(pair, pair))
    cuda.scale_(xp, [leaf], Factor(pair, pair))
    assert same(leaf, expected)


@pytest.mark.parametrize("bits", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("pair", [(None, scalar(0.7)), (scalar(1.0), scalar(0.7))], ids=str)
def test_every_number_of_half_precision_is_rounded_once(xp, bits, pair):
    leaf = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16).view(bits)
    expected = (leaf.float() * torch.tensor(0.7)).to(bits)
    (found,) = cuda.scale(xp, [leaf], Factor(pair, pair))
    assert same(found, expected)


@pytest.mark.usefixtures("small_is_large")
def test_strides_stay_and_gaps_are_left_alone(xp, dtype):
    memory = entries((12, 10), dtype)
    before = memory.clone()
    leaf = memory[:, ::2].T
    pair = (scalar(1.0), scalar(0.5))
    cuda.scale_(xp, [leaf], Factor(pair, pair))
    assert torch.equal(memory[:, 1::2], before[:, 1::2])
    assert torch.equal(memory[:, ::2], before[:, ::2] * 0.5)
    (new,) = cuda.scale(xp, [before.T], Factor(pair, pair))
    assert new.stride() == before.T.stride()


def test_factors_with_axes_go_the_default_way(xp, dtype):
    leaf = torch.ones((2, 3), dtype=dtype)
    rows = torch.tensor([[0.5], [0.25]], dtype=torch.float64)
    cuda.scale_(xp, [leaf], Factor((None, rows), (None, rows)))
    assert leaf.tolist() == [[0.5] * 3, [0.25] * 3]


def test_autograd_is_recorded(xp):
    leaf = torch.tensor([3.0, 4.0], requires_grad=True)
    (square,) = cuda.sum_squares(xp, [leaf], torch.float64, 1.0)
    (new,) = cuda.scale(xp, [leaf], Factor((None, scalar(0.5)), (None, scalar(0.5))))
    (square + new.sum()).backward()
    assert leaf.grad.tolist() == [6.5, 8.5]


@pytest.mark.parametrize("pair", PAIRS, ids=str)
@pytest.mark.usefixtures("small_is_large")
def test_no_value_is_needed_on_the_host(xp, pair):
    leaves = [entries((k,), dtype) for dtype in DTYPES for k in (0, 3, 5)]
    with Watch() as watch:
        cuda.sum_squares(xp, leaves, torch.float64, 1.0)
        cuda.scale(xp, leaves, Factor(pair, pair))
        cuda.scale_(xp, leaves, Factor(pair, pair))
    assert watch.calls
    assert watch.reads == []


def test_the_watch_sees_a_value_that_is_read():
    with Watch() as watch:
        float(scalar(1.0))
    assert watch.reads == ["_local_scalar_dense"]


@pytest.mark.parametrize("pair", [PAIRS[0], (None, None)], ids=str)
def test_tensors_without_data_pass_through(xp, dtype, pair):
    if pair == (None, None):
        pair = (torch.ones((), dtype=torch.float64, device="meta"),) * 2
    leaves = [torch.empty((4, 5), dtype=dtype, device="meta")]
    (square,) = cuda.sum_squares(xp, leaves, torch.float64, 1.0)
    (new,) = cuda.scale(xp, leaves, Factor(pair, pair))
    cuda.scale_(xp, leaves, Factor(pair, pair))
    assert (square.device.type, square.dtype) == ("meta", torch.float64)
    assert (new.shape, new.dtype, new.device.type) == ((4, 5), dtype, "meta")


def test_a_list_takes_one_launch_a_dtype(xp):
    leaves = [entries((3,), dtype, k) for k in range(50) for dtype in DTYPES[2:]]
    pair = (scalar(1.0), scalar(0.5))
    with Watch() as watch:
        cuda.scale_(xp, leaves, Factor(pair, pair))
    assert watch.calls.count("_foreach_mul_") == 4
    with Watch() as watch:
        cuda.sum_squares(xp, leaves[::2], torch.float64, 1.0)
    assert watch.calls == ["_foreach_norm", "_foreach_mul"]


class TestConformance(suites.Thinned):
    """The whole of agclip on these functions, with tensors whose values cost something to read."""

    own = ("bfloat16", "float64")

    examples = 10

    @pytest.fixture(scope="class")
    @classmethod
    def library(cls):
        own = agclip.get_backend("torch")
        before = dict(registry._registered)
        made = agclip.Backend(
            name="torch",
            xp=own.xp,
            sum_squares=cuda.sum_squares,
            scale=cuda.scale,
            scale_=cuda.scale_,
            keeps_bits=lambda _: True,
            sqrt=own.sqrt,
            refuse=own.refuse,
            unwritable=own.unwritable,
            device=own.device,
            acc_dtype=own.acc_dtype,
        )
        assert made.access(torch.ones(2)) == "sync"
        agclip.register_backend(made)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cuda, "LARGE", 4)
            yield Library("torch", "torch, as on a device")
        registry._registered.clear()
        registry._registered.update(before)
        registry.BY_TYPE.clear()


@pytest.fixture
def on_a_device():
    with fake_cuda.path():
        yield


LAUNCHES = {
    "global_norm": (agclip.global_norm, 12),
    "clip_by_global_norm_": (lambda leaves: agclip.clip_by_global_norm_(leaves, 0.5), 38),
    "clip_by_global_norm": (lambda leaves: agclip.clip_by_global_norm(leaves, 0.5), 39),
    "clip_by_global_norm_, strict": (
        lambda leaves: agclip.clip_by_global_norm_(leaves, 0.5, strict=True),
        40,
    ),
}


@pytest.mark.parametrize("name", LAUNCHES, ids=lambda name: name.replace(", ", "-"))
def test_a_call_takes_as_few_launches_for_many_leaves_as_for_two(on_a_device, name):
    call, most = LAUNCHES[name]
    counts = []
    for count in (2, 200):
        leaves = [entries((100, 7), torch.float32, seed) for seed in range(count)]
        with Watch() as watch:
            call(leaves)
        assert not watch.reads
        counts.append(sum(name != "empty_like" for name in watch.calls))
    assert counts == [counts[0]] * 2
    assert counts[0] <= most


@pytest.fixture
def gpu():
    if not torch.cuda.is_available():
        reason = "PyTorch is built without CUDA" if torch.version.cuda is None else "no GPU"
        pytest.skip(f"PyTorch cannot use a GPU here: {reason}")
    torch.cuda.set_sync_debug_mode("default")
    yield torch.device("cuda")
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_products_on_a_gpu_have_the_bits_of_the_cpu(gpu, xp, dtype, pair):
    leaves = [entries(shape, dtype) for shape in [(), (0,), (7,), (1 << 10, 1030)]]
    expected = kernels.scale(xp, leaves, Factor(pair, pair))
    there = tuple(p.to(gpu) if isinstance(p, torch.Tensor) else p for p in pair)
    on_gpu = [leaf.to(gpu) for leaf in leaves]
    torch.cuda.set_sync_debug_mode("error")
    new = cuda.scale(xp, on_gpu, Factor(there, there))
    cuda.scale_(xp, on_gpu, Factor(there, there))
    torch.cuda.set_sync_debug_mode("default")
    assert all(same(a.cpu(), b) for a, b in zip(new, expected, strict=True))
    assert all(same(a.cpu(), b) for a, b in zip(on_gpu, expected, strict=True))


def test_sums_on_a_gpu_are_right(gpu, xp, dtype):
    leaves = [entries(shape, dtype) for shape in [(), (0,), (7,), (1 << 10, 1030)]]
    on_gpu = [leaf.to(gpu) for leaf in leaves]
    torch.cuda.set_sync_debug_mode("error")
    found = cuda.total(xp, cuda.sum_squares(xp, on_gpu, torch.float64, 1.0))
    torch.cuda.set_sync_debug_mode("default")
    expected = math.fsum(x * x for leaf in leaves for x in leaf.double().flatten().tolist())
    assert found.item() == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("name", ["clip_by_global_norm", "clip_by_norm", "clip_by_global_norm_"])
def test_clipping_on_a_gpu_never_waits_for_it(gpu, dtype, name):
    leaves = [entries((100, 7), dtype), entries((3,), dtype, 1)]
    expected = getattr(agclip, name)([leaf.clone() for leaf in leaves], 0.5)
    on_gpu = [leaf.to(gpu) for leaf in leaves]
    torch.cuda.set_sync_debug_mode("error")
    clipped = getattr(agclip, name)(on_gpu, 0.5)
    torch.cuda.set_sync_debug_mode("default")
    pairs = zip(*(x[0] if isinstance(x, tuple) else x for x in (clipped, expected)), strict=True)
    assert all(
        torch.allclose(a.cpu(), b, rtol=1e-2 if dtype.itemsize == 2 else 1e-6) for a, b in pairs
    )
