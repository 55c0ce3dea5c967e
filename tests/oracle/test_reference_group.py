"""The oracle's special cases: thresholds, policies, loss scales."""

import math
from fractions import Fraction

import pytest

from oracle.functions import (
    ExactComplex,
    Tensor,
    clip_by_average_norm,
    clip_by_global_norm,
    clip_by_norm,
    clip_by_rms,
    clip_per_example,
    global_norm,
    tensor,
)

NAN = math.nan
INF = math.inf


def d(text):
    """An exact decimal, as "-2.4"."""
    return Fraction(text)


@pytest.mark.parametrize("rule", [clip_by_norm, clip_by_average_norm, clip_by_rms])
@pytest.mark.parametrize(
    ("c", "wanted"),
    [
        (0, "(Fraction(0, 1), -0.0, Fraction(0, 1), -0.0)"),
        (-1.0, "(Fraction(0, 1), -0.0, Fraction(0, 1), -0.0)"),
        (-INF, "(Fraction(0, 1), -0.0, Fraction(0, 1), -0.0)"),
        (INF, "(Fraction(1, 1), Fraction(-2, 1), Fraction(0, 1), -0.0)"),
        (None, "(Fraction(1, 1), Fraction(-2, 1), Fraction(0, 1), -0.0)"),
        (NAN, "(nan, nan, nan, nan)"),
    ],
)
def test_special_thresholds(rule, c, wanted):
    assert repr(rule(tensor([1.0, -2.0, 0.0, -0.0]), c).values) == wanted


@pytest.mark.parametrize("rule", [clip_by_norm, clip_by_average_norm, clip_by_rms])
@pytest.mark.parametrize("c", [0, 1])
@pytest.mark.parametrize("values", [(), (0.0, 0.0)])
def test_nothing_and_zeros_stay(rule, c, values):
    assert rule(Tensor((len(values),), values), c).values == values


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize(
    ("nonfinite", "wanted"),
    [("propagate", "(nan, nan)"), ("zero", f"({Fraction(0)!r}, {Fraction(0)!r})")],
)
@pytest.mark.parametrize("c", [0, 1, INF])
def test_policies_for_a_group_that_is_not_finite(bad, nonfinite, wanted, c):
    assert repr(clip_by_norm(tensor([2.0, bad]), c, nonfinite=nonfinite).values) == wanted


@pytest.mark.parametrize("c", [0, 1, INF])
def test_skip_leaves_the_group_but_for_the_loss_scale(c):
    clipped = clip_by_norm(tensor([2.0, -INF]), c, nonfinite="skip", loss_scale=4)
    assert clipped.values == (0.5, -INF)


def test_each_slice_is_a_group_of_its_own():
    clipped = clip_by_norm(tensor([[NAN, 1.0], [3.0, 4.0]]), 1, 1, nonfinite="zero")
    assert clipped.nested() == [[0, 0], [d("0.6"), d("0.8")]]


def test_complex_groups_that_are_not_finite():
    t = tensor([1j, complex(INF, 0)])
    assert repr(clip_by_norm(t, 1).values[0]) == "ExactComplex(real=nan, imag=nan)"
    assert clip_by_norm(t, 1, nonfinite="zero").values[1] == ExactComplex(0, 0)


def test_unknown_policies_are_refused():
    with pytest.raises(
        ValueError, match="`nonfinite` must be one of propagate, zero, skip; got 'e"
    ):
        clip_by_norm(tensor([1.0]), 1, nonfinite="error")


@pytest.mark.parametrize("scale", [0, -1, INF, NAN])
def test_loss_scales_that_cannot_be_divided_out_are_refused(scale):
    with pytest.raises(ValueError, match="`loss_scale` must be positive and finite; got "):
        global_norm([tensor([1.0])], loss_scale=scale)


@pytest.mark.parametrize("scale", [2, 1024.0, 3, Fraction(1, 8)])
@pytest.mark.parametrize("c", [0, 1, 4, 5, 6, None])
def test_loss_scale_commutes_with_clipping(scale, c):
    grads = [tensor([3.0, 0.0]), tensor([-4.0])]
    scaled = [
        Tensor(g.shape, tuple(Fraction(v) * Fraction(scale) for v in g.values)) for g in grads
    ]
    assert clip_by_global_norm(scaled, c, loss_scale=scale) == clip_by_global_norm(grads, c)
    assert clip_per_example(scaled[:1], c, loss_scale=scale) == clip_per_example(grads[:1], c)
    assert global_norm(scaled, loss_scale=scale) == 5
