"""AdaGC reads its averages where it can: not a bit depends on it, nor on the number of leaves."""

import math

import numpy as np
import pytest

import agclip
import arrays
from agclip.rules import _kept, adagc

DTYPES = {
    "float32": ["float32"] * 6,
    "float16": ["float16"] * 6,
    "float64": ["float64"] * 6,
    "mixed": ["float32", "float64", "float16", "float32", "complex64", "float32"],
}


@pytest.fixture(params=["numpy", "torch"])
def lib(request):
    return arrays.library(request.param)


@pytest.fixture(params=DTYPES)
def steps(request, lib):
    """Trees whose leaves come and go: zero, NaN, infinite, or none at all."""
    rng = np.random.default_rng(7)
    made = []
    for step in range(25):
        tree = {}
        for i, dtype in enumerate(DTYPES[request.param]):
            leaf = rng.lognormal(size=3) * rng.choice([1e-3, 1.0, 30.0])
            leaf = leaf * rng.choice([0.0, 1.0, math.nan, math.inf], p=[0.05, 0.87, 0.04, 0.04])
            absent = rng.random() < (0.9 if i == 5 and step < 6 else 0.1)
            tree[f"w{i}"] = None if absent else lib.array(leaf, dtype=dtype)
        made.append(tree)
    return made


RULES = {
    "usual": agclip.AdaGC(1.1, 2.0, 0.7, warmup=3),
    "strict": agclip.AdaGC(1.02, 1.0, 0.9, warmup=2, strict=True),
    "zero": agclip.AdaGC(1.1, 0.5, 0.9, warmup=0, nonfinite="zero"),
    "scaled": agclip.AdaGC(1.1, 2.0, 0.7, warmup=3, loss_scale=8.0),
    "the same bits everywhere": agclip.AdaGC(1.1, 2.0, 0.7, warmup=3, reproducible=True),
}


@pytest.fixture(params=RULES)
def rule(request):
    return RULES[request.param]


def flat(tree):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from ((f"{key}.{name}", x) for name, x in flat(value))
        elif value is not None:
            yield key, value


def bits(clipped, state, info):
    found = [*flat(clipped), *flat(state), *flat(dict(info.leaf_norms))]
    found += zip(info._fields[:5], info[:5], strict=True)
    return sorted((key, str(x.dtype), np.asarray(x).tobytes()) for key, x in found)


def run(rule, steps):
    state, found = (), []
    for grads in steps:
        clipped, state, info = rule.update(grads, state)
        found.append(bits(clipped, state, info))
    return found


pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, of NaN and infinities


def test_a_run_on_arrays_has_the_same_bits(rule, steps, monkeypatch):
    found = run(rule, steps)
    monkeypatch.setattr(_kept, "read", lambda *_: None)
    assert run(rule, steps) == found


def test_a_run_on_vectors_has_the_same_bits(rule, steps, monkeypatch):
    found = run(rule, steps)
    monkeypatch.setattr(adagc, "FEW", 0)
    assert run(rule, steps) == found


def test_a_clipper_has_the_same_bits(rule, steps):
    clipper, found = agclip.Clipper(rule), []
    for i, grads in enumerate(steps):
        clipped, info = clipper(grads)
        if i % 3 == 0:
            found.append(bits(clipped, clipper.state, info))
    assert found == run(rule, steps)[::3]
