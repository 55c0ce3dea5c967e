"""The golden vectors that are shipped: never out of date, and complete."""

import inspect
import json
import math
from fractions import Fraction

import pytest

import agclip
from agclip.testing.harness.formats import FORMATS, error, ulp
from oracle import functions as reference
from vectors import reproducible as vectors_reproducible
from vectors import write as vectors
from vectors.case import INF, NAN, array


def test_the_shipped_vectors_are_what_the_oracle_gives():
    assert vectors.PATH.read_text(encoding="utf-8") == vectors.text(), (
        "run `python -m vectors.write` in tests/ to write the vectors anew"
    )


@pytest.fixture(scope="module")
def entries():
    return json.loads(vectors.PATH.read_text(encoding="utf-8"))


def test_every_name_is_there_once(entries):
    names = [entry["name"] for entry in entries]
    assert len(set(names)) == len(names) > 400


def functions():
    twins = {name for name in agclip.__all__ if name.endswith("_")}
    clips = {name for name in agclip.__all__ if name.startswith(("clip", "adaptive"))}
    return sorted(clips - twins | {"global_norm"})


@pytest.fixture(params=functions())
def function(request):
    return request.param


def test_every_function_has_vectors(entries, function):
    assert sum(entry["function"] == function for entry in entries) >= 20


def options(name):
    parameters = inspect.signature(getattr(agclip, name)).parameters.values()
    # Two are laws, not numbers: the properties test strict=True. Two take more than one process.
    others = {"strict", "reproducible", "comm", "replicas"}
    return {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} - others


def test_every_option_has_vectors(entries, function):
    used = {key for entry in entries if entry["function"] == function for key in entry["kwargs"]}
    assert options(function) <= used


# The definition of the reproducible norm, against the exact norm.


@pytest.fixture(
    params=[case for cases in vectors_reproducible.CASES for case in cases],
    ids=lambda case: f"{case.function}: {case.name}",
)
def leaves(request):
    return list(vectors_reproducible.leaves_of(request.param.args[0]))


def distance(leaves, order):
    """How far the reproducible norm is from the exact one, in units in the last place."""
    tensors = [reference.tensor(vectors_reproducible.parts(leaf)) for leaf in leaves]
    exact = reference.global_norm(tensors, order)
    return reference.ulps(vectors_reproducible.norm(leaves, order), exact, "float64")


def test_the_reproducible_norm_is_the_norm_up_to_its_rounding(leaves):
    assert distance(leaves, 2) <= 1


def test_the_reproducible_sum_is_the_norm_of_order_1_up_to_its_rounding(leaves):
    # The parts of complex numbers count as entries here, which is a sum and not a norm.
    assert distance(leaves, 1) <= 1


def test_the_reproducible_norm_of_a_hand_worked_example():
    assert vectors_reproducible.norm([array("float32", [3.0, 4.0])]) == 5.0
    assert vectors_reproducible.norm([array("float64", [2.0**500, 0.0])]) == 2.0**500
    assert (
        vectors_reproducible.norm([array("float64", [3 * 2.0**-600, 2.0**-598])]) == 5 * 2.0**-600
    )
    # 2^-40 squared lies below the grid of 2^-64 under the largest square.
    assert vectors_reproducible.norm([array("float32", [1.0, 2.0**-40])]) == 1.0


# The suite's own measure of errors, against the oracle's.


@pytest.fixture(params=["float16", "bfloat16", "float32", "float64"])
def dtype(request):
    return request.param


@pytest.mark.parametrize("exact", [1.0, 1.5, 2.0, 1e-3, 3.3, 6e-8, 65504.0, 1e-30])
def test_units_in_the_last_place_are_those_of_the_oracle(dtype, exact):
    assert ulp(Fraction(exact), dtype) == reference.ulp(exact, dtype)
    got = exact * (1 + 2.0**-9)
    assert error(got, exact, dtype) == reference.ulps(got, exact, dtype) > 0


@pytest.mark.parametrize(
    ("got", "exact"),
    [(NAN, 1.0), (1.0, NAN), (INF, 1.0), (1.0, INF), (INF, -INF), (NAN, INF), (-INF, NAN)],
)
def test_what_is_not_finite_is_right_or_infinitely_wrong(dtype, got, exact):
    assert error(got, exact, dtype) == INF
    assert error(exact, exact, dtype) == 0


def test_the_ends_of_a_format(dtype):
    form = FORMATS[dtype]
    assert reference.round_to(form.smallest_subnormal, dtype) == form.smallest_subnormal
    assert reference.round_to(form.smallest_subnormal / 2, dtype) == 0
    assert reference.round_to(math.ldexp(1.0, form.largest), dtype) == math.ldexp(1.0, form.largest)
    assert ulp(Fraction(form.smallest_normal), dtype) == form.smallest_subnormal
