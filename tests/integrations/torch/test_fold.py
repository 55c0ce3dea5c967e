"""Attached rules are clip-then-step: folded or not, scaled or not, whatever comes in."""

import contextlib
import itertools

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import agclip  # noqa: E402 - PyTorch is optional, here and below
import fake_cuda  # noqa: E402
from agclip.integrations.torch import attach  # noqa: E402
from integrations.torch import training  # noqa: E402
from thinned import thinned  # noqa: E402

POLICIES = ("propagate", "skip", "error", "zero")
SCALERS = ("no scaler", "scaler", "unscale_")
CELLS = list(
    itertools.product(
        training.RULES, training.OPTIMIZERS, ("fused", "plain"), SCALERS, POLICIES, (None, 4)
    )
)


def usual(cell):
    rule, optimizer, fused, _, policy, bad = cell
    return (rule == "zclip" and optimizer in ("adamw", "momentum") and fused == "fused") or (
        rule == "global" and optimizer == "adamw" and bad is not None and policy != "error"
    )


def make_scaler(kind):
    if kind == "no scaler":
        return None
    # No power of two, so that a scale that is forgotten or applied twice shows.
    return torch.amp.GradScaler("cpu", init_scale=1000.0)


@pytest.mark.parametrize("cell", thinned(CELLS, usual, lambda cell: "-".join(map(str, cell))))
@pytest.mark.parametrize("fold", [False, "auto"])
def test_a_step_is_a_clip_by_hand_and_a_step(cell, fold):
    name, optimizer, fused, kind, policy, bad = cell
    make_rule, bounds_of = training.RULES[name]
    make = training.OPTIMIZERS[optimizer]
    options = {"fused": True} if fused == "fused" else {}
    steps = training.gradients(bad=bad)

    ours, theirs = training.parameters(), training.parameters()
    attached = attach(one := make(ours, **options), make_rule(nonfinite=policy), fold=fold)
    scaler = make_scaler(kind)
    errors = training.train(one, ours, steps, scaler, unscale=kind == "unscale_")
    training.by_hand(
        make(theirs, **options), theirs, steps, bounds_of, policy, scaled=scaler is not None
    )

    training.close(ours, theirs)
    assert errors == (bad is not None and policy == "error" and scaler is None)
    folds = fold == "auto" and fused == "fused" and policy != "zero"
    assert attached.folded == folds
    assert not {"grad_scale", "found_inf"} & set(vars(one))


@pytest.mark.parametrize("kind", ["no scaler", "scaler"])
@pytest.mark.parametrize("policy", ["propagate", "skip", "zero"])
@pytest.mark.parametrize("optimizer", ["adamw", "momentum"])
def test_nothing_is_read_on_a_device(optimizer, policy, kind):
    make_rule, bounds_of = training.RULES["zclip"]
    make = training.OPTIMIZERS[optimizer]
    steps = training.gradients(bad=4)
    ours, theirs = training.parameters(), training.parameters()
    with fake_cuda.path():
        one = make(ours, fused=True)
        attached = attach(one, make_rule(nonfinite=policy))
        scaler = make_scaler(kind)
        training.train(one, ours, steps[:1], scaler)
        with fake_cuda.Watch() as watch:
            training.train(one, ours, steps[1:], scaler)
    training.by_hand(
        make(theirs, fused=True), theirs, steps, bounds_of, policy, scaled=scaler is not None
    )
    training.close(ours, theirs)
    # `GradScaler.update` reads nothing either.
    assert watch.read == []
    count = int(attached.state_dict()["state"]["count"])
    assert count == training.STEPS - (scaler is not None), "a step that is skipped is none"


