"""The oracle's adaptive and per-example clipping, against values worked out by hand."""

import math
from fractions import Fraction

import pytest

from oracle.functions import (
    ExactComplex,
    Tensor,
    adaptive_grad_clip,
    clip_per_example,
    tensor,
)

NAN = math.nan
INF = math.inf


def d(text):
    """An exact decimal, as "-2.4"."""
    return Fraction(text)


@pytest.mark.parametrize(
    ("axes", "clipping", "wanted"),
    [
        # Rows of norm 5 and 0.5 against parameters of norm 10 and 0.
        (1, d("0.25"), [[d("1.5"), 2], [d("0.00015"), d("0.0002")]]),
        (1, d("0.5"), [[3, 4], [d("0.0003"), d("0.0004")]]),
        (1, 0, [[0, 0], [0, 0]]),
        (1, None, [[3, 4], [d("0.3"), d("0.4")]]),
        (1, INF, [[3, 4], [d("0.3"), d("0.4")]]),
    ],
)
def test_adaptive_grad_clip(axes, clipping, wanted):
    grad = tensor([[3, 4], [d("0.3"), d("0.4")]])
    param = tensor([[6.0, 8.0], [0.0, 0.0]])
    clipped = adaptive_grad_clip(grad, param, clipping, d("0.001"), axes=axes)
    assert clipped.nested() == wanted


def test_adaptive_grad_clip_over_the_whole_tensor_and_over_columns():
    grad, param = tensor([[3.0, 1.0], [4.0, 0.0]]), tensor([[0.0, 2.0], [10.0, 0.0]])
    columns = adaptive_grad_clip(grad, param, d("0.1"), axes=0)
    assert columns.nested() == [[d("0.6"), d("0.2")], [d("0.8"), 0]]
    assert adaptive_grad_clip(grad, grad, 1, axes=None) == adaptive_grad_clip(
        grad, param, None, axes=0
    )
    whole = adaptive_grad_clip(grad, grad, d("0.1"), axes=None)
    assert whole.nested() == [[d("0.3"), d("0.1")], [d("0.4"), 0]]  # the norm is irrational


@pytest.mark.parametrize(
    ("grad", "param", "wanted"),
    [
        (1.0, INF, "(Fraction(1, 1),)"),
        (1.0, NAN, "(nan,)"),
        (NAN, 1.0, "(nan,)"),
        (INF, INF, "(nan,)"),
    ],
)
def test_adaptive_grad_clip_of_numbers_that_are_not_finite(grad, param, wanted):
    assert repr(adaptive_grad_clip(tensor([grad]), tensor([param]), axes=0).values) == wanted


def test_adaptive_grad_clip_scales_the_gradient_alone():
    clipped = adaptive_grad_clip(tensor([8.0]), tensor([2.0]), d("0.5"), axes=None, loss_scale=4)
    assert clipped.values == (1,)


def test_adaptive_grad_clip_wants_one_shape():
    with pytest.raises(ValueError, match=r"`param` must have the shape \(1,\) of `grad`; got \(\)"):
        adaptive_grad_clip(tensor([1.0]), tensor(1.0), axes=None)


# Optax's vectors: the documentation of `per_example_global_norm_clip`.


@pytest.mark.parametrize(
    ("c", "sums", "count"),
    [
        (INF, [7, 7, 7], 0),
        (0.0, [0, 0, 0], 3),
        (1.25, [d("1.75"), d("1.75"), d("1.75")], 3),
        (5.0, [7, 7, 7], 0),
        (None, [7, 7, 7], 0),
    ],
)
def test_optax_per_example(c, sums, count):
    grads = tensor([[0.0, 0.0, 0.0], [0.0, 3.0, 4.0], [4.0, 0.0, 3.0], [3.0, 4.0, 0.0]])
    clipped, changed = clip_per_example([grads], c)
    assert clipped[0].nested() == sums
    assert changed == count


def test_per_example_norms_are_joint_over_the_tensors():
    grads = [tensor([3.0, 0.3]), None, tensor([[[4.0]], [[0.4]]])]
    (first, nothing, second), changed = clip_per_example(grads, 1)
    assert nothing is None
    assert first.values == (d("0.6") + Fraction(0.3),)
    assert second == Tensor((1, 1), (d("0.8") + Fraction(0.4),))
    assert changed == 1


@pytest.mark.parametrize(
    ("nonfinite", "sums", "count"),
    [
        ("propagate", "(nan, nan)", 2),
        ("zero", "(Fraction(3, 5), Fraction(4, 5))", 2),
        ("skip", "(Fraction(8, 5), inf)", 1),
    ],
)
def test_per_example_policies(nonfinite, sums, count):
    grads = tensor([[1.0, INF], [3.0, 4.0]])
    (summed,), changed = clip_per_example([grads], 1, nonfinite=nonfinite)
    assert repr(summed.values) == sums
    assert changed == count


def test_per_example_of_no_examples_and_of_complex_numbers():
    assert clip_per_example([Tensor((0, 2), ())], 1) == ([Tensor((2,), (0, 0))], 0)
    assert clip_per_example([tensor([3j, 4])], 2)[0] == [Tensor((), (ExactComplex(2, 2),))]


@pytest.mark.parametrize("shapes", [[(2,), (3,)], [()], [(2,), ()]])
def test_per_example_wants_a_common_leading_axis(shapes):
    grads = [Tensor(shape, (1.0,) * math.prod(shape)) for shape in shapes]
    with pytest.raises(ValueError, match="`grads` must have one leading axis in common; got"):
        clip_per_example(grads, 1)
