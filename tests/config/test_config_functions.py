"""What the functions do where an option is not given: what is configured."""

import inspect
import re

import numpy as np
import pytest

import agclip

pytestmark = pytest.mark.usefixtures("project")

NAN = float("nan")
BAD = np.asarray([3.0, NAN], dtype=np.float32)
BAD.setflags(write=False)
PARAMS = np.ones(2, dtype=np.float32)

CALLS = {
    "clip_by_norm": lambda f, x, **options: f(x, 1.0, **options),
    "clip_by_average_norm": lambda f, x, **options: f(x, 1.0, **options),
    "clip_by_rms": lambda f, x, **options: f(x, 1.0, **options),
    "clip_by_global_norm": lambda f, x, **options: f([x], 1.0, **options)[0][0],
    "adaptive_grad_clip": lambda f, x, **options: f(x, PARAMS, unit_axes="out_in", **options),
    "clip_per_example": lambda f, x, **options: f(x[None], 1.0, **options)[0],
}
NAMES = [*CALLS, *(f"{name}_" for name in CALLS if name != "clip_per_example")]


@pytest.fixture(params=NAMES)
def clip(request):
    call = CALLS[request.param.removesuffix("_")]
    return lambda x, **options: call(getattr(agclip, request.param), x.copy(), **options)


OPTIONS = ("nonfinite", "strict", "reproducible")


@pytest.mark.parametrize("name", [*NAMES, "global_norm"])
def test_every_option_is_left_to_the_configuration(name):
    parameters = inspect.signature(getattr(agclip, name)).parameters
    given = [parameters[option].default for option in OPTIONS if option in parameters]
    assert given == [None] * (1 if name == "global_norm" else 3)


# --- nonfinite ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("propagate", [NAN, NAN]), ("zero", [0.0, 0.0]), ("skip", [3.0, NAN])],
)
def test_the_configured_policy_holds(clip, policy, expected):
    agclip.set_config(nonfinite=policy)
    np.testing.assert_array_equal(clip(BAD), np.asarray(expected, dtype=np.float32))


def test_the_configured_policy_may_be_to_raise(clip):
    with (
        agclip.config_context(nonfinite="error"),
        pytest.raises(FloatingPointError, match=r"must be finite; got NaN at .*\."),
    ):
        clip(BAD)


def test_a_policy_that_is_given_counts_more(clip):
    agclip.set_config(nonfinite="error")
    np.testing.assert_array_equal(clip(BAD, nonfinite="skip"), BAD)


# --- strict ------------------------------------------------------------------------------------

GRADS = np.random.default_rng(0).standard_normal(999).astype(np.float32)


def clipped(**options):
    return agclip.clip_by_norm(GRADS, 1.0, **options).tobytes()


def test_strictness_is_configured():
    loose, strict = clipped(strict=False), clipped(strict=True)
    assert loose != strict
    assert clipped() == loose
    with agclip.config_context(strict=True):
        assert clipped() == strict
        assert clipped(strict=False) == loose


# --- reproducible ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda **options: agclip.clip_by_norm(GRADS, 1.0, ord=3, **options),
        lambda **options: agclip.clip_by_global_norm([GRADS], 1.0, ord=3, **options),
        lambda **options: agclip.global_norm([GRADS], ord=3, **options),
    ],
)
def test_what_has_no_reproducible_norm_is_refused_where_one_is_configured(call):
    agclip.set_config(reproducible=True)
    text = "`ord` must be 1, 2 or inf with `reproducible` (set_config); got 3.0."
    with pytest.raises(ValueError, match=f"^{re.escape(text)}"):
        call()
    call(reproducible=False)


def test_a_reproducible_norm_is_configured(monkeypatch):
    monkeypatch.setenv("AGCLIP_REPRODUCIBLE", "yes")
    rough = [np.float32(2.0**-k) for k in range(0, 60, 3)]
    assert agclip.global_norm(rough) == agclip.global_norm(rough[::-1])
    assert agclip.get_config().reproducible


# --- the conformance suite ---------------------------------------------------------------------


def test_what_is_configured_for_a_program_does_not_fail_a_library():
    testing = pytest.importorskip("agclip.testing")
    agclip.set_config(nonfinite="zero", strict=True, reproducible=True, backend="numpy")
    report = testing.check_backend("numpy")
    assert report.of("failed") == []
    assert report.ok
