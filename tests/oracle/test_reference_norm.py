"""The oracle's tensors and norms, against values worked out by hand."""

import math
from fractions import Fraction

import pytest

from oracle.functions import ExactComplex, Tensor, axis_norms, exceeds, norm, tensor
from oracle.norm import Root, integer_root, root
from oracle.tensor import broadcast, kept_shape

HUGE = 1.7e308
TINY = 5e-324
ACCURACY = Fraction(1, 2**200)


def assert_close(got, wanted):
    """Pass where two fractions agree to a relative 2^-200."""
    assert abs(got - wanted) <= ACCURACY * wanted


@pytest.mark.parametrize(
    ("nested", "shape"),
    [
        (3.5, ()),
        ([], (0,)),
        ([1.0, -0.0], (2,)),
        ([[1, 2, 3], [4, 5, 6]], (2, 3)),
        ([[], []], (2, 0)),
        ([[[1j]]], (1, 1, 1)),
        ([math.inf, -math.inf], (2,)),
    ],
)
def test_nested_lists_come_back(nested, shape):
    built = tensor(nested)
    assert built.shape == shape
    assert repr(built.nested()) == repr(nested)


def test_entries_are_in_row_major_order():
    assert tensor(((1, 2), (3, 4), (5, 6))).values == (1, 2, 3, 4, 5, 6)


def test_ragged_rows_are_refused():
    with pytest.raises(ValueError, match=r"`nested` must have rows of one shape; got \[\(1,\)"):
        tensor([[1], [1, 2]])


def test_an_array_is_refused():
    with pytest.raises(TypeError, match=r"`nested` must be numbers in lists or tuples; got range"):
        tensor(range(3))


def test_a_shape_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"`values` must hold 6 entries; got 2"):
        Tensor((2, 3), (1.0, 2.0))


@pytest.mark.parametrize("degree", [2, 3, 5, 7, 64])
@pytest.mark.parametrize("base", [1, 2, 3, 10, 2**53 - 1, 7**200, 2**2100, 3**900 + 1])
def test_integer_root_steps_at_perfect_powers(base, degree):
    power = base**degree
    roots = [integer_root(n, degree) for n in (power - 1, power, power + 1)]
    assert roots == [base - 1, base, base]


@pytest.mark.parametrize(("n", "degree", "wanted"), [(0, 3, 0), (5, 1, 5), (63, 3, 3), (2, 64, 1)])
def test_integer_root_of_small_numbers(n, degree, wanted):
    assert integer_root(n, degree) == wanted


@pytest.mark.parametrize("degree", [2, 3, 10])
@pytest.mark.parametrize(
    "q", [Fraction(2), Fraction(1, 7), Fraction(10) ** 600, Fraction(3, 10**650), Fraction(12, 11)]
)
def test_root_is_right_to_two_hundred_bits(q, degree):
    assert_close(root(q, degree) ** degree, q)


def test_a_rational_root_is_exact():
    assert root(Fraction(27, 8), 3) == Fraction(3, 2)


@pytest.mark.parametrize(
    ("values", "ord", "wanted"),
    [
        ([3.0, 4.0], 2, 5),
        ([1.0, 2.0, 2.0, 4.0], 2, 5),
        ([-3, 4], 2, 5),
        ([3.0, -4.0], 1, 7),
        ([3.0, -4.0], math.inf, 4),
        ([3.0, 4.0, 5.0], 3, 6),
        ([1.0, -4.0, 9.0], 0.5, 36),
        ([3 + 4j], 2, 5),
        ([3 + 4j, 5 - 12j], 1, 18),
        ([3 + 4j, 5 - 12j], math.inf, 13),
        ([3 + 4j, 0j], 3, 5),
        ([3 + 0j, 4.0], 2, 5),
        ([ExactComplex(Fraction(3, 5), Fraction(4, 5))], 2, 1),
        ([Fraction(3, 7), Fraction(4, 7)], 2, Fraction(5, 7)),
        ([0.0, -0.0], 2, 0),
        ([], 2, 0),
        ([], 1, 0),
        ([], math.inf, 0),
        ([], 0.5, 0),
        ([4.0, 25.0], 1.5, root(Fraction(133**2), 3)),
        ([8.0, 27.0], Fraction(1, 3), 125),
    ],
)
def test_norm_by_hand(values, ord, wanted):
    assert norm([tensor(values)], ord) == wanted


@pytest.mark.parametrize("ord", [0.5, 1.5, 2.5, Fraction(1, 3), Fraction(1, 10), 7])
@pytest.mark.parametrize("value", [7.0, 3 + 4j, TINY, -HUGE, 0.1])
def test_norm_of_one_entry_is_its_modulus(value, ord):
    modulus = Fraction(5) if isinstance(value, complex) else abs(Fraction(value))
    assert_close(norm([tensor([value, 0])], ord), modulus)


def test_one_and_a_half_norm_of_irrational_powers():
    # (2^1.5 + 3^1.5)^2 = 8 + 27 + 2 sqrt(216), and the norm is the cube root of that.
    square = 35 + 2 * root(Fraction(216), 2)
    assert_close(norm([tensor([2.0, 3.0])], 1.5) ** 3, square)


