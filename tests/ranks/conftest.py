"""Groups of processes: one launch an engine, in which all cases run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("rank_program.py")
SECONDS = 60


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


@pytest.fixture(scope="session")
def mpi_results():
    """What each of four MPI ranks gets in every case."""
    pytest.importorskip("mpi4py", reason="mpi4py is not installed")
    launcher = Path(sys.executable).with_name("mpiexec")
    if not launcher.exists():
        pytest.skip("there is no mpiexec beside this Python")
    return launched(launcher, "-n", "4", sys.executable, PROGRAM, "mpi", OMP_NUM_THREADS="1")


@pytest.fixture(scope="session")
def gloo_results(tmp_path_factory):
    """What each of four ranks of PyTorch's gloo gets in every case."""
    pytest.importorskip("torch", reason="PyTorch is not installed")
    file = tmp_path_factory.mktemp("gloo") / "store"
    return launched(sys.executable, PROGRAM, "gloo", file, OMP_NUM_THREADS="1")