@pytest.mark.parametrize("access", ["free", "sync"])
@pytest.mark.parametrize(
    ("kind", "policy"), [("no scaler", "skip"), ("scaler", "skip"), ("scaler", "propagate")]
)
def test_a_first_step_may_be_skipped(kind, policy, access):
    """The fused SGD fills its momentum in the first step, and not at all in one that it skips."""
    make_rule, bounds_of = training.RULES["global"]
    make = training.OPTIMIZERS["momentum"]
    steps = training.gradients(bad=0)
    ours, theirs = training.parameters(), training.parameters()
    with fake_cuda.path() if access == "sync" else contextlib.nullcontext():
        attach(one := make(ours, fused=True), make_rule(nonfinite=policy))
        scaler = make_scaler(kind)
        training.train(one, ours, steps[:1], scaler)
        assert all("momentum_buffer" not in one.state.get(p, {}) for p in ours)
        training.train(one, ours, steps[1:], scaler)
    training.by_hand(make(theirs, fused=True), theirs, steps, bounds_of, "skip", scaled=False)
    training.close(ours, theirs)


def test_what_does_not_exceed_its_bound_is_stepped_with_to_the_bit():
    ours, theirs = training.parameters(), training.parameters()
    one, other = (training.OPTIMIZERS["adamw"](ps, fused=True) for ps in (ours, theirs))
    attached = attach(one, agclip.ClipByGlobalNorm(1e6))
    for optimizer, ps in ((one, ours), (other, theirs)):
        training.train(optimizer, ps, training.gradients())
    assert attached.folded
    assert all(map(torch.equal, ours, theirs))


