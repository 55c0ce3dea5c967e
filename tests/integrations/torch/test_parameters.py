"""What may stand where PyTorch code expects parameters, and what may not."""

import collections
import copy
import math
import re
import warnings

import pytest

import agclip

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
ours = pytest.importorskip("agclip.integrations.torch", reason="PyTorch is not installed")
models = pytest.importorskip("integrations.torch.models", reason="PyTorch is not installed")


@pytest.fixture
def model():
    torch.manual_seed(0)
    made = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
    made(torch.randn(5, 3)).square().sum().backward()
    return made


WAYS = {
    "module": lambda model: model,
    "optimizer": lambda model: torch.optim.SGD(model.parameters(), lr=0.1),
    "named optimizer": lambda model: torch.optim.SGD(model.named_parameters(), lr=0.1),
    "generator": lambda model: model.parameters(),
    "list": lambda model: list(model.parameters()),
    "tuple": lambda model: tuple(model.parameters()),
    "set": lambda model: set(model.parameters()),
    "filter": lambda model: filter(lambda p: p.requires_grad, model.parameters()),
    "pairs": lambda model: model.named_parameters(),
    "dict": lambda model: dict(model.named_parameters()),
    "dict values": lambda model: dict(model.named_parameters()).values(),
    "ordered dict": lambda model: collections.OrderedDict(model.named_parameters()),
    "group": lambda model: {"params": list(model.parameters()), "lr": 0.1},
    "groups": lambda model: [{"params": model[0].parameters()}, {"params": model[2].parameters()}],
    "param_groups": lambda model: torch.optim.SGD(model.parameters(), lr=0.1).param_groups,
    "named groups": lambda model: [{"params": model.named_parameters()}],
    "ParameterList": lambda model: torch.nn.ParameterList(model.parameters()),
    "twice": lambda model: [*model.parameters(), *model.parameters()],
    "one name": lambda model: [("p", p) for p in model.parameters()],
    "groups of the same names": lambda model: [
        {"params": model[0].named_parameters()},
        {"params": model[2].named_parameters()},
    ],
    "optimizer of the same names": lambda model: torch.optim.SGD(
        [*model[0].named_parameters(), *model[2].named_parameters()], lr=0.1
    ),
    "named twice": lambda model: [*model.named_parameters(), *model.named_parameters("again")],
}
FUNCTIONS = {
    "clip_grad_norm_": lambda given: ours.clip_grad_norm_(given, 0.1),
    "clip_grads_with_norm_": lambda given: ours.clip_grads_with_norm_(given, 0.1, 2.0),
    "clip_grad_value_": lambda given: ours.clip_grad_value_(given, 0.1),
}


@pytest.fixture(params=sorted(FUNCTIONS))
def clip(request):
    return FUNCTIONS[request.param]


@pytest.mark.parametrize("way", sorted(WAYS))
def test_parameters_are_found_in_what_holds_them(model, way, clip):
    other = copy.deepcopy(model)
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        q.grad = p.grad.clone()
    clip(list(other.parameters()))
    clip(WAYS[way](model))
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad)


@pytest.mark.parametrize("way", ["generator", "list", "groups", "param_groups"])
def test_a_position_leads_to_a_parameter_without_a_name(model, way):
    model[2].bias.grad[0] = math.nan
    with pytest.raises(RuntimeError, match=re.escape("NaN at parameters[3]")):
        ours.clip_grad_norm_(WAYS[way](model), 1.0, error_if_nonfinite=True)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("way", ["module", "named optimizer", "pairs", "dict", "named groups"])
def test_a_name_leads_to_a_parameter_that_has_one(model, way, frozen):
    if frozen:
        model[0].weight.grad = None
    model[2].bias.grad[0] = math.nan
    with pytest.raises(RuntimeError, match=re.escape("NaN at parameters['2.bias']")):
        ours.clip_grad_norm_(WAYS[way](model), 1.0, error_if_nonfinite=True)


def test_a_position_counts_the_parameters_that_have_no_gradient(model):
    model[0].weight.grad = None
    model[2].bias.grad[0] = math.nan
    with pytest.raises(RuntimeError, match=re.escape("NaN at parameters[3]")):
        ours.clip_grad_norm_(model.parameters(), 1.0, error_if_nonfinite=True)


