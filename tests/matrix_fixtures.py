"""Fixtures of tests of every function and rule."""

from __future__ import annotations

import pytest

import matrix


@pytest.fixture(params=matrix.SUBJECTS)
def subject(request: pytest.FixtureRequest) -> matrix.Subject:
    return matrix.SUBJECTS[request.param]


@pytest.fixture(params=[name for name, one in matrix.SUBJECTS.items() if one.inplace])
def twin(request: pytest.FixtureRequest) -> matrix.Subject:
    """A function that works in place too."""
    return matrix.SUBJECTS[request.param]
