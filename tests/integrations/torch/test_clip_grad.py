"""`agclip.integrations.torch` beside the live functions of `torch.nn.utils`."""

import math

import pytest

import agclip

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
ours = pytest.importorskip("agclip.integrations.torch", reason="PyTorch is not installed")
models = pytest.importorskip("integrations.torch.models", reason="PyTorch is not installed")

theirs = torch.nn.utils
NORM_TYPES = [0.5, 1, 1.5, 2, 3, math.inf, "inf", "2.0", -1.0, 0, -math.inf]
BOUNDS = [0.0, 1e-7, 0.5, 1.0, 1e3, math.inf, "0.5", torch.tensor(0.5), torch.tensor([0.5])]


@pytest.fixture(params=sorted(models.SHAPES))
def shapes(request):
    return models.SHAPES[request.param]


@pytest.fixture(params=[torch.float32, torch.float64], ids=str)
def dtype(request):
    return request.param


@pytest.fixture(params=NORM_TYPES, ids=repr)
def norm_type(request):
    return request.param


@pytest.fixture(params=BOUNDS, ids=repr)
def bound(request):
    return request.param


def close(actual, expected):
    """Assert that two tensors are the same but for the last bits of float32."""
    torch.testing.assert_close(actual, expected, rtol=2e-6, atol=0.0, equal_nan=True)


def both(shapes, dtype, clip_ours, clip_theirs):
    """Clip two copies of one model, and compare the results and the gradients."""
    mine, yours = (models.parameters(shapes, dtype) for _ in range(2))
    returned, expected = clip_ours(mine), clip_theirs(yours)
    if expected is not None:
        close(returned, expected)
    for p, q in zip(mine, yours, strict=True):
        close(p.grad, q.grad)
    return mine


@pytest.fixture
def comparable(shapes, norm_type):
    order = float(norm_type)
    if (abs(order) == math.inf or order < 0) and any(0 in shape for shape in shapes):
        pytest.skip("torch has no such order of an empty gradient: none, or an infinite one")


@pytest.mark.usefixtures("comparable")
def test_the_norm_clip_does_as_torch(shapes, dtype, norm_type, bound):
    both(
        shapes,
        dtype,
        lambda ps: ours.clip_grad_norm_(ps, bound, norm_type),
        lambda ps: theirs.clip_grad_norm_(ps, bound, norm_type),
    )


@pytest.mark.usefixtures("comparable")
def test_the_halves_do_as_torch(shapes, dtype, norm_type):
    def halves(library):
        def clip(ps):
            norm = library.get_total_norm([p.grad for p in ps], norm_type)
            norm **= 2.0
            library.clip_grads_with_norm_(ps, 0.5, norm)
            return norm

        return clip

    both(shapes, dtype, halves(ours), halves(theirs))


@pytest.mark.parametrize("foreach", [None, True, False], ids=repr)
def test_foreach_is_taken_and_changes_nothing(foreach):
    mine, yours = (models.parameters([(3,), (2, 2)]) for _ in range(2))
    ours.clip_grad_norm_(yours, 0.5)
    total = ours.get_total_norm(models.gradients(mine))
    assert ours.get_total_norm(models.gradients(mine), foreach=foreach) == total
    ours.clip_grad_norm_(mine, 0.5, foreach=foreach)
    ours.clip_grad_value_(mine, 0.1, foreach=foreach)
    ours.clip_grads_with_norm_(mine, 1.0, 2.0, foreach=foreach)
    expected = [p.grad.clamp(-0.1, 0.1) * 0.5 for p in yours]
    for p, grad in zip(mine, expected, strict=True):
        close(p.grad, grad)


@pytest.mark.parametrize("bound", [0.0, 0.5, 2, math.inf, "0.5", torch.tensor([0.5])], ids=repr)
def test_the_value_clip_does_as_torch(shapes, dtype, bound):
    both(
        shapes,
        dtype,
        lambda ps: ours.clip_grad_value_(ps, bound),
        lambda ps: theirs.clip_grad_value_(ps, bound),
    )


def test_the_norm_is_a_new_tensor_that_can_be_written():
    ps = models.parameters([(3,)])
    for norm in (ours.clip_grad_norm_(ps, 1.0), ours.get_total_norm([p.grad for p in ps])):
        assert norm.shape == ()
        assert not norm.requires_grad
        norm.mul_(2.0)
        assert ours.get_total_norm([p.grad for p in ps]) < norm


@pytest.mark.parametrize("bound", [None, math.inf], ids=repr)
def test_without_a_bound_the_norm_is_measured_alone(bound):
    ps = models.parameters([(3,)])
    before = models.gradients(ps)
    assert ours.clip_grad_norm_(ps, bound) == ours.get_total_norm(before)
    assert torch.equal(ps[0].grad, before[0])


# --- where torch is wrong ----------------------------------------------------------------------


