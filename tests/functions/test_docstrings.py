"""Public docstrings stand on their own: their examples run, and none sends the reader elsewhere."""

import doctest
import inspect
import re

import numpy as np
import pytest

import agclip

CLIPS = sorted(
    name
    for name in agclip.__all__
    if name.startswith(("clip_", "adaptive_")) or name == "global_norm"
)


@pytest.fixture(params=CLIPS)
def function(request):
    return getattr(agclip, request.param)


def test_the_example_gives_what_it_says(function):
    names = {"agclip": agclip, "np": np}
    (found,) = doctest.DocTestFinder().find(function, function.__name__, False, names, names)
    assert found.examples, "there is an example"
    assert doctest.DocTestRunner().run(found).failed == 0


def test_every_argument_is_described_and_none_by_another_function(function):
    text = inspect.getdoc(function)
    described = re.findall(r"^    (\w+): ", text.partition("\nReturns:")[0], re.MULTILINE)
    assert described == list(inspect.signature(function).parameters)
    assert not re.search(r"^    \w+: (As|See) ", text, re.MULTILINE)
