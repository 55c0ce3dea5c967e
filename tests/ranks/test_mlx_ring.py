"""Two processes of MLX's ring: norms over it by a function."""

import json
import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("mlx_ranks.py")
GRADS = ({"w": 3.0, "b": 1.0}, {"w": 4.0})
NORM = math.sqrt(26)


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="module")
def ring(tmp_path_factory):
    """What each rank prints."""
    mx = pytest.importorskip("mlx.core", reason="MLX is not installed")
    if not mx.distributed.is_available():
        pytest.skip("this MLX has no engine of several processes")
    hosts = tmp_path_factory.mktemp("ring") / "hosts.json"
    hosts.write_text(json.dumps([[f"127.0.0.1:{port}"] for port in free_ports(len(GRADS))]))
    ranks = [
        subprocess.Popen(
            [sys.executable, PROGRAM],
            env={**os.environ, "MLX_RANK": str(rank), "MLX_HOSTFILE": str(hosts)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(len(GRADS))
    ]
    said = [one.communicate(timeout=60) for one in ranks]
    assert [one.returncode for one in ranks] == [0, 0], [err[-2000:] for _, err in said]
    return [json.loads(out) for out, _ in said]


@pytest.mark.parametrize("library", ["mlx", "numpy"])
def test_every_rank_of_the_ring_gets_the_norm_of_both(library, ring):
    for grads, found in zip(GRADS, ring, strict=True):
        new, norm, exact, largest = found[library]
        assert norm == pytest.approx(NORM, rel=1e-7)
        assert norm == exact
        assert largest == 4.0
        assert new.keys() == grads.keys()
        for name, value in grads.items():
            assert new[name] == [pytest.approx(value / NORM, rel=1e-6)]
