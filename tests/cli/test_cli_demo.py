"""The command line and its demo."""

import contextlib
import errno
import io
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import agclip
from agclip.cli import main
from agclip.cli.demo import demo
from agclip.cli.demo import train as _train
from agclip.cli.demo.report import Result, sentences
from agclip.cli.demo.text import python_help
from agclip.cli.demo.train import Run

SHORT = ["--steps", "3", "--quiet"]


@pytest.fixture(autouse=True, scope="module")
def _environment_kept():
    # The demo sets this for its process, unless the user has; the tests must leave no trace.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture
def png(tmp_path):
    return tmp_path / "runs.png"


def run_json(png, *arguments):
    """The result of a run that says nothing but JSON."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(["demo", "--json", "-o", str(png), *arguments])
    assert (status, err.getvalue()) == (0, "")
    return json.loads(out.getvalue())


# --- the text ----------------------------------------------------------------------------------


def test_python_help_is_english_text(corpus):
    assert len(corpus.codes) > 100_000
    assert 2.5 < corpus.unigram_entropy() < 4


def test_missing_text_says_what_to_do(monkeypatch, capsys, png):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    assert main(["demo", *SHORT, "-o", str(png)]) == 1
    assert "this Python came without the module `pydoc_data.topics`" in capsys.readouterr().err


# --- what it shows -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def corpus():
    return python_help()


def train_run(corpus, steps, clip_norm, seed=0):
    xp = agclip.get_backend().xp
    return _train.train(
        xp, corpus, steps=steps, clip_norm=clip_norm, seed=seed, report=lambda *_: None
    )


def result_of(corpus, unclipped, clipped):
    return Result("numpy", 0, corpus, unclipped, clipped, 1.0, Path("runs.png"))


@pytest.fixture(scope="module")
def sixty_steps(corpus):
    """Both runs, long enough for one to explode and the other to learn."""
    return result_of(corpus, train_run(corpus, 60, math.inf), train_run(corpus, 60, 0.5))


def test_unclipped_run_explodes(sixty_steps):
    run = sixty_steps.unclipped
    assert run.exploded_at is not None
    assert max(run.losses) > 5 * sixty_steps.corpus.uniform_entropy()
    assert max(run.norms_before) > 50 * run.norms_before[0]
    assert run.clipped_steps == 0


def test_clipped_run_learns(sixty_steps):
    run = sixty_steps.clipped
    assert run.exploded_at is None
    assert run.final_loss < sixty_steps.corpus.unigram_entropy() - 0.2
    assert max(run.norms_after) <= 0.5 * (1 + 1e-6)
    assert 0 < run.clipped_steps <= run.steps


def test_both_runs_start_alike(sixty_steps):
    unclipped, clipped = sixty_steps.unclipped, sixty_steps.clipped
    assert unclipped.losses[0] == clipped.losses[0]
    assert unclipped.norms_before[0] == clipped.norms_before[0]


def test_sentences_tell_how_both_runs_went(sixty_steps):
    text = "\n".join(sentences(sixty_steps))
    assert f"no clipping: exploded at step {sixty_steps.unclipped.exploded_at}: the loss" in text
    assert "clip_norm=0.5: learnt, the final loss is" in text
    assert "Unigram entropy of the text: 3." in text


def test_run_ends_when_the_norm_is_not_finite(monkeypatch, png):
    monkeypatch.setattr(_train, "LEARNING_RATE", 1e38)
    # Whether numbers overflow before they are none depends on how products are rounded. A filter of
    # warnings is lost if another thread, which compiles kernels, ends one of its own meanwhile.
    with np.errstate(over="ignore"):
        document = run_json(png, "--steps", "20")
    run = document["unclipped"]
    assert run["steps"] < 20
    assert run["exploded_at"] is not None
    assert run["norm_before"][-1] is None
    assert png.is_file()


def test_sentence_of_a_run_that_is_not_finite(corpus):
    broken = Run(math.inf, (4.6, math.nan), (1.0, math.nan), (1.0, math.nan), 23.0)
    expected = "exploded at step 2: the gradient is no longer finite at step 2, and the run ends."
    assert sentences(result_of(corpus, broken, broken))[2] == f"no clipping: {expected}"


def test_sentence_of_a_run_that_did_not_learn(corpus):
    dull = Run(0.5, (4.6,), (1.0,), (0.5,), 23.0)
    expected = "clip_norm=0.5: no explosion, but the final loss is 1."
    assert sentences(result_of(corpus, dull, dull))[2].startswith(expected)


# --- the same on every backend -----------------------------------------------------------------


@pytest.fixture(scope="module")
def default_run(tmp_path_factory):
    return run_json(tmp_path_factory.mktemp("demo") / "runs.png", "--steps", "3")["clipped"]


@pytest.fixture(scope="module", params=["torch", "jax"])
def other_run(request, tmp_path_factory):
    pytest.importorskip(request.param, reason=f"{request.param} is not installed")
    png = tmp_path_factory.mktemp("demo") / "runs.png"
    document = run_json(png, "--steps", "3", "--backend", request.param)
    assert document["backend"] == request.param
    return document["clipped"]


@pytest.fixture(params=["loss", "norm_before", "norm_after"])
def series(request):
    return request.param


def test_clipped_run_is_the_same_on_every_backend(default_run, other_run, series):
    assert other_run[series] == pytest.approx(default_run[series], rel=1e-3)


# --- what it prints ----------------------------------------------------------------------------


def test_json(png):
    document = run_json(png, "--steps", "4", "--seed", "7", "--clip-norm", "0.25")
    clipped = document["clipped"]
    assert document["backend"] == agclip.get_backend().name
    assert (document["seed"], document["picture"]) == (7, str(png))
    assert 3 < document["unigram_entropy"] < 4
    assert (document["unclipped"]["clip_norm"], clipped["clip_norm"]) == (None, 0.25)
    assert clipped["steps"] == len(clipped["loss"]) == len(clipped["norm_before"]) == 4
    assert clipped["clipped_steps"] == sum(norm > 0.25 for norm in clipped["norm_before"])
    assert max(clipped["norm_after"]) == pytest.approx(0.25)
    assert document["unclipped"]["norm_after"] == document["unclipped"]["norm_before"]


def test_seed_decides_the_numbers(corpus):
    first, again, other = (train_run(corpus, 1, 0.5, seed) for seed in (1, 1, 2))
    assert first == again
    assert first.losses != other.losses


def test_table(capsys, png, corpus):
    assert main(["demo", *SHORT, "-o", str(png)]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    cells = {line[:30].strip(): line[30:].split() for line in lines[1:11]}
    assert lines[0].split() == ["no", "clipping", "clip_norm=0.5"]
    assert cells["steps"] == ["3", "3"]
    # The text differs between releases of Python; a network that knows nothing yet guesses evenly.
    assert cells["loss, first"][0] == cells["loss, first"][1]
    assert float(cells["loss, first"][0]) == pytest.approx(corpus.uniform_entropy(), abs=0.1)
    assert cells["norm after clipping, largest"][1] == "0.5"
    assert cells["clipped steps"][:3] == ["0", "of", "3"]
    assert "exploded" in cells
    assert lines[-1] == f"Picture: {png}"
    assert captured.err == ""


def test_progress_is_a_line_for_every_tenth(capsys, png):
    assert main(["demo", "--steps", "20", "-o", str(png)]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 20
    assert lines[0].startswith("no clipping:  10 %, step 2/20, loss ")
    assert lines[-1].startswith("clip_norm=0.5: 100 %, step 20/20, loss ")


@pytest.fixture(scope="module")
def terminal_output(tmp_path_factory):
    """What the program writes to a real terminal."""
    pytest.importorskip("rich", reason="the bar and the framed table need rich")
    pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")
    png = tmp_path_factory.mktemp("demo") / "runs.png"
    command = [sys.executable, "-m", "agclip", "demo", "--steps", "3", "-o", str(png)]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "PYTHONIOENCODING": "utf-8"}
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        written = b"".join(iter(lambda: read_terminal(ours), b""))
    os.close(ours)
    assert process.returncode == 0, written
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.decode())


def read_terminal(handle):
    with contextlib.suppress(OSError):  # Linux reports the end of a terminal as an I/O error
        return os.read(handle, 4096)
    return b""


def test_progress_on_a_terminal_is_a_bar(terminal_output):
    assert "━━━" in terminal_output
    assert "3/3" in terminal_output
    assert "gradient norm" in terminal_output


def test_table_on_a_terminal_has_a_frame(terminal_output):
    assert "┃ no clipping ┃" in terminal_output
    assert "norm before clipping, largest" in terminal_output


def test_picture_shows_all_curves(png):
    image = pytest.importorskip("matplotlib.image", reason="matplotlib is not installed")
    assert main(["demo", *SHORT, "-o", str(png)]) == 0
    pixels = (255 * image.imread(png)[..., :3]).round().astype("uint8")
    colours = {bytes(pixel).hex() for pixel in pixels[::2, ::2].reshape(-1, 3)}
    assert min(pixels.shape[:2]) > 1000
    assert {"d55e00", "0072b2", "56b4e9"} <= colours


def test_picture_is_put_in_place_whole(png):
    png.write_bytes(b"old")
    assert main(["demo", *SHORT, "-o", str(png)]) == 0
    assert png.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert list(png.parent.iterdir()) == [png]


def test_picture_that_cannot_be_finished_leaves_the_old_one(monkeypatch, capsys, png):
    figure = pytest.importorskip("matplotlib.figure", reason="matplotlib is not installed")

    def full(self, file, **_):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(figure.Figure, "savefig", full)
    png.write_bytes(b"old")
    assert main(["demo", *SHORT, "-o", str(png)]) == 1
    captured = capsys.readouterr()
    assert "could not be written: No space left on device. Make room or name" in captured.err
    assert "clipped steps" in captured.out
    assert (list(png.parent.iterdir()), png.read_bytes()) == ([png], b"old")


# --- a clipper of a file -----------------------------------------------------------------------


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "agclip.toml"
    path.write_text('[clip]\nrule = "global_norm"\nclip_norm = 0.25\n')
    return path


def test_clipper_of_a_file_takes_the_place_of_the_threshold(config, png):
    document = run_json(png, "--steps", "4", "--config", str(config))
    clipped = document["clipped"]
    wanted = run_json(png, "--steps", "4", "--clip-norm", "0.25")["clipped"]
    assert document["config"] == str(config)
    assert clipped["clip_norm"] is None
    assert (clipped["loss"], clipped["clipped_steps"]) == (wanted["loss"], wanted["clipped_steps"])


def test_clipper_of_a_file_is_named_in_the_table(config, capsys, png):
    assert main(["demo", *SHORT, "--config", str(config), "-o", str(png)]) == 0
    assert capsys.readouterr().out.split("\n")[0].split() == [
        "no", "clipping", "configured", "clipper",
    ]  # fmt: skip


# --- mistakes ----------------------------------------------------------------------------------


@pytest.fixture
def no_training(monkeypatch):
    """Fail if the training starts: a mistake must be told before the user has waited."""

    def train(*_, **__):
        pytest.fail("the training started")

    monkeypatch.setattr(demo, "train", train)


@pytest.mark.usefixtures("no_training")
def test_unknown_backend(capsys, png):
    assert main(["demo", "--backend", "nunpy", "-o", str(png)]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("agclip demo: error: `--backend` must be one of ")
    assert "got 'nunpy'. Did you mean 'numpy'?" in captured.err
    assert captured.out == ""


@pytest.fixture(params=[ImportError, ModuleNotFoundError, RuntimeError])
def unusable(request, monkeypatch):
    def get_backend(name):
        msg = f"the backend {name!r} must be usable here; got: no device"
        raise request.param(msg)

    monkeypatch.setattr(agclip, "get_backend", get_backend)


@pytest.mark.usefixtures("no_training", "unusable")
def test_unusable_backend_says_why(capsys, png):
    assert main(["demo", "--backend", "gone", "-o", str(png)]) == 1
    expected = "agclip demo: error: the backend 'gone' must be usable here; got: no device\n"
    assert capsys.readouterr().err == expected


def test_interrupted(monkeypatch, capsys, png):
    def train(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "train", train)
    assert main(["demo", "-o", str(png)]) == 130
    assert capsys.readouterr().err == "agclip demo: interrupted\n"


# --- the program -------------------------------------------------------------------------------


def test_without_a_command_the_help_is_printed(capsys):
    assert main([]) == 2
    captured = capsys.readouterr()
    assert "demo" in captured.err
    assert captured.out == ""


def test_help_lists_the_commands(capsys):
    assert main(["--help"]) == 0
    assert "Train a small recurrent network on text" in capsys.readouterr().out


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"agclip {agclip.__version__}\n"


def test_module_is_the_same_program():
    command = [sys.executable, "-m", "agclip", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"agclip {agclip.__version__}\n"
