"""The docstrings of what adapters may import have examples, and they give what they say."""

import doctest
import inspect
import math

import numpy as np
import pytest

import agclip
from agclip import adapters

NAMES = [
    name
    for name in adapters.__all__
    if inspect.isclass(getattr(adapters, name)) or inspect.isfunction(getattr(adapters, name))
    if getattr(adapters, name).__module__ != "typing"  # another name for any object
]


@pytest.mark.parametrize("name", NAMES)
def test_the_example_gives_what_it_says(name):
    if name == "Backend":
        pytest.importorskip("array_api_strict")
    there = {one: getattr(adapters, one) for one in adapters.__all__}
    there |= {"agclip": agclip, "math": math, "np": np}
    finder = doctest.DocTestFinder(recurse=False)
    (found,) = finder.find(getattr(adapters, name), name, False, there, there)
    assert found.examples, "there is an example"
    assert doctest.DocTestRunner().run(found).failed == 0
