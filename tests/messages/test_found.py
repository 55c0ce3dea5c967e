"""No error, no reason and no warning without a case; and the search for them finds one."""

import ast
import re
from pathlib import Path

import pytest

import agclip
import agclip_backends
from messages.found import raised, reasons, untested
from messages.table import TABLES, Case
from messages.test_warnings import PROBES

CORE = Path(agclip.__file__).parent
ADAPTERS = Path(agclip_backends.__file__).parent
# `_checks.py` raises what its callers name: `test_checks.py` has every kind at every place.
SOURCES = sorted({*CORE.rglob("*.py"), *ADAPTERS.rglob("*.py")} - {CORE / "_checks.py"})
PARTS = ("agclip/cli/", "agclip/config/_toml.py")
"""Where messages are parts of others: what a file is, in an error that names the file."""

# Commands and settings say more than errors, and have tests of that.
ROOMS = ("_backends", "_trees", "_numerics", "_clipping", "functions")
CALLS = [*(path for room in ROOMS for path in CORE.glob(f"{room}/*.py")), *ADAPTERS.rglob("*.py")]
CASES = [case for cases in TABLES.values() for case in cases.values()]


def relative(path):
    root = ADAPTERS.parent if path.is_relative_to(ADAPTERS) else CORE.parent
    return path.relative_to(root).as_posix()


def text_of(path):
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_every_error_that_is_raised_has_a_case(path):
    assert untested(text_of(path), CASES, within=relative(path).startswith(PARTS)) == []


def test_the_errors_are_found_at_all():
    assert sum(len(list(raised(text_of(path)))) for path in SOURCES) > 200


def test_every_reason_has_a_case():
    found = [text for path in CALLS for text in reasons(text_of(path))]
    stated = [probe.text for probe in PROBES.values() if probe.text]
    stated += [case.text for case in TABLES["arrays"].values()]
    assert [text for text in found if not any(re.search(text, s) for s in stated)] == []
    assert len(found) > 12


def test_there_are_two_warnings():
    calls = [
        path.name
        for path in CALLS
        for node in ast.walk(ast.parse(text_of(path)))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("warn")
    ]
    assert sorted(calls) == ["leaves.py", "seam.py"], "a new warning needs a test of its text"


# --- the search --------------------------------------------------------------------------------

KNOWN = [
    Case("", "ValueError", "`a` must be b; got c."),
    Case("", "TypeError", "`a` must be d; got c."),
]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("msg = '`a` must be b; got c.'\n raise ValueError(msg)", []),
        ("msg = f'`{x}` must be b; got {y}.'\n raise ValueError(msg) from None", []),
        ("raise ValueError(said(x))", []),
        ("raise", []),
        ("msg = '`a` must be b; got'\n raise ValueError(msg)", ["line 4: ValueError: `a`"]),
        (
            "msg = f'`{x}` must be d; got {y}.'\n raise ValueError(msg)",
            ["line 4: ValueError: `.*`"],
        ),
        ("raise KeyError('`a` must be b; got c.')", ["line 3: KeyError: `a`"]),
        ("msg = f'{x}: {y}'\n raise ValueError(msg)", ["line 4: ValueError: None"]),
        ("raise ValueError(str(x))", ["line 3: ValueError: None"]),
        (
            "if x:\n  msg = 'one'\n else:\n  msg = '`a` must be b; got c.'\n raise ValueError(msg)",
            ["line 7: ValueError: one"],
        ),
        (
            "if x:\n  msg = 'one'\n else:\n  msg = 'two'\n raise ValueError(msg)",
            ["line 7: ValueError: one", "line 7: ValueError: two"],
        ),
        (
            "msg = '`a` must be b; got c.'\n msg = 'other'\n raise ValueError(msg)",
            ["line 5: ValueError: other"],
        ),
    ],
)
def test_the_search_for_untested_errors_can_fail(code, expected):
    source = f"def said(x): return f'`{{x}}` must be b; got c.'\ndef f(x, y):\n {code}\n"
    found = untested(source, KNOWN)
    assert [text[: len(e)] for text, e in zip(found, expected, strict=True)] == expected


@pytest.mark.parametrize(
    "code", ["class A:\n if 1:\n  raise ValueError('new')", "raise OSError('e')"]
)
def test_the_search_for_untested_errors_looks_outside_of_functions_too(code):
    assert len(untested(code, KNOWN)) == 1


@pytest.mark.parametrize("within", [False, True])
def test_the_search_for_untested_errors_demands_a_text(within):
    assert len(untested("def f():\n raise ValueError", KNOWN, within=within)) == 1


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("def _refuse(x):\n return None if x else 'is odd'", [r"is\ odd"]),
        ("def usable():\n if 1:\n  return 'no ' 'device'", [r"no\ device"]),
        ("Backend(unwritable=lambda _: f'has {x}')", [r"has\ .*"]),
        ("def access(x):\n return 'free'", []),
    ],
)
def test_the_search_for_reasons_finds_them(code, found):
    assert reasons(code) == found


def test_a_message_may_be_a_part_of_another():
    code = "msg = 'must be d'\nraise ArgumentTypeError(msg)"
    assert untested(code, KNOWN, within=True) == []
    assert len(untested(code, KNOWN)) == 1


@pytest.mark.parametrize("must", ["'b'", "f'{x}b; got'"])
def test_a_setting_that_is_refused_has_its_text_in_a_part(must):
    assert untested(f"raise _RefusedError(TypeError, {must})", KNOWN) == []
    assert len(untested("raise _RefusedError(TypeError, 'bb')", KNOWN)) == 1
