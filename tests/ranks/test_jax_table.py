"""The table of cases on four devices of JAX, by types and by the name of the axis."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ranks.test_protocol import close

PROGRAM = Path(__file__).with_name("jax_table.py")
NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module")
def found():
    """What each of four shards gets."""
    pytest.importorskip("jax", reason="JAX is not installed")
    # JAX counts its devices once in a process: several make a process of their own.
    devices = "--xla_force_host_platform_device_count=4"
    done = subprocess.run(
        [sys.executable, PROGRAM],
        env={**os.environ, "XLA_FLAGS": devices, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


WANTED = {
    "two numbers": ([0.6, 0.8, 0.0, 0.0], 5.0),
    "two larger numbers": ([3.0, 4.0, 0.0, 0.0], 10.0),
    "two numbers, within": ([3.0, 4.0, 0.0, 0.0], 5.0),
    "two numbers, reproducible": ([0.6, 0.8, 0.0, 0.0], 5.0),
    "a loss scale": ([0.6, 0.8, 0.0, 0.0], 5.0),
    "four shards": (None, 5.0),
    "order 1": (None, 5.0),
    "order 3": (None, 2.571281590658235),
    "order inf": (None, 2.0),
    "beyond the square root": (None, 1.4142135623730952e300),
    "beyond the range": ([0.7071067811865475, 0.7071067811865475, 0.0, 0.0], INF),
    "ordinary and large": (None, 1e300),
    "small": (None, 5e-200),
    "an infinity and a NaN": ([NAN] * 4, NAN),
    "an infinity and a NaN, order 3": (None, NAN),
    "an infinity and a NaN, order inf": (None, NAN),
    "an infinity and a NaN, reproducible": (None, NAN),
    "an infinity and a number": ([NAN] * 4, INF),
    "a NaN, zero": ([0.0] * 4, NAN),
    "a NaN, skip": ([3.0, NAN, 0.0, 0.0], NAN),
    "dtypes": (None, 5.0),
    "a complex leaf": (None, math.sqrt(29)),
    "a complex leaf, order 1": (None, 7.0),
    "a complex leaf, order inf": (None, 5.0),
}


@pytest.mark.parametrize("way", ["types", "a name"])
@pytest.mark.parametrize("row", WANTED)
def test_every_shard_gets_the_norm_of_all(row, way, found):
    numbers, norm = WANTED[row]
    new, norms, dtype = found[way][row]
    assert close(norms, [norm] * 4), norms
    assert dtype == "float64"
    if numbers is not None:
        assert close(new, [numbers]), new


def test_what_every_shard_holds_counts_once_if_it_is_said(found):
    assert close(found["replicated"], [[5.0] * 4, [math.sqrt(37)] * 4])
