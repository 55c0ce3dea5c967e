"""Rules that are attached to optimizers, in loops as users write them."""

import copy
import math
import warnings

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import agclip  # noqa: E402 - PyTorch is optional, here and below
from agclip.integrations.torch import attach  # noqa: E402
from agclip.integrations.torch._named import named  # noqa: E402
from integrations.torch import training  # noqa: E402

ANY_RULES = {
    "by norm": agclip.ClipByNorm(0.5),
    "average norm": agclip.ClipByAverageNorm(0.05),
    "rms": agclip.ClipByRMS(0.3),
    "axes": agclip.AdaptiveGradClip(0.05, unit_axes="out_in"),
    "value": agclip.ClipByValue(-0.3, 0.4),
    "spike": agclip.SpikeClip(2.0, warmup=1),
    "adagc": agclip.AdaGC(warmup=2),
    "chain": agclip.Chain(agclip.ClipByValue(-1.0, 1.0), agclip.ClipByGlobalNorm(0.5)),
    "groups": agclip.PerGroup({"1": agclip.ZClip(), "[02]": agclip.ClipByNorm(0.5), "*": None}),
    "scheduled": agclip.Scheduled(agclip.ClipByNorm, lambda t: 1.0 / (1.0 + t)),
    "strict": agclip.ClipByGlobalNorm(0.5, strict=True),
}


class Foreign:
    """A rule of another's making: it halves, and counts."""

    def init(self, params):
        return {"count": torch.zeros(())}

    def update(self, grads, state, params=None):
        clipped, _, info = agclip.ClipByGlobalNorm(None).update(grads, ())
        halves = {key: None if leaf is None else leaf / 2 for key, leaf in clipped.items()}
        return halves, {"count": state["count"] + 1}, info


def train_by_rule(optimizer, params, rule, steps):
    """Train with a rule whose state is threaded through by hand."""
    state = None
    for grads in steps:
        tree = {str(i): g.clone() for i, g in enumerate(grads)}
        weights = {str(i): p.detach() for i, p in enumerate(params)}
        state = rule.init(tree) if state is None else state
        new, state, _ = rule.update(tree, state, weights)
        for p, g in zip(params, new.values(), strict=True):
            p.grad = g
        optimizer.step()


@pytest.fixture(params=[*ANY_RULES, "foreign"])
def rule(request):
    return {**ANY_RULES, "foreign": Foreign()}[request.param]


@pytest.mark.parametrize("inplace", [True, False])
@pytest.mark.parametrize("way", ["plain", "fused", "plain, scaled", "fused, scaled"])
def test_any_rule_is_attached(rule, way, inplace):
    options = {"fused": True} if "fused" in way else {"foreach": False}
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0) if "scaled" in way else None
    steps = training.gradients()
    ours, theirs = training.parameters(), training.parameters()
    attached = attach(one := torch.optim.SGD(ours, lr=0.1, **options), rule, inplace=inplace)
    training.train(one, ours, steps, scaler)
    train_by_rule(torch.optim.SGD(theirs, lr=0.1, **options), theirs, rule, steps)
    training.close(ours, theirs, 1e-6)
    assert attached.step == training.STEPS
    assert not attached.folded


@pytest.mark.parametrize("inplace", [True, False])
def test_gradients_are_overwritten_or_replaced(inplace):
    ps = training.parameters()
    attach(optimizer := torch.optim.SGD(ps, lr=0.1), agclip.ClipByGlobalNorm(1.0), inplace=inplace)
    for p, g in zip(ps, training.gradients()[0], strict=True):
        p.grad = g
    before = [p.grad for p in ps]
    copies = [g.clone() for g in before]
    optimizer.step()
    assert all((p.grad is g) == inplace for p, g in zip(ps, before, strict=True))
    assert training.norm(p.grad for p in ps) == pytest.approx(1.0)
    assert all(map(torch.equal, before, copies)) == (not inplace)


# --- paths -------------------------------------------------------------------------------------


@pytest.fixture
def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))


def backward(model, factor=1.0):
    (model(torch.ones(5, 3)).square().sum() * factor).backward()


NAMES = ["0.weight", "0.bias", "2.weight", "2.bias"]


