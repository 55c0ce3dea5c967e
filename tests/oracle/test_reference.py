"""The oracle's clipping rules, against published vectors and values worked out by hand."""

import ast
import math
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from oracle.functions import (
    ExactComplex,
    clip_by_average_norm,
    clip_by_global_norm,
    clip_by_norm,
    clip_by_rms,
    clip_per_example,
    exceeds,
    global_norm,
    norm,
    round_to,
    tensor,
)

NAN = math.nan
INF = math.inf
MATRIX = [[-3.0, 0.0, 0.0], [4.0, 0.0, 0.0]]


def d(text):
    """An exact decimal, as "-2.4"."""
    return Fraction(text)


# TensorFlow's own vectors: tensorflow/python/kernel_tests/math_ops/clip_ops_test.py (2.21).


@pytest.mark.parametrize(
    ("t", "c", "axes", "wanted"),
    [
        (MATRIX, 4, None, [[d("-2.4"), 0, 0], [d("3.2"), 0, 0]]),
        ([[-3, 0, 0], [4, 0, 3]], 4, [0], [[d("-2.4"), 0, 0], [d("3.2"), 0, 3]]),
        ([[-3, 0, 0], [4, 0, 3]], 4, [1], [[-3, 0, 0], [d("3.2"), 0, d("2.4")]]),
        (MATRIX, 5, None, MATRIX),
        (MATRIX, 6, None, MATRIX),
        ([[0.0] * 3] * 2, 6, None, [[0] * 3] * 2),
    ],
)
def test_tensorflow_clip_by_norm(t, c, axes, wanted):
    assert clip_by_norm(tensor(t), c, axes).nested() == wanted


@pytest.mark.parametrize(
    ("index", "published"),
    [(0, 0.26967996), (1, 0.5393599), (2, 0.80903983), (3, 1.0787199), (4, 1.3483998)],
)
def test_tensorflow_documentation_of_clip_by_norm(index, published):
    exact = clip_by_norm(tensor([[1.0, 2.0, 3.0, 4.0, 5.0]]), 2.0).values[index]
    # TensorFlow rounds four times on the way: t * t, its sum, t * c and the quotient.
    assert round_to(exact, "float32") == pytest.approx(published, rel=2.0**-22)


@pytest.mark.parametrize(
    ("c", "first", "second"),
    [
        (4.0, [[d("-1.6"), 0, 0], [d("3.2"), 0, 0]], [d("0.8"), d("-1.6")]),
        (5.0, [[-2, 0, 0], [4, 0, 0]], [1, -2]),
        (6.0, [[-2, 0, 0], [4, 0, 0]], [1, -2]),
    ],
)
def test_tensorflow_clip_by_global_norm(c, first, second):
    x0, x1 = tensor([[-2.0, 0.0, 0.0], [4.0, 0.0, 0.0]]), tensor([1.0, -2.0])
    clipped, n = clip_by_global_norm([x0, None, x1], c)
    assert n == global_norm([x0, x1]) == 5
    assert [t and t.nested() for t in clipped] == [first, None, second]


def test_tensorflow_clip_by_global_norm_of_infinity():
    x0, x1 = tensor([[-2.0, 0.0, 0.0], [INF, 0.0, 0.0]]), tensor([1.0, -2.0])
    clipped, n = clip_by_global_norm([x0, x1], 6.0)
    assert n == INF
    assert all(map(math.isnan, clipped[0].values + clipped[1].values))


@pytest.mark.parametrize(
    ("c", "wanted"),
    [(0.8, [[d("-2.88"), 0, 0], [d("3.84"), 0, 0]]), (0.9, MATRIX)],
)
def test_tensorflow_clip_by_average_norm(c, wanted):
    threshold = Fraction(str(c))
    assert clip_by_average_norm(tensor(MATRIX), threshold).nested() == wanted


# Values worked out by hand.


@pytest.mark.parametrize(
    ("rule", "c", "wanted"),
    [
        (clip_by_norm, 1, [d("0.6"), d("0.8")]),
        (clip_by_average_norm, 1, [d("1.2"), d("1.6")]),
        (clip_by_average_norm, 2.5, [3, 4]),
        (clip_by_rms, 3.5, [d("2.96984848"), d("3.95979797")]),
        (clip_by_rms, 3.54, [3, 4]),
    ],
)
def test_per_tensor_rules_measure_different_things(rule, c, wanted):
    assert [float(v) for v in rule(tensor([3.0, 4.0]), c).values] == pytest.approx(wanted)


