"""What is a number, a count, a flag or a word is decided once, and said alike everywhere."""

import argparse
import ast
import collections
import inspect
import math
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import agclip
import agclip_backends
from agclip import _checks
from agclip.cli.command import arguments
from agclip.config import _checks as settings

NAN, INF = math.nan, math.inf
NUMBERS = [-INF, -1, -0.0, 0, 0.5, 1, 1.0, 99.5, 100, 101, INF, NAN, Fraction(1, 2), 10**400]
KINDS = {
    "FINITE": math.isfinite,
    "NONNEGATIVE": lambda x: x >= 0,
    "FINITE_NONNEGATIVE": lambda x: math.isfinite(x) and x >= 0,
    "POSITIVE": lambda x: math.isfinite(x) and x > 0,
    "FRACTION": lambda x: math.isfinite(x) and x > 0 and x < 1,
    "PERCENTAGE": lambda x: math.isfinite(x) and x > 0 and x <= 100,
    "NORM": lambda x: math.isnan(x) or x >= 0,
    "ORDER": lambda x: x > 0,
}
NO_NUMBERS = [True, "1", b"1", None, 1j, [1.0], float, np.ones(1), np.asarray(1.0)]


class Place(NamedTuple):
    """A way in: how a check is told of it, and the whole text of an error."""

    at: object
    text: str

    def of(self, must, got, value):
        return self.text.format(must=must, got=got, value=f"{value!r}")


PLACES = {
    "a function": Place("x", "`x` must be {must}; got {got}."),
    "a setting": Place(
        settings._Given("strict", "a file"), "`strict` must be {must}; got {value} (a file)."
    ),
    "the command line": Place(arguments._Text("much"), "must be {must}; got 'much'"),
}


@pytest.fixture(params=PLACES)
def place(request):
    return PLACES[request.param]


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def wide(value):
    try:
        return float(value)
    except OverflowError:
        return INF


def test_every_kind_of_number_is_known_here():
    found = {name for name, value in vars(_checks).items() if isinstance(value, _checks.Kind)}
    assert found == set(KINDS)


@pytest.mark.parametrize("value", NUMBERS, ids=lambda value: f"{wide(value)}")
def test_a_number_is_of_a_kind_or_an_error(kind, place, value):
    made = getattr(_checks, kind)
    if KINDS[kind](wide(value)):
        _checks.number(place.at, value, made)
        return
    with pytest.raises((ValueError, argparse.ArgumentTypeError)) as caught:
        _checks.number(place.at, value, made)
    assert str(caught.value) == place.of(made.must, wide(value), wide(value))


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
def test_what_is_no_number_is_of_no_kind(kind, place, value):
    made = getattr(_checks, kind)
    with pytest.raises((TypeError, argparse.ArgumentTypeError)) as caught:
        _checks.number(place.at, value, made)
    got = "the class float" if value is float else type(value).__name__
    assert str(caught.value) == place.of(made.must, got, value)


def test_none_may_stand_for_something():
    _checks.number("x", None, _checks.POSITIVE, "None for one")
    _checks.count("x", None, none="None for all")
    with pytest.raises(ValueError, match=r"^`x` must be a finite number > 0, or None for one; "):
        _checks.number("x", 0, _checks.POSITIVE, "None for one")
    with pytest.raises(ValueError, match=r"^`x` must be an integer >= 0, or None for all; got -1"):
        _checks.count("x", -1, none="None for all")


COUNTS = [
    (-1, (0,), ValueError, "an integer >= 0"),
    (0, (1,), ValueError, "an integer >= 1"),
    (5, (1, 4), ValueError, "an integer from 1 to 4"),
    (True, (0,), TypeError, "an integer >= 0"),
    (1.0, (0,), TypeError, "an integer >= 0"),
    ("1", (1, 4), TypeError, "an integer from 1 to 4"),
]


@pytest.mark.parametrize(("value", "limits", "error", "must"), COUNTS)
def test_what_is_no_count_is_an_error(place, value, limits, error, must):
    with pytest.raises((error, argparse.ArgumentTypeError)) as caught:
        _checks.count(place.at, value, *limits)
    got = value if error is ValueError else type(value).__name__
    assert str(caught.value) == place.of(must, got, value)


@pytest.mark.parametrize(("value", "limits"), [(0, (0,)), (4, (1, 4)), (np.int64(3), ())])
def test_a_count_is_an_integer_within_limits(place, value, limits):
    assert _checks.count(place.at, value, *limits) is None


@pytest.mark.parametrize("value", [0, 1, "no", None, np.bool_(True)], ids=repr)
def test_what_is_no_flag_is_an_error(place, value):
    with pytest.raises((TypeError, argparse.ArgumentTypeError)) as caught:
        _checks.flag(place.at, value)
    assert str(caught.value) == place.of("True or False", type(value).__name__, value)


