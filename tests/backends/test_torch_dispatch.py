"""PyTorch where tensors give shapes, programs or a device's default, and not values to be read."""

import math

import numpy as np
import pytest

import agclip

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402 - PyTorch is optional
from torch.fx.experimental.proxy_tensor import make_fx  # noqa: E402

import agclip_backends.torch.adapter  # noqa: E402
from agclip_backends._probe import kept  # noqa: E402
from agclip_backends.torch import sums  # noqa: E402
from thinned import thinned  # noqa: E402

X = [[3.0, -4.0], [0.5, 0.25]]
FUNCTIONS = {
    "global norm": lambda v: agclip.global_norm([v, 2 * v]),
    "reproducible": lambda v: agclip.global_norm([v], reproducible=True),
    "by global norm": lambda v: agclip.clip_by_global_norm([v, 2 * v], 1.0)[0][0],
    "norm": lambda v: agclip.clip_by_norm(v, 1.0),
    "order 3": lambda v: agclip.clip_by_norm(v, 1.0, ord=3),
    "axes": lambda v: agclip.clip_by_norm(v, 1.0, axes=-1),
    "average norm": lambda v: agclip.clip_by_average_norm(v, 0.5),
    "rms": lambda v: agclip.clip_by_rms(v, 0.5),
    "value": lambda v: agclip.clip_by_value(v, -1.0, 1.0),
    "adaptive": lambda v: agclip.adaptive_grad_clip(v, v * 0 + 1, 0.5, unit_axes="out_in"),
    "per example": lambda v: agclip.clip_per_example(v, 1.0)[0],
    "global norm in place": lambda v: agclip.clip_by_global_norm_([v + 0, 2 * v], 1.0)[0][0],
    "norm in place": lambda v: agclip.clip_by_norm_(v + 0, 1.0),
    "value in place": lambda v: agclip.clip_by_value_(v + 0, -1.0, 1.0),
}
RULES = {
    "ClipByGlobalNorm": agclip.ClipByGlobalNorm(1.0),
    "ClipByNorm": agclip.ClipByNorm(1.0),
    "ClipByAverageNorm": agclip.ClipByAverageNorm(0.5),
    "ClipByRMS": agclip.ClipByRMS(0.5),
    "ClipByValue": agclip.ClipByValue(-1.0, 1.0),
    "AdaptiveGradClip": agclip.AdaptiveGradClip(unit_axes="out_in"),
    "AutoClip": agclip.AutoClip(window=5),
    "ZClip": agclip.ZClip(),
    "AdaGC": agclip.AdaGC(),
    "QuantileClip": agclip.QuantileClip(),
    "SpikeClip": agclip.SpikeClip(),
}


def by_rule(rule):
    return lambda v: rule.update([v], rule.init([v]), [v * 0 + 1])[0][0]


CALLS = FUNCTIONS | {name: by_rule(rule) for name, rule in RULES.items()}


@pytest.fixture(params=CALLS, ids=lambda name: name.replace(" ", "-"))
def call(request):
    return CALLS[request.param]


@pytest.fixture
def default_device():
    """A function that sets PyTorch's default device until the end of the test."""
    yield torch.set_default_device
    torch.set_default_device(None)


@pytest.fixture
def default_dtype():
    """A function that sets PyTorch's default dtype until the end of the test."""
    before = torch.get_default_dtype()
    yield torch.set_default_dtype
    torch.set_default_dtype(before)


def x():
    return torch.tensor(X)


def same(got, wanted):
    return torch.equal(got, wanted) and (got.dtype, got.device) == (wanted.dtype, wanted.device)


def test_fake_tensors_give_shapes(call):
    wanted = call(x())
    with FakeTensorMode() as mode:
        got = call(mode.from_tensor(x()))
    assert (got.shape, got.dtype, got.device) == (wanted.shape, wanted.dtype, wanted.device)


# Within the bound, and beyond it: the decision is a part of the program.
@pytest.mark.parametrize("size", [0.01, 1.0])
@pytest.mark.parametrize("mode", thinned(["real", "fake", "symbolic"], keep=("symbolic",)))
def test_make_fx_gives_a_program_that_decides_anew(call, mode, size):
    program = make_fx(call, tracing_mode=mode)(x())
    assert torch.allclose(program(x() * size), call(x() * size), rtol=1e-6)


