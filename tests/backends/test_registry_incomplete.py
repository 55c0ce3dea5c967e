"""Backends of others that are incomplete or misnamed: errors that say what is missing."""

import ast
import importlib
import json
import re
from pathlib import Path

import array_api_compat.numpy as xnp
import numpy as np
import pytest

import agclip
import arrays
from agclip._backends import dtypes, requirements
from agclip.cli import main
from agclip.testing.__main__ import main as conformance

# A library whose arrays are a class of its own, and a namespace that lacks some functions.
TOY = """\
import sys

import array_api_compat.numpy as xnp

LACKING = {lacking!r}


class Array(xnp.ndarray):
    def __array_namespace__(self, api_version=None):
        return sys.modules[__name__]


def __getattr__(name):
    if name in LACKING or (name.startswith("__") and name != "__array_namespace_info__"):
        raise AttributeError(name)
    return getattr(xnp, name)


def asarray(*args, **kwargs):
    return xnp.asarray(*args, **kwargs).view(Array)


float64, float32 = xnp.dtype("float64"), xnp.dtype("float32")
if "asarray" in LACKING:
    make = asarray
    del asarray
else:
    make = asarray
"""
ADAPTER = "import toylib\nfrom agclip import Backend\nbackend = Backend(name={name!r}, xp=toylib)\n"
ENTRY = {"toylib": "toy_adapter:backend"}
TEXT = (
    "the namespace of the backend 'toylib' must have the functions of the Python Array API "
    "standard; got none called {}. Add them to its `xp`."
)


@pytest.fixture
def registry(tmp_path):
    with arrays.registry(tmp_path) as lent:
        yield lent


@pytest.fixture
def install(registry):
    """A function that installs the library, with a backend or without one, and imports it."""

    def installed(*lacking, name="toylib", adapter=True):
        modules = {"toylib": TOY.format(lacking=lacking)}
        if adapter:
            modules["toy_adapter"] = ADAPTER.format(name=name)
        registry.install("agclip-toy", ENTRY if adapter else {}, modules)
        return importlib.import_module("toylib")

    return installed


WAYS = {
    "an entry point": lambda install: install("where", "isfinite"),
    "no backend": lambda install: install("where", "isfinite", adapter=False),
    "registered": lambda install: registered(install("where", "isfinite", adapter=False)),
}


def registered(toylib):
    agclip.register_backend(agclip.Backend(name="toylib", xp=toylib))
    return toylib


@pytest.mark.parametrize("way", WAYS)
def test_a_clip_says_which_functions_a_library_lacks(install, way):
    toylib = WAYS[way](install)
    text = re.escape(TEXT.format("isfinite, where"))
    with pytest.raises(NotImplementedError, match=f"^{text}$"):
        agclip.clip_by_norm(toylib.make([3.0, 4.0]), 1.0)


def test_what_a_call_does_not_need_may_be_missing(install):
    toylib = install("sort", "arange")
    assert agclip.clip_by_norm(toylib.make([3.0, 4.0]), 1.0).tolist() == pytest.approx([0.6, 0.8])
    assert agclip.get_backend("toylib").xp.float32 == np.float32


def test_leaves_of_an_incomplete_library_are_of_one_library(install):
    toylib = install("sort", adapter=False)
    inner = type("Inner", (toylib.Array,), {"__module__": "toylib"})
    leaves = [toylib.make([3.0]), toylib.make([4.0]).view(inner)]
    assert agclip.global_norm(leaves) == 5.0


@pytest.mark.parametrize("name", requirements.FUNCTIONS)
def test_each_function_that_is_missing_is_named_or_not_needed(install, name):
    toylib = install(name)
    x = toylib.make([3.0, 4.0])
    try:
        said = agclip.clip_by_global_norm({"w": x}, 1.0)[1]
    except NotImplementedError as error:
        said = str(error)
    assert said in (5.0, TEXT.format(name))


def test_a_complete_namespace_is_left_as_it_is(install):
    toylib = install()
    assert agclip.get_backend("toylib").xp is toylib


@pytest.mark.parametrize("name", ["numpy", "torch", "jax", "dask"])
def test_our_own_backends_lack_nothing(name, need_backend):
    need_backend(name)
    assert requirements.missing(agclip.get_backend(name).xp) == []


