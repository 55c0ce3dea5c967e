"""The suite as a test class for pytest, its properties drawn by Hypothesis."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from agclip.testing._report import fixed_checks
from agclip.testing.checks.sampling import PROPERTIES, Property
from agclip.testing.harness.check import Check, NotApplicableError
from agclip.testing.harness.library import Library

T = TypeVar("T")


class _Drawn:
    """Draws by Hypothesis, which shrinks what fails."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data

    def integer(self, low: int, high: int) -> int:
        return self._data.draw(st.integers(low, high))

    def choice(self, options: Sequence[T]) -> T:
        return self._data.draw(st.sampled_from(options))


class BackendConformance:
    """Tests that agclip keeps its promises with a library: subclass it in a test file.

    The draws are the same in every run. A result that is right, but that the library warned of,
    is a warning of pytest; a backend that cannot be used is one error.

    Attributes:
        backend: The name of the backend, or a `Library` that says more about it. For a library that
            a fixture has to set up, override the fixture `library` instead.
        checks: The checks to run, all by default.
        properties: The properties to test, all by default.
        examples: How many draws each property is tested on.

    Example:
        >>> from agclip.testing import BackendConformance
        >>> class TestMylib(BackendConformance):
        ...     backend = "mylib"
    """

    backend: ClassVar[str | Library] = ""
    checks: ClassVar[Sequence[Check]] = fixed_checks()
    properties: ClassVar[Sequence[Property]] = PROPERTIES
    examples: ClassVar[int] = 20

    @pytest.fixture(scope="class")
    @classmethod
    def library(cls) -> Library:
        """The library under test."""
        return Library(cls.backend) if isinstance(cls.backend, str) else cls.backend

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Make a test of every check, and of every property."""
        cases: dict[str, Sequence[Any]] = {"check": self.checks, "law": self.properties}
        if not self._usable():
            # The fixture tells why: once, and not for each of some thousand tests.
            cases = {"check": self.checks[:1], "law": ()}
        for name in cases.keys() & set(metafunc.fixturenames):
            metafunc.parametrize(name, cases[name], ids=[case.name for case in cases[name]])

    @classmethod
    def _usable(cls) -> bool:
        """Tell whether there is a library to test, as far as that can be known before a fixture."""
        fixture = inspect.getattr_static(cls, "library")
        own = fixture is not inspect.getattr_static(BackendConformance, "library")
        if own or isinstance(cls.backend, Library):
            return True
        try:
            Library(cls.backend)
        except Exception:  # noqa: BLE001 - in whatever way it fails, the fixture will too
            return False
        return True

    def test_check(self, library: Library, check: Check) -> None:
        """Run one check."""
        try:
            warned = check.run(library)
        except NotApplicableError as reason:
            pytest.skip(str(reason))
        _pass_on(warned)

    def test_property(self, library: Library, law: Property) -> None:
        """Test one property on many draws."""

        @settings(
            max_examples=self.examples,
            deadline=None,
            database=None,
            derandomize=True,
            report_multiple_bugs=False,
            phases=(Phase.explicit, Phase.generate, Phase.shrink),
            suppress_health_check=list[Any](HealthCheck),
        )
        @given(data=st.data())
        def holds(data: st.DataObject) -> None:
            check = Check(law.name, law.about, lambda lib: law.law(lib, _Drawn(data)))
            warned.extend(check.run(library))

        warned: list[Warning] = []
        try:
            holds()
        except NotApplicableError as reason:
            pytest.skip(str(reason))
        _pass_on(warned)


def _pass_on(warned: Sequence[Warning]) -> None:
    """Give the first of the library's warnings again, for pytest to judge."""
    for warning in warned[:1]:
        warnings.warn(warning, stacklevel=2)