@pytest.mark.parametrize("way", ["model", "named", "positions"])
def test_paths_are_names_where_they_are_known(model, way):
    named = way == "named"
    optimizer = torch.optim.SGD(model.named_parameters() if named else model.parameters(), lr=0.1)
    attached = attach(optimizer, agclip.AdaGC(), model=model if way == "model" else None)
    backward(model)
    optimizer.step()
    expected = NAMES if way != "positions" else ["0", "1", "2", "3"]
    assert list(attached.last.leaf_norms) == expected
    assert [*attached.state_dict()["state"]["average"]] == expected


def test_per_group_finds_leaves_by_name(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rule = agclip.PerGroup({"*.bias": None, "*": agclip.ClipByGlobalNorm(1e-3)})
    attach(optimizer, rule, model=model)
    backward(model)
    bias = model[0].bias.grad.clone()
    optimizer.step()
    assert torch.equal(model[0].bias.grad, bias)
    assert training.norm([model[0].weight.grad, model[2].weight.grad]) == pytest.approx(1e-3)


def test_parameters_of_a_group_that_is_new_have_names_too(model):
    optimizer = torch.optim.SGD(model[0].parameters(), lr=0.1)
    attached = attach(optimizer, agclip.ZClip(), model=model)
    backward(model)
    optimizer.step()
    optimizer.add_param_group({"params": model[2].parameters()})
    backward(model)
    optimizer.step()
    assert list(attached.last.leaf_norms) == NAMES


def test_a_new_group_of_an_unknown_module_has_positions():
    first, second = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(first.parameters(), lr=0.1)
    attached = attach(optimizer, agclip.ZClip(), model=first)
    del first
    optimizer.add_param_group({"params": second.parameters()})
    for p in second.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert list(attached.last.leaf_norms) == ["2", "3"]


def test_names_that_are_not_unique_are_positions():
    layers = [torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)]
    groups = [{"params": layer.named_parameters()} for layer in layers]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    attached = attach(optimizer, agclip.ClipByGlobalNorm(1.0))
    for p in [p for layer in layers for p in layer.parameters()]:
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert list(attached.last.leaf_norms) == ["weight", "bias", "2", "3"]
    assert float(attached.last.norm) == pytest.approx(math.sqrt(6))


def test_a_position_is_marked_where_a_name_is_a_position_of_another():
    own = torch.nn.ParameterDict({"1": torch.ones(2)})
    optimizer = torch.optim.SGD(own.parameters(), lr=0.1)
    attached = attach(optimizer, agclip.ClipByGlobalNorm(1.0), model=own)
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(3))]})
    assert list(named(own, optimizer)) == ["1", "1'"]
    del own
    for group in optimizer.param_groups:
        group["params"][0].grad = torch.ones_like(group["params"][0])
    optimizer.step()
    assert list(attached.last.leaf_norms) == ["1", "1'"]
    assert float(attached.last.norm) == pytest.approx(math.sqrt(5))


# --- groups ------------------------------------------------------------------------------------


def test_one_rule_is_for_all_groups_together(model):
    groups = [{"params": layer.parameters()} for layer in (model[0], model[2])]
    attach(optimizer := torch.optim.SGD(groups, lr=0.1), agclip.ClipByGlobalNorm(1e-3))
    backward(model)
    optimizer.step()
    assert training.norm(p.grad for p in model.parameters()) == pytest.approx(1e-3)


@pytest.mark.parametrize("fused", [True, False])
def test_a_list_has_a_rule_for_each_group(model, fused):
    groups = [{"params": model[0].parameters()}, {"params": [model[2].weight]}]
    groups += [{"params": []}, {"params": [model[2].bias]}]
    optimizer = torch.optim.SGD(groups, lr=0.1, fused=fused)
    rules = [agclip.ClipByGlobalNorm(1e-3), agclip.ZClip(max_norm=1e-2), agclip.ZClip(), None]
    attached = attach(optimizer, rules, model=model)
    backward(model)
    bias = model[2].bias.grad.clone()
    optimizer.step()
    assert training.norm(p.grad for p in model[0].parameters()) == pytest.approx(1e-3)
    assert float(model[2].weight.grad.norm()) == pytest.approx(1e-2)
    assert torch.equal(model[2].bias.grad, bias)
    assert list(attached.last.leaf_norms) == ["0.0.weight", "0.0.bias", "1.2.weight"]
    saved = attached.state_dict()["state"]
    assert saved["1.*"]["count"] == 1
    other = attach(copy.deepcopy(optimizer.__class__(groups, lr=0.1)), rules)
    other.load_state_dict(attached.state_dict())
    assert other.state_dict() == attached.state_dict()