@pytest.mark.parametrize("value", ["zeros", "ZERO", "", 3, None, ["zero"]], ids=repr)
def test_what_is_none_of_the_words_is_an_error(value):
    with pytest.raises(ValueError, match=r'^`x` must be one of "zero", "skip"; got ') as caught:
        _checks.choice("x", value, ("zero", "skip"))
    near = isinstance(value, str) and value.lower().startswith("zero")
    end = f"got {value!r}." + " Did you mean 'zero'?" * near
    assert str(caught.value).endswith(end)


@pytest.mark.parametrize(
    ("value", "found"), [(2, 2.0), ("inf", INF), (INF, INF), (10**400, INF), (np.float32(0.5), 0.5)]
)
def test_an_order_is_a_float(place, value, found):
    assert _checks.order(place.at, value) == found


@pytest.mark.parametrize("value", [0, -1.0, NAN, "fro", None, True], ids=repr)
def test_what_is_no_order_is_an_error(place, value):
    wrong = isinstance(value, str) or value is None or value is True
    with pytest.raises((TypeError if wrong else ValueError, argparse.ArgumentTypeError)) as caught:
        _checks.order(place.at, value)
    got = type(value).__name__ if wrong else value
    must = "a number > 0, such as 1, 2 or inf"
    assert str(caught.value) == place.of(must, got, value)


SAME = {
    "a bound": (
        "a number >= 0, or None for no clipping",
        [
            lambda v: agclip.clip_by_global_norm([1.0], v),
            lambda v: agclip.clip_by_norm([1.0], v),
            agclip.ClipByNorm,
            lambda v: agclip.ZClip(max_norm=v),
        ],
    ),
    "a loss scale": (
        "a finite number > 0, or None",
        [
            lambda v: agclip.global_norm([1.0], loss_scale=v),
            lambda v: agclip.ClipByValue(0, 1, loss_scale=v),
            lambda v: agclip.ClipByRMS(1, loss_scale=v),
        ],
    ),
    "an order": (
        "a number > 0, such as 1, 2 or inf",
        [
            lambda v: agclip.global_norm([1.0], ord=v),
            lambda v: agclip.ClipByGlobalNorm(1.0, ord=v),
        ],
    ),
    "a policy": (
        'one of "propagate", "error", "zero", "skip"',
        [
            lambda v: agclip.clip_by_norm([1.0], 1.0, nonfinite=v),
            lambda v: agclip.ClipByNorm(1.0, nonfinite=v),
            lambda v: agclip.set_config(nonfinite=v),
        ],
    ),
}
CALLS = [(name, must, call) for name, (must, calls) in SAME.items() for call in calls]


@pytest.mark.parametrize(("name", "must", "call"), CALLS)
@pytest.mark.parametrize("value", [-1.0, "much", True], ids=repr)
def test_the_same_argument_has_the_same_text_everywhere(name, must, call, value):
    with pytest.raises((TypeError, ValueError)) as caught:
        call(value)
    wanted, _, got = str(caught.value).partition("; got ")
    assert wanted.partition(" must be ")[2] == must
    assert got


def test_a_check_of_plain_values_needs_no_array_library():
    tree = ast.parse(inspect.getsource(_checks))
    imported = {
        node.module if isinstance(node, ast.ImportFrom) else name.name
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in node.names
    }
    assert not any(name.startswith(("agclip", "array", "numpy")) for name in imported)


CORE = Path(agclip.__file__).parent


def imports(path, base):
    """The modules that a module imports, inside of functions too; not those for types alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node not in typing:
            for name in node.names:
                full = f"{node.module}.{name.name}"
                yield full if full in base else node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def test_no_module_imports_itself_by_way_of_others():
    named = {}
    for package in (CORE, Path(agclip_backends.__file__).parent):
        for path in package.rglob("*.py"):
            parts = path.relative_to(package.parent).with_suffix("").parts
            named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    arrows = {name: {*imports(path, named)} & {*named} - {name} for name, path in named.items()}
    # What imports nothing that is left can be in no circle.
    while free := [name for name, wanted in arrows.items() if not wanted & arrows.keys()]:
        for name in free:
            del arrows[name]
    assert sorted(arrows) == []


def imported_as(path):
    """The name by which pytest imports a file: folders that are no packages are no part of it."""
    parts, folder = [path.stem], path.parent
    while folder.joinpath("__init__.py").exists():
        parts, folder = [folder.name, *parts], folder.parent
    return ".".join(parts)


def test_no_two_files_of_tests_have_one_name():
    """Of two test files, pytest refuses the second; of two helpers, one is taken for the other."""
    files = [path for path in Path(__file__).parent.rglob("*.py") if path.name != "conftest.py"]
    counts = collections.Counter(map(imported_as, files))
    assert [name for name, count in counts.items() if count > 1] == []
