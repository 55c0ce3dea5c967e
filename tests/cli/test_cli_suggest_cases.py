"""`agclip suggest` on logs that are short, hold zeros, are clipped, or span all of float64."""

import json
import math
import random

import pytest

from agclip.cli import main
from agclip.cli.logs import thresholds as _thresholds
from agclip.cli.logs.thresholds import thresholds


@pytest.fixture
def suggest(tmp_path, capsys):
    def run(norms, *options):
        path = tmp_path / "log.csv"
        path.write_text("grad_norm\n" + "".join(f"{norm!r}\n" for norm in norms))
        status = main(["suggest", str(path), *options])
        captured = capsys.readouterr()
        return status, captured.out + captured.err

    return run


def lognormal(size, seed=0):
    rng = random.Random(seed)
    return [rng.lognormvariate(0, 0.5) for _ in range(size)]


def test_zeros_do_not_make_a_threshold_of_zero(suggest):
    status, said = suggest([0.0] * 900 + [float(n) for n in range(1, 101)])
    assert status == 0
    assert "Of norm 0, which no threshold clips: 900. Rates are of the others.\n" in said
    assert said.endswith("agclip.clip_by_global_norm(grads, 95)\n")


def test_zeros_alone_are_refused(suggest):
    status, said = suggest([0.0] * 40)
    assert status == 2
    assert "all 40 in 'grad_norm' are 0. A threshold of 0 would zero every gradient.\n" in said


@pytest.mark.parametrize("size", [1, 2, 5, 19])
def test_too_few_norms_suggest_nothing(size, suggest):
    status, said = suggest(lognormal(size))
    assert status == 0
    assert "clip_by_global_norm" not in said
    assert said.endswith("No threshold follows from so few: log 20 norms or more.\n")


def test_twenty_norms_suggest_the_second_largest(suggest):
    status, said = suggest([float(n) for n in range(1, 21)], "--json")
    assert (status, json.loads(said)["suggested"]) == (0, 19.0)


@pytest.mark.parametrize("below", [0.0, 1e-6], ids=["exact", "within an epsilon"])
def test_norms_at_a_bound_are_called_clipped(below, suggest):
    norms = [
        min(norm, 1.0 - below * random.Random(i).random()) for i, norm in enumerate(lognormal(400))
    ]
    count = sum(norm >= 1.0 - 1e-4 for norm in norms)
    status, said = suggest(norms)
    assert status == 0
    assert (
        f"{count} of the norms lie at the largest, 1: it looks as if they had been clipped" in said
    )
    assert said.endswith("No threshold follows: log the norms before clipping, and come back.\n")


def test_norms_that_are_not_clipped_are_not_called_so(suggest):
    assert "it looks as if" not in suggest(lognormal(400))[1]


def test_norms_over_all_of_float64(suggest):
    norms = [float(f"1e{6 * i}") for i in range(-50, 50)] + [2.6e300]
    status, said = suggest(norms)
    assert status == 0
    assert "101 norms in 'grad_norm': from 1e-300 to 2.6e+300, " in said
    assert said.endswith("agclip.clip_by_global_norm(grads, 1e+270)\n")


@pytest.fixture(params=range(20))
def drawn(request):
    return lognormal(999, seed=request.param)


def test_printed_threshold_clips_the_steps_that_are_told(drawn):
    found = [
        (row.clipped, sum(norm > float(row.shown) for norm in drawn)) for row in thresholds(drawn)
    ]
    assert [told for told, _ in found] == [9, 49, 99, 249]
    assert [clipped for _, clipped in found] == [9, 49, 99, 249]


NUMBERS = {
    (4.0231, math.inf): "4.024",
    (4.0231, 4.0239): "4.0231",
    (12345.6, 12346.0): "12345.6",
    (2.5, math.inf): "2.5",
    (1e10, math.inf): "1e+10",
    (1.7976931348623157e308, math.inf): "1.7976931348623157e+308",
    (5e-324, math.inf): "5e-324",
}


@pytest.fixture(params=NUMBERS)
def number(request):
    return request.param


def test_thresholds_are_rounded_up_below_the_next_norm(number):
    norms = [norm for norm in number if norm < math.inf]
    rounded = _thresholds._rounded_up(number[0], number[1])
    row = _thresholds.Threshold(5, norms[0], 0.0, 0.0, 0, rounded)
    assert row.shown == NUMBERS[number]


@pytest.fixture(params=[0.0, 0.9], ids=["independent", "correlated"])
def series(request):
    rng, state, norms = random.Random(1), 0.0, []
    for _ in range(20_000):
        state = request.param * state + rng.gauss(0, 0.3)
        norms.append(math.exp(state))
    return norms


@pytest.mark.parametrize("place", range(4))
def test_interval_of_a_long_log_is_the_limit_of_the_resamples(series, place, monkeypatch):
    resampled = thresholds(series)[place]
    monkeypatch.setattr(_thresholds, "LONG", 0)
    limit = thresholds(series)[place]
    width = resampled.high - resampled.low
    assert limit.value == resampled.value
    assert abs(limit.low - resampled.low) < 0.25 * width
    assert abs(limit.high - resampled.high) < 0.25 * width


def test_long_log_names_its_interval(suggest, monkeypatch):
    from agclip.cli.logs import suggest as command

    monkeypatch.setattr(command, "LONG", 50)
    monkeypatch.setattr(_thresholds, "LONG", 50)
    said = suggest(lognormal(100))[1]
    assert (
        "Interval: the limit of the circular block bootstrap, as there are more than 50 norms.\n"
        in said
    )
