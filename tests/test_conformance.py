"""The conformance suite on every library that is installed here."""

import pytest

from agclip.testing import BackendConformance
from agclip.testing._report import fixed_checks
from agclip.testing._required import required, unusable
from agclip.testing._sampling import PROPERTIES
from libraries import COMPILED, MATRIX, one_of_each


class TestEveryLibrary(BackendConformance):
    @pytest.fixture(scope="class", params=MATRIX)
    @classmethod
    def library(cls, request, need_backend):
        name, opened = MATRIX[request.param]
        need_backend(name)
        with opened() as library:
            yield library


class TestCompiledFunctions(BackendConformance):
    checks = one_of_each(fixed_checks())
    properties = [law for law in PROPERTIES if "entries" in law.name or "idempotent" in law.name]
    examples = 4

    @pytest.fixture(scope="class", params=COMPILED)
    @classmethod
    def library(cls, request, need_backend):
        name, opened = COMPILED[request.param]
        need_backend(name)
        with opened() as library:
            yield library


@pytest.mark.parametrize("name", required())
def test_a_required_backend_can_be_used(name):
    assert name not in unusable()