@pytest.mark.parametrize("name", ["norm", "by global norm", "norm in place"])
def test_make_fx_before_dispatch_gives_a_program_that_decides_anew(name):
    program = make_fx(CALLS[name], pre_dispatch=True)(x())
    assert torch.allclose(program(x() / 100), CALLS[name](x() / 100), rtol=1e-6)


@pytest.mark.parametrize("name", ["rms", "average norm", "ClipByRMS", "ClipByAverageNorm"])
def test_a_symbolic_program_serves_leaves_of_other_sizes(name):
    program = make_fx(CALLS[name], tracing_mode="symbolic")(x())
    other = torch.full((7, 3), 5.0)
    assert torch.allclose(program(other), CALLS[name](other), rtol=1e-6)


def test_functional_tensors_are_clipped(call):
    assert torch.allclose(torch.func.functionalize(call)(x()), call(x()), rtol=1e-6)


def test_a_mode_that_watches_values_changes_nothing(call):
    flops = pytest.importorskip("torch.utils.flop_counter", reason="this PyTorch counts no flops")
    with flops.FlopCounterMode(display=False):
        got = call(x())
    assert same(got, call(x()))


def test_meta_tensors_give_meta_tensors(call):
    wanted, got = call(x()), call(x().to("meta"))
    assert got.device.type == "meta"
    assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)


def test_the_default_device_changes_nothing(call, default_device):
    wanted = call(x())
    default_device("meta")
    got = call(torch.tensor(X, device="cpu"))
    default_device(None)
    assert same(got, wanted)


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_the_default_dtype_changes_nothing(call, default_dtype, dtype):
    wanted = call(x())
    default_dtype(getattr(torch, dtype))
    assert same(call(torch.tensor(X, dtype=torch.float32)), wanted)


@pytest.mark.parametrize("few", [0, 1000], ids=["all threads", "one thread"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64, torch.complex64])
def test_large_tensors_are_clipped_in_place_beside_another_default_device(monkeypatch, few, dtype):
    monkeypatch.setattr(sums, "_FEW", few)
    leaves = [torch.ones(70_000, dtype=dtype) for _ in range(3)]
    with torch.device("meta"):
        _, norm = agclip.clip_by_global_norm_(leaves, 1.0)
    assert norm.item() == pytest.approx(math.sqrt(210_000))
    assert abs(leaves[2][-1].item()) == pytest.approx(1 / math.sqrt(210_000), rel=2**-8)


def test_a_library_that_failed_once_is_asked_again():
    """A passing cause, such as memory that is full, rules no library out for the whole process."""
    answers = iter(["not enough memory", None])
    usable = kept(lambda: next(answers))
    assert [usable(), usable(), usable()] == ["not enough memory", None, None]


def test_whether_the_library_is_usable_does_not_hang_on_the_default_device(default_device):
    default_device("meta")
    assert agclip_backends.torch.adapter.backend.usable.__wrapped__() is None


class Dispatching(torch.Tensor):
    """A tensor that wraps another one, and is asked for every operation."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

    # Trees are made of products and sums of the leaf: not what is tested.
    __add__ = __mul__ = __rmul__ = lambda self, _: self

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        raise AssertionError(function)


class Named(torch.Tensor):
    """A tensor by another name: its operations are those of any tensor."""


class Shared(Dispatching):
    """What a tensor of `torch.distributed` looks like from here."""

    def full_tensor(self):
        raise AssertionError


def fake_outside():
    return FakeTensorMode().from_tensor(x())


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Dispatching(x()), "is a Dispatching, which carries out operations itself,"),
        (lambda: Shared(x()), "is a DTensor, of which every process holds a part,"),
        (fake_outside, "is a FakeTensor outside of its FakeTensorMode"),
    ],
    ids=["dispatching", "distributed", "fake"],
)
def test_tensors_with_operations_of_their_own_are_refused(call, make, reason):
    made = make()
    with pytest.raises(TypeError, match=f"must hold dense arrays; got one that {reason} at"):
        call(made)


def test_other_subclasses_are_tensors(call):
    assert same(call(x().as_subclass(Named)).as_subclass(torch.Tensor), call(x()))


def test_a_failure_leaves_the_tensors_before_it_alone():
    leaves = [x(), Dispatching(x())]
    with pytest.raises(TypeError, match="carries out operations itself"):
        agclip.clip_by_global_norm_(leaves, 1.0)
    assert np.array_equal(leaves[0].numpy(), np.array(X, np.float32))