# --- gradients there are, and are not ------------------------------------------------------------


@pytest.mark.parametrize("fused", [True, False])
def test_a_step_without_gradients_is_none(model, fused):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=fused)
    attached = attach(optimizer, agclip.ZClip())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.step()
    assert (attached.step, attached.last) == (0, None)
    backward(model)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    optimizer.step()
    assert attached.step == 1


@pytest.mark.parametrize("set_to_none", [True, False])
def test_zero_grad_and_accumulation(model, set_to_none):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    attached = attach(optimizer, agclip.AutoClip(50.0, window=10))
    for _ in range(3):
        optimizer.zero_grad(set_to_none=set_to_none)
        for _ in range(4):
            backward(model, 0.25)
        optimizer.step()
    once = [torch.zeros_like(p) for p in model.parameters()]
    optimizer.zero_grad()
    backward(model)
    once = [p.grad for p in model.parameters()]
    assert float(attached.last.norm) == pytest.approx(training.norm(once), rel=1e-6)
    assert attached.step == 3


def test_a_parameter_may_get_its_first_gradient_later(model):
    model[2].bias.requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    attached = attach(optimizer, agclip.AdaGC(warmup=1), model=model)
    backward(model)
    optimizer.step()
    assert "2.bias" not in attached.last.leaf_norms
    model[2].bias.requires_grad_(True)
    backward(model)
    optimizer.step()
    assert list(attached.last.leaf_norms) == NAMES
    assert attached.state_dict()["state"]["joined"] == {"2.bias": 1}


def test_optimizers_of_one_model_are_clipped_each_by_itself(model):
    optimizers = [torch.optim.SGD(layer.parameters(), lr=0.1) for layer in (model[0], model[2])]
    clips = [attach(one, agclip.ClipByGlobalNorm(1e-3)) for one in optimizers]
    backward(model)
    last = [p.grad.clone() for p in model[2].parameters()]
    optimizers[0].step()
    assert training.norm(p.grad for p in model[0].parameters()) == pytest.approx(1e-3)
    assert all(map(torch.equal, (p.grad for p in model[2].parameters()), last))
    optimizers[1].step()
    assert training.norm(p.grad for p in model[2].parameters()) == pytest.approx(1e-3)
    assert [clip.step for clip in clips] == [1, 1]


def test_an_error_leaves_everything_as_it_was(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    attached = attach(optimizer, agclip.ZClip(nonfinite="error"))
    backward(model)
    model[2].bias.grad.fill_(math.nan)
    before = copy.deepcopy([(p.detach(), p.grad) for p in model.parameters()])
    with pytest.raises(FloatingPointError, match=r"grads\['3'\]"):
        optimizer.step()
    for p, (value, grad) in zip(model.parameters(), before, strict=True):
        torch.testing.assert_close(p.grad, grad, rtol=0, atol=0, equal_nan=True)
        assert torch.equal(p, value)
    assert (attached.step, attached.last) == (0, None)


@pytest.mark.parametrize("foreach", [True, False])
@pytest.mark.parametrize("name", ["AdamW", "RMSprop", "NAdam", "RAdam", "Adadelta", "Adamax"])
def test_a_step_is_skipped_by_optimizers_that_cannot(name, foreach):
    ours, theirs = training.parameters(), training.parameters()
    one, other = (getattr(torch.optim, name)(ps, lr=0.1, foreach=foreach) for ps in (ours, theirs))
    steps = training.gradients(bad=0)
    attach(one, agclip.ClipByGlobalNorm(math.inf, nonfinite="skip"))
    training.train(one, ours, steps)
    training.train(other, theirs, steps[1:])
    assert all(map(torch.equal, ours, theirs))
