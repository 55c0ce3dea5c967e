"""`agclip backends`, `config` and `bench`, and the program around the commands."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import agclip
from agclip.cli import main
from agclip.cli.bench import bench


@pytest.fixture(params=["backends", "check", "config"])
def command(request):
    return request.param


def found(capsys, *arguments):
    status = main([*arguments, "--json"])
    return status, json.loads(capsys.readouterr().out)


# --- backends ----------------------------------------------------------------------------------


def test_backends_are_those_of_the_library(capsys):
    status, document = found(capsys, "backends")
    assert status == 0
    assert document["default"] == agclip.get_backend().name
    names = [row.name for row in agclip.backends()]
    assert [row["name"] for row in document["backends"]] == names


def test_backends_as_a_table(capsys):
    assert main(["backends"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["backend", "version", "source", "usable"]
    row = next(row for row in agclip.backends() if row.name == "numpy")
    assert ["numpy", row.version, row.source, "yes"] in [line.split() for line in lines]


@pytest.mark.usefixtures("unusable")
def test_backends_that_cannot_be_used_say_why(capsys):
    assert main(["backends"]) == 0
    assert "no: no device" in capsys.readouterr().out


# --- config ------------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path):
    def write(text):
        path = tmp_path / "agclip.toml"
        path.write_text(text)
        return path

    return write


GOOD = 'nonfinite = "zero"\n[clip]\nrule = "global_norm"\nclip_norm = 1.5\n'


def test_settings_in_force(capsys):
    with agclip.config_context(nonfinite="skip"):
        status, document = found(capsys, "config")
    assert status == 0
    assert document["settings"]["nonfinite"] == {"value": "skip", "source": "config_context"}
    assert document["settings"]["backend"]["source"] == "default"
    assert document["clipper"] is None


def test_settings_as_a_table(capsys):
    assert main(["config"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["setting", "value", "source"]
    assert ["nonfinite", '"propagate"', "default"] in rows
    assert ["device", "auto", "default"] in rows


@pytest.fixture
def places(project, capsys):
    """A function that returns what was found in each place below a project."""

    def looked(*arguments):
        status, document = found(capsys, "config", *arguments)
        assert status == 0
        return {Path(row["path"]): row["found"] for row in document["files"]}

    return looked


def test_config_tells_where_it_looked(project, places, tmp_path, monkeypatch):
    project.joinpath("agclip.toml").write_text("strict = true")
    project.joinpath("a").mkdir()
    project.joinpath("a/pyproject.toml").write_text("[tool.other]")
    monkeypatch.chdir(project / "a")
    assert list(places().items()) == [
        (tmp_path / "home/agclip/config.toml", "no file"),
        (project / "a/agclip.toml", "no file"),
        (project / "a/pyproject.toml", "no table [tool.agclip]"),
        (project / "agclip.toml", "read"),
    ]


def test_config_tells_the_file_that_a_variable_names(project, places, monkeypatch):
    project.joinpath("mine.toml").write_text("strict = true")
    monkeypatch.setenv("AGCLIP_CONFIG", "mine.toml")
    assert places()[project / "mine.toml"] == "read"


def test_config_tells_that_it_did_not_look(places, monkeypatch):
    monkeypatch.setenv("AGCLIP_CONFIG", "none")
    assert places() == {}


def test_places_as_a_table(project, monkeypatch, capsys):
    project.joinpath("agclip.toml").write_text("strict = true")
    assert main(["config"]) == 0
    out = capsys.readouterr().out
    assert ["looked", "for", "found"] in [line.split() for line in out.splitlines()]
    assert [str(project / "agclip.toml"), "read"] in [line.split() for line in out.splitlines()]
    assert out.endswith("a program looks beside its script too.\n")
    monkeypatch.setenv("AGCLIP_CONFIG", "none")
    assert main(["config"]) == 0
    assert capsys.readouterr().out.endswith("No file is looked for: AGCLIP_CONFIG says so.\n")


def test_file_is_checked_and_its_clipper_built(config, capsys):
    path = config(GOOD)
    assert main(["config", "--check", str(path)]) == 0
    out = capsys.readouterr().out
    assert f"{path}: nonfinite" in out
    assert '[{ rule = "global_norm", clip_norm = 1.5 }]' in out
    assert "The clipper: ClipByGlobalNorm(" in out
    assert out.endswith(f"{path}: nothing is wrong.\n")


def test_checking_a_file_changes_nothing(config, capsys):
    before = agclip.get_config()
    status, document = found(capsys, "config", "--check", str(config(GOOD)))
    assert (status, document["settings"]["nonfinite"]["value"]) == (0, "zero")
    assert agclip.get_config() == before


@pytest.fixture(
    params=[
        ('nonfinit = "zero"\n', "got 'nonfinit'"),
        ('nonfinite = "zeros"\n', "got 'zeros'"),
        ('[clip]\nrule = "zclop"\n', "'zclop'"),
        ('[clip]\nrule = "global_norm"\nclip_nrom = 1\n', "clip_nrom"),
        ("=\n", "must be valid TOML"),
    ],
    ids=["key", "value", "rule", "option", "syntax"],
)
def wrong(request, config):
    return config(request.param[0]), request.param[1]


def test_wrong_file(wrong, capsys):
    path, words = wrong
    assert main(["config", "--check", str(path)]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("agclip config: error: ")
    assert words in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_missing_file_of_settings(tmp_path, capsys):
    assert main(["config", "--check", str(tmp_path / "none.toml")]) == 2
    assert "`--check` must be a file; got" in capsys.readouterr().err


# --- bench -------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(bench, "WORKLOADS", {"2 arrays of 10": ((10,),) * 2})


@pytest.mark.usefixtures("small")
def test_bench_times_both_sides(backend, capsys):
    status, document = found(capsys, "bench", "--backend", backend, "--seconds", "0.01")
    (row,) = document["rows"]
    assert (status, row["backend"], row["workload"]) == (0, backend, "2 arrays of 10")
    assert row["ratio"]["seconds"] > 0
    assert row["ratio"]["low"] <= row["ratio"]["ratio"] <= row["ratio"]["high"]


@pytest.mark.usefixtures("small")
def test_bench_as_a_table(capsys):
    assert main(["bench", "--backend", "numpy", "--seconds", "0.01"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["backend", "float32", "against", "agclip", "ratio", "quartiles"]
    assert "below 1 is faster." in lines[-1]


# --- settings that stand in the way ------------------------------------------------------------


@pytest.fixture
def grads(tmp_path):
    path = tmp_path / "grads.npz"
    np.savez(path, w=np.asarray([3.0, 4.0]))
    return path


@pytest.fixture
def torch_configured(need_backend):
    need_backend("torch")
    with agclip.config_context(backend="torch"):
        yield


@pytest.mark.usefixtures("torch_configured")
def test_files_are_read_whatever_backend_is_configured(grads, capsys):
    status, document = found(capsys, "norms", str(grads))
    assert (status, document["norm"]) == (0, 5.0)


@pytest.mark.usefixtures("torch_configured")
def test_configured_backend_clips(grads, tmp_path, capsys):
    output = tmp_path / "out.npz"
    status, document = found(capsys, "clip", str(grads), "-o", str(output), "--clip-norm", "1")
    assert (status, document["backend"], document["norm_after"]) == (0, "torch", 1.0)


@pytest.mark.usefixtures("torch_configured")
def test_configured_backend_is_what_config_shows(capsys):
    _, document = found(capsys, "config")
    assert document["settings"]["backend"] == {"value": "torch", "source": "config_context"}


def test_setting_that_is_wrong_is_no_traceback(monkeypatch, grads, capsys):
    def get_config():
        msg = "`nonfinite` must be one of ...; got 'foo' (AGCLIP_NONFINITE)."
        raise ValueError(msg)

    monkeypatch.setattr(agclip, "get_config", get_config)
    assert main(["norms", str(grads)]) == 2
    assert capsys.readouterr().err == (
        "agclip norms: error: `nonfinite` must be one of ...; got 'foo' (AGCLIP_NONFINITE).\n"
    )


def test_configured_backend_that_cannot_be_used_is_said(monkeypatch, capsys):
    def get_backend(name=None):
        msg = "`backend` must name a backend that can be used here; got 'cupy'."
        raise RuntimeError(msg)

    monkeypatch.setattr(agclip, "get_backend", get_backend)
    assert main(["backends"]) == 0
    out = capsys.readouterr().out
    assert "Default, where no array says otherwise: none.\n`backend` must name" in out


# --- the program -------------------------------------------------------------------------------


def test_every_command_has_json(command, capsys):
    assert main([command, "--help"]) == 0
    assert "--json" in capsys.readouterr().out


def test_program_in_a_process_of_its_own(tmp_path):
    command = [sys.executable, "-m", "agclip", "norms", str(tmp_path / "none.npz")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("agclip norms: error: `FILE` must be a file; got ")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_reader_that_has_seen_enough_is_no_mistake():
    command = [sys.executable, "-m", "agclip", "config"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        said = process.stderr.read()
    assert (process.returncode, said) == (0, b"")
