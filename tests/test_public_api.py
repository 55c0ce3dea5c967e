"""The public names, what importing them costs, and the shape of the source behind them."""

import ast
import dataclasses
import inspect
import io
import json
import re
import subprocess
import sys
import tokenize
import types
from pathlib import Path

import pytest

import agclip
import agclip_backends

CORE = Path(agclip.__file__).parent
ADAPTERS = Path(agclip_backends.__file__).parent
SOURCES = sorted([*CORE.rglob("*.py"), *ADAPTERS.rglob("*.py")])
LIBRARIES = ("cupy", "dask", "jax", "mlx", "sparse", "tensorflow", "torch")
NAMED = re.compile("torch|cupy|jax|numpy|tensorflow|mlx|dask", re.IGNORECASE)
FUNCTIONS = sorted(n for n in agclip.__all__ if inspect.isfunction(getattr(agclip, n)))
TWINS = sorted(name for name in FUNCTIONS if name.endswith("_"))
RECORDS = (agclip.Backend, agclip.BackendInfo)


def relative(path):
    root = ADAPTERS.parent if path.is_relative_to(ADAPTERS) else CORE.parent
    return path.relative_to(root).as_posix()


@pytest.fixture(params=FUNCTIONS)
def function(request):
    return getattr(agclip, request.param)


@pytest.fixture(params=SOURCES, ids=relative)
def source(request):
    return request.param.read_text(encoding="utf-8")


# --- names -------------------------------------------------------------------------------------


def test_all_is_sorted():
    assert agclip.__all__ == sorted(agclip.__all__)


def test_all_is_complete():
    public = {
        name
        for name, value in (vars(agclip.rules) | vars(agclip)).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert public - {"TYPE_CHECKING"} == set(agclip.__all__) - {"__version__"}


def test_the_names_of_tensorflow_and_those_beyond_are_there():
    assert {
        "clip_by_value",
        "clip_by_norm",
        "clip_by_average_norm",
        "clip_by_global_norm",
        "global_norm",
        "clip_by_rms",
        "adaptive_grad_clip",
        "clip_per_example",
    } <= set(agclip.__all__)


def test_the_version_is_one():
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.?(a|b|rc|dev)\d+)?", agclip.__version__)


def test_both_packages_say_that_they_are_typed():
    assert CORE.joinpath("py.typed").is_file()
    assert ADAPTERS.joinpath("py.typed").is_file()


# --- imports -----------------------------------------------------------------------------------


def loaded_libraries(code, folder):
    """The array libraries that a fresh interpreter has imported after some code."""
    report = f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    command = [sys.executable, "-c", report]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=True, timeout=120
    )
    return sorted({name.partition(".")[0] for name in json.loads(done.stdout)} & {*LIBRARIES})


def test_importing_agclip_imports_no_array_library(tmp_path):
    assert loaded_libraries("import agclip", tmp_path) == []


def test_clipping_python_numbers_imports_no_further_array_library(tmp_path):
    assert loaded_libraries("import agclip; agclip.clip_by_norm([3.0, 4.0], 1)", tmp_path) == []


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_check_of_imports_can_fail(tmp_path, library):
    tmp_path.joinpath(library).mkdir()
    tmp_path.joinpath(library, "__init__.py").write_text("")
    assert loaded_libraries(f"import agclip, {library}", tmp_path) == [library]


# --- the core names no library -----------------------------------------------------------------


def named_libraries(source):
    """The tokens of code that name an array library; comments and docstrings may."""
    prose = {
        (node.value.lineno, node.value.col_offset)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return [
        f"line {token.start[0]}: {token.string}"
        for token in tokens
        if token.type != tokenize.COMMENT
        and token.start not in prose
        and NAMED.search(token.string)
    ]


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in SOURCES
        if path.is_relative_to(CORE)
        and not {"cli", "integrations"} & {*path.relative_to(CORE).parts}
    ],
    ids=relative,
)
def test_the_core_names_no_array_library(path):
    assert named_libraries(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import torch", ["line 1: torch"]),
        ("import array_api_compat.numpy as xp", ["line 1: numpy"]),
        ("x = 'JAX'", ["line 1: 'JAX'"]),
        ('"""Dask."""\n# dask\nx = 1\n"""CuPy."""', []),
        ('def f(x):\n    """NumPy."""\n    return x.is_mlx', ["line 3: is_mlx"]),
    ],
)
def test_the_check_of_names_can_fail(code, found):
    assert named_libraries(code) == found


