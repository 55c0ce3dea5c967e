"""Gradients of `Embedding(sparse=True)`: clipped before SparseAdam, by hand and by `attach`."""

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import agclip  # noqa: E402
from agclip.integrations import torch as ours  # noqa: E402

RULES = {
    "ClipByGlobalNorm": lambda: agclip.ClipByGlobalNorm(1.0),
    "ClipByValue": lambda: agclip.ClipByValue(-0.5, 0.5),
    "ZClip": lambda: agclip.ZClip(warmup=0, max_norm=1.0),
}


def trained():
    """A table some of whose rows were looked up, one of them twice, and a vector."""
    table = torch.nn.Embedding(6, 2, sparse=True)
    with torch.no_grad():
        table.weight.copy_(torch.arange(12.0).reshape(6, 2))
    bias = torch.nn.Parameter(torch.ones(2))
    ((table(torch.tensor([1, 1, 4])) + bias) ** 2).sum().backward()
    return table.weight, bias


def as_dense(params):
    return [p.grad.to_dense().clone() for p in params]


def test_the_total_norm_is_that_of_dense_gradients():
    params = trained()
    wanted = torch.nn.utils.get_total_norm(as_dense(params))
    assert ours.get_total_norm([p.grad for p in params]).item() == pytest.approx(wanted.item())


def test_torch_itself_has_no_norm_of_sparse_gradients():
    with pytest.raises(NotImplementedError, match="SparseCPU"):
        torch.nn.utils.clip_grad_norm_(trained(), 1.0)


def test_clip_grad_norm_is_that_of_dense_gradients():
    params, grads = trained(), []
    for wanted, p in zip(as_dense(params), params, strict=True):
        grads.append(torch.nn.Parameter(torch.zeros_like(p)))
        grads[-1].grad = wanted
    held = params[0].grad
    norm = ours.clip_grad_norm_(params, 1.0)
    assert norm.item() == pytest.approx(torch.nn.utils.clip_grad_norm_(grads, 1.0).item())
    assert params[0].grad is held
    assert held.is_sparse
    for got, right in zip(as_dense(params), grads, strict=True):
        assert got.ravel().tolist() == pytest.approx(right.grad.ravel().tolist())


def test_clip_grad_value_is_that_of_dense_gradients():
    params = trained()
    wanted = [grad.clamp(-30, 30) for grad in as_dense(params)]
    ours.clip_grad_value_(params, 30.0)
    assert [x.tolist() for x in as_dense(params)] == [x.tolist() for x in wanted]


def test_an_order_below_zero_needs_dense_gradients():
    with pytest.raises(TypeError, match=r"dense arrays for an order <= 0; got a sparse one"):
        ours.clip_grad_norm_(trained(), 1.0, norm_type=0)


@pytest.fixture(params=RULES)
def rule(request):
    return RULES[request.param]()


def test_attached_to_an_optimizer_of_sparse_gradients(rule):
    table, _ = trained()
    mine, theirs = (torch.nn.Parameter(table.detach().clone()) for _ in range(2))
    grad = table.grad
    clipped = agclip.Clipper(rule)([grad.to_dense()])[0][0]
    theirs.grad = clipped.to_sparse(1)
    torch.optim.SparseAdam([theirs], lr=0.1).step()
    norm = torch.linalg.norm(grad.to_dense()).item()
    mine.grad = grad
    optimizer = torch.optim.SparseAdam([mine], lr=0.1)
    attached = ours.attach(optimizer, rule)
    optimizer.step()
    assert attached.last.norm.item() == pytest.approx(norm)
    assert mine.ravel().tolist() == pytest.approx(theirs.ravel().tolist(), rel=1e-6)
