"""`agclip suggest` and `agclip plot`: what is read of a log, and what is made of it."""

import json
import math
import random

import pytest

import agclip
from agclip.cli import main
from agclip.cli.logs import replay
from agclip.cli.logs.readers import LogError, read_log
from agclip.cli.logs.thresholds import thresholds

NORMS = [1.0, 4.0, 2.0, 3.0]


def trainer_state(norms):
    entries = [{"step": 10 * i, "grad_norm": norm} for i, norm in enumerate(norms, start=1)]
    return json.dumps({"epoch": 1.0, "log_history": [*entries, {"step": 9, "eval_loss": 1.0}]})


def metrics_csv(norms):
    rows = [f"{10 * i},0.5,{norm}" for i, norm in enumerate(norms, start=1)]
    return "\n".join(["step,loss,grad_norm", *rows, "99,0.5,", ""])


def json_lines(norms):
    rows = [{"step": 10 * i, "grad_norm": norm} for i, norm in enumerate(norms, start=1)]
    return (
        "\n".join(map(json.dumps, [*rows, {"step": 99, "loss": 1}, {"grad_norm": None}])) + "\n\n"
    )


TEXTS = {
    "trainer_state.json": trainer_state,
    "metrics.csv": metrics_csv,
    "log.jsonl": json_lines,
}


@pytest.fixture(params=TEXTS)
def name(request):
    return request.param


