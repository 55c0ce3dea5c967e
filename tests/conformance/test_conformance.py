"""The conformance suite on every library that is installed here."""

import itertools
import re

import pytest

import agclip
import libraries
import suites
from agclip.testing import BackendConformance
from agclip.testing._report import fixed_checks
from agclip.testing._required import required
from agclip.testing.checks.sampling import PROPERTIES, Property
from agclip_backends._host.loader import loader
from thinned import thinned


@pytest.fixture(scope="class")
def eager(request, need_backend):
    name, opened = libraries.LIBRARIES[request.param]
    need_backend(name)
    with opened() as library:
        yield library


@pytest.fixture(scope="class")
def graph(request, need_backend):
    name, opened = libraries.GRAPHS[request.param]
    need_backend(name)
    with opened() as library:
        yield library


@pytest.fixture(scope="class")
def compiler(request, need_backend):
    name, opened = libraries.COMPILED[request.param]
    need_backend(name)
    with opened() as library:
        yield library


OWN = {
    "numpy": ("float16", "float32", "float64", "complex64", "complex128"),
    "numpy-read-only": ("bfloat16",),
    "torch": ("bfloat16", "float32", "float64", "complex64", "int32"),
    "torch-requires-grad": ("float16",),
    "cupy": ("bfloat16", "float32", "float64", "complex64", "int32"),
    "tensorflow": ("bfloat16", "float64", "complex64", "int64"),
    "mlx": ("bfloat16",),
    "mlx-no-float64": ("float32",),
    "strict": ("float64", "complex128", "int32", "uint8"),
    "strict-device2": ("complex64", "int64"),
    "strict-no-float64": ("float32",),
    "strict-no-x64": ("float32", "int8"),
    "third-party": ("float64",),
    # What builds programs takes ten to a hundred times as long: other tests have its dtypes.
    "jax": (),
    "dask": (),
}
"""The dtypes that `make test` checks on each library; `make test-all`: every one on each."""

FULLY = ("numpy", "torch", "cupy")
"""The libraries on which `make test` runs what says no dtype; on the others one of each promise."""


LAWS = (
    "norm and entries are right",
    "reproducible norm has no order",
    "strict is idempotent",
    "within the bound is identity",
)
"""The properties that `make test` checks where each draw is a program to build."""


def is_quick(name, case):
    """Tell whether `make test` runs a check or property on a library."""
    if name in libraries.GRAPHS and isinstance(case, Property):
        return case.name in LAWS
    return suites.is_quick(case, OWN[name], fully=name in FULLY)


class Thinned(BackendConformance):
    """The suite on several libraries, of which `make test` runs a part on each."""

    opened = ""
    """The fixture that opens a library."""
    names = ()

    def pytest_generate_tests(self, metafunc):
        for argument, cases in (("check", self.checks), ("law", self.properties)):
            if argument in metafunc.fixturenames:
                cells = [
                    pytest.param(
                        name,
                        case,
                        id=f"{case.name}-{name}",
                        marks=() if is_quick(name, case) else pytest.mark.whole,
                    )
                    for name in self.names
                    for case in cases
                ]
                names = (self.opened, argument)
                metafunc.parametrize(names, cells, indirect=[self.opened], scope="class")


class TestEveryLibrary(Thinned):
    opened, names = "eager", tuple(libraries.LIBRARIES)

    @pytest.fixture(scope="class")
    @classmethod
    def library(cls, eager):
        return eager


class TestCompiledKernels(suites.Thinned):
    own = ("float16", "bfloat16", "float64", "complex64")
    examples = 25

    @pytest.fixture(scope="class", params=["numpy", "torch"])
    @classmethod
    def library(cls, request, need_backend):
        pytest.importorskip("numba", reason="Numba is not installed")
        need_backend(request.param)
        with libraries.LIBRARIES[request.param][1]() as library:
            yield library

    @pytest.fixture(autouse=True)
    def _loaded(self, _without_compiled_kernels):
        loader.load()


class TestLibrariesThatBuildPrograms(Thinned):
    opened, names = "graph", tuple(libraries.GRAPHS)
    examples = 4

    @pytest.fixture(scope="class")
    @classmethod
    def library(cls, graph):
        return graph


COMPILED = libraries.one_of_each(fixed_checks())
FIRST = [c for c in libraries.first_of_functions(COMPILED) if re.match("vector|rules", c.name)]
BRANCHES = re.compile(r"compiled code|NaN, propagate|loss scale, clipped|axes=|ord=1|tree|use_norm")
"""What the program of a call depends on, apart from the numbers."""
BY_XLA = re.compile(r"worked example|strict holds|in compiled code|many entries|rms: NaN, propag")
"""What XLA may compute otherwise than the operations that it is given."""
ELSEWHERE = re.compile(r"worked example|axes=|ord=1|adaptive.*tree|value.*tree")
"""What `backends/test_jax.py` and `backends/test_torch.py` compile of each function themselves."""


def is_quickly_compiled(name, case):
    """Tell whether `make test` runs a check or property in a compiler."""
    if isinstance(case, Property):
        return "entries" in case.name and name != "tensorflow-xla"
    if name == "tensorflow-xla":
        return BY_XLA.search(case.name) is not None
    if name in ("jax-jit", "torch-compile") and ELSEWHERE.search(case.name):
        return False
    return case in FIRST or BRANCHES.search(case.name) is not None


class TestCompiledFunctions(BackendConformance):
    examples = 2

    def pytest_generate_tests(self, metafunc):
        laws = [p for p in PROPERTIES if "entries" in p.name or "idempotent" in p.name]
        for argument, cases in (("check", COMPILED), ("law", laws)):
            if argument in metafunc.fixturenames:
                cells = thinned(
                    itertools.product(libraries.COMPILED, cases),
                    lambda cell: is_quickly_compiled(*cell),
                    ids=lambda cell: f"{cell[1].name}-{cell[0]}",
                    tuples=True,
                )
                names = ("compiler", argument)
                metafunc.parametrize(names, cells, indirect=["compiler"], scope="class")

    @pytest.fixture(scope="class")
    @classmethod
    def library(cls, compiler):
        return compiler


@pytest.mark.parametrize("name", required())
def test_a_required_backend_can_be_used(name, why_not):
    assert why_not(name) == ""


def test_a_third_party_comes_by_its_entry_point_and_goes_without_a_trace():
    with libraries.third_party():
        sources = {row.name: row.source for row in agclip.backends()}
    assert sources["toyarray"] == "agclip-toy"
    assert "toyarray" not in {row.name for row in agclip.backends()}


def test_every_check_is_run_on_some_library_by_make_test():
    eager = [name for name in libraries.LIBRARIES if name != "cupy"]
    left_out = [c.name for c in fixed_checks() if not any(is_quick(name, c) for name in eager)]
    assert left_out == []
