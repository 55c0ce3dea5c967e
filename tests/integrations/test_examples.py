"""The programs to copy: each runs, and does what its text says."""

import contextlib
import importlib.util
import io
import os
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
PROGRAMS = sorted(EXAMPLES.glob("*.py"))
RUN_ELSEWHERE = {"fsdp2.py": "tests/ranks/test_example.py"}


def printed(name, *needs):
    """Return what a program prints, run here: what it imports is imported once for all tests."""
    for library in needs:
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed; `make test-all` installs flax")
    out = io.StringIO()
    argv, sys.argv = sys.argv, [name]
    try:
        with contextlib.redirect_stdout(out):
            runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    finally:
        sys.argv = argv
    return out.getvalue()


def test_numpy_learns_with_clipping_and_does_not_without():
    errors = [float(x) for x in re.findall(r"error ([\d.]+)", printed("numpy_loop.py"))]
    without, with_clipping = errors
    assert without > 10
    assert with_clipping < 0.1


def test_torch_cuts_the_bad_batch_and_goes_on_from_a_checkpoint():
    text = printed("torch_loop.py", "torch")
    assert "step 20: norm 1" in text
    assert text.endswith("resumed at step 30\n")


def test_optax_cuts_the_bad_batch_in_one_compiled_step():
    text = printed("jax_optax.py", "jax", "optax")
    assert "step 20: norm" in text
    assert "compiled 1 time" in text


@pytest.mark.whole
def test_flax_learns():
    first, last = re.search(r"from ([\d.]+) to ([\d.]+)", printed("flax_nnx.py", "flax")).groups()
    assert float(last) < float(first)


@pytest.mark.slow
@pytest.mark.whole
def test_keras_learns_in_spite_of_a_broken_label():
    if importlib.util.find_spec("keras") is None or importlib.util.find_spec("jax") is None:
        pytest.skip("keras or jax is not installed")
    done = subprocess.run(  # the library of Keras is chosen for a whole process
        [sys.executable, EXAMPLES / "keras_fit.py"],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert "logged: clip_rate, grad_norm, loss" in done.stdout
    assert float(re.search(r"label: ([\d.]+)", done.stdout)[1]) < 1  # 8 without learning


def test_private_training_learns_with_noise():
    accuracy, share = re.search(r"accuracy ([\d.]+); (\d+)%", printed("private.py")).groups()
    assert float(accuracy) > 0.9
    assert 0 < int(share) < 50


def test_a_threshold_comes_from_a_log():
    text = printed("threshold_from_log.py", "rich")
    assert re.search(r"5 % of the steps: clip_norm=1\.\d+", text)
    assert text.endswith("norm 100.0 is clipped\n")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Return the environment of a process in which the example's backend is installed."""
    pytest.importorskip("array_api_strict")
    folder = tmp_path_factory.mktemp("site") / "agclip_strict-0.1.dist-info"
    folder.mkdir()
    project = tomllib.loads((EXAMPLES / "own_backend/pyproject.toml").read_text(encoding="utf-8"))
    ((group, entries),) = project["project"]["entry-points"].items()
    lines = [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (folder / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: agclip-strict\nVersion: 0.1\n", encoding="utf-8"
    )
    paths = [str(EXAMPLES / "own_backend"), str(folder.parent), *sys.path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def test_a_backend_of_ones_own_is_found_by_its_entry_point(installed):
    code = (
        "import agclip, array_api_strict as xp\n"
        "grad = xp.asarray([3.0, 4.0])\n"
        "print(agclip.clip_by_norm(grad, 10.0) is grad)\n"
        "(row,) = [r for r in agclip.backends(load=False) if r.name == 'array_api_strict']\n"
        "print(row.source)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=installed, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "agclip-strict"]


@pytest.mark.slow
@pytest.mark.whole
def test_a_backend_of_ones_own_conforms(installed):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [
            *command,
            "-c",
            os.devnull,
            "--rootdir",
            EXAMPLES / "own_backend",
            EXAMPLES / "own_backend",
        ],
        env=installed,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.name)
def test_a_program_is_short_says_what_it_is_for_and_is_listed(program):
    text = program.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 60
    assert text.startswith('"""')
    assert f"]({program.name})" in (EXAMPLES / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.name)
def test_a_program_is_run_by_a_test(program):
    where = EXAMPLES.parent / RUN_ELSEWHERE.get(program.name, "tests/integrations/test_examples.py")
    assert f'"{program.name}"' in where.read_text(encoding="utf-8")
