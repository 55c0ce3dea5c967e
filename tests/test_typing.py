"""What a type checker says of a user's code: right uses pass, wrong ones are found."""

import re
import subprocess
import sys
from importlib.util import find_spec

import pytest

pytestmark = pytest.mark.skipif(find_spec("mypy") is None, reason="mypy is not installed")

RIGHT = """\
from collections import OrderedDict
from fractions import Fraction
from typing import Any, NamedTuple, assert_type

import agclip


class Grads(NamedTuple):
    w: Any
    b: Any | None


def use(array: Any, tree: dict[str, Any], pair: Grads, rows: list[list[float]]) -> None:
    assert_type(agclip.clip_by_value(tree, -1.0, None), dict[str, Any])
    assert_type(agclip.clip_by_value_(tree, -1, 1, loss_scale=2.0), dict[str, Any])
    assert_type(agclip.clip_by_norm(tree, 1.0), dict[str, Any])
    assert_type(agclip.clip_by_norm(pair, array, axes=(0, 1), ord=float("inf")), Grads)
    assert_type(agclip.clip_by_norm(rows, 5), Any)
    assert_type(agclip.clip_by_norm([3.0, 4.0], 1.0, nonfinite="zero"), Any)
    assert_type(agclip.clip_by_value([3, 4], 0, 1), Any)
    assert_type(agclip.clip_by_average_norm([3.0, 4.0], Fraction(1, 2)), Any)
    assert_type(agclip.clip_by_rms([[3.0], [4.0]], array, strict=True), Any)
    assert_type(agclip.clip_by_norm_([array], None, 0), list[Any])
    assert_type(agclip.clip_by_average_norm(pair, 1.0, strict=True), Grads)
    assert_type(agclip.clip_by_rms_(OrderedDict(tree), 1.0), OrderedDict[str, Any])
    assert_type(agclip.clip_by_global_norm(tree, 1.0), tuple[dict[str, Any], Any])
    clipped, norm = agclip.clip_by_global_norm_((array, array), 1.0, array, nonfinite="skip")
    assert_type(clipped, tuple[Any, Any])
    assert_type(agclip.global_norm(tree, ord=1), Any)
    assert_type(agclip.adaptive_grad_clip(tree, tree, unit_axes="out_in"), dict[str, Any])
    assert_type(agclip.adaptive_grad_clip_(pair, pair, 0.01, unit_axes=lambda path, x: -1), Grads)
    assert_type(agclip.clip_per_example(pair, 1.0), tuple[Grads, Any])
    assert_type(agclip.get_backend(), agclip.Backend)
    assert_type([row.name for row in agclip.backends()], list[str])
    agclip.register_backend(agclip.Backend(name="lib", xp=array))
    agclip.set_config(backend=["torch", "numpy"], threads="auto", clip={"rule": "norm"})
    with agclip.config_context(nonfinite="zero", strict=None) as settings:
        assert_type(settings.source("strict"), str)
    assert_type(agclip.load_config("agclip.toml").clip[0]["rule"], Any)
    assert_type(agclip.asarray([1.0], "float32"), Any)
    info = agclip.ClipByGlobalNorm(1.0).update(tree, ())[2]
    assert_type(info.norm, Any)
    assert_type(info.to_host().norm, float)
    assert_type(info.to_host().clipped, bool)
    agclip.Chain(agclip.ClipByNorm(array), agclip.AdaptiveGradClip(unit_axes="out_in"))
    agclip.register_container(set, lambda x: (tuple(x), None), lambda _, new: set(new))
"""

WRONG = {
    "no unit_axes": ("agclip.adaptive_grad_clip({}, {})", "call-arg"),
    "unit_axes by position": (
        'agclip.adaptive_grad_clip({}, {}, 0.01, 1e-3, "out_in")',
        "call-arg",
    ),
    "no threshold": ("agclip.clip_by_norm([])", "call-overload"),
    "an unknown keyword": ("agclip.clip_by_norm([], 1.0, eps=1e-6)", "call-overload"),
    "torch's keyword": ("agclip.clip_by_global_norm([], max_norm=1.0)", "call-arg"),
    "an option by position": ('agclip.clip_by_rms([], 1.0, "skip")', "call-overload"),
    "an unknown policy": ('agclip.clip_by_norm([], 1.0, nonfinite="ignore")', "call-overload"),
    "an order in words": ('agclip.global_norm([], ord="two")', "arg-type"),
    "a bound in words": ('agclip.clip_by_norm({}, "1")', "call-overload"),
    "a bound in words, of all leaves": ('agclip.clip_by_global_norm([], "1")', "arg-type"),
    "a bound in words, in a rule": ('agclip.ClipByNorm("1")', "arg-type"),
    "a layout that there is not": (
        'agclip.adaptive_grad_clip({}, {}, unit_axes="in")',
        "arg-type",
    ),
    "axes in words": ('agclip.clip_by_norm([], 1.0, axes="rows")', "arg-type"),
    "a float as an axis": ("agclip.clip_by_norm([], 1.0, axes=0.5)", "call-overload"),
    "strict in words": ('agclip.clip_by_norm([], 1.0, strict="yes")', "call-overload"),
    "reproducible in words": ('agclip.global_norm([], reproducible="no")', "arg-type"),
    "another tree comes out": (
        "x: list[int] = agclip.clip_by_norm({1: 2.0}, 1.0)",
        "arg-type",
    ),
    "the norm is not unpacked": ("y: list[int] = agclip.clip_by_global_norm([1], 1)", "assignment"),
    "a backend by position": ('agclip.Backend("lib", object())', "call-arg"),
    "a backend without a namespace": ('agclip.Backend(name="lib")', "call-arg"),
    "writing into a record": ('agclip.get_backend().name = "x"', "misc"),
    "a name for a backend": ('agclip.register_backend("torch")', "arg-type"),
    "a setting that is none": ('agclip.set_config(bakend="numpy")', "call-arg"),
    "a setting of a wrong kind": ('agclip.config_context(strict="yes")', "arg-type"),
    "a value that a setting has not": ('agclip.set_config(on_foreign="drop")', "arg-type"),
    "an instance for a class": ("agclip.register_container(1, tuple, print)", "arg-type"),
    "a name that is not public": ("agclip.clip", "attr-defined"),
}

# The namespaces that agclip calls are of no interest here, and slow to analyse.
SETTINGS = """\
[mypy]
strict = true
[mypy-array_api_compat.*,numpy.*]
follow_imports = skip
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What mypy finds: for each file and line, the codes of its errors."""
    folder = tmp_path_factory.mktemp("typing")
    folder.joinpath("right.py").write_text(RIGHT)
    lines = ["import agclip", *(code for code, _ in WRONG.values())]
    folder.joinpath("wrong.py").write_text("\n".join([*lines, ""]))
    folder.joinpath("mypy.ini").write_text(SETTINGS)
    command = [sys.executable, "-m", "mypy", "--config-file=mypy.ini", "right.py", "wrong.py"]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 1, done.stdout + done.stderr
    errors = {}
    for line in done.stdout.splitlines():
        match = re.match(r"(.+?):(\d+): error: .*\[([a-z-]+)\]$", line)
        if match is not None:
            errors.setdefault((match[1], int(match[2])), set()).add(match[3])
    return errors


def test_right_uses_are_accepted(found):
    assert {place: codes for place, codes in found.items() if place[0] != "wrong.py"} == {}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_wrong_use_is_found(found, mistake):
    line = 2 + list(WRONG).index(mistake)
    assert found.get(("wrong.py", line)) == {WRONG[mistake][1]}
