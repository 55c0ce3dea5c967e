"""On a device the four functions read nothing: CPU tensors on the way that tensors on CUDA take."""

import math

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
ours = pytest.importorskip("agclip.integrations.torch", reason="PyTorch is not installed")
models = pytest.importorskip("integrations.torch.models", reason="PyTorch is not installed")
fake_cuda = pytest.importorskip("fake_cuda", reason="PyTorch is not installed")

CALLS = {
    "norm": ours.clip_grad_norm_,
    "norm of order 1": lambda ps, c: ours.clip_grad_norm_(ps, c, norm_type=1),
    "largest": lambda ps, c: ours.clip_grad_norm_(ps, c, norm_type="inf"),
    "value": ours.clip_grad_value_,
    "halves": lambda ps, c: ours.clip_grads_with_norm_(
        ps, c, ours.get_total_norm([p.grad for p in ps if p.grad is not None]) * 2.0
    ),
}
BOUNDS = {
    "number": lambda: 0.5,
    "infinite": lambda: math.inf,
    "text": lambda: "0.5",
    "tensor": lambda: torch.tensor(0.5),
    "one element": lambda: torch.tensor([0.5]),
}


@pytest.fixture(params=[None, "first", "all"], ids=lambda which: f"without {which}")
def ps(request):
    """Parameters, of which some have no gradient."""
    found = models.parameters(models.SHAPES["matrices"])
    if request.param == "first":
        found[0].grad = None
    elif request.param == "all":
        found = [p.requires_grad_(False) for p in found]
        for p in found:
            p.grad = None
    return found


@pytest.mark.parametrize("bound", sorted(BOUNDS))
@pytest.mark.parametrize("call", sorted(CALLS))
def test_nothing_is_read(call, bound, ps):
    free = [torch.nn.Parameter(p.detach().clone()).requires_grad_(p.requires_grad) for p in ps]
    for p, q in zip(ps, free, strict=True):
        q.grad = None if p.grad is None else p.grad.clone()
    with fake_cuda.path(), fake_cuda.Watch() as watch:
        returned = CALLS[call](ps, BOUNDS[bound]())
    assert watch.read == []
    expected = CALLS[call](free, BOUNDS[bound]())
    if expected is not None:
        torch.testing.assert_close(returned, expected)
    for p, q in zip(ps, free, strict=True):
        torch.testing.assert_close(p.grad, q.grad)


def test_indexing_on_a_device_that_is_none_leaves_no_trace():
    with fake_cuda.mode():
        assert fake_cuda.tensor((2,))[0].shape == ()
    assert torch.tensor([torch.tensor(4.0)]).tolist() == [4.0]
