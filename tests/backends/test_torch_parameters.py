"""Parameters in the place of gradients: the first thing that is passed by mistake."""

import collections
import contextlib
import warnings

import pytest

import agclip

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

ADVICE = r"Pass the gradients, such as `\[p\.grad for p in model\.parameters\(\)\]`"
FUNCTIONS = {
    "global norm": agclip.global_norm,
    "by global norm": lambda t: agclip.clip_by_global_norm(t, 1.0),
    "by global norm_": lambda t: agclip.clip_by_global_norm_(t, 1.0),
    "norm": lambda t: agclip.clip_by_norm(t, 1.0),
    "norm_": lambda t: agclip.clip_by_norm_(t, 1.0),
    "average norm": lambda t: agclip.clip_by_average_norm(t, 1.0),
    "average norm_": lambda t: agclip.clip_by_average_norm_(t, 1.0),
    "rms": lambda t: agclip.clip_by_rms(t, 1.0),
    "rms_": lambda t: agclip.clip_by_rms_(t, 1.0),
    "value": lambda t: agclip.clip_by_value(t, -1.0, 1.0),
    "value_": lambda t: agclip.clip_by_value_(t, -1.0, 1.0),
    "adaptive": lambda t: agclip.adaptive_grad_clip(t, None, unit_axes="out_in"),
    "adaptive_": lambda t: agclip.adaptive_grad_clip_(t, None, unit_axes="out_in"),
    "per example": lambda t: agclip.clip_per_example(t, 1.0),
    "rule": lambda t: agclip.ClipByGlobalNorm(1.0).update(t, ()),
    "rule_": lambda t: agclip.ClipByNorm(1.0).update_(t, ()),
    "rule of values": lambda t: agclip.ClipByValue(-1.0, 1.0).update(t, ()),
    "rule with memory": lambda t: agclip.ZClip().update(t, agclip.ZClip().init(torch.ones(2))),
}


class TensorDict(collections.UserDict):
    """What a TensorDict looks like from here: a mapping, but no dict, with a dtype and a shape."""

    dtype, shape = torch.float32, (2,)

    def __mul__(self, _):
        return self


MISTAKES = {
    "parameters": lambda m, _: m.parameters(),
    "list": lambda m, _: list(m.parameters()),
    "dict": lambda m, _: dict(m.named_parameters()),
    "nested, later": lambda m, _: {"a": torch.ones(2), "b": [None, m.bias]},
    "module": lambda m, _: m,
    "modules": lambda m, _: [m],
    "optimizer": lambda _, o: o,
    "named parameters": lambda m, _: m.named_parameters(),
    "tensor dict": lambda m, _: TensorDict(m.named_parameters()),
    "groups": lambda _, o: [group["params"] for group in o.param_groups],
}


@pytest.fixture
def trained():
    """A module with gradients, and its optimizer."""
    module = torch.nn.Linear(3, 2)
    module(torch.ones(4, 3)).sum().backward()
    return module, torch.optim.SGD(module.parameters(), lr=0.1)


@pytest.fixture(params=FUNCTIONS, ids=lambda name: name.replace(" ", "-"))
def call(request):
    return FUNCTIONS[request.param]


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_what_holds_parameters_is_refused_and_the_gradients_are_named(call, trained, mistake):
    before = [p.detach().clone() for p in trained[0].parameters()]
    with pytest.raises(TypeError, match=ADVICE):
        call(mistake(*trained))
    assert all(torch.equal(a, b) for a, b in zip(before, trained[0].parameters(), strict=True))


@pytest.mark.parametrize(
    ("mistake", "found"),
    [
        ("list", r"a parameter, which requires grad, at t_list\[0\]"),
        ("nested, later", r"a parameter, which requires grad, at t_list\['b'\]\[1\]"),
        ("module", r"a module \(Linear\) at t_list"),
        ("optimizer", r"an optimizer \(SGD\) at t_list"),
    ],
)
def test_the_message_says_what_came_and_where(trained, mistake, found):
    with pytest.raises(TypeError, match=f"`t_list` must hold gradients; got {found}. {ADVICE}"):
        agclip.global_norm(MISTAKES[mistake](*trained))


def test_gradients_of_parameters_are_clipped_and_parameters_may_stand_beside_them(trained):
    params = list(trained[0].parameters())
    grads = [p.grad for p in params]
    agclip.adaptive_grad_clip_(grads, params, unit_axes="out_in")
    rule = agclip.AdaptiveGradClip(unit_axes="out_in")
    rule.update_(grads, rule.init(params), params)
    agclip.clip_by_global_norm_(grads, 1e-3)
    assert agclip.global_norm(grads).item() == pytest.approx(1e-3)


