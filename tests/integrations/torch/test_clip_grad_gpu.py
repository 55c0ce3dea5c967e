"""The drop-ins and a rule with memory on a real GPU: the CPU's bits, and nobody waits.

`test_clip_grad_device.py` and `backends/test_fused_memory.py` show the same without one.
"""

import math

import pytest

import agclip

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from agclip.integrations.torch import (  # noqa: E402 - PyTorch is optional
    clip_grad_norm_,
    clip_grad_value_,
    clip_grads_with_norm_,
    get_total_norm,
)

SIZES = ((5,), (0,), (1 << 10, 103), (), (70, 3), (1 << 18,))


@pytest.fixture(autouse=True)
def gpu():
    if not torch.cuda.is_available():
        pytest.skip("PyTorch cannot use a GPU here")
    from agclip_backends.torch.fused import room, seam

    yield room
    torch.cuda.set_sync_debug_mode("default")
    assert seam.unavailable is None


def parameters(dtype, place, bad=None):
    generator, made = torch.Generator().manual_seed(0), []
    for shape in SIZES:
        grad = torch.randn(shape, generator=generator).to(getattr(torch, dtype))
        if bad is not None and grad.numel() > 100:
            grad.view(-1)[7] = bad
        made.append(torch.nn.Parameter(torch.zeros_like(grad, device=place)))
        made[-1].grad = grad.to(place)
    return made


def alike(ones, others, dtype):
    pairs = zip(ones, others, strict=True)
    if dtype == "float64":
        return all(torch.allclose(x.cpu(), y, rtol=1e-14, equal_nan=True) for x, y in pairs)
    return all(repr(x.cpu().tolist()) == repr(y.tolist()) for x, y in pairs)


CALLS = {
    "norm": lambda params, _: clip_grad_norm_(params, 0.5),
    "norm, within": lambda params, _: clip_grad_norm_(params, 1e9),
    "norm, 1": lambda params, _: clip_grad_norm_(params, 0.5, 1),
    "norm, inf": lambda params, _: clip_grad_norm_(params, 0.5, math.inf),
    "a norm that is known": lambda params, _: clip_grads_with_norm_(params, 0.5, 40.0),
    "a norm on the device": lambda params, norm: clip_grads_with_norm_(params, 0.5, norm),
    "total": lambda params, _: get_total_norm([p.grad for p in params]),
    "value": lambda params, _: clip_grad_value_(params, 1 / 3),
}


@pytest.mark.parametrize("bad", [None, math.nan, math.inf], ids=str)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("name", CALLS)
def test_a_drop_in_on_a_gpu_is_that_on_the_cpu(name, dtype, bad):
    mine, theirs = parameters(dtype, "cuda", bad), parameters(dtype, "cpu", bad)
    norm = torch.tensor(17.25, device="cuda")
    CALLS[name](parameters(dtype, "cuda"), norm)  # what is compiled may wait
    torch.cuda.set_sync_debug_mode("error")
    found = CALLS[name](mine, norm)
    torch.cuda.set_sync_debug_mode("default")
    wanted = CALLS[name](theirs, norm.cpu())
    assert alike([p.grad for p in mine], [p.grad for p in theirs], dtype)
    if found is not None:
        assert alike([found], [wanted], dtype)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_rule_with_memory_on_a_gpu_is_that_on_the_cpu(dtype):
    rule, states = agclip.ZClip(0.5, 0.5, 1, 20.0), {}
    for step in range(5):
        found = {}
        for place in ("cuda", "cpu"):
            grads = [p.grad * 2.0 ** (step % 3) for p in parameters(dtype, place)]
            state = states.setdefault(place, rule.init(grads))
            torch.cuda.set_sync_debug_mode("default" if step == 0 else "error")
            _, states[place], info = rule.update_(grads, state)
            torch.cuda.set_sync_debug_mode("default")
            found[place] = grads, info.to_host()
        assert alike(found["cuda"][0], found["cpu"][0], dtype)
        assert found["cuda"][1].threshold == found["cpu"][1].threshold
        assert found["cuda"][1].clipped == found["cpu"][1].clipped


def test_a_drop_in_that_was_captured_is_replayed():
    params, theirs = parameters("float32", "cuda"), parameters("float32", "cpu")
    before = [p.grad.clone() for p in params]
    clip_grad_norm_(params, 0.5)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        norm = clip_grad_norm_(params, 0.5)
    for p, x in zip(params, before, strict=True):
        p.grad.copy_(x * 3)
    graph.replay()
    for p in theirs:
        p.grad *= 3
    wanted = clip_grad_norm_(theirs, 0.5)
    assert alike([norm, *[p.grad for p in params]], [wanted, *[p.grad for p in theirs]], "float32")
