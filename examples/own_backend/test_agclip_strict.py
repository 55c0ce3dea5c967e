"""agclip's conformance suite on the backend: `pip install -e . hypothesis pytest && pytest`."""

import array_api_strict
import pytest
from agclip_strict import backend

import agclip
from agclip.testing import BackendConformance, Library


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # array-api-strict passes on NumPy's
class TestConformance(BackendConformance):
    backend = Library("array_api_strict", xp=array_api_strict, ignored_warnings=(RuntimeWarning,))
    examples = 5


def test_agclip_finds_the_backend_by_its_entry_point():
    assert agclip.get_backend("array_api_strict") is backend
