"""The contract of backends: what adapters import, and that fields, types and documents agree."""

import ast
import dataclasses
import inspect
import re
import typing
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import agclip
import agclip_backends
import arrays
from agclip import adapters
from agclip._backends import contract, fused, questions, slices, sparse
from agclip._backends.backend import Backend
from agclip.distributed import _ranks

SOURCES = sorted(Path(agclip_backends.__file__).parent.rglob("*.py"))
DOCUMENT = Path(agclip.__file__).parents[1] / "docs" / "backends.md"
PUBLIC = {"adapters", "Backend"}
FIELDS = [field.name for field in dataclasses.fields(Backend)]
OPTIONAL = {"clip", "fused", "scale_each", "scale_slices", "sum_slices", "survey"}
TYPES = {
    name: kind
    for name, kind in typing.get_type_hints(Backend).items()
    if getattr(kind, "_is_protocol", False)
}


# --- imports -----------------------------------------------------------------------------------


def private_imports(source):
    """What a module takes from agclip that is not for adapters."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [one.name for one in node.names if one.name.split(".")[0] == "agclip"]
        elif isinstance(node, ast.ImportFrom) and node.module == "agclip":
            found += [f"agclip.{one.name}" for one in node.names if one.name not in PUBLIC]
        elif isinstance(node, ast.ImportFrom) and node.module == "agclip.adapters":
            names = [one.name for one in node.names]
            found += [f"agclip.adapters.{n}" for n in names if n not in adapters.__all__]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("agclip."):
            found.append(node.module)
        elif isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "adapters":
            found += [] if node.attr in adapters.__all__ else [f"adapters.{node.attr}"]
        elif isinstance(node, ast.Constant) and str(node.value).startswith("agclip."):
            found.append(node.value)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: "/".join(path.parts[-2:]))
def test_an_adapter_imports_what_a_strangers_may(path):
    assert private_imports(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("from agclip import Backend, adapters", []),
        ("from agclip.adapters import Factor, pieces\nimport agclip_backends._memory", []),
        ("import agclip", ["agclip"]),
        ("import agclip._backends.kernels", ["agclip._backends.kernels"]),
        ("from agclip import config", ["agclip.config"]),
        ("from agclip._backends import kernels", ["agclip._backends"]),
        ("def f():\n    from agclip.rules import ZClip", ["agclip.rules"]),
        ("from agclip.adapters import kernels", ["agclip.adapters.kernels"]),
        ("adapters.kernels", ["adapters.kernels"]),
        ("importlib.import_module('agclip._typing')", ["agclip._typing"]),
    ],
)
def test_the_check_of_imports_can_fail(code, found):
    assert private_imports(code) == found


# --- documents ---------------------------------------------------------------------------------


def listed(*headings):
    """The names in the first column of the tables whose head begins with one of some words."""
    found, inside = [], False
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        if not line.startswith("|"):
            inside = False
        elif line.startswith(headings):
            inside = True
        elif inside:
            found += re.findall(r"`(\w+)`", line.split("|")[1])
    return found


def test_the_tables_list_exactly_the_fields():
    assert sorted(listed("| field |")) == sorted({*FIELDS} - {"name", "xp"})


def test_the_table_of_accelerations_lists_those_that_may_decline():
    assert set(listed("| field | signature | may |")) == OPTIONAL


def test_the_table_of_names_lists_all_that_an_adapter_may_import():
    assert sorted(listed("| names |")) == sorted(adapters.__all__)


def test_every_name_for_adapters_is_there_and_means_something():
    found = {name: getattr(adapters, name) for name in adapters.__all__}
    bare = [n for n, one in found.items() if inspect.isroutine(one) and not one.__doc__]
    assert bare == []


@pytest.mark.parametrize("name", TYPES)
def test_the_type_of_a_kernel_says_what_it_returns(name):
    assert TYPES[name].__doc__
    assert inspect.getdoc(TYPES[name].__call__).startswith(("Return", "Overwrite"))
    assert getattr(adapters, TYPES[name].__name__) is TYPES[name]


# --- types -------------------------------------------------------------------------------------


def backends():
    return [row.name for row in agclip.backends() if row.usable]


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("backend", ["default", *backends()])
def test_a_kernel_takes_the_arguments_of_its_type(backend, name):
    record = Backend(name="default", xp=np) if backend == "default" else agclip.get_backend(backend)
    _, *wanted = inspect.signature(TYPES[name].__call__).parameters.values()
    positional = [p for p in wanted if p.kind is p.POSITIONAL_ONLY]
    assert inspect.signature(getattr(record, name)).bind(*positional)


def test_only_accelerations_and_questions_have_no_program_as_a_default():
    default = Backend(name="default", xp=np)
    nothing = [name for name in FIELDS if getattr(default, name) is default.survey]
    assert set(nothing) == OPTIONAL | {"misplaced", "partial", "parts", "sparse"}


def test_protocols_are_what_the_record_is_made_of():
    modules = contract, fused, questions, slices, sparse, _ranks
    names = {name: kind for module in modules for name, kind in vars(module).items()}
    made = {n for n, kind in names.items() if getattr(kind, "_is_protocol", False)}
    assert made - {"Protocol"} == {kind.__name__ for kind in TYPES.values()}


# --- the default of exact_sum ------------------------------------------------------------------


def exactly(x, grid):
    """The sum in units of the grid, from fractions."""
    spacing = Fraction(grid.unit) / 2**grid.bits
    s = [abs(Fraction(float(part)) * Fraction(grid.scale)) ** grid.order for part in x]
    return sum(round(one / spacing) for one in s)  # Python rounds half to even


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64"])
@pytest.mark.parametrize("size", [1 << 21, 7])
def test_the_default_exact_sum_is_the_sum_of_fractions(order, dtype, size):
    draw = np.random.default_rng(order)
    x = draw.uniform(-1, 1, (5, 9)).astype("float64")
    if dtype == "complex64":
        x = x + 1j * draw.uniform(-1, 1, (5, 9))
    x = x.astype(dtype)
    grid = adapters.Grid(1.0, 1.0, order, 96 if dtype == "float64" else 64)
    parts = [*x.real.ravel(), *x.imag.ravel()] if dtype == "complex64" else [*x.ravel()]
    xp = agclip.get_backend("numpy").xp
    leaves = [x[:2], x[2:]]
    # float64 squares are rounded once before they enter the sum.
    if dtype == "float64" and order == 2:
        parts, grid_ = [*(x * x).ravel()], grid._replace(order=1)
    else:
        grid_ = grid
    got = adapters.exact_sum(xp, leaves, np.float64, grid, size)
    assert got == exactly(parts, grid_)


@pytest.mark.parametrize("exact_sum", ["own", "default"])
def test_a_backend_without_its_own_exact_sum_gives_the_same_norm(exact_sum, tmp_path):
    x = np.random.default_rng(1).normal(size=(300, 7))
    wanted = agclip.global_norm([x], reproducible=True)
    own = agclip.get_backend("numpy")
    if exact_sum == "default":
        own = dataclasses.replace(own, exact_sum=adapters.exact_sum, survey=lambda *_: None)
    with arrays.registry(tmp_path):
        agclip.register_backend(own)
        assert agclip.global_norm([x], reproducible=True) == wanted
