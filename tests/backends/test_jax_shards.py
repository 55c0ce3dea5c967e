"""JAX inside of shard_map and pmap: the norm of a shard is not taken for that of its array."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("jax", reason="JAX is not installed")

# JAX counts its devices once in a process: several make a process of their own.
PROGRAM = Path(__file__).with_name("jax_shards.py")


@pytest.fixture(scope="module")
def found():
    """What every case gives on four devices: numbers, or the text of an error."""
    flags = "--xla_force_host_platform_device_count=4"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, str(PROGRAM)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return json.loads(done.stdout)


def cases(kind):
    spec = importlib.util.spec_from_file_location("jax_shards", PROGRAM)
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    return getattr(program, kind)


@pytest.mark.parametrize("case", cases("REFUSED"))
@pytest.mark.parametrize("way", cases("WAYS"))
def test_a_norm_of_a_shard_is_refused(found, way, case):
    name = "t" if case in ("norm", "average norm", "rms", "norm along axes") else "grads"
    name = "t_list" if "global" in case and "rule" not in case else name
    path = "" if name == "t" or case == "per example" else "['w']"
    assert found[f"{case}, {way}"] == (
        f"ValueError: `{name}` must hold whole arrays where norms are taken; got one that is a "
        f"shard (inside of shard_map or pmap, along 'x') at {name}{path}. Call agclip outside of "
        f"it, or give clip_by_global_norm the norm of all shards as `use_norm`."
    )


@pytest.mark.parametrize("way", cases("WAYS"))
def test_entries_are_clipped_wherever_they_are(found, way):
    assert found[f"value, {way}"] == [0.5, 0.5, 0.5, 0.5]


@pytest.mark.parametrize("way", cases("WAYS"))
def test_a_norm_over_all_shards_may_be_given(found, way):
    # Four shards of one number each, all of them 2: the norm is 4.
    assert found[f"given norm, {way}"] == [0.5, 0.5, 0.5, 0.5]


@pytest.mark.parametrize("case", ["equal on all shards", "whole in every shard"])
@pytest.mark.parametrize("way", cases("TYPED"))
def test_what_is_equal_on_all_shards_is_whole(found, way, case):
    assert found[f"{case}, {way}"] == [1.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("way", ["vmap with a name", "jit of a sharded array"])
def test_where_arrays_are_whole_they_are_clipped(found, way):
    assert found[way] == {"vmap with a name": [1.0] * 4, "jit of a sharded array": [0.5] * 4}[way]
