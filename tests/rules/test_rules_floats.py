"""Rules with memory compute with Python floats where they can: not a bit depends on it."""

import math

import numpy as np
import pytest

import agclip
import arrays
from agclip.rules import _kept

NORMS = [0.5, 0.75, 1.0, math.nan, 40.0, math.inf, 0.0, 0.6875, 5e-324, 1.25, 1e200, 0.9, 2.0, 1.0]
RULES = {
    "zclip": agclip.ZClip(warmup=3),
    "zclip without a bound": agclip.ZClip(1.5, 0.5, 2, None),
    "zclip to the mean": agclip.ZClip(2.0, 0.9, 4, 1.5, "mean"),
    "quantile": agclip.QuantileClip(0.5, 0.75, 0.25),
    "a window": agclip.AutoClip(35.0, 7, warmup=2),
    "a window of one": agclip.AutoClip(50.0, 1),
    "the largest of a window": agclip.AutoClip(100.0, 5),
    "all norms": agclip.AutoClip(10.0),
    "adagc": agclip.AdaGC(1.1, 2.0, 0.7, warmup=3),
    "adagc, strictly": agclip.AdaGC(1.01, 1.0, 0.9, warmup=0, strict=True),
    "all norms, strictly": agclip.AutoClip(90.0, strict=True),
}
LIBRARIES = [name for name in ("numpy", "torch") if name in arrays.LIBRARIES]
"""Not TensorFlow, whose eager arithmetic flushes subnormal numbers."""


@pytest.fixture(params=LIBRARIES)
def lib(request):
    return arrays.library(request.param)


@pytest.fixture(params=RULES)
def rule(request):
    return RULES[request.param]


@pytest.fixture(params=["float16", "float32", "float64"])
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
        kept = [
            x
            for part in state.values()
            for x in (part.values() if isinstance(part, dict) else [part])
        ]
        fields = [*kept, *info[:5], info.skip]
        seen.append([(str(x.dtype), np.asarray(x).tobytes()) for x in fields])
    return seen


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's scalars warn, floats do not
def test_a_run_on_arrays_has_the_same_bits(rule, steps, monkeypatch):
    found = run(rule, steps)
    monkeypatch.setattr(_kept, "read", lambda *_: None)
    assert run(rule, steps) == found


def test_numbers_are_read_where_all_are_exact(lib):
    backend = agclip.get_backend(lib.name)
    state = {"count": lib.array(3, dtype="int32"), "mean": lib.array(0.5, dtype="float64")}
    assert _kept.read(backend, state) == {"count": 3, "mean": 0.5}
    norms = lib.array([2.0, 0.0, math.nan, 1.0], dtype="float64")
    found = _kept.read(backend, {"norms": norms})["norms"]
    assert (str(found.values), found.ranked) == ("[2.0, 0.0, nan, 1.0]", [1.0, 2.0])
    long = lib.array([1.0] * (_kept.LONG + 1), dtype="float64")
    assert _kept.read(backend, {"norms": long}) is None
    assert _kept.read(backend, {**state, "mean": lib.array(0.5, dtype="float32")}) is None


GIVEN = {
    "zclip": lambda x: agclip.ZClip(x(1.7), x(0.9), 2, x(3.3), eps=x(1e-3)),
    "quantile": lambda x: agclip.QuantileClip(x(0.7), x(0.6), x(0.3)),
    "autoclip": lambda x: agclip.AutoClip(x(62.3), 5),
    "adagc": lambda x: agclip.AdaGC(x(1.1), x(0.7), x(0.9), warmup=2),
    "spike": lambda x: agclip.SpikeClip(x(1.3), x(0.9), warmup=2),
}


@pytest.mark.parametrize("make", GIVEN.values(), ids=GIVEN)
def test_scalars_of_float32_are_the_numbers_that_they_hold(make, steps):
    short, same = make(np.float32), make(lambda x: float(np.float32(x)))
    assert run(short, steps) == run(same, steps)
