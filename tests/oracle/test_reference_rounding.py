"""The oracle's rounding, against bit patterns known by heart and the standard library's packing."""

import math
import random
import struct
from fractions import Fraction

import pytest

from oracle.functions import FORMATS, ExactComplex, Tensor, round_to, tensor, ulp, ulps, worst_ulps
from oracle.rounding import exponent

HALF = Fraction(1, 2)


def power(e):
    return Fraction(2) ** e


@pytest.mark.parametrize(
    ("dtype", "largest", "normal", "subnormal", "epsilon"),
    [
        ("float16", 65504, -14, -24, -10),
        ("bfloat16", 255 * power(120), -126, -133, -7),
        ("float32", (2**24 - 1) * power(104), -126, -149, -23),
        ("float64", (2**53 - 1) * power(971), -1022, -1074, -52),
        ("float8_e5m2", 57344, -14, -16, -2),
        ("float8_e4m3fn", 448, -6, -9, -3),
    ],
)
def test_formats(dtype, largest, normal, subnormal, epsilon):
    """The published limits of each format."""
    kind = FORMATS[dtype]
    assert kind.largest == largest
    assert kind.smallest == normal
    assert ulp(0, dtype) == ulp(power(normal), dtype) == power(subnormal)
    assert ulp(1, dtype) == ulp(Fraction(15, 8), dtype) == power(epsilon)
    assert ulp(largest, dtype) == ulp(largest * 100, dtype)
    assert largest + ulp(largest, dtype) > kind.largest


@pytest.mark.parametrize("dtype", FORMATS)
def test_midpoints_go_to_the_even_neighbour(dtype):
    step = ulp(1, dtype)
    assert round_to(1 + step * HALF, dtype) == 1
    assert round_to(1 + step * HALF + Fraction(1, 10**400), dtype) == 1 + step
    assert round_to(1 + step * Fraction(3, 2), dtype) == 1 + 2 * step
    assert round_to(-1 - step * Fraction(3, 2), dtype) == -1 - 2 * step
    assert round_to(1 - step / 4, dtype) == 1
    assert round_to(1 - step * Fraction(3, 4), dtype) == 1 - step


@pytest.mark.parametrize("dtype", FORMATS)
def test_subnormal_numbers_are_kept_and_the_rest_becomes_zero_with_its_sign(dtype):
    least = ulp(0, dtype)
    assert round_to(least, dtype) == least
    assert round_to(least * Fraction(3, 2), dtype) == 2 * least
    assert round_to(least * Fraction(51, 100), dtype) == least
    assert repr(round_to(least * HALF, dtype)) == "0.0"
    assert repr(round_to(-least * HALF, dtype)) == "-0.0"
    assert repr(round_to(-0.0, dtype)) == "-0.0"


@pytest.mark.parametrize("dtype", [name for name in FORMATS if name != "float8_e4m3fn"])
@pytest.mark.parametrize("sign", [1, -1])
def test_infinity_begins_half_a_step_beyond_the_largest(dtype, sign):
    largest = FORMATS[dtype].largest
    edge = largest + ulp(largest, dtype) * HALF
    assert round_to(sign * (edge - Fraction(1, 10**400)), dtype) == sign * largest
    assert round_to(sign * edge, dtype) == sign * math.inf
    assert round_to(sign * math.inf, dtype) == sign * math.inf


@pytest.mark.parametrize(
    ("q", "wanted"), [(464, "448.0"), (Fraction(9281, 20), "nan"), (math.inf, "nan")]
)
def test_e4m3fn_has_nan_where_others_have_infinity(q, wanted):
    assert repr(round_to(q, "float8_e4m3fn")) == wanted


@pytest.mark.parametrize("dtype", FORMATS)
def test_nan_stays_nan(dtype):
    assert math.isnan(round_to(math.nan, dtype))


