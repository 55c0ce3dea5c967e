"""What rules refuse when they are made or used, with the whole text of each message."""

import math

import numpy as np
import pytest

import agclip

GROUP = agclip.ClipByGlobalNorm(1.0)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (
            lambda: agclip.ClipByGlobalNorm("1"),
            TypeError,
            "`clip_norm` must be a number >= 0, or None for no clipping; got str.",
        ),
        (
            lambda: agclip.ClipByNorm(-1),
            ValueError,
            "`clip_norm` must be a number >= 0, or None for no clipping; got -1.0.",
        ),
        (
            lambda: agclip.ClipByRMS(math.nan),
            ValueError,
            "`clip_rms` must be a number >= 0, or None for no clipping; got nan.",
        ),
        (
            lambda: agclip.ClipByNorm(1.0, ord=0),
            ValueError,
            "`ord` must be a number > 0, such as 1, 2 or inf; got 0.",
        ),
        (
            lambda: agclip.ClipByAverageNorm(1.0, nonfinite="ignore"),
            ValueError,
            '`nonfinite` must be one of "propagate", "error", "zero", "skip"; got \'ignore\'.',
        ),
        (
            lambda: agclip.ClipByGlobalNorm(1.0, strict=1),
            TypeError,
            "`strict` must be True, False, or None for what the settings say; got int.",
        ),
        (
            lambda: agclip.ClipByGlobalNorm(1.0, loss_scale=0),
            ValueError,
            "`loss_scale` must be a finite number > 0, or None; got 0.0.",
        ),
        (
            lambda: agclip.ClipByValue(1.0, -1.0),
            ValueError,
            "`clip_value_min` must be <= `clip_value_max`; got 1.0 and -1.0. Swap them?",
        ),
        (
            lambda: agclip.ClipByValue("low", 1.0),
            TypeError,
            "`clip_value_min` must be a real number, an array of them, or None; got str.",
        ),
        (
            lambda: agclip.AdaptiveGradClip(eps=-1.0, unit_axes="out_in"),
            ValueError,
            "`eps` must be a number >= 0, or None for no lower limit; got -1.0.",
        ),
        (
            lambda: agclip.AutoClip(101.0),
            ValueError,
            "`percentile` must be a number > 0 and <= 100; got 101.0.",
        ),
        (
            lambda: agclip.AutoClip(window=0),
            ValueError,
            "`window` must be an integer >= 1, or None for all norms; got 0.",
        ),
        (
            lambda: agclip.AutoClip(warmup=1.5),
            TypeError,
            "`warmup` must be an integer >= 0; got float.",
        ),
        (
            lambda: agclip.ZClip(0.0),
            ValueError,
            "`z_threshold` must be a finite number > 0; got 0.0.",
        ),
        (
            lambda: agclip.ZClip(max_norm=np.asarray(1.0)),
            TypeError,
            "`max_norm` must be a number >= 0, or None for no clipping; got ndarray.",
        ),
        (
            lambda: agclip.ZClip(target="median"),
            ValueError,
            "`target` must be one of \"reciprocal\", \"mean\"; got 'median'. Did you mean 'mean'?",
        ),
        (
            lambda: agclip.AdaGC(decay=1.0),
            ValueError,
            "`decay` must be a number > 0 and < 1; got 1.0.",
        ),
        (
            lambda: agclip.QuantileClip(math.inf),
            ValueError,
            "`initial` must be a finite number > 0; got inf.",
        ),
        (
            lambda: agclip.Chain([]),
            TypeError,
            "`rules` must be a list of at least one rule; got [].",
        ),
        (
            lambda: agclip.Chain([GROUP, 1.0]),
            TypeError,
            "`rules[1]` must be a rule, such as ClipByGlobalNorm(1.0); got float.",
        ),
        (
            lambda: agclip.PerGroup({}),
            TypeError,
            "`groups` must be a dict of at least one pattern; got {}.",
        ),
        (
            lambda: agclip.PerGroup({1: None}),
            TypeError,
            "`groups` must have strings for keys; got 1.",
        ),
        (
            lambda: agclip.PerGroup({"*": agclip.ZClip}),
            TypeError,
            "`groups['*']` must be a rule, such as ClipByGlobalNorm(1.0); got the class ZClip.",
        ),
        (
            lambda: agclip.Scheduled(agclip.ZClip, lambda t: t),
            TypeError,
            (
                "`rule_class` must be one of ClipByNorm, ClipByAverageNorm, ClipByRMS, "
                "ClipByGlobalNorm, AdaptiveGradClip; got <class 'agclip.rules.zclip.ZClip'>."
            ),
        ),
        (
            lambda: agclip.Scheduled(agclip.ClipByNorm, 1.0),
            TypeError,
            "`schedule` must be a function of the step; got float.",
        ),
    ],
)
def test_a_rule_that_cannot_be_made(make, error, text):
    with pytest.raises(error) as raised:
        make()
    assert str(raised.value) == text


def test_options_that_a_scheduled_rule_does_not_have():
    with pytest.raises(TypeError, match="unexpected keyword argument 'axis'"):
        agclip.Scheduled(agclip.ClipByGlobalNorm, lambda _: 1.0, axis=0)


@pytest.mark.parametrize(
    ("rule", "grads", "error", "text"),
    [
        (
            agclip.AdaptiveGradClip(unit_axes="out_in"),
            np.ones(2),
            TypeError,
            (
                "`params` must be the parameters that `grads` belongs to; got None. Pass them: "
                "rule.update(grads, state, params), clipper(grads, params)."
            ),
        ),
        (
            agclip.PerGroup({"w*": GROUP}),
            {"w1": np.ones(2), "b1": np.ones(2)},
            ValueError,
            (
                "`groups` must have a pattern for every leaf of `params`; got none for 'b1'. "
                "Add the "
                'pattern "*", with None to leave the rest as it is.'
            ),
        ),
        (
            agclip.PerGroup({"layer.*": GROUP, "*": None}),
            {"layers": [np.ones(2)], "head": np.ones(2)},
            ValueError,
            (
                "`groups` must have patterns that fit a leaf of `params`; got 'layer.*', which "
                "fits "
                "none. A path there is 'layers.0'."
            ),
        ),
    ],
)
def test_gradients_that_do_not_fit_a_rule(rule, grads, error, text):
    with pytest.raises(error) as raised:
        rule.update(grads, rule.init(grads))
    assert str(raised.value) == text


def test_a_threshold_may_be_an_array_and_is_checked_where_it_is_used():
    clipped, _, _ = agclip.ClipByNorm(np.asarray(1.0)).update(np.asarray([4.0]), ())
    assert clipped.tolist() == [1.0]
    with pytest.raises(ValueError, match="`clip_norm` must be a number >= 0"):
        agclip.ClipByNorm(np.asarray(-1.0)).update(np.asarray([4.0]), ())
