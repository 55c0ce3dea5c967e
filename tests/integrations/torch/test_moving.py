"""The rows of "Moving from torch.nn.utils" in docs/pytorch.md, against the live functions."""

import math

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
ours = pytest.importorskip("agclip.integrations.torch", reason="PyTorch is not installed")

theirs = torch.nn.utils


@pytest.fixture
def made():
    """A function that makes a parameter with a gradient."""

    def make(values, dtype=torch.float32):
        p = torch.nn.Parameter(torch.zeros(len(values), dtype=dtype))
        p.grad = torch.tensor(values, dtype=dtype)
        return p

    return make


def test_same_coefficient(made):
    for library in (ours, theirs):
        p = made([3.0, 4.0], torch.float64)
        assert library.clip_grad_norm_([p], 5.0) == 5.0
        assert p.grad.tolist() == pytest.approx([3.0 * 5.0 / 5.000001, 4.0 * 5.0 / 5.000001])


def test_same_bits_where_nothing_is_clipped(made):
    for library in (ours, theirs):
        p = made([3.0, 4.0])
        assert library.clip_grad_norm_([p], 5.1) == 5.0
        assert p.grad.tolist() == [3.0, 4.0]


def test_squares_that_overflow(made):
    p, q = made([1e20, 1e20]), made([1e20, 1e20])
    assert theirs.clip_grad_norm_([p], 1.0) == math.inf
    assert p.grad.tolist() == [0.0, 0.0]
    assert ours.clip_grad_norm_([q], 1.0).item() == pytest.approx(2**0.5 * 1e20)
    assert q.grad.tolist() == pytest.approx([0.5**0.5, 0.5**0.5])


def test_squares_that_underflow(made):
    p, q = made([3e-30, 4e-30]), made([3e-30, 4e-30])
    assert theirs.clip_grad_norm_([p], 1.0) == 0.0
    assert ours.clip_grad_norm_([q], 1.0).item() == pytest.approx(5e-30)


def test_many_elements():
    grad = torch.full((60_000_000,), 0.1)
    assert abs(theirs.get_total_norm([grad]).item() / 774.5967 - 1) > 0.005
    assert ours.get_total_norm([grad]).item() == pytest.approx(774.5967, rel=1e-7)


def test_half_gradients(made):
    grads = [made([0.01] * 1000, torch.bfloat16).grad] * 3
    assert theirs.get_total_norm(grads).dtype == torch.bfloat16
    assert ours.get_total_norm(grads).dtype == torch.float32


def test_an_infinity(made):
    p, q = made([1.0, math.inf]), made([1.0, math.inf])
    theirs.clip_grad_norm_([p], 1.0)
    assert p.grad[0] == 0.0
    assert p.grad[1].isnan()
    ours.clip_grad_norm_([q], 1.0)
    assert q.grad.isnan().all()


def test_a_negative_bound(made):
    p, q = made([3.0, 4.0]), made([3.0, 4.0])
    theirs.clip_grad_norm_([p], -1.0)
    assert p.grad.tolist() == pytest.approx([-0.6, -0.8])
    theirs.clip_grad_value_([p], -1.0)
    assert p.grad.tolist() == [-1.0, -1.0]
    for function in (ours.clip_grad_norm_, ours.clip_grad_value_):
        with pytest.raises(ValueError, match=r"got -1\.0"):
            function([q], -1.0)
    assert q.grad.tolist() == [3.0, 4.0]


def test_a_bound_that_is_nan(made):
    p, q = made([3.0, 4.0]), made([3.0, 4.0])
    theirs.clip_grad_norm_([p], math.nan)
    assert p.grad.isnan().all()
    with pytest.raises(ValueError, match="got nan"):
        ours.clip_grad_norm_([q], math.nan)


def test_gradients_in_the_place_of_parameters():
    grads = [torch.tensor([3.0, 4.0])]
    assert theirs.clip_grad_norm_(grads, 1.0) == 0.0
    assert grads[0].tolist() == [3.0, 4.0]
    with pytest.raises(TypeError, match="must hold parameters"):
        ours.clip_grad_norm_(grads, 1.0)


def test_before_backward():
    model = torch.nn.Linear(2, 2)
    assert theirs.clip_grad_norm_(model.parameters(), 1.0) == 0.0
    with pytest.warns(UserWarning, match="none has a gradient"):
        assert ours.clip_grad_norm_(model.parameters(), 1.0) == 0.0


def test_a_tied_parameter(made):
    p, q = made([3.0, 4.0]), made([3.0, 4.0])
    assert theirs.clip_grad_norm_([p, p], 1.0).item() == pytest.approx(50**0.5)
    assert p.grad.norm().item() == pytest.approx(0.1)
    assert ours.clip_grad_norm_([q, q], 1.0) == 5.0
    assert q.grad.norm().item() == pytest.approx(1.0)


def test_what_is_taken():
    layer = torch.nn.Linear(2, 1)
    layer.weight.grad, layer.bias.grad = torch.tensor([[3.0, 0.0]]), torch.tensor([4.0])
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    for given in (layer, optimizer, layer.named_parameters(), optimizer.param_groups):
        with pytest.raises((TypeError, AttributeError)):
            theirs.clip_grad_norm_(given, 1.0)
    for given in (layer, optimizer, layer.named_parameters(), optimizer.param_groups):
        assert ours.clip_grad_norm_(given, math.inf) == 5.0


def test_the_error_names_the_parameter():
    layer = torch.nn.Linear(2, 1)
    layer.weight.grad, layer.bias.grad = torch.tensor([[3.0, 0.0]]), torch.tensor([math.nan])
    with pytest.raises(RuntimeError, match=r"norm of order 2\.0") as caught:
        theirs.clip_grad_norm_(layer.parameters(), 1.0, error_if_nonfinite=True)
    assert "bias" not in str(caught.value)
    with pytest.raises(RuntimeError, match=r"norm of order 2.0 .*parameters\['bias'\]"):
        ours.clip_grad_norm_(layer, 1.0, error_if_nonfinite=True)


def test_a_gradient_without_elements(made):
    p, empty = made([3.0, 4.0]), made([])
    with pytest.raises(RuntimeError, match="does not have an identity"):
        theirs.clip_grad_norm_([p, empty], 1.0, norm_type="inf")
    assert ours.clip_grad_norm_([p, empty], 1.0, norm_type="inf") == 4.0


def test_complex_values():
    p = torch.nn.Parameter(torch.zeros(1, dtype=torch.complex64))
    p.grad = torch.tensor([3.0 + 4.0j])
    with pytest.raises(RuntimeError):
        theirs.clip_grad_value_([p], 1.0)
    with pytest.raises(TypeError, match="complex64"):
        ours.clip_grad_value_([p], 1.0)
