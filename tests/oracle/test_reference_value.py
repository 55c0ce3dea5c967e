"""The oracle's clipping by value, against published vectors and values worked out by hand."""

import math
from fractions import Fraction

import pytest

from oracle.functions import (
    clip_by_value,
    tensor,
)

NAN = math.nan
INF = math.inf


def d(text):
    """An exact decimal, as "-2.4"."""
    return Fraction(text)


@pytest.mark.parametrize(
    ("t", "lo", "hi", "wanted"),
    [
        ([NAN, INF, -INF], -4.0, 4.0, "[nan, Fraction(4, 1), Fraction(-4, 1)]"),
        ([5.0], 1, -1, "[Fraction(1, 1)]"),
        ([-5.0, 0.0], 1, -1, "[Fraction(1, 1), Fraction(1, 1)]"),
    ],
)
def test_tensorflow_clip_by_value(t, lo, hi, wanted):
    assert repr(clip_by_value(tensor(t), lo, hi).nested()) == wanted


@pytest.mark.parametrize(
    ("t", "lo", "hi", "wanted"),
    [
        ([-2.0, 0.5, 3.0], -1.0, 1.0, [-1, 0.5, 1]),
        ([-2, 5], None, 3, [-2, 3]),
        ([-2, 5], 0, None, [0, 5]),
        ([-2, 5], None, None, [-2, 5]),
        ([2**63 - 1, -(2**63)], -(2**62), 2**63 - 2, [2**63 - 2, -(2**62)]),
        ([[1, 2], [3, 4]], tensor([2, 3]), tensor([[2], [3]]), [[2, 3], [3, 3]]),
        (7, 0, 5, 5),
        ([], -1, 1, []),
    ],
)
def test_clip_by_value(t, lo, hi, wanted):
    assert clip_by_value(tensor(t), lo, hi).nested() == wanted


def test_clip_by_value_keeps_the_sign_of_zero_and_a_nan_bound_poisons():
    assert repr(clip_by_value(tensor([-0.0]), -1, 1).nested()) == "[-0.0]"
    assert repr(clip_by_value(tensor([-0.0]), 0, 1).nested()) == "[-0.0]"
    assert repr(clip_by_value(tensor([0.5, 2.0]), NAN, 1).nested()) == "[nan, nan]"


def test_clip_by_value_moves_bounds_into_the_range_of_the_dtype():
    assert clip_by_value(tensor([0, 255]), -5, 300, limits=(0, 255)).nested() == [0, 255]
    assert clip_by_value(tensor([0, 255]), 300, None, limits=(0, 255)).nested() == [255, 255]


def test_clip_by_value_takes_the_loss_scale_out_first():
    assert clip_by_value(tensor([8.0, 1.0]), -1, 1, loss_scale=4).nested() == [1, 0.25]


@pytest.mark.parametrize(("t", "lo"), [([1j], 0), ([1.0], 1j)])
def test_clip_by_value_refuses_complex_numbers(t, lo):
    with pytest.raises(TypeError, match=r"`value` must be real; got 1j"):
        clip_by_value(tensor(t), lo, 1)
