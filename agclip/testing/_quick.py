"""A few of the checks: of every function and each kind of promise, in a second or two."""

from __future__ import annotations

from agclip.testing._report import Outcome, Report, fixed_checks, report_on
from agclip.testing.harness.calls import CLIPS
from agclip.testing.harness.check import Check
from agclip.testing.harness.library import Library

NAMES = (
    "arrays belong to the backend",
    "vector clip_by_value: worked example, float32",
    "vector clip_by_norm: worked example, float32",
    "vector clip_by_norm: five in a row, float16",
    "vector clip_by_norm: bound of zero, float32",
    "vector clip_by_norm: size 1e+20, float32",
    "vector clip_by_average_norm: worked example, float32",
    "vector clip_by_rms: worked example, float32",
    "vector clip_by_global_norm: worked example",
    "vector clip_by_global_norm: NaN, propagate",
    "vector clip_by_global_norm: NaN, zero",
    "vector global_norm: worked example",
    "vector adaptive_grad_clip: out_in, float32",
    "vector clip_per_example: two leaves, float32",
    "unclipped is the same object [clip_by_global_norm]",
    "containers are kept [clip_by_global_norm]",
    "input is untouched [clip_by_global_norm]",
    "leaves keep their kind [clip_by_global_norm, float32]",
    *(f"in place equals functional [{clip.name}]" for clip in CLIPS),
    "read only leaves are found first [clip_by_norm]",
    "rules have the thresholds of a run [AutoClip]",
)
"""Compilers are slow, so of a promise on every dtype or clip there is one here."""


def quick_checks() -> list[Check]:
    """Return the checks that `agclip check` runs."""
    checks = {check.name: check for check in fixed_checks()}
    return [checks[name] for name in NAMES]


def quick_check(name: str) -> Report:
    """Run a few checks on a backend that can be used, whatever it raises."""
    try:
        return report_on(Library(name), quick_checks())
    except Exception as error:  # noqa: BLE001 - the others are checked whatever this one raises
        detail = f"{type(error).__name__}: {error}"
        outcome = Outcome("arrays are made", "The backend can be used.", "failed", detail)
        return Report(name, None, (outcome,))
