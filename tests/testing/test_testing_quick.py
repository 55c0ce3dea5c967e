"""The few checks that `agclip check` runs: of every function, and of every kind."""

import pytest

import agclip
from agclip.testing import _report
from agclip.testing._quick import NAMES, quick_checks

FUNCTIONS = [name for name in agclip.__all__ if name.startswith(("clip_", "adaptive", "global"))]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_function_is_among_them(function):
    about = [f"vector {function}:", f"[{function.removesuffix('_')}]"]
    assert any(name.startswith(about[0]) or name.endswith(about[1]) for name in NAMES)


def test_they_are_checks_of_the_suite_each_once():
    assert [check.name for check in quick_checks()] == list(dict.fromkeys(NAMES))
    assert len(NAMES) < len(_report.fixed_checks()) / 10
