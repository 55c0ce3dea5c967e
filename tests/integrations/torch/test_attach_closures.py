"""Rules that are attached to optimizers: closures, on and off, and what cannot be clipped."""

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import agclip  # noqa: E402 - PyTorch is optional, here and below
from agclip.integrations.torch import Attachment, attach, attachment  # noqa: E402
from integrations.torch import training  # noqa: E402


@pytest.fixture
def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))


def backward(model):
    model(torch.ones(5, 3)).square().sum().backward()


# --- closures ----------------------------------------------------------------------------------


def closure_of(optimizer, params, grads, seen):
    def closure():
        optimizer.zero_grad()
        loss = sum((p * g).sum() for p, g in zip(params, grads, strict=True))
        loss.backward()
        seen.append(loss.item())
        return loss

    return closure


@pytest.mark.parametrize("keyword", [True, False])
@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("bad", [None, 4])
@pytest.mark.parametrize("name", ["adamw", "momentum", "adagrad"])
def test_a_closure_is_followed_by_a_clip(name, fold, bad, keyword):
    if fold:
        training.need_division(name)
    make_rule, bounds_of = training.RULES["zclip"]
    make = training.OPTIMIZERS[name]
    steps, seen = training.gradients(bad=bad), []
    ours, theirs = training.parameters(), training.parameters()
    attached = attach(one := make(ours, fused=True), make_rule(nonfinite="skip"), fold=fold)
    for grads in steps:
        closure = closure_of(one, ours, grads, seen)
        loss = one.step(closure=closure) if keyword else one.step(closure)
        assert loss.dtype == torch.float32
    training.by_hand(make(theirs, fused=True), theirs, steps, bounds_of, "skip", scaled=False)
    training.close(ours, theirs)
    assert len(seen) == training.STEPS
    assert attached.folded == fold


def test_every_gradient_of_lbfgs_is_clipped():
    ours = training.parameters()
    optimizer = torch.optim.LBFGS(ours, lr=0.1, max_iter=3)
    attached = attach(optimizer, agclip.ClipByGlobalNorm(0.1))
    norms = []

    def closure():
        optimizer.zero_grad()
        loss = sum(p.square().sum() for p in ours)
        loss.backward()
        return loss

    gather = optimizer._gather_flat_grad
    optimizer._gather_flat_grad = lambda: (norms.append(float((g := gather()).norm())), g)[1]
    optimizer.step(closure)
    assert len(norms) == attached.step > 1
    assert norms == pytest.approx([0.1] * len(norms))


def test_none_for_a_closure_is_none():
    ps = training.parameters()
    attached = attach(optimizer := torch.optim.SGD(ps, lr=0.1), agclip.ClipByGlobalNorm(1.0))
    for p in ps:
        p.grad = torch.ones_like(p)
    optimizer.step(None)
    optimizer.step(closure=None)
    assert attached.step == 2


# --- on and off --------------------------------------------------------------------------------


def test_detach_restores_everything(model):
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    before = dict(vars(optimizer))
    hooks = {name: len(value) for name, value in before.items() if "hooks" in name}
    attached = attach(optimizer, agclip.ZClip())
    assert attachment(optimizer) is attached
    assert isinstance(attached, Attachment)
    backward(model)
    optimizer.step()
    attached.detach()
    attached.detach()
    assert attachment(optimizer) is None
    assert set(vars(optimizer)) - {"_warned_capturable_if_run_uncaptured"} <= set(before)
    assert {name: len(vars(optimizer)[name]) for name in hooks} == hooks
    assert set(optimizer.state_dict()) == {"state", "param_groups"}
    step, state = attached.step, attached.state_dict()
    backward(model)
    grads = [p.grad.clone() for p in model.parameters()]
    optimizer.step()
    assert all(map(torch.equal, grads, (p.grad for p in model.parameters())))
    assert (attached.step, attached.state_dict()) == (step, state)
    attach(optimizer, agclip.ClipByGlobalNorm(1.0))


def test_reset_begins_anew(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    attached = attach(optimizer, agclip.ZClip())
    backward(model)
    optimizer.step()
    attached.reset()
    assert (attached.step, attached.state_dict()["state"]) == (0, {})


def test_an_optimizer_is_not_kept_alive():
    optimizer = torch.optim.SGD(training.parameters(), lr=0.1)
    attached = attach(optimizer, agclip.ZClip())
    assert repr(attached).endswith(" to SGD")
    del optimizer
    assert repr(attached).endswith(" to no optimizer")
    attached.detach()


def test_a_scheduler_of_learning_rates_goes_along(model):
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    before = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    attached = attach(optimizer, agclip.ZClip())
    after = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    for _ in range(2):
        backward(model)
        optimizer.step()
        before.step()
        after.step()
    assert attached.step == 2
    assert attached.folded
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * 0.5**4)


@pytest.mark.parametrize("name", ["adamw", "adam"])
def test_what_can_be_captured_is_folded(name):
    ours, theirs = training.parameters(), training.parameters()
    make, steps = training.OPTIMIZERS[name], training.gradients()
    attached = attach(one := make(ours, fused=True, capturable=True), agclip.ClipByGlobalNorm(2.0))
    training.train(one, ours, steps)
    bounds = [2.0] * training.STEPS
    training.by_hand(
        make(theirs, fused=True), theirs, steps, lambda _: bounds, "propagate", scaled=False
    )
    training.close(ours, theirs)
    assert attached.folded


@pytest.mark.skipif(
    not torch.distributed.is_available(), reason="this PyTorch is built without torch.distributed"
)
def test_a_gradient_of_which_others_hold_a_part_is_clipped():
    from torch.distributed import tensor

    dist = torch.distributed
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        mesh = tensor.init_device_mesh("cpu", (1,))
        p = torch.nn.Parameter(tensor.distribute_tensor(torch.zeros(2), mesh, [tensor.Shard(0)]))
        p.sum().backward()
        attached = attach(optimizer := torch.optim.SGD([p], lr=0.1), agclip.ClipByGlobalNorm(1.0))
        optimizer.step()
        assert attached.step == 1
        assert p.full_tensor().tolist() == pytest.approx([-0.1 / 2**0.5] * 2)
    finally:
        dist.destroy_process_group()
