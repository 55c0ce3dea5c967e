"""The usual call on the host goes a way of its own: it comes to what the program comes to.

The other way is taken by a call of which `usual.found` says that it is not usual.
"""

import math

import numpy as np
import pytest

import agclip
import arrays
import hosts
from agclip._clipping import usual
from agclip._numerics import rounding
from thinned import thinned

pytest_plugins = ["host_fixtures"]

VALUES = {
    "one leaf": [[3.0, 4.0]],
    "several leaves": [[3.0], [], [4.0, 0.0, 1e-30], [0.1] * 70],
    "zeros": [[0.0, -0.0], [0.0]],
    "subnormal": [[1e-45, 1e-44]],
    "norm beyond float32": [[3e38, 3e38], [3e38] * 9],
    "NaN": [[1.0, math.nan], [2.0]],
    "infinity": [[1.0], [math.inf]],
}
BOUNDS = {
    "above": 200.0,
    "below": 0.05,
    "the norm": 1.0,
    "as near as no sum can tell": 1 + 2.0**-50,
    "as near as a strict bound": 1 + 3 * 2.0**-50,
    "none": None,
    "zero": 0.0,
    "huge": 1e250,
}
"""By what the norm is multiplied."""
OPTIONS = {
    "plain": {},
    "strict": {"strict": True},
    "reproducible": {"reproducible": True},
    "zero": {"nonfinite": "zero"},
    "skip": {"nonfinite": "skip"},
    "error": {"nonfinite": "error"},
    "loss scale": {"loss_scale": 8.0},
    "order 1": {"ord": 1},
}
LOOKED_AT = "one leaf", "several leaves", "NaN", "norm beyond float32"
DTYPES = ["float16", "float32", "float64"]


def function(grads, bound, options):
    clipped, norm = agclip.clip_by_global_norm(grads, bound, **options)
    return clipped, [norm]


def in_place(grads, bound, options):
    clipped, norm = agclip.clip_by_global_norm_(grads, bound, **options)
    return clipped, [norm]


def by_rule(grads, bound, options):
    clipped, _, info = agclip.ClipByGlobalNorm(bound, **options).update(grads, ())
    return clipped, [*info[:5], *info.leaf_norms.values(), info.skip]


def remembered(rule):
    def clip(grads, bound, options):
        options = {key: value for key, value in options.items() if key != "ord"}
        made = rule(**options)
        state, said = made.init(grads), []
        for factor in (1.0, 1.5, 1.0, 40.0):
            _, state, info = made.update([x * factor for x in grads], state)
            said += [*info[:5], *info.leaf_norms.values(), *state.values()]
        return made.update_(grads, state)[0], said

    return clip


CALLS = {
    "function": function,
    "in place": in_place,
    "rule": by_rule,
    "ZClip": remembered(lambda **options: agclip.ZClip(warmup=2, max_norm=None, **options)),
    "AutoClip": remembered(lambda **options: agclip.AutoClip(window=4, **options)),
}


def bits(arrays_):
    """Return arrays as dtypes, shapes and bytes."""
    made = [np.asarray(x) for x in arrays_]
    return [(x.dtype.name, x.shape, x.tobytes()) for x in made]


def outcome(monkeypatch, call, lib, values, dtype, bound, options):
    grads = [lib.convert(np.array(x, dtype)) for x in values]
    tally = rounding.Tally()
    monkeypatch.setattr(rounding, "tally", tally)
    try:
        clipped, said = call(grads, bound, options)
    except FloatingPointError as error:
        return str(error)
    same = [x is y for x, y in zip(clipped, grads, strict=True)]
    return bits(clipped), bits(said), same, tally


def bound(values, dtype, factor):
    with np.errstate(over="ignore"):
        made = [np.array(leaf, dtype) for leaf in values]
    norm = math.sqrt(math.fsum(x * x for leaf in made for x in leaf.tolist()))
    return factor if factor is None or not math.isfinite(norm) else factor * norm


@pytest.fixture(params=["numpy", "torch"])
def lib(request, accelerate):
    return arrays.library(request.param)


@pytest.fixture(params=list(CALLS))
def call(request):
    return CALLS[request.param]


@pytest.mark.parametrize(
    "values", thinned(VALUES, ("several leaves", "NaN", "norm beyond float32"))
)
@pytest.mark.parametrize("options", thinned(OPTIONS, ("plain", "strict")))
@pytest.mark.filterwarnings("ignore:overflow encountered in multiply:RuntimeWarning")
def test_the_usual_way_comes_to_what_the_program_does(lib, call, values, options, monkeypatch):
    cases = [
        (VALUES[values], dtype, bound(VALUES[values], dtype, factor), OPTIONS[options])
        for dtype in DTYPES
        for factor in BOUNDS.values()
    ]
    with np.errstate(over="ignore"):
        found = [outcome(monkeypatch, call, lib, *case) for case in cases]
        monkeypatch.setattr(usual, "found", lambda *_, **__: None)
        wanted = [outcome(monkeypatch, call, lib, *case) for case in cases]
    assert found == wanted


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_usual_call_within_its_bound_runs_no_program(lib, dtype, monkeypatch):
    grads = [lib.convert(np.array([3.0, 4.0], dtype))]
    seen = []
    found = usual.found
    monkeypatch.setattr(
        usual, "found", lambda *args, **names: seen.append(found(*args, **names)) or seen[-1]
    )
    agclip.clip_by_global_norm_(grads, 6.0)
    agclip.ClipByGlobalNorm(6.0).update_(grads, ())
    assert [one.within for one in seen] == [True, True]
    agclip.clip_by_global_norm(grads, 4.0)
    assert (seen[-1].certain, seen[-1].within) == (True, False)


def test_no_warning_of_numpy_escapes_the_usual_way():
    big = [np.full(1 << 13, 3e38, np.float32), np.array([np.nan], np.float32)]
    with hosts.accelerated("off"), np.errstate(all="raise"):
        _, missing = agclip.clip_by_global_norm(big, 1.0)
        (same,), beyond = agclip.clip_by_global_norm(big[:1], 1e300)
    assert np.isnan(missing)
    assert same is big[0]
    assert beyond == np.inf
