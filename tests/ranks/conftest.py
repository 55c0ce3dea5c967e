"""Groups of processes: one launch an engine, in which all cases run that are asked for."""

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
    # mpiexec hands on what it reads, an end as well, and may fail where a rank does not read it
    # (MPICH 5.0, "process reading stdin too slowly"): it is given nothing to read.
    silent, held = os.pipe()
    try:
        done = subprocess.run(
            command,
            stdin=silent,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    finally:
        os.close(silent)
        os.close(held)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return json.loads(done.stdout)


def asked(request, folder, engine):
    """Return a file with what the tests of an engine ask for: `rank_program.py` reads it."""
    items = request.session.items
    rules = [one for one in items if f"{engine}_rules" in one.fixturenames]
    table = any(f"{engine}_results" in one.fixturenames for one in items)
    file = folder / "asked.json"
    names = sorted({one.callspec.params["name"] for one in rules})
    file.write_text(json.dumps({"table": table, "rules": names}))
    return file


@pytest.fixture(scope="session")
def mpi_results(request, tmp_path_factory):
    """What each of four MPI ranks gets in every case."""
    pytest.importorskip("mpi4py", reason="mpi4py is not installed")
    launcher = Path(sys.executable).with_name("mpiexec")
    if not launcher.exists():
        pytest.skip("there is no mpiexec beside this Python")
    given = asked(request, tmp_path_factory.mktemp("mpi"), "mpi")
    command = launcher, "-n", "4", sys.executable, PROGRAM, "mpi", given
    return launched(*command, OMP_NUM_THREADS="1")


@pytest.fixture(scope="session")
def gloo_results(request, tmp_path_factory):
    """What each of four ranks of PyTorch's gloo gets in every case."""
    pytest.importorskip("torch", reason="PyTorch is not installed")
    folder = tmp_path_factory.mktemp("gloo")
    given = asked(request, folder, "gloo")
    command = sys.executable, PROGRAM, "gloo", given, folder / "store"
    return launched(*command, OMP_NUM_THREADS="1")


@pytest.fixture
def mpi_rules(mpi_results):
    """What each MPI rank gets in the cases of rules that are asked for."""
    return mpi_results


@pytest.fixture
def gloo_rules(gloo_results):
    """What each rank of gloo gets in the cases of rules that are asked for."""
    return gloo_results
