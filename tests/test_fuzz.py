"""The fuzzer passes what is right, and prints what is wrong as a program that shows it."""

import contextlib
import io
from random import Random

import pytest

import agclip
import fuzz
import fuzz_cases
from fuzz_code import program, smaller


@pytest.fixture(scope="module")
def numpy():
    with fuzz.opened(["numpy"]) as found:
        yield found


def test_some_trees_of_numpy_are_right(numpy):
    counts, failures = fuzz.fuzz("a test", range(400), 60, numpy)
    assert failures == 0
    assert counts.total() > 300
    assert {function for _, function in counts} >= set(fuzz_cases._DRAWN)


def test_a_number_leads_to_the_same_call_again(numpy):
    assert fuzz.drawn("s", 7, numpy) == fuzz.drawn("s", 7, numpy)
    assert fuzz.drawn("s", 7, numpy) != fuzz.drawn("t", 7, numpy)


@pytest.fixture
def broken(monkeypatch):
    """Let `clip_by_norm` change what is within the bound."""
    right = agclip.clip_by_norm

    def wrong(*args, **options):
        return right(*args, **{**options, "loss_scale": 4.0})

    monkeypatch.setattr(agclip, "clip_by_norm", wrong)


@pytest.mark.usefixtures("broken")
def test_what_is_wrong_is_printed_as_a_program_that_runs(numpy, capsys):
    _, failures = fuzz.fuzz("0", range(60), 60, numpy)
    text = capsys.readouterr().out
    assert failures > 0
    assert "# --seed 0 --number" in text
    first = text.split("# --seed")[1].partition("\n")[2]
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(first, "printed", "exec"), {})
    assert out.getvalue()


def test_a_call_that_fails_is_made_smaller():
    call = next(
        call
        for number in range(100)
        if (call := fuzz_cases.draw(Random(number), ["float32"], exact_sums=False)).options
        and call.function == "clip_by_norm"
    )
    least = smaller(call, lambda one: True)
    assert least.options == {}
    assert set(least.args[0].tensor.values) <= {1}
    assert program(least, "numpy", "why").endswith("# why\n")
