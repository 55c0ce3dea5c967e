"""The conformance suite on one library, of which `make test` runs a part."""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Any, ClassVar

import pytest

import libraries
from agclip.testing import BackendConformance
from agclip.testing._report import fixed_checks
from thinned import thinned

FEW = {check.name for check in libraries.one_of_each(fixed_checks())}
"""One check of each promise, and one of each function."""

_DTYPES = re.compile(r"\b(?:bfloat|float|complex|u?int)\d+\b")


def is_quick(case: Any, own: Container[str], *, fully: bool = False) -> bool:
    """Tell whether `make test` runs a check or a property on a library.

    Args:
        case: The check, or a property, which it runs in any case.
        own: The dtypes whose checks it runs there.
        fully: Whether it runs the checks that are of no dtype; else one of each promise.
    """
    dtypes = _DTYPES.findall(case.name)
    if case.name in FEW or not hasattr(case, "body"):
        return True
    return any(dtype in own for dtype in dtypes) if dtypes else fully


class Thinned(BackendConformance):
    """The suite, of which `make test` runs one check of each promise, and those of some dtypes.

    Attributes:
        own: The dtypes.
    """

    own: ClassVar[tuple[str, ...]] = ()

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        for argument, cases in (("check", self.checks), ("law", self.properties)):
            if argument in metafunc.fixturenames:
                cells = thinned(
                    cases, lambda case: is_quick(case, self.own), ids=lambda case: case.name
                )
                metafunc.parametrize(argument, cells)