@pytest.mark.parametrize(
    ("q", "dtype", "wanted"),
    [
        (Fraction(1, 10), "float64", 0.1),
        (Fraction(1, 3), "float64", 1 / 3),
        (Fraction(10) ** 308, "float64", 1e308),
        (Fraction(5, 10**324), "float64", 5e-324),
        (Fraction(1, 10), "float32", 13421773 / 2**27),
        (Fraction(1, 10), "float16", 1638 / 2**14),
        (Fraction(1, 10), "bfloat16", 205 / 2**11),
        (Fraction(1, 10), "float8_e4m3fn", 13 / 2**7),
        (Fraction(1, 10), "float8_e5m2", 6 / 2**6),
        (2**24 + 1, "float32", 2.0**24),
        (2049, "float16", 2048.0),
        (65520, "float16", math.inf),
    ],
)
def test_rounding_by_hand(q, dtype, wanted):
    assert round_to(q, dtype) == wanted


@pytest.fixture(params=range(100))
def random_double(request):
    """A double within the range of float16, some of them subnormal there."""
    generator = random.Random(request.param)
    return generator.uniform(-2, 2) * 2.0 ** generator.randint(-26, 14)


@pytest.mark.parametrize(("dtype", "code"), [("float16", "e"), ("float32", "f")])
def test_rounding_agrees_with_struct(random_double, dtype, code):
    packed = struct.unpack(code, struct.pack(code, random_double))[0]
    assert repr(round_to(random_double, dtype)) == repr(packed)


@pytest.mark.parametrize("steps", [0, 1, -1, 12345, 2**52])
def test_doubles_are_their_own_rounding(steps):
    value = math.ldexp(2**52 + steps, -700)
    assert round_to(value, "float64") == value
    assert ulp(value, "float64") == math.ulp(value)


@pytest.mark.parametrize(
    ("q", "wanted"),
    [(1, 0), (2, 1), (3, 1), (Fraction(1, 3), -2), (Fraction(-1, 4), -2), (power(-1074), -1074)],
)
def test_exponent(q, wanted):
    assert exponent(Fraction(q)) == wanted


@pytest.mark.parametrize(
    ("got", "exact", "dtype", "wanted"),
    [
        (1.0, Fraction(1), "float32", 0),
        (1.0, 1 + power(-24), "float32", HALF),
        (1 + 2.0**-23, Fraction(1), "float32", 1),
        (0.0, power(-149) / 4, "float32", Fraction(1, 4)),
        (-0.0, Fraction(0), "float32", 0),
        (-1.0, Fraction(1), "float16", 2048),
        (math.nan, math.nan, "float32", 0),
        (math.inf, math.inf, "float32", 0),
        (-math.inf, -math.inf, "float32", 0),
        (math.inf, -math.inf, "float32", math.inf),
        (math.nan, math.inf, "float32", math.inf),
        (math.inf, math.nan, "float32", math.inf),
        (math.nan, Fraction(1), "float32", math.inf),
        (1.0, math.nan, "float32", math.inf),
        (1.0, math.inf, "float32", math.inf),
        (math.inf, Fraction(10) ** 39, "float32", 0),
        (-math.inf, -(Fraction(10) ** 39), "float32", 0),
        (math.inf, -(Fraction(10) ** 39), "float32", math.inf),
        (math.inf, Fraction(1), "float32", math.inf),
        (65504.0, Fraction(65536), "float16", 1),
        (math.nan, Fraction(500), "float8_e4m3fn", 0),
    ],
)
def test_ulps(got, exact, dtype, wanted):
    assert ulps(got, exact, dtype) == wanted


def test_worst_ulps_takes_complex_parts_one_by_one():
    exact = Tensor((2,), (ExactComplex(Fraction(1), power(-30)), Fraction(1)))
    got = tensor([complex(1 + 2.0**-23, 2.0**-30 + 2.0**-52), 1.0])
    assert worst_ulps(got, exact, "float32") == 2
    assert worst_ulps(tensor([]), tensor([]), "float32") == 0


def test_worst_ulps_wants_one_shape():
    with pytest.raises(ValueError, match=r"`got` must have the shape \(2,\); got \(2, 1\)"):
        worst_ulps(tensor([[1.0], [1.0]]), tensor([1.0, 1.0]), "float32")


def test_an_unknown_format_is_refused():
    with pytest.raises(ValueError, match=r"`dtype` must be one of float16, .*; got 'int8'"):
        round_to(1, "int8")