def test_gradients_whose_squares_overflow_keep_their_direction():
    p = torch.nn.Parameter(torch.zeros(2))
    p.grad = torch.tensor([3e30, 4e30])
    assert ours.clip_grad_norm_([p], 1.0) == 5e30
    close(p.grad, torch.tensor([0.6, 0.8]))
    p.grad = torch.tensor([3e30, 4e30])
    assert theirs.clip_grad_norm_([p], 1.0) == math.inf
    assert torch.equal(p.grad, torch.zeros(2))


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16], ids=str)
def test_the_norm_of_half_gradients_is_no_half(half):
    ps = models.parameters([(1000,)] * 3, half, factor=300.0)
    exact = math.sqrt(sum(p.grad.double().square().sum().item() for p in ps))
    norm = ours.clip_grad_norm_(ps, 1.0)
    assert norm.dtype == torch.float32
    assert abs(norm.item() / exact - 1) < 1e-7
    assert abs(theirs.get_total_norm(models.gradients(ps)).double().item() - 1) < 0.01


@pytest.mark.parametrize("bound", [-1.0, math.nan], ids=repr)
@pytest.mark.parametrize("function", ["clip_grad_norm_", "clip_grad_value_"])
def test_a_bound_that_is_none_is_refused_and_nothing_changes(function, bound):
    ps = models.parameters([(3,)])
    before = models.gradients(ps)
    with pytest.raises(ValueError, match="must be a number >= 0"):
        getattr(ours, function)(ps, bound)
    assert torch.equal(ps[0].grad, before[0])


# --- NaN and infinities ------------------------------------------------------------------------


@pytest.fixture(params=[math.nan, math.inf, -math.inf], ids=repr)
def odd(request):
    ps = models.parameters(models.SHAPES["matrices"])
    ps[1].grad[2] = request.param
    return ps


def test_what_is_not_finite_makes_all_gradients_nan(odd):
    norm = ours.clip_grad_norm_(odd, 1.0)
    assert not norm.isfinite()
    assert all(p.grad.isnan().all() for p in odd)


def test_an_error_is_both_kinds_names_the_gradient_and_changes_nothing(odd):
    before = models.gradients(odd)
    with pytest.raises(RuntimeError, match=r"norm of order 2.0 .* at parameters\[1\]") as caught:
        ours.clip_grad_norm_(odd, 1.0, error_if_nonfinite=True)
    assert isinstance(caught.value, FloatingPointError)
    with pytest.raises(RuntimeError, match=r"norm of order 1.0 .* at tensors\[1\]"):
        ours.get_total_norm(before, 1, error_if_nonfinite=True)
    for p, grad in zip(odd, before, strict=True):
        assert torch.equal(p.grad.nan_to_num(7.0), grad.nan_to_num(7.0))


def test_the_policy_is_as_configured(odd):
    before = models.gradients(odd)
    with agclip.config_context(nonfinite="skip"):
        ours.clip_grad_norm_(odd, 1.0)
    assert torch.equal(odd[0].grad, before[0])


@pytest.mark.parametrize("total", [math.inf, math.nan], ids=repr)
def test_a_given_norm_stands_even_where_the_gradients_are_finite(total):
    ps = models.parameters([(3,), (2,)])
    ours.clip_grads_with_norm_(ps, 1.0, torch.tensor(total))
    assert all(p.grad.isnan().all() for p in ps)
    with (
        agclip.config_context(nonfinite="error"),
        pytest.raises(RuntimeError, match="`total_norm` must be finite"),
    ):
        ours.clip_grads_with_norm_(models.parameters([(3,)]), 1.0, total)


# --- many elements -----------------------------------------------------------------------------


def test_a_large_gradient_has_the_norm_that_it_has():
    # 6e7 elements in one dimension: torch's float32 sum on the CPU is off by a percent (2.13).
    count = 60_000_000
    p = torch.nn.Parameter(torch.zeros(count))
    p.grad = torch.full((count,), 1e-3)
    expected = float(torch.tensor(1e-3)) * math.sqrt(count)
    assert abs(ours.get_total_norm([p.grad]).item() / expected - 1) < 1e-7
    off = abs(theirs.get_total_norm([p.grad]).item() / expected - 1)
    assert off > 1e-4


# --- several threads, autograd, inference ------------------------------------------------------


def test_gradients_with_a_graph_are_clipped_outside_of_it():
    w = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    (grad,) = torch.autograd.grad((w**2).sum() / 2, w, create_graph=True)
    w.grad = grad
    assert ours.clip_grad_norm_([w], 1.0) == 5.0
    close(w.grad.detach(), torch.tensor([0.6, 0.8]))


def test_inference_tensors_are_clipped_in_inference_mode():
    with torch.inference_mode():
        w = torch.zeros(2)
        w.grad = torch.tensor([3.0, 4.0])
        assert ours.clip_grad_norm_([w], 1.0) == 5.0
        close(w.grad, torch.tensor([0.6, 0.8]))
