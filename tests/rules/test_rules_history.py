"""A norm that its own history allows is never clipped, however finely it is measured."""

import importlib
import itertools
import math

import numpy as np
import pytest

import agclip
import arrays
from agclip.rules import _memory
from thinned import thinned

# array_api_strict and Dask compute with NumPy, which warns of what the rules look for.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

OF_HISTORY = {
    "the 100th percentile": lambda **options: agclip.AutoClip(100.0, 3, **options),
    "the median of a run of one norm": lambda **options: agclip.AutoClip(50.0, 3, **options),
    "the average of a run of one norm": lambda **options: agclip.AdaGC(1.0, 1e9, 0.5, 1, **options),
}
"""Rules whose bound on a gradient that comes again and again is the norm of that gradient."""

OTHERWISE = {
    "ZClip": "bounds by a mean and a spread only norms that lie above both",
    "QuantileClip": "its bound moves by steps of its own and is no norm",
    "SpikeClip": "bounds elements by what is measured as finely as they are",
    "Scheduled": "leaves it to the rule that it makes",
}
DTYPES = ("float16", "float32", "float64")
SCALES = (None, 3.0)
GRADIENTS = np.random.default_rng(11).standard_normal((5, 7))
"""Of about half of them the norm in float64 is larger than when it is rounded to float32."""


@pytest.fixture(params=OF_HISTORY)
def rule(request):
    return OF_HISTORY[request.param]


@pytest.fixture(
    params=thinned(
        [
            cell
            for cell in itertools.product(arrays.LIBRARIES, DTYPES, SCALES)
            if cell[:2] != ("array_api_strict", "float16")  # it has none
        ],
        lambda cell: cell[0] in ("numpy", "torch") and cell[1] != "float16",
        ids=lambda cell: "-".join(map(str, cell)),
    )
)
def gradients(request):
    name, dtype, _ = request.param
    lib = arrays.library(name)
    count = 2 if name == "dask" else len(GRADIENTS)
    return [lambda entries=entries: lib.array(entries, dtype) for entries in GRADIENTS[:count]]


@pytest.fixture
def loss_scale(request):
    return request.node.callspec.params["gradients"][2]


def test_a_norm_at_the_bound_of_its_own_history_is_not_clipped(rule, gradients, loss_scale):
    for make in gradients:
        clipper = agclip.Clipper(rule(loss_scale=loss_scale))
        records = [clipper(make())[1].to_host() for _ in range(3)]
        assert [(record.clipped, record.scale) for record in records] == [(False, 1.0)] * 3


def test_the_gradients_are_of_both_kinds():
    exact = [math.sqrt(math.fsum(float(np.float32(x)) ** 2 for x in g)) for g in GRADIENTS]
    above = [norm > float(np.float32(norm)) for norm in exact]
    assert {True, False} == set(above)


def test_a_strict_bound_holds_for_the_norm_as_it_is_measured():
    for entries in GRADIENTS.astype(np.float32):
        clipped, _, info = agclip.AutoClip(100.0, 3, strict=True).update(entries, ())
        assert math.sqrt(math.fsum(float(x) ** 2 for x in clipped)) <= float(info.threshold)


def test_no_rule_with_memory_is_missing():
    rules = importlib.import_module("agclip.rules")
    with_memory = {
        name
        for name, rule in vars(rules).items()
        if isinstance(rule, type) and issubclass(rule, _memory.Remembers)
    }
    tried = {type(make()).__name__ for make in OF_HISTORY.values()}
    assert with_memory == tried | set(OTHERWISE)
