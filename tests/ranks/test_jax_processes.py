"""JAX on two processes: arrays are global to a program, and so is their norm."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("jax", reason="JAX is not installed")

PROGRAM = Path(__file__).with_name("jax_processes.py")


@pytest.mark.slow
@pytest.mark.whole
def test_two_processes_get_one_norm():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=1"}
    running = [
        subprocess.Popen(
            [sys.executable, PROGRAM, address, str(rank)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    found = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0, 0], found
    # Gloo prints what it is connected to.
    last = [out.splitlines()[-1] for out, _ in found]
    assert last == ["5.0 5.0 0.600000", "5.0 5.0 0.800000"]
