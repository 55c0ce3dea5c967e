"""The docstrings of what adapters may import have examples, and they give what they say."""

import doctest
import inspect

import numpy as np
import pytest

import agclip
from agclip import adapters

FILLED_BY_ADAPTERS = {
    "Decided", "Details", "Engine", "Grid", "Link", "Merged", "Misplaced", "Parts", "Sparse",
    "Terms",
}  # fmt: skip
"""Records between agclip and an adapter, which the page on backends describes."""


def is_own(thing):
    """Tell whether a name is a function or a class of agclip, and no type of a kernel."""
    is_thing = inspect.isclass(thing) or inspect.isfunction(thing)
    ours = getattr(thing, "__module__", "").startswith("agclip")
    return is_thing and ours and not getattr(thing, "_is_protocol", False)


NAMES = [
    name
    for name in adapters.__all__
    if is_own(getattr(adapters, name)) and name not in FILLED_BY_ADAPTERS
]


@pytest.mark.parametrize("name", NAMES)
def test_the_example_gives_what_it_says(name):
    if name == "Backend":
        pytest.importorskip("array_api_strict")
    there = {one: getattr(adapters, one) for one in adapters.__all__}
    there |= {"agclip": agclip, "np": np}
    finder = doctest.DocTestFinder(recurse=False)
    (found,) = finder.find(getattr(adapters, name), name, False, there, there)
    assert found.examples, "there is an example"
    assert doctest.DocTestRunner().run(found).failed == 0
