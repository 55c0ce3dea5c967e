"""Rules with memory compute with Python floats where they can: not a bit depends on it."""

import math

import numpy as np
import pytest

import agclip
import arrays
from agclip.rules import _memory

NORMS = [0.5, 0.75, 1.0, math.nan, 40.0, math.inf, 0.0, 0.6875, 5e-324, 1.25, 1e200, 0.9, 2.0, 1.0]
RULES = {
    "zclip": agclip.ZClip(warmup=3),
    "zclip without a bound": agclip.ZClip(1.5, 0.5, 2, None),
    "zclip to the mean": agclip.ZClip(2.0, 0.9, 4, 1.5, "mean"),
    "quantile": agclip.QuantileClip(0.5, 0.75, 0.25),
}
LIBRARIES = [name for name in ("numpy", "torch") if name in arrays.LIBRARIES]
"""Not TensorFlow, whose eager arithmetic flushes subnormal numbers."""


@pytest.fixture(params=LIBRARIES)
def lib(request):
    return arrays.library(request.param)


@pytest.fixture(params=RULES)
def rule(request):
    return RULES[request.param]


@pytest.fixture(params=["float32", "float64"])
def steps(request, lib):
    rng = np.random.default_rng(0)
    drawn = [*NORMS, *rng.lognormal(size=30)]
    with np.errstate(over="ignore", under="ignore"):
        return [lib.array([norm * 0.6, norm * 0.8], dtype=request.param) for norm in drawn]


def run(rule, steps):
    """Return the states and records of all steps as bytes."""
    state, seen = (), []
    for grads in steps:
        _, state, info = rule.update(grads, state)
        fields = [*state.values(), *info[:5], info.skip]
        seen.append([(str(x.dtype), np.asarray(x).tobytes()) for x in fields])
    return seen


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's scalars warn, floats do not
def test_a_run_on_arrays_has_the_same_bits(rule, steps, monkeypatch):
    found = run(rule, steps)
    monkeypatch.setattr(_memory, "_read", lambda *_: None)
    assert run(rule, steps) == found


def test_numbers_are_read_where_all_are_exact(lib):
    backend = agclip.get_backend(lib.name)
    state = {"count": lib.array(3, dtype="int32"), "mean": lib.array(0.5, dtype="float64")}
    assert _memory._read(backend, state) == {"count": 3, "mean": 0.5}
    assert _memory._read(backend, {**state, "norms": lib.array([1.0], dtype="float64")}) is None
    assert _memory._read(backend, {**state, "mean": lib.array(0.5, dtype="float32")}) is None