@pytest.mark.parametrize("ord", [1, 2, 3, 0.5, 1.5, math.inf])
def test_norm_of_torchs_test_vector(ord):
    """Torch's `test_clip_grad_norm`: gradients 1..100 and ten times 1/1000 (2.13)."""
    grads = [tensor([float(n) for n in range(1, 101)]), tensor([1 / 1000] * 10)]
    entries = [v for g in grads for v in g.values]
    rough = max(entries) if ord == math.inf else sum(v**ord for v in entries) ** (1 / ord)
    assert float(norm(grads, ord)) == pytest.approx(rough, rel=1e-12)


def test_joint_norm_is_that_of_all_entries_and_passes_over_none():
    assert norm([tensor([1.0, 2.0]), None, tensor([[2.0], [4.0]])]) == 5
    assert norm([None, None]) == 0
    assert norm([]) == 0


@pytest.mark.parametrize("ord", [1, 2, 3, 0.5, 1.5, math.inf])
@pytest.mark.parametrize("size", [TINY, 1e-200, 1.0, 1e200, HUGE])
def test_norm_is_homogeneous_over_the_whole_range(size, ord):
    ones = norm([tensor([1.0] * 5)], ord)
    assert_close(norm([tensor([size] * 3), tensor([-size] * 2)], ord), Fraction(size) * ones)


def test_huge_and_tiny_entries_are_added_without_loss():
    size = norm([tensor([HUGE, TINY])])
    assert size >= Fraction(HUGE)
    assert exceeds([tensor([HUGE, TINY])], HUGE)
    assert not exceeds([tensor([HUGE, 0.0])], HUGE)


@pytest.mark.parametrize("ord", [1, 2, 3, 0.5, math.inf])
@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([1.0, math.nan], math.nan),
        ([math.inf, math.nan], math.nan),
        ([1.0, -math.inf], math.inf),
        ([complex(1, math.nan)], math.nan),
        ([complex(-math.inf, 1)], math.inf),
        ([complex(math.inf, math.nan)], math.nan),
    ],
)
def test_norm_of_entries_that_are_not_finite(values, wanted, ord):
    assert repr(norm([tensor(values)], ord)) == repr(wanted)


@pytest.mark.parametrize("ord", [0, -1, math.nan, -math.inf, 0.1, 65, Fraction(1, 65)])
def test_orders_without_a_definition_or_too_fine_are_refused(ord):
    with pytest.raises(ValueError, match=r"`ord` must be inf or a positive fraction"):
        norm([tensor([1.0])], ord)


@pytest.mark.parametrize(
    ("values", "limit", "wanted"),
    [
        ([3.0, 4.0], 5, False),
        ([3.0, 4.0], math.nextafter(5, 0), True),
        ([3.0, 4.0], math.inf, False),
        ([0.0], 0, False),
        ([0.0], -1, True),
        ([math.inf], 5, True),
        ([math.inf], math.inf, False),
        ([math.nan], 5, False),
    ],
)
def test_exceeds_decides_exactly(values, limit, wanted):
    assert exceeds([tensor(values)], limit) is wanted


@pytest.mark.parametrize(
    ("axes", "shape", "squares"),
    [
        (None, (1, 1), (194,)),
        (0, (1, 2), (25, 169)),
        (-1, (2, 1), (34, 160)),
        ([0, 1], (1, 1), (194,)),
        ((), (2, 2), (9, 25, 16, 144)),
    ],
)
def test_axis_norms_keep_the_axes(axes, shape, squares):
    got = axis_norms(tensor([[3, 5], [4, 12j]]), axes)
    assert got == Tensor(shape, tuple(root(Fraction(square), 2) for square in squares))


def test_axis_norms_of_nothing_are_zero():
    assert axis_norms(Tensor((0, 3), ()), 0) == Tensor((1, 3), (0, 0, 0))
    assert axis_norms(tensor(-2.0)) == Tensor((), (2,))


@pytest.mark.parametrize("axes", [2, -3, [0, 0], [1, -1]])
def test_axes_outside_the_shape_or_given_twice_are_refused(axes):
    with pytest.raises(ValueError, match=r"`axes` must be different axes of \(2, 3\); got"):
        kept_shape((2, 3), axes)


def test_broadcast_repeats_and_never_enlarges():
    assert broadcast(tensor([[1], [2]]), (2, 2)).nested() == [[1, 1], [2, 2]]
    assert broadcast(tensor([1, 2]), (2, 2)).nested() == [[1, 2], [1, 2]]
    with pytest.raises(
        ValueError, match=r"`small` must broadcast to \(2, 3, 1\); got shape \(2,\)"
    ):
        broadcast(tensor([1, 2]), (2, 3, 1))


def test_roots_are_compared_and_divided_exactly():
    assert Root(Fraction(2), 2).exceeds(Root(Fraction(7, 5)))
    assert not Root(Fraction(4), 2).exceeds(Root(Fraction(8), 3))
    assert Root(Fraction(8), 2).over(Root(Fraction(2), 2)).value() == 2
    assert Root(Fraction(2), 2).times(Fraction(3)).radicand == 18
