"""The short way of a decision on floats gives what the general one gives, to the bit."""

import math

from hypothesis import given
from hypothesis import strategies as st

from agclip._backends import host_scalars
from agclip._backends.dtypes import kind_named
from agclip._numerics.coefficient import DecisionOptions, decide, decide_floats, strict_shrink
from agclip._numerics.ranges import Norm

ROOTS = st.one_of(
    st.floats(0.0, allow_infinity=True),
    st.sampled_from([0.0, 1.0, math.inf, math.nan, 2.0**-160, 2.0**600]),
)
BOUNDS = st.one_of(st.floats(0.0, allow_infinity=True), st.sampled_from([0.0, 1.0, math.inf]))
SHRINKS = [1.0, *(strict_shrink([kind_named(n)], "float64") for n in ("float32", "float16"))]


def same(one, other):
    return one is other or one == other or (one != one and other != other)


@given(ROOTS, BOUNDS, st.sampled_from(SHRINKS), st.sampled_from(["propagate", "zero", "skip"]))
def test_the_short_way_gives_the_same_decision(root, bound, shrink, policy):
    norm = Norm(root, 1.0, root < math.inf)
    options = DecisionOptions("float64", narrow=True, shrink=shrink, policy=policy)
    short = decide_floats(norm, bound, None, options)
    general = decide(host_scalars, norm, bound, None, options)
    for mine, theirs in zip(short[:2] + short[3:], general[:2] + general[3:], strict=True):
        assert same(mine, theirs)
    for mine, theirs in zip(short.factor, general.factor, strict=True):
        assert all(map(same, mine, theirs))
