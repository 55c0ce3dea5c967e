"""The options that functions and rules share, resolved in one go."""

import re
import sys

import numpy as np
import pytest

import agclip
from agclip import config
from agclip._clipping import arguments
from agclip._clipping.plan import Plan
from agclip._trees.gather import gather


def leaves(dtype="float32"):
    return gather([np.ones(2, dtype)], "t_list", listed=True)


def resolve(bound=1.0, order=2.0, dtype="float32", **options):
    return arguments.options(leaves(dtype), bound, order, **options)


def test_without_a_setting_the_options_are_the_defaults():
    assert resolve() == Plan()


@pytest.mark.parametrize("key", ["strict", "reproducible"])
@pytest.mark.parametrize("configured", [False, True])
@pytest.mark.parametrize("given", [None, False, True, np.True_, np.False_], ids=repr)
def test_a_flag_that_is_given_counts_more_than_the_settings(key, configured, given):
    with agclip.config_context(**{key: configured}):
        found = getattr(resolve(**{key: given}), key)
    assert found is (configured if given is None else bool(given))


@pytest.mark.parametrize("bound", [1.0, None])
@pytest.mark.parametrize("configured", ["propagate", "error", "zero", "skip"])
@pytest.mark.parametrize("given", [None, "propagate", "error", "zero", "skip"])
def test_a_policy_that_is_given_counts_more_than_the_settings(bound, configured, given):
    with agclip.config_context(nonfinite=configured):
        found = resolve(bound, nonfinite=given).nonfinite
    wanted = given or configured
    assert found == ("skip" if bound is None and wanted == "propagate" else wanted)


WRONG = {"strict": 1, "nonfinite": "ignore", "reproducible": "no"}


@pytest.mark.parametrize(
    ("wrong", "first"),
    [
        (("strict", "nonfinite", "reproducible"), "strict"),
        (("nonfinite", "reproducible"), "nonfinite"),
        (("strict", "reproducible"), "strict"),
        (("reproducible",), "reproducible"),
    ],
)
def test_of_several_mistakes_the_first_one_is_told(wrong, first):
    with pytest.raises((TypeError, ValueError), match=f"^`{first}` must be "):
        resolve(**{key: WRONG[key] for key in wrong})


REFUSED = {
    "an order": ({"order": 3.0}, "`ord` must be 1, 2 or inf with `reproducible`{}; got 3.0. No "),
    "complex leaves": (
        {"order": 1.0, "dtype": "complex64"},
        "`ord` must be 2 with `reproducible`{} for complex leaves; got 1.0 for t_list[0]. ",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_settings_say_is_refused_with_their_source(case):
    how, text = REFUSED[case]
    with pytest.raises(ValueError, match="^" + re.escape(text.format(""))):
        resolve(reproducible=True, **how)
    with (
        agclip.config_context(reproducible=True),
        pytest.raises(ValueError, match="^" + re.escape(text.format(" (config_context)"))),
    ):
        resolve(**how)


def test_a_strict_bound_of_the_settings_is_refused_with_its_source():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    half = [torch.ones(2).bfloat16()]
    with agclip.config_context(backend="numpy", on_foreign="convert"):
        gathered = gather(half, "t_list", listed=True)
    with pytest.raises(ValueError, match="lacks the dtype of a leaf; got bfloat16 at t_list"):
        arguments.options(gathered, 1.0, 2.0, strict=True)
    with (
        agclip.config_context(strict=True),
        pytest.raises(ValueError, match=r"a leaf \(config_context\); got bfloat16 at t_list"),
    ):
        arguments.options(gathered, 1.0, 2.0)


@pytest.mark.parametrize("given", [{}, {"strict": False}, {"nonfinite": "zero", "strict": True}])
@pytest.mark.parametrize("configured", [{}, {"strict": True, "reproducible": True}])
def test_the_settings_are_asked_once(monkeypatch, given, configured):
    gathered, ask, asked = leaves(), config.current, []
    monkeypatch.setattr(config, "current", lambda: asked.append(1) or ask())
    with agclip.config_context(**configured):
        arguments.options(gathered, 1.0, 2.0, **given)
    assert len(asked) == 1


def test_the_common_case_makes_three_calls():
    gathered = leaves()
    agclip.get_config()  # What files and the environment say is read at the first use.
    calls = []

    def count(frame, event, _):
        if event == "call":
            calls.append(frame.f_code.co_name)

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        arguments.options(gathered, 1.0, 2.0, nonfinite=None, strict=None, reproducible=None)
    finally:
        sys.setprofile(before)
    assert calls[:2] == ["options", "current"]
    assert len(calls) == 3, calls  # The last one makes the tuple.
