"""The suite as a test class for pytest, its properties drawn by Hypothesis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from agclip.testing._check import Check, NotApplicableError
from agclip.testing._library import Library
from agclip.testing._report import fixed_checks
from agclip.testing._sampling import PROPERTIES, Property

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

    ```python
    from agclip.testing import BackendConformance


    class TestMylib(BackendConformance):
        backend = "mylib"
    ```

    The draws are the same in every run.

    Attributes:
        backend: The name of the backend, or a `Library` that says more about it. For a library that
            a fixture has to set up, override the fixture `library` instead.
        checks: The checks to run, all by default.
        properties: The properties to test, all by default.
        examples: How many draws each property is tested on.
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
        for name in cases.keys() & set(metafunc.fixturenames):
            metafunc.parametrize(name, cases[name], ids=[case.name for case in cases[name]])

    def test_check(self, library: Library, check: Check) -> None:
        """Run one check."""
        try:
            check.run(library)
        except NotApplicableError as reason:
            pytest.skip(str(reason))

    def test_property(self, library: Library, law: Property) -> None:
        """Test one property on many draws."""

        @settings(
            max_examples=self.examples,
            deadline=None,
            database=None,
            derandomize=True,
            report_multiple_bugs=False,
            phases=(Phase.explicit, Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )
        @given(data=st.data())
        def holds(data: st.DataObject) -> None:
            Check(law.name, law.about, lambda lib: law.law(lib, _Drawn(data))).run(library)

        try:
            holds()
        except NotApplicableError as reason:
            pytest.skip(str(reason))
