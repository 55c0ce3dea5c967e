"""Groups of processes: one launch an engine, in which all cases run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("rank_program.py")
SECONDS = 240
"""For all cases of an engine; a group waits 60 for its ranks."""


def launched(*command, **environment):
    """Return what a program prints, as JSON."""
    done = subprocess.run(
        command,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return json.loads(done.stdout)


def by_mpi(*names):
    pytest.importorskip("mpi4py", reason="mpi4py is not installed")
    launcher = Path(sys.executable).with_name("mpiexec")
    if not launcher.exists():
        pytest.skip("there is no mpiexec beside this Python")
    command = launcher, "-n", "4", sys.executable, PROGRAM, "mpi"
    return launched(*command, *names, OMP_NUM_THREADS="1")


def by_gloo(folder, *names):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    command = sys.executable, PROGRAM, "gloo", folder / "store"
    return launched(*command, *names, OMP_NUM_THREADS="1")


def asked(request, folder):
    """Return a file with the names of the cases that the tests of a fixture ask for."""
    items = [one for one in request.session.items if request.fixturename in one.fixturenames]
    file = folder / "names.json"
    file.write_text(json.dumps(sorted({one.callspec.params["name"] for one in items})))
    return file


@pytest.fixture(scope="session")
def mpi_results():
    """What each of four MPI ranks gets in every case."""
    return by_mpi()


@pytest.fixture(scope="session")
def gloo_results(tmp_path_factory):
    """What each of four ranks of PyTorch's gloo gets in every case."""
    return by_gloo(tmp_path_factory.mktemp("gloo"))


@pytest.fixture(scope="session")
def mpi_rules(request, tmp_path_factory):
    """What each MPI rank gets in the cases of rules that are asked for."""
    return by_mpi(asked(request, tmp_path_factory.mktemp("rules")))


@pytest.fixture(scope="session")
def gloo_rules(request, tmp_path_factory):
    """What each rank of gloo gets in the cases of rules that are asked for."""
    folder = tmp_path_factory.mktemp("rules")
    return by_gloo(folder, asked(request, folder))