@pytest.fixture
def log(tmp_path):
    def write(text, name="log.csv"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


# --- what is read ------------------------------------------------------------------------------


def test_norms_and_steps_are_read(name, log):
    history = read_log(log(TEXTS[name](NORMS), name), None)
    assert history.norms == tuple(NORMS)
    assert history.steps == (10, 20, 30, 40)
    assert (history.column, history.nonfinite) == ("grad_norm", 0)


def test_what_is_not_finite_is_counted_and_left_out(name, log):
    history = read_log(log(TEXTS[name]([1.0, math.nan, math.inf, 2.0]), name), None)
    assert (history.norms, history.steps, history.nonfinite) == ((1.0, 2.0), (10, 40), 2)


@pytest.fixture(params=["grad_2.0_norm_total", "run-7 - train/grad_norm", "gradient_norm"])
def column(request):
    return request.param


def test_one_column_of_norms_is_found_by_its_name(column, log):
    text = f"Step,loss,{column},{column}__MIN\n1,2,3.5,3.5\n"
    history = read_log(log(text), None)
    assert (history.column, history.norms, history.steps) == (column, (3.5,), (1.0,))


@pytest.mark.parametrize("comma", [";", "\t"])
def test_other_separators(comma, log):
    history = read_log(log(f"loss{comma}grad_norm\n1{comma}2.5\n"), None)
    assert (history.norms, history.steps) == ((2.5,), (1.0,))


def test_column_can_be_named(log):
    assert read_log(log("a,b\n1,2\n"), "b").norms == (2.0,)


@pytest.fixture
def events(tmp_path):
    """The folder of a run in TensorBoard."""
    tensorboard = "tensorboard.summary.writer.event_file_writer"
    writer = pytest.importorskip(tensorboard, reason="TensorBoard is not installed")
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    made = writer.EventFileWriter(str(tmp_path / "run"))
    values = [("train/grad_norm", norm) for norm in (1.0, math.nan, 3.0)] + [("loss", 0.5)]
    for step, (tag, value) in enumerate(values):
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
        made.add_event(Event(wall_time=0.0, step=step, summary=summary))
    made.close()
    return tmp_path / "run"


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # TensorBoard leaves its files to the end
def test_event_files_of_tensorboard(events):
    history = read_log(events, None)
    assert history.column == "train/grad_norm"
    assert (history.norms, history.steps, history.nonfinite) == ((1.0, 3.0), (0, 2), 1)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_tag_that_is_not_there(events):
    with pytest.raises(LogError, match=r"no column 'norm' but 'train/grad_norm', 'loss'"):
        read_log(next(events.iterdir()), "norm")


# --- bad logs ----------------------------------------------------------------------------------

BAD = {
    "empty": ("log.csv", "", "it is empty."),
    "blank": ("log.json", " \n", "it is empty."),
    "header alone": ("log.csv", "step,grad_norm\n", "'grad_norm' in it has no finite value."),
    "other JSON": (
        "log.json",
        '{"a": 1}',
        "it has no column 'grad_norm' but 'a'; name it with --column.",
    ),
    "no norms": (
        "log.csv",
        "step,loss\n1,2\n",
        "it has no column 'grad_norm' but 'loss'; name it with --column.",
    ),
    "several": (
        "log.csv",
        "grad_norm/a,grad_norm/b\n1,2\n",
        "it has several columns of norms: 'grad_norm/a', 'grad_norm/b'; choose one with --column.",
    ),
    "negative": (
        "log.csv",
        "grad_norm\n-3\n-2\n",
        "'grad_norm' must hold norms, which are >= 0; line 2 has '-3'.",
    ),
    "words": (
        "log.json",
        '{"log_history": [{"grad_norm": "large"}]}',
        "'grad_norm' must hold norms, which are >= 0; entry 0 has 'large'.",
    ),
    "a flag": (
        "log.jsonl",
        '{"grad_norm": true}',
        "'grad_norm' must hold norms, which are >= 0; entry 0 has True.",
    ),
    "nothing finite": (
        "log.csv",
        "grad_norm\nnan\ninf\n",
        "'grad_norm' in it has no finite value: all 2 are NaN or infinite.",
    ),
    "prose": ("log.txt", "x", "no line of it holds a gradient norm, such as `grad_norm: 1.5`, and"),
}  # fmt: skip


@pytest.fixture(params=BAD)
def bad(request, log):
    name, text, message = BAD[request.param]
    return log(text, name), message


def test_bad_log(bad, capsys):
    path, message = bad
    assert main(["suggest", str(path)]) == 2
    captured = capsys.readouterr()
    start = f"`LOG` must be a log with gradient norms; got {str(path)!r}: {message}"
    assert captured.err.startswith(f"agclip suggest: error: {start}")
    assert captured.err.count("\n") == 1
    assert captured.out == ""


# --- thresholds --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def norms():
    rng = random.Random(3)
    return [rng.lognormvariate(0, 1) for _ in range(400)]


@pytest.fixture(params=[0, 1, 2, 3], ids=["1 %", "5 %", "10 %", "25 %"])
def threshold(request, norms):
    return thresholds(norms)[request.param]


def test_threshold_clips_no_more_than_its_rate(threshold, norms):
    assert threshold.clipped == sum(norm > threshold.value for norm in norms)
    assert threshold.clipped == len(norms) * threshold.rate // 100
    assert threshold.value in norms


def test_interval_holds_the_threshold(threshold):
    assert threshold.low <= threshold.value <= threshold.high
    assert threshold.low < threshold.high


def test_interval_is_that_of_a_seed(norms):
    assert thresholds(norms) == thresholds(norms)


def test_interval_holds_the_true_quantile_of_independent_norms(threshold):
    # The upper quantiles of the log-normal distribution the norms were drawn from.
    truth = {1: 10.24, 5: 5.180, 10: 3.602, 25: 1.963}[threshold.rate]
    assert threshold.low < truth < threshold.high


def test_one_norm_is_its_own_threshold():
    assert {(row.value, row.low, row.high, row.clipped) for row in thresholds([2.5])} == {
        (2.5, 2.5, 2.5, 0)
    }


# --- suggest -----------------------------------------------------------------------------------


def test_suggestions(norms, log, capsys):
    path = log(metrics_csv([*norms, math.nan]))
    assert main(["suggest", str(path)]) == 0
    captured = capsys.readouterr()
    five = thresholds(norms)[1]
    assert "400 norms in 'grad_norm': from " in captured.out
    assert "Left out, being NaN or infinite: 1." in captured.out
    assert f" {five.shown}  " in captured.out
    assert "Left out: AdaptiveGradClip: it compares with the parameters" in captured.out
    assert "A heuristic: it counts what a threshold would have clipped in this run." in captured.out
    assert "circular block bootstrap, 500 resamples, seed 0." in captured.out
    assert captured.out.endswith(f"agclip.clip_by_global_norm(grads, {five.shown})\n")
    assert captured.err == ""


def test_short_log_is_called_short(log, capsys):
    assert main(["suggest", str(log(metrics_csv(NORMS)))]) == 0
    said = capsys.readouterr().out
    assert "Fewer than 100 norms: the rows of 1 %, 5 % and 10 % clip nothing here." in said
    assert said.endswith("No threshold follows from so few: log 20 norms or more.\n")


def test_suggestions_as_json(norms, log, capsys):
    assert main(["suggest", str(log(metrics_csv(norms))), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["norms"], found["nonfinite"]) == (400, 0)
    assert [row["rate"] for row in found["thresholds"]] == [1, 5, 10, 25]
    assert [row["rule"] for row in found["rules"]] == [
        "AutoClip()",
        "AutoClip(percentile=90.0)",
        "ZClip()",
        "ZClip(max_norm=None)",
        "QuantileClip()",
    ]
    assert {row["steps"] for row in found["rules"]} == {400}


def test_replay_is_what_the_rule_does_step_by_step(norms):
    xp = agclip.get_backend("numpy").xp
    clipper = agclip.Clipper(agclip.ZClip(max_norm=None))
    infos = [clipper([xp.asarray([norm])])[1].to_host() for norm in norms]
    found = next(row for row in replay.replays(norms, quiet=True) if "None" in row.rule)
    assert found.clipped == sum(info.clipped for info in infos)
    assert found.threshold == infos[-1].threshold
    assert 0 < found.clipped < found.steps


def test_long_log_is_replayed_at_its_end(norms, log, monkeypatch, capsys):
    monkeypatch.setattr(replay, "MOST", 50)
    assert main(["suggest", str(log(metrics_csv(norms)))]) == 0
    assert "The rules were replayed on the last 50 norms." in capsys.readouterr().out


# --- plot --------------------------------------------------------------------------------------


@pytest.fixture
def png(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    return tmp_path / "norms.png"


def colours(path):
    image = pytest.importorskip("matplotlib.image", reason="matplotlib is not installed")
    pixels = (255 * image.imread(path)[..., :3]).round().astype("uint8")
    assert min(pixels.shape[:2]) > 1000
    return {bytes(pixel).hex() for pixel in pixels.reshape(-1, 3)}


def test_picture_shows_norms_thresholds_and_clipped_steps(norms, log, png, capsys):
    assert main(["plot", str(log(metrics_csv(norms))), "-o", str(png)]) == 0
    assert {"0072b2", "d55e00", "4d4d4d", "009e73", "cc79a7", "e69f00"} <= colours(png)
    assert capsys.readouterr().out.endswith(f"Picture: {png}\n")


def test_picture_of_a_given_threshold(norms, log, png, capsys):
    arguments = ["plot", str(log(metrics_csv(norms))), "-o", str(png), "--clip-norm", "3"]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["clipped"] == sum(norm > 3 for norm in norms)
    assert found["picture"] == str(png)


def test_picture_of_zeros(log, png):
    assert main(["plot", str(log(metrics_csv([0.0, 0.0]))), "-o", str(png)]) == 0
    assert png.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_bad_log_leaves_the_old_picture(log, png, capsys):
    png.write_bytes(b"old")
    assert main(["plot", str(log("")), "-o", str(png), "--force"]) == 2
    assert "it is empty." in capsys.readouterr().err
    assert png.read_bytes() == b"old"