# --- docstrings --------------------------------------------------------------------------------


def sections(function):
    """The sections of a Google docstring: the name of each, and the names it explains."""
    found = {"": []}
    current = ""
    for line in inspect.getdoc(function).splitlines():
        if re.fullmatch(r"(Args|Returns|Raises):", line):
            current = line[:-1]
            found[current] = []
        elif current and re.match(r"    \S", line):
            found[current].append(line.strip().partition(":")[0])
        elif line and not line.startswith(" "):
            current = ""
    return found


def test_every_argument_is_explained_in_order(function):
    assert sections(function).get("Args", []) == list(inspect.signature(function).parameters)


def test_what_a_function_returns_is_explained(function):
    returns = inspect.signature(function).return_annotation not in (None, "None")
    assert bool(sections(function).get("Returns")) == returns


def test_every_error_of_a_function_is_explained(function):
    raised = sections(function).get("Raises", [])
    assert raised
    assert all(name.endswith("Error") for name in raised)


def test_a_summary_is_one_imperative_line(function):
    summary, *rest = inspect.getdoc(function).splitlines()
    assert re.fullmatch(r"[A-Z][a-z]+ .*\.", summary)
    assert not rest or rest[0] == ""


@pytest.mark.parametrize("record", RECORDS)
def test_every_field_of_a_record_is_explained(record):
    explained = re.findall(r"^    (\w+):", inspect.getdoc(record), flags=re.MULTILINE)
    assert explained == [field.name for field in dataclasses.fields(record)]


def test_everything_is_annotated(function):
    signature = inspect.signature(function)
    annotations = [p.annotation for p in signature.parameters.values()]
    assert inspect.Signature.empty not in [*annotations, signature.return_annotation]


def test_options_are_keyword_only(function):
    options = {"ord", "nonfinite", "strict", "reproducible", "loss_scale", "unit_axes"}
    if function is agclip.global_norm:
        options -= {"ord"}  # as in TensorFlow's signature
    parameters = inspect.signature(function).parameters
    named = [parameters[name] for name in sorted(options & parameters.keys())]
    assert [p.name for p in named if p.kind is not p.KEYWORD_ONLY] == []


# --- twins -------------------------------------------------------------------------------------


def test_every_clip_but_the_sum_over_examples_has_a_twin():
    clips = {name for name in FUNCTIONS if "clip" in name and not name.endswith("_")}
    assert {name.removesuffix("_") for name in TWINS} == clips - {"clip_per_example"}


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_has_the_signature_of_its_functional_form(name):
    twin, function = getattr(agclip, name), getattr(agclip, name.removesuffix("_"))
    assert inspect.signature(twin) == inspect.signature(function)


# --- size --------------------------------------------------------------------------------------


def long_functions(source, limit=60):
    """The functions whose body, without its docstring, is longer than a screen."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            if body and body[-1].end_lineno - body[0].lineno + 1 > limit:
                found.append(node.name)
    return found


def test_no_file_is_longer_than_300_lines(source):
    # Numba's cache on disk does not see changes of what a file imports: its kernels stay together.
    limit = 700 if "import njit" in source or "njit, types" in source else 300
    assert len(source.splitlines()) <= limit


def test_no_function_is_longer_than_60_lines(source):
    assert long_functions(source) == []


def test_the_check_of_length_can_fail():
    body = "\n".join(["    x = 1"] * 61)
    assert long_functions(f"def short():\n    pass\ndef long():\n{body}\n") == ["long"]