def test_a_tied_parameter_counts_once_and_is_scaled_once():
    w = torch.nn.Parameter(torch.zeros(2))
    w.grad = torch.tensor([3.0, 4.0])
    assert ours.clip_grad_norm_([w, w], 2.5) == 5.0
    assert torch.allclose(w.grad, torch.tensor([1.5, 2.0]))
    assert ours.clip_grad_norm_([("a", w), ("b", w)], 10.0) == w.grad.norm()


# --- nothing to clip ---------------------------------------------------------------------------

EMPTY = "`parameters` is an empty {}, no gradient clipping will occur."


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (lambda: iter([]), "generator"),
        (lambda: (p for p in ()), "generator"),
        (list, "iterable"),
        (torch.nn.ReLU, "iterable"),
        (lambda: [{"params": []}], "iterable"),
    ],
    ids=["iterator", "generator", "list", "module", "groups"],
)
def test_no_parameter_at_all_is_worth_a_warning(given, kind, clip):
    given = given()
    with pytest.warns(UserWarning, match="is an empty") as caught:
        result = clip(given)
    assert [str(w.message) for w in caught] == [EMPTY.format(kind)]
    assert caught[0].filename == __file__
    assert result is None or result == 0.0


def test_parameters_without_gradients_are_worth_a_warning(clip):
    with pytest.warns(UserWarning, match="none has a gradient") as caught:
        result = clip(torch.nn.Linear(2, 2))
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert result is None or result == 0.0


def test_a_frozen_module_is_not(clip):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = clip(torch.nn.Linear(2, 2).requires_grad_(False))
    assert result is None or result == 0.0


def test_no_tensor_has_norm_zero():
    norm = ours.get_total_norm([])
    assert norm == 0.0
    assert norm.dtype == torch.float32
    with pytest.warns(UserWarning, match="`tensors` is an empty generator"):
        assert ours.get_total_norm(iter([])) == 0.0


# --- what is no parameter ----------------------------------------------------------------------


def trained():
    w = torch.nn.Parameter(torch.zeros(2))
    w.grad = torch.tensor([3.0, 4.0])
    return w


def test_a_gradient_beside_parameters_changes_nothing(clip):
    w = trained()
    with pytest.raises(TypeError, match=re.escape("at parameters[1]")):
        clip([w, torch.tensor([1.0])])
    assert w.grad.tolist() == [3.0, 4.0]


@pytest.mark.parametrize(
    "grad",
    [
        torch.sparse_coo_tensor([[0]], [1.0], (2,), check_invariants=True),
        torch.tensor([1, 2]),
    ],
    ids=["sparse", "integer"],
)
def test_a_gradient_that_cannot_be_clipped_changes_nothing(grad):
    first, second = trained(), torch.zeros(2, dtype=grad.dtype)
    second.grad = grad
    with pytest.raises(TypeError, match="`parameters` must hold"):
        ours.clip_grad_norm_([first, second], 1.0)
    assert first.grad.tolist() == [3.0, 4.0]


def test_a_plain_tensor_with_a_gradient_is_a_parameter():
    w = torch.zeros(2)
    w.grad = torch.tensor([3.0, 4.0])
    assert ours.clip_grad_norm_(w, 1.0) == 5.0


@pytest.mark.parametrize(
    ("bound", "error", "text"),
    [
        (torch.ones(2), ValueError, "`max_norm` must be a scalar"),
        (torch.ones((), device="meta"), NotImplementedError, "no data"),
        (1j, TypeError, "`max_norm` must be a number"),
        ([1.0], ValueError, "`max_norm` must be a scalar"),
    ],
    ids=["two elements", "on a device without data", "complex", "a list"],
)
def test_a_bound_that_is_none_changes_nothing(bound, error, text):
    w = trained()
    with pytest.raises(error, match=text):
        ours.clip_grad_norm_([w], bound)
    assert w.grad.tolist() == [3.0, 4.0]


def test_the_norm_of_parameters_themselves_can_be_asked_for():
    w = trained()
    with torch.no_grad():
        w += 2.0
    assert float(ours.get_total_norm([w])) == pytest.approx(math.sqrt(8.0))
    assert agclip.global_norm([w.detach()]) == ours.get_total_norm(w)
    assert models.gradients([w])[0].tolist() == [3.0, 4.0]
