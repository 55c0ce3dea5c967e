"""The training program to copy: thresholds do not depend on the number of processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch.distributed.fsdp", reason="PyTorch is not installed, or without FSDP")

PROGRAM = Path(__file__).parents[2] / "examples" / "fsdp2.py"


def trained(folder, processes, steps):
    """Return the numbers that each step prints."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", str(processes), PROGRAM, folder, str(steps)),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
    )
    return [[float(x) for x in line.split()] for line in done.stdout.splitlines()]


@pytest.mark.slow
@pytest.mark.whole
def test_a_run_is_saved_and_goes_on_with_more_processes(tmp_path):
    begun = trained(tmp_path / "two", 2, 6)
    resumed = trained(tmp_path / "two", 3, 6)
    whole = trained(tmp_path / "one", 1, 12)
    assert [step for step, *_ in begun + resumed] == list(range(12))
    for got, wanted in zip(begun + resumed, whole, strict=True):
        assert got == pytest.approx(wanted, rel=1e-5)
    assert len({threshold for *_, threshold in whole}) > 5
