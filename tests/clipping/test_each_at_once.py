"""Clips of each leaf by itself: of many leaves at once they have the bits of one leaf at a time.

Decisions on many leaves follow from the largest of their norms where that is certain, products of
small ones are one call, and value clips without compiled kernels are the library's own clamps: each
of these has a condition under which it is right.
"""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import agclip
import hosts

pytest_plugins = ["host_fixtures"]

BOUND = 5.0
SUBNORMAL = 2.0**-140
ODD = (math.nan, math.inf, -math.inf, 0.0, -0.0, SUBNORMAL, 1e30)
SMALL, NAN = np.array([0.25, -1.0], np.float32), np.array([0.5, math.nan], np.float32)
ZEROS = np.array([-1.0, -0.0, 0.0, 1.0], np.float32)
# By their average norms one exceeds, and by the bounds of norms that these come to, 1 and 9, so it
# does: but not by the larger one.
ONE_OF_FIVE, NINE_OF_A_THIRD = np.full(1, 5.0, np.float32), np.full(9, 1 / 3, np.float32)
FUNCTIONS = {
    "norm": lambda t, inplace, **o: _of(agclip.clip_by_norm, inplace)(t, BOUND, **o),
    "average": lambda t, inplace, **o: _of(agclip.clip_by_average_norm, inplace)(t, 1.0, **o),
    "rms": lambda t, inplace, **o: _of(agclip.clip_by_rms, inplace)(t, 2.0, **o),
    "value": lambda t, inplace, **o: _of(agclip.clip_by_value, inplace)(t, -1.5, 2.5),
    "value at zero": lambda t, inplace, **o: _of(agclip.clip_by_value, inplace)(t, 0.0, 2.5),
}
OPTIONS = st.fixed_dictionaries(
    {"nonfinite": st.sampled_from(["propagate", "zero", "skip"]), "strict": st.booleans()}
)
NORMS = st.one_of(
    st.sampled_from([0.0, BOUND, 1e-3, 1e3]),
    # Some units in the last place beside the bound: there the largest norm decides nothing.
    st.integers(-3, 3).map(lambda k: BOUND * (1 + k * 2.0**-24)),
    st.floats(0.1, 100.0),
)


def _of(function, inplace):
    return getattr(agclip, function.__name__ + "_") if inplace else function


@st.composite
def leaf(draw):
    """Draw a leaf whose norm may lie close to the bound, and that may hold what is no number."""
    dtype = hosts.dtype_named(draw(st.sampled_from(("float32", "float32", "float16", "float64"))))
    x = np.random.default_rng(draw(st.integers(0, 99))).standard_normal(draw(st.integers(1, 9)))
    x *= draw(NORMS) / np.linalg.norm(x)
    if draw(st.integers(0, 4)) == 0:
        x[draw(st.integers(0, len(x) - 1))] = draw(st.sampled_from(ODD))
    with np.errstate(over="ignore"):
        return x.astype(dtype)


def bits(host, found):
    """Return the bits of arrays; one NaN is as good as another."""
    entries = [host.entries(x) for x in found]
    return [np.where(x == x, x, np.nan).astype(x.dtype).tobytes() for x in entries]


@pytest.mark.parametrize("inplace", [False, True], ids=["new", "in-place"])
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning:numpy")
def test_many_have_the_bits_of_one_at_a_time(host, name, inplace):
    function = FUNCTIONS[name]

    @example([SMALL, NAN, SMALL], {"nonfinite": "propagate", "strict": False})
    @example([NINE_OF_A_THIRD, ONE_OF_FIVE], {"nonfinite": "propagate", "strict": False})
    @example([ZEROS, -ZEROS], {"nonfinite": "propagate", "strict": False})
    @settings(max_examples=30, deadline=None)
    @given(st.lists(leaf(), min_size=2, max_size=12), OPTIONS)
    def alike(leaves, options):
        one_by_one = [function([host.copy(x)], inplace, **options)[0] for x in leaves]
        tree = [host.copy(x) for x in leaves]
        together = function(tree, inplace, **options)
        assert bits(host, together) == bits(host, one_by_one)
        assert bits(host, tree) == (
            bits(host, together) if inplace else bits(host, map(host.copy, leaves))
        )

    alike()