def test_another_leaf_is_differentiated_until_it_has_a_gradient():
    """Without one it is an input; with one it is trained, and its gradient is meant."""
    x = torch.tensor([3.0, 4.0], requires_grad=True)
    agclip.clip_by_norm([x], 1.0)[0].sum().backward()
    assert x.grad.tolist() == pytest.approx([0.032, -0.024], abs=1e-6)
    with pytest.raises(TypeError, match=ADVICE):
        agclip.clip_by_norm([x], 1.0)
    assert agclip.clip_by_norm([x.view_as(x)], 1.0)[0].requires_grad


def test_gradients_with_a_graph_stay_differentiable():
    p = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    (grad,) = torch.autograd.grad((p**2).sum(), p, create_graph=True)
    clipped, _ = agclip.clip_by_global_norm([grad], 1.0)
    (second,) = torch.autograd.grad(clipped[0].sum(), p)
    assert second.tolist() == pytest.approx([0.032, -0.024], abs=1e-6)


def test_a_frozen_parameter_is_an_array():
    p = torch.nn.Parameter(torch.tensor([3.0, 4.0]), requires_grad=False)
    assert agclip.global_norm([p]).item() == 5.0


def test_parameters_of_a_transform_of_torch_func_are_differentiated():
    module = torch.nn.Linear(2, 1, bias=False)

    def loss(params):
        return agclip.clip_by_norm(params["weight"], 1.0).sum()

    gradient = torch.func.grad(loss)(dict(module.named_parameters()))["weight"]
    assert gradient.shape == (1, 2)


NO_RECORD = {"no_grad": torch.no_grad, "inference": torch.inference_mode}
QUIET = {
    "value": lambda t: agclip.clip_by_value_(t, -0.01, 0.01),
    "norm": lambda t: agclip.clip_by_norm_(t, 0.1),
    "axes": lambda t: agclip.clip_by_norm_(t, 0.1, axes=-1),
    "rms": lambda t: agclip.clip_by_rms_(t, 0.1),
    "global norm": agclip.global_norm,
    "rule of values": lambda t: agclip.ClipByValue(-0.01, 0.01).update_(t, ()),
    "rule of norms": lambda t: agclip.ClipByNorm(0.1).update_(t, ()),
}
JOINT = {
    "new": lambda t: agclip.clip_by_global_norm(t, 0.1),
    "in place": lambda t: agclip.clip_by_global_norm_(t, 0.1),
    "rule": lambda t: agclip.ClipByGlobalNorm(0.1).update_(t, ()),
    "rule with memory": lambda t: agclip.ZClip().update(t, agclip.ZClip().init(t)),
}


@pytest.mark.parametrize("context", NO_RECORD.values(), ids=NO_RECORD)
@pytest.mark.parametrize("name", QUIET, ids=lambda name: name.replace(" ", "-"))
def test_weights_are_clipped_one_by_one_where_nothing_is_recorded(trained, name, context):
    with context(), warnings.catch_warnings():
        warnings.simplefilter("error")
        QUIET[name](list(trained[0].parameters()))
    largest = trained[0].weight.detach().abs().max()
    assert name == "global norm" or largest <= 0.1 * 6**0.5


@pytest.mark.parametrize("context", NO_RECORD.values(), ids=NO_RECORD)
@pytest.mark.parametrize("name", JOINT, ids=lambda name: name.replace(" ", "-"))
def test_one_norm_of_weights_that_have_gradients_warns(trained, name, context):
    wanted = f"is clipped, not its gradient. {ADVICE}.*`p.detach\\(\\)`"
    with context(), pytest.warns(UserWarning, match=wanted) as caught:
        JOINT[name](list(trained[0].parameters()))
    assert {w.filename for w in caught} == {__file__}


MEANT = {
    "detached": lambda m: [p.detach() for p in m.parameters()],
    "without gradients": lambda m: [p for p in m.parameters() if not m.zero_grad()],
}


@pytest.mark.parametrize("meant", MEANT.values(), ids=MEANT)
def test_one_norm_of_weights_that_are_meant_does_not_warn(trained, meant):
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        clipped, _ = agclip.clip_by_global_norm_(meant(trained[0]), 0.1)
    assert torch.cat([p.flatten() for p in clipped]).norm().item() == pytest.approx(0.1)


@pytest.mark.parametrize("compiles", [False, True], ids=["eager", "compiled"])
def test_parameters_are_refused_in_compiled_code_as_well(trained, compiles):
    def step(module):
        return agclip.clip_by_global_norm(list(module.parameters()), 1.0)

    torch._dynamo.reset()
    program = torch.compile(step, backend="eager") if compiles else step
    with contextlib.ExitStack() as stack:
        stack.callback(torch._dynamo.reset)
        with pytest.raises(TypeError, match=ADVICE):
            program(trained[0])