@pytest.mark.parametrize("name", ["adamw", "momentum", "adagrad"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_other_dtypes(name, dtype):
    training.need_division(name)
    make = training.OPTIMIZERS[name]
    steps = training.gradients(dtype=dtype)
    ours, theirs = training.parameters(dtype), training.parameters(dtype)
    attached = attach(one := make(ours, fused=True), agclip.ClipByGlobalNorm(2.0))
    training.train(one, ours, steps)
    training.by_hand(
        make(theirs, fused=True),
        theirs,
        steps,
        lambda norms: [2.0] * len(norms),
        "propagate",
        scaled=False,
    )
    assert attached.folded == (dtype != torch.float64), "a coefficient of float32 is no float64"
    # Clipped by hand, gradients are rounded to their dtype once more.
    training.close(ours, theirs, 1e-15 if dtype == torch.float64 else 0.02)


def test_float64_folds_where_it_is_told_to():
    ours, theirs = training.parameters(torch.float64), training.parameters(torch.float64)
    make, steps = training.OPTIMIZERS["adamw"], training.gradients(dtype=torch.float64)
    attached = attach(one := make(ours, fused=True), agclip.ClipByGlobalNorm(2.0), fold=True)
    training.train(one, ours, steps)
    bounds = [2.0] * training.STEPS
    training.by_hand(
        make(theirs, fused=True), theirs, steps, lambda _: bounds, "propagate", scaled=False
    )
    assert attached.folded
    training.close(ours, theirs)


@pytest.mark.parametrize("reason", ["rule", "strict", "reproducible", "zero", "plain", "mixed"])
def test_auto_folds_only_what_is_the_same(reason):
    ps = training.parameters()
    rules = {
        "rule": agclip.ClipByNorm(1.0),
        "strict": agclip.ClipByGlobalNorm(1.0, strict=True),
        "reproducible": agclip.ClipByGlobalNorm(1.0, reproducible=True),
        "zero": agclip.ClipByGlobalNorm(1.0, nonfinite="zero"),
    }
    groups = [{"params": ps[:2], "fused": reason != "plain"}, {"params": ps[2:], "fused": False}]
    groups[1]["fused"] = reason not in ("plain", "mixed")
    optimizer = torch.optim.AdamW(groups)
    attached = attach(optimizer, rules.get(reason, agclip.ClipByGlobalNorm(1.0)))
    training.train(optimizer, ps, training.gradients(steps=1))
    assert not attached.folded
    clipped = [p.grad for p in ps]
    assert attached.last.clipped
    assert training.norm(clipped) < training.norm(training.gradients()[0])


class Failing(torch.optim.AdamW):
    """An optimizer that fails at its second step, after it has looked at what it is handed."""

    def step(self, closure=None):
        super().step(closure)
        if self.steps == 1:
            msg = "out of memory"
            raise RuntimeError(msg)

    steps = 0


@pytest.mark.parametrize("kind", SCALERS)
@pytest.mark.parametrize("fused", [True, False])
def test_nothing_is_left_on_an_optimizer_whose_step_raises(kind, fused):
    ps = training.parameters()
    optimizer = Failing(ps, fused=fused)
    attach(optimizer, agclip.ClipByGlobalNorm(1.0))
    before = set(vars(optimizer))
    steps, scaler = training.gradients(), make_scaler(kind)
    training.train(optimizer, ps, steps[:1], scaler, unscale=kind == "unscale_")
    optimizer.steps = 1
    with pytest.raises(RuntimeError, match="out of memory"):
        training.train(optimizer, ps, steps[1:2], scaler, unscale=kind == "unscale_")
    left = {"grad_scale", "found_inf"} if scaler is not None and fused else set()
    assert set(vars(optimizer)) - before - {"steps"} == left, "what is left is the scaler's"
    if kind == "scaler" and fused:
        assert optimizer.grad_scale == 1000.0


def test_another_hook_sees_the_gradients_as_they_came():
    ps = training.parameters()
    optimizer = torch.optim.AdamW(ps, fused=True)
    attach(optimizer, agclip.ClipByGlobalNorm(1.0))
    seen = []
    optimizer.register_step_pre_hook(lambda *_: seen.append(training.norm(p.grad for p in ps)))
    training.train(optimizer, ps, training.gradients(steps=1))
    assert seen == pytest.approx([training.norm(training.gradients()[0])])


@pytest.mark.parametrize("fused", [True, False])
def test_what_an_optimizer_sets_in_its_step_stays(fused):
    class Counting(torch.optim.AdamW):
        def step(self, closure=None):
            self.count = getattr(self, "count", 0) + 1
            return super().step(closure)

    ps = training.parameters()
    optimizer = Counting(ps, fused=fused)
    attached = attach(optimizer, agclip.ZClip(nonfinite="skip"))
    training.train(optimizer, ps, training.gradients(bad=4))
    assert optimizer.count == training.STEPS
    assert attached.step == training.STEPS, "a step within a step is none"
    assert not [name for name in vars(optimizer) if "given" in name]


def test_a_rule_divides_by_its_own_loss_scale_too():
    ours, theirs = training.parameters(), training.parameters()
    one, other = (torch.optim.AdamW(ps, fused=True) for ps in (ours, theirs))
    steps = training.gradients()
    attached = attach(one, agclip.ClipByGlobalNorm(2.0, loss_scale=8.0))
    training.train(one, ours, [[8.0 * g for g in grads] for grads in steps], make_scaler("scaler"))
    attach(other, agclip.ClipByGlobalNorm(2.0), fold=False)
    training.train(other, theirs, steps)
    assert attached.folded
    training.close(ours, theirs)


@pytest.mark.parametrize("fold", [True, False])
def test_a_divisor_that_the_user_has_set_stays_and_counts(fold):
    ours, theirs = training.parameters(), training.parameters()
    make, steps = training.OPTIMIZERS["adamw"], training.gradients()
    one = make(ours, fused=True)
    one.grad_scale = divisor = torch.tensor(6.0)
    attach(one, agclip.ClipByGlobalNorm(2.0), fold=fold)
    training.train(one, ours, [[6.0 * g for g in grads] for grads in steps])
    bounds = [2.0] * training.STEPS
    training.by_hand(
        make(theirs, fused=True), theirs, steps, lambda _: bounds, "propagate", scaled=False
    )
    training.close(ours, theirs)
    assert one.grad_scale is divisor
    assert divisor == 6.0
