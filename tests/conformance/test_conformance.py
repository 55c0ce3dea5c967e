"""The conformance suite on every library that is installed here."""

import pytest

import agclip
import libraries
from agclip.testing import BackendConformance
from agclip.testing._report import fixed_checks
from agclip.testing._required import required
from agclip.testing._sampling import PROPERTIES
from agclip_backends._host.loader import loader


@pytest.fixture(scope="class", params=libraries.LIBRARIES)
def eager(request, need_backend):
    name, opened = libraries.LIBRARIES[request.param]
    need_backend(name)
    with opened() as library:
        yield library


@pytest.fixture(scope="class", params=libraries.GRAPHS)
def graph(request, need_backend):
    name, opened = libraries.GRAPHS[request.param]
    need_backend(name)
    with opened() as library:
        yield library


@pytest.fixture(scope="class", params=libraries.COMPILED)
def compiler(request, need_backend):
    name, opened = libraries.COMPILED[request.param]
    need_backend(name)
    with opened() as library:
        yield library


class TestEveryLibrary(BackendConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def library(cls, eager):
        return eager


class TestCompiledKernels(BackendConformance):
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


class TestLibrariesThatBuildPrograms(BackendConformance):
    examples = 4

    @pytest.fixture(scope="class")
    @classmethod
    def library(cls, graph):
        return graph


class TestCompiledFunctions(BackendConformance):
    checks = libraries.one_of_each(fixed_checks())
    properties = tuple(p for p in PROPERTIES if "entries" in p.name or "idempotent" in p.name)
    examples = 4

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
