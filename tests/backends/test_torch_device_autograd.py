"""Autograd on the way of PyTorch's tensors on a device: derivatives are those of the CPU's way.

Neither a call with `out=` nor one that writes in place behind autograd's back may meet an operand
that autograd records: a leaf, or a number that the factor depends on.
"""

import functools
import inspect

import pytest

import agclip

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import fake_cuda  # noqa: E402 - PyTorch is optional
from agclip_backends.torch import cuda  # noqa: E402 - likewise
from thinned import thinned  # noqa: E402 - after these

CALLS = {
    "clip_by_global_norm": {"clip_norm": 1.0},
    "clip_by_norm": {"clip_norm": 1.0},
    "clip_by_average_norm": {"clip_norm": 0.25},
    "clip_by_rms": {"clip_rms": 0.5},
    "clip_by_value": {"clip_value_min": -1.0, "clip_value_max": 0.5},
    "adaptive_grad_clip": {"clipping": 0.5, "unit_axes": "out_in"},
}
DTYPES = ("float16", "bfloat16", "float32", "float64", "complex64")
PAIRS = [*((x, x) for x in DTYPES), ("float32", "bfloat16")]
QUICK = (("float32", "bfloat16"), ("complex64", "complex64"))
NUMBERS = ("clip_norm", "clip_rms", "clip_value_max", "clipping", "loss_scale", "use_norm")
ENTRIES = {"w": [[3.0, -0.5], [-0.25, 4.0]], "b": [0.25, -2.5, 1.5, 0.75, -0.125]}


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch):
    monkeypatch.setattr(cuda, "LARGE", 5)


def taken(name, learnt, dtypes, *, inplace, device):
    """Return what a call gives, and the derivatives of a sum of it by what is learnt."""
    with fake_cuda.path() if device else pytest.MonkeyPatch.context():
        inputs, tree = {}, {}
        for (key, entries), dtype in zip(ENTRIES.items(), dtypes, strict=True):
            x = torch.tensor(entries, dtype=getattr(torch, dtype))
            if key in learnt:
                inputs[key] = x.requires_grad_()
            tree[key] = x.clone() if inplace else x
        options = dict(CALLS[name])
        if name == "adaptive_grad_clip":
            options["params"] = {key: torch.ones_like(x) for key, x in tree.items()}
        for key in set(learnt) & set(NUMBERS):
            number = {"loss_scale": 2.0, "use_norm": 4.0}.get(key, options.get(key))
            inputs[key] = torch.tensor(number, dtype=torch.float64, requires_grad=True)
            options[key] = inputs[key]
        result = getattr(agclip, f"{name}_" if inplace else name)(tree, **options)
        new = result[0] if isinstance(result, tuple) else result
        parts = [torch.view_as_real(x) if x.is_complex() else x for x in new.values()]
        weights = [torch.linspace(-1.0, 2.0, x.numel()).reshape(x.shape) for x in parts]
        loss = sum((x.double() * w).sum() for x, w in zip(parts, weights, strict=True))
        grads = torch.autograd.grad(loss, list(inputs.values()))
    return [x.detach() for x in new.values()], [x.requires_grad for x in new.values()], grads


def numbers_of(name):
    return [x for x in NUMBERS if x in inspect.signature(getattr(agclip, name)).parameters]


CASES = [
    (name, learnt)
    for name in CALLS
    for learnt in [("w",), ("b",), ("w", "b"), *((x,) for x in numbers_of(name))]
    + [("w", x) for x in numbers_of(name)]
    if not (name == "clip_by_value" and learnt == ("clip_value_max",))
]


@pytest.mark.parametrize("inplace", [False, True], ids=["new", "in-place"])
@pytest.mark.parametrize("dtypes", thinned(PAIRS, keep=QUICK, ids="-".join))
@pytest.mark.parametrize(
    ("name", "learnt"), CASES, ids=lambda x: x if isinstance(x, str) else "-".join(x)
)
def test_derivatives_are_those_of_the_cpu(name, learnt, dtypes, inplace):
    if name == "clip_by_value" and "complex64" in dtypes:
        pytest.skip("complex numbers have no order")
    if inplace and "float64" in dtypes and {"w", "b"} & set(learnt) and name != "clip_by_value":
        pytest.skip("autograd has saved the leaf for its norm, so it refuses, as on the CPU")
    take = functools.partial(taken, name, learnt, dtypes, inplace=inplace)
    wanted, found = take(device=False), take(device=True)
    rtol = 1e-2 if {"float16", "bfloat16"} & set(dtypes) else 1e-5
    torch.testing.assert_close(found[0], wanted[0], rtol=rtol, atol=rtol)
    assert found[1] == wanted[1]
    torch.testing.assert_close(found[2], wanted[2], rtol=rtol, atol=rtol)


@pytest.mark.parametrize("name", CALLS)
def test_a_leaf_that_requires_grad_is_refused_in_place(name):
    errors = []
    for device in (False, True):
        with fake_cuda.path() if device else pytest.MonkeyPatch.context():
            x = torch.tensor([3.0, 4.0], requires_grad=True)
            options = dict(CALLS[name])
            if name == "adaptive_grad_clip":
                options["params"] = [torch.ones(2)]
            with pytest.raises(TypeError, match="requires grad") as caught:
                getattr(agclip, f"{name}_")([x], **options)
            errors.append(str(caught.value))
    assert errors[0] == errors[1]


# torch 2.13 warns of itself where it decomposes forward derivatives.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_forward_derivatives_are_those_of_the_cpu():
    found = []
    for device in (False, True):
        with fake_cuda.path() if device else pytest.MonkeyPatch.context():
            x = torch.tensor([3.0, 4.0, 1.0], dtype=torch.bfloat16)
            big = torch.arange(6.0)

            def clip(bound, x=x, big=big):
                return agclip.clip_by_global_norm([x, big], bound)[0][1]

            one = torch.tensor(1.0)
            found.append(torch.func.jvp(clip, (one,), (one,))[1])
            found.append(torch.func.grad(lambda c, clip=clip: clip(c).sum())(one))
    torch.testing.assert_close(found[:2], found[2:])