def test_the_functions_are_those_that_the_core_calls():
    core = Path(agclip.__file__).parent
    called = {
        node.attr
        for room in ("_*", "functions", "rules")
        for path in core.glob(f"{room}/*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and ast.unparse(node.value).rpartition(".")[2] in ("xp", "namespace")
    }
    # A library that cannot be read from by DLPack is read from by way of the host, and an array of
    # one without `unstack` is indexed.
    others = {"__name__", "bool", "from_dlpack", "missing", "unstack"}
    assert called - others - set(dtypes._BY_NAME) == set(requirements.FUNCTIONS)


def test_a_function_that_breaks_when_it_is_looked_up_is_missing():
    class Lazy:
        def __getattr__(self, name):
            if name == "where":
                raise OSError(name)
            return getattr(xnp, name)

    assert requirements.missing(Lazy()) == ["where"]


def test_a_backend_called_otherwise_than_its_entry_point_is_an_error(install):
    toylib = install(name="other")
    text = (
        "the entry point 'toylib' of agclip-toy must name a backend of that name; got one called "
        "'other' from toy_adapter:backend. Both are the top-level package that defines the "
        "array's class."
    )
    with pytest.raises(ImportError, match=f"^{re.escape(text)}$"):
        agclip.clip_by_norm(toylib.make([3.0, 4.0]), 1.0)
    (row,) = [row for row in agclip.backends() if row.name == "toylib"]
    assert (row.usable, row.reason) == (False, f"ImportError: {text}")


# --- the commands go on ------------------------------------------------------------------------

LACKING = {"some": ("where", "isfinite"), "asarray": ("asarray",)}


@pytest.fixture(params=LACKING)
def lacking(request, install, monkeypatch):
    install(*LACKING[request.param])
    monkeypatch.setenv("AGCLIP_BLOCK", "cupy,dask,jax,mlx,tensorflow,torch")
    return TEXT.format(", ".join(sorted(LACKING[request.param])))


def test_check_says_what_is_missing_and_goes_on(lacking, capsys):
    assert main(["check", "--json"]) == 1
    said = capsys.readouterr()
    rows = {row["name"]: row for row in json.loads(said.out)["backends"]}
    assert (rows["numpy"]["checks"]["failed"], rows["numpy"]["failures"]) == (0, {})
    failures = rows["toylib"]["failures"].values()
    assert f"NotImplementedError: {lacking}" in [detail.partition("\n")[0] for detail in failures]
    assert re.match(r"agclip check: error: \d+ checks? failed, with toylib\. ", said.err)


def test_check_says_the_same_failure_once(lacking, capsys):
    assert main(["check"]) == 1
    assert capsys.readouterr().out.count(lacking) == 1


def test_the_conformance_suite_says_what_is_missing_and_goes_on(install, capsys, monkeypatch):
    install("asarray")
    monkeypatch.setattr("agclip.testing._report.fixed_checks", lambda: ())
    assert conformance(["toylib", "numpy"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("toylib: NOT TESTED: ") for line in lines)
    assert any(line.startswith("numpy ") for line in lines)


@pytest.mark.parametrize("command", ["check", "backends"])
def test_two_distributions_with_one_name_are_no_traceback(registry, command, capsys):
    registry.install("agclip-toy", ENTRY, {})
    registry.install("rival", {"toylib": "rival:backend"}, {})
    assert main([command]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"agclip {command}: error: the name 'toylib' in the entry-point group")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("source", "version"), [("(1, 2)", "(1, 2)"), ("None", None), ("1/0", None)]
)
def test_a_version_is_a_text_whatever_a_library_says(install, source, version, capsys):
    toylib = install()
    if source == "1/0":
        toylib.LACKING = ("__version__",)
    else:
        toylib.__version__ = ast.literal_eval(source)
    (row,) = [row for row in agclip.backends() if row.name == "toylib"]
    assert row.version == version
    assert main(["backends"]) == 0
    assert "toylib" in capsys.readouterr().out


# --- short in a console ------------------------------------------------------------------------


def test_a_backend_shows_what_is_not_the_default():
    plain = agclip.Backend(name="mylib", xp=np)
    assert repr(plain) == "Backend(name='mylib', xp=numpy)"
    mine = agclip.Backend(name="mylib", xp=np, access=lambda _: "free", block=5)
    assert repr(mine) == "Backend(name='mylib', xp=numpy, replaced: access, block)"
    assert len(repr(agclip.get_backend("numpy"))) < 300
