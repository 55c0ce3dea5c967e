"""Every error has its class and its whole text."""

import os
import re
import sys
import warnings

import pytest

import agclip
import arrays
from agclip import config
from messages import names
from messages.table import MODULES, TABLES, names_in

CASES = [
    pytest.param(case, id=f"{table}: {name}")
    for table, cases in TABLES.items()
    for name, case in cases.items()
]


@pytest.fixture
def registry(tmp_path):
    with arrays.registry(tmp_path) as lent:
        yield lent


@pytest.mark.parametrize("case", CASES)
def test_an_error_has_its_class_and_its_text(case, registry, project):
    code = compile(case.call, "<case>", "eval")
    wanted = names_in(code) & set(MODULES)
    modules = {
        name: pytest.importorskip(MODULES[name], reason=f"{MODULES[name]} is not installed")
        for name in sorted(wanted)
    }
    with warnings.catch_warnings():
        # PyTorch announces that quantised tensors will go.
        warnings.filterwarnings("ignore", message="torch.quantize_per_tensor", category=UserWarning)
        warnings.filterwarnings("ignore", message="The PyTorch API of nested", category=UserWarning)
        with pytest.raises(Exception) as caught:  # noqa: PT011 - the case names it
            eval(code, {**vars(names), **modules, "registry": registry})
    text = str(caught.value).replace(f"{project}{os.sep}", "{project}/")
    text = text.replace(f"recursion limit of {sys.getrecursionlimit()}", "recursion limit of {n}")
    assert type(caught.value).__name__ == case.error
    # What a library says in its own words is none of ours.
    expected = ".+".join(map(re.escape, case.text.split("...")))
    assert text == case.text or re.fullmatch(expected, text), text


SETTINGS = [
    case for case in TABLES["config"].values() if case.call.startswith("agclip.set_config(")
]


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("case", SETTINGS, ids=lambda case: case.call)
def test_a_context_says_the_same_and_nothing_is_set(case):
    call = case.call.replace("set_config", "config_context")
    with pytest.raises((TypeError, ValueError)) as caught:
        eval(call, {"agclip": agclip})
    assert str(caught.value) == case.text.replace("set_config", "config_context")
    with pytest.raises((TypeError, ValueError)):
        eval(case.call, {"agclip": agclip})
    assert agclip.get_config() == config.Settings()
