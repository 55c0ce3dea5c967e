"""No rule turns gradients to zero because earlier ones were."""

import math

import numpy as np
import pytest

import agclip
import arrays
from thinned import with_libraries

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

RULES = {
    "zclip": agclip.ZClip(warmup=3, max_norm=None),
    "zclip, mean": agclip.ZClip(warmup=3, max_norm=None, target="mean"),
    "autoclip": agclip.AutoClip(10.0, window=8),
    "autoclip, all": agclip.AutoClip(10.0),
    "autoclip, warm": agclip.AutoClip(10.0, window=8, warmup=2),
    "quantile": agclip.QuantileClip(2.0),
    "adagc": agclip.AdaGC(warmup=3, absolute=100.0),
    "spike": agclip.SpikeClip(warmup=3),
}
ZEROS = {"one": 1, "a warm-up": 3, "many": 12}


@pytest.fixture(params=arrays.LIBRARIES)
def lib(request):
    return arrays.library(request.param)


@pytest.fixture(params=RULES, ids=lambda name: name.replace(", ", "-"))
def rule(request):
    return RULES[request.param]


@pytest.fixture(params=ZEROS, ids=lambda name: name.replace(" ", "-"))
def zeros(request):
    return ZEROS[request.param]


def needs_values(lib, rule):
    if rule == RULES["autoclip, all"] and lib.name in ("dask", "mlx", "array_api_strict"):
        pytest.skip("a history without a window needs values that can be read")


@with_libraries("rule", RULES, ("zclip", "autoclip", "spike"))
def test_gradients_after_zeros_are_not_zero(lib, rule):
    needs_values(lib, rule)
    clipper = agclip.Clipper(rule)
    for _ in range(3):
        clipped, _ = clipper([lib.array([0.0, 0.0])])
        assert lib.entries(clipped[0]).tolist() == [0.0, 0.0]
    for _ in range(2):
        clipped, info = clipper([lib.array([1.0, -0.5])])
        assert lib.entries(clipped[0]).tolist() == [1.0, -0.5]
        assert not info.to_host().clipped


def test_zeros_enter_no_statistic(rule, zeros):
    """A run with zeros in it ends as one without them, but that they count as steps."""
    norms = [1.0, 2.0, 1.5, 1.25, 8.0, 1.0]
    with_zeros, without = agclip.Clipper(rule), agclip.Clipper(rule)
    for norm in norms:
        without([np.asarray([norm])])
        with_zeros([np.asarray([norm])])
    for _ in range(zeros):
        with_zeros([np.asarray([0.0])])
    got, wanted = (one.state_dict()["state"] for one in (with_zeros, without))
    count = {"count": len(norms) + zeros} if "count" in wanted else {}
    assert got == {**wanted, **count}


def test_a_mean_of_zero_from_an_older_version_heals():
    clipper = agclip.Clipper(agclip.ZClip(max_norm=None))
    state = {"count": 30, "seen": 30, "mean": 0.0, "variance": 0.0}
    clipper.load_state_dict({"rule": "ZClip", "state": state})
    assert [clipper(np.asarray([4.0]))[0].tolist() for _ in range(3)] == [[4.0]] * 3
    assert clipper.state_dict()["state"]["mean"] == 4.0


def test_a_history_of_zeros_from_an_older_version_heals():
    clipper = agclip.Clipper(agclip.AutoClip(window=4))
    state = {"count": 9, "seen": 9, "norms": [0.0, 0.0, 0.0, 0.0]}
    clipper.load_state_dict({"rule": "AutoClip", "state": state})
    assert clipper(np.asarray([4.0]))[0].tolist() == [4.0]


def test_a_long_quiet_does_not_wear_second_moments_down():
    """Of a half type the shortened entry would be no more than zero."""
    clipper = agclip.Clipper(agclip.SpikeClip(warmup=0, decay=0.5))
    for entry in (1.0, *[0.0] * 120, 1.0):
        clipped, _ = clipper(np.asarray([entry], dtype="float16"))
    assert clipped.tolist() == [1.0]


@pytest.mark.parametrize("norm", [5e-324, 1.7e308], ids=["least", "most"])
def test_a_bound_ends_neither_at_zero_nor_at_infinity(norm):
    clipper = agclip.Clipper(agclip.QuantileClip(norm, quantile=0.5, rate=4.0))
    for _ in range(6):
        _, info = clipper(np.asarray([norm]))
        assert 0.0 < info.to_host().threshold < math.inf