def test_rms_of_a_rational_kind_is_exact():
    assert clip_by_rms(tensor([2.0, -2.0, 2.0]), 1).nested() == [1, -1, 1]
    assert clip_by_rms(tensor([2.0, -2.0, 2.0]), 2).nested() == [2, -2, 2]


@pytest.mark.parametrize(
    ("ord", "entry", "wanted"), [(1, 5.0, 1), (INF, 5.0, 2), (0.5, 4.0, d("0.5")), (3, 5.0, None)]
)
def test_clip_by_norm_in_other_orders(ord, entry, wanted):
    clipped = clip_by_norm(tensor([entry, entry]), 2, ord=ord)
    assert abs(norm([clipped], ord) - 2) <= Fraction(1, 2**199)
    assert wanted is None or clipped.values == (wanted, wanted)


def test_complex_entries_are_scaled_by_one_real_coefficient():
    clipped = clip_by_norm(tensor([3 - 4j, 12]), 6.5)
    assert clipped.values == (ExactComplex(d("1.5"), Fraction(-2)), 6)
    assert norm([clipped]) == d("6.5")


@pytest.mark.parametrize("size", [5e-324, 1e-200, 1e200, 1.7e308])
def test_clipping_far_from_one_neither_overflows_nor_underflows(size):
    clipped, n = clip_by_global_norm([tensor([size] * 4)], Fraction(size))
    assert n == 2 * Fraction(size)
    assert clipped[0].values == (Fraction(size) / 2,) * 4


def test_the_trigger_is_exact():
    barely = tensor([1.0, 5e-324])
    assert exceeds([barely], 1)
    assert clip_by_norm(barely, 1).values[0] <= 1
    assert clip_by_norm(tensor([1.0, 0.0]), 1).values == (1, 0)
    assert not exceeds([clip_by_norm(tensor([0.1, 0.7, 1e-300]), 0.5)], 0.5 + 2.0**-53)


@pytest.mark.parametrize(
    ("use_norm", "wanted"),
    [(10, [d("0.3"), d("0.4")]), (1, [3, 4]), (0, [3, 4]), (2.0, [d("1.5"), 2])],
)
def test_use_norm_takes_the_place_of_the_norm(use_norm, wanted):
    clipped, n = clip_by_global_norm([tensor([3.0, 4.0])], 1, use_norm)
    assert clipped[0].nested() == wanted
    assert n == use_norm


def test_use_norm_decides_what_is_finite():
    assert repr(clip_by_global_norm([tensor([3.0])], 1, math.nan)[0][0].values) == "(nan,)"
    assert repr(clip_by_global_norm([tensor([INF])], 1, INF)[0][0].values) == "(nan,)"
    assert clip_by_global_norm([tensor([3.0, 4.0])], 1, INF) == ([tensor([d("0.6"), d("0.8")])], 5)
    assert clip_by_global_norm([tensor([INF, 3.0])], 1, 2)[0][0].values == (INF, 1.5)
    with pytest.raises(ValueError, match="`use_norm` must not be negative; got -1"):
        clip_by_global_norm([tensor([3.0])], 1, -1)


def test_a_tree_without_gradients_comes_back():
    assert clip_by_global_norm([None, None], 1) == ([None, None], 0)
    assert clip_per_example([None], 1) == ([None], 0)


ORACLE = sorted(p for p in Path(__file__).parent.glob("*.py") if not p.stem.startswith("test_"))


@pytest.fixture(params=ORACLE, ids=lambda p: p.stem)
def imported(request):
    """The top-level names that a file of the oracle imports."""
    nodes = list(ast.walk(ast.parse(request.param.read_text(encoding="utf-8"))))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return plain | {node.module for node in nodes if isinstance(node, ast.ImportFrom)}


def test_the_oracle_needs_the_standard_library_alone(imported):
    foreign = {name.partition(".")[0] for name in imported} - sys.stdlib_module_names
    assert {name for name in foreign if name != "oracle"} == set()
