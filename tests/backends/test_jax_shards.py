"""JAX inside of shard_map and pmap: the norm of a shard is not taken for that of its array."""

import importlib.util
import json
import math
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
    # The program imports what lies beside it.
    sys.path.insert(0, str(PROGRAM.parent))
    spec = importlib.util.spec_from_file_location("jax_shards", PROGRAM)
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    return getattr(program, kind)


UNTYPED = sorted(set(cases("WAYS")) - set(cases("TYPED")))
ALL = [(way, case) for way in cases("WAYS") for case in cases("REFUSED")]
ALL += [(way, case) for way in UNTYPED for case in (*cases("OF_UNKNOWN_SIZE"), *cases("REDUCED"))]


@pytest.mark.parametrize(("way", "case"), ALL)
def test_a_norm_of_a_shard_is_refused(found, way, case):
    name = "t" if case in ("norm", "average norm", "rms", "norm along axes") else "grads"
    name = "t_list" if "global" in case and "rule" not in case else name
    path = "" if name == "t" or case == "per example" else "['w']"
    assert found[f"{case}, {way}"] == (
        f"ValueError: `{name}` must hold whole arrays where norms are taken; got one that is a "
        f"shard (inside of shard_map or pmap, along 'x') at {name}{path}. Where every device holds "
        f'all of it, as after a mean over them, set `on_shard` to "whole"; where each holds a '
        f"part, name the axes as `comm` of a global norm, or call agclip outside of it."
    )


@pytest.mark.parametrize("case", cases("OF_UNKNOWN_SIZE"))
@pytest.mark.parametrize("way", cases("TYPED"))
def test_a_size_that_is_not_known_is_refused(found, way, case):
    assert found[f"{case}, {way}"] == (
        "ValueError: `t` must hold whole arrays for this clip; got one that is cut over processes "
        "at t. Clip by the norms of leaves or by the global norm, or gather it first."
    )


@pytest.mark.parametrize("case", cases("REDUCED"))
@pytest.mark.parametrize("way", cases("TYPED"))
def test_where_types_tell_the_norm_is_that_of_all_shards(found, way, case):
    # Four shards of one number each, all of them 2: the norm is 4.
    assert found[f"{case}, {way}"] == [0.5, 0.5, 0.5, 0.5]


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


ANY = [*cases("REFUSED"), *cases("OF_UNKNOWN_SIZE"), *cases("REDUCED"), "value"]


@pytest.mark.parametrize("case", ANY)
@pytest.mark.parametrize("way", cases("WAYS"))
def test_what_is_said_to_be_whole_is_clipped_as_on_one_device(found, way, case):
    alone = found[f"{case}, alone"]
    assert [type(x) for x in alone] == [float]
    assert found[f"{case}, {way}, whole"] == alone * 4


def test_an_array_said_to_be_whole_has_a_norm_of_its_own(found):
    assert found["norm, pmap, whole"] == [1.0] * 4


@pytest.mark.parametrize("way", ["vmap with a name", "jit of a sharded array"])
def test_where_arrays_are_whole_they_are_clipped(found, way):
    assert found[way] == {"vmap with a name": [1.0] * 4, "jit of a sharded array": [0.5] * 4}[way]


# --- norms over the axes of a mesh ---------------------------------------------------------------

V = [float(x) for x in range(1, 9)]
SQUARES = sum(x * x for x in V)
BOTH = math.sqrt(SQUARES + 8)  # with [2, 2] in every shard
RANKS = {
    "types, orders": [40.0, BOTH, (sum(x**3 for x in V) + 16) ** (1 / 3), 8.0],
    "types, reproducible": [40.0, BOTH],
    "types, and a name": [BOTH],
    "no types, a name": [BOTH],
    "no types, the others count": [math.sqrt(SQUARES)],
    "pmap": [math.sqrt(SQUARES)] * 4,
    "two axes": math.sqrt(2 * SQUARES + 8),
    "a rule": [math.sqrt(SQUARES)] * 2,
    "vmap, each by itself": V,
    "a communicator outside": math.sqrt(SQUARES),
}
REFUSED = {
    "vmap": (
        "ValueError: `comm` must say over which axes norms are taken of leaves like these; got "
        "None, and one that is mapped by vmap inside of shard_map at t_list[0]. Pass () for norms "
        "of what is here."
    ),
    "an axis that is not bound": (
        "ValueError: `comm` must name axes that are bound here: 'd'; got 'q'."
    ),
    "an axis that is not bound, no types": (
        "ValueError: `comm` must name axes that are bound here; got 'q'."
    ),
    "an axis outside": "ValueError: `comm` must name axes that are bound here; got 'q'.",
    "a communicator in a program": (
        "ValueError: `comm` must name axes of a mesh for traced arrays, whose norms cannot be "
        "read; got function. Call agclip outside of the compiled function."
    ),
}


@pytest.mark.parametrize("case", RANKS)
def test_a_norm_over_axes_is_that_of_whole_arrays(found, case):
    assert found[f"ranks: {case}"] == pytest.approx(RANKS[case], rel=2e-7)


@pytest.mark.parametrize("case", REFUSED)
def test_axes_that_cannot_be_known_are_refused(found, case):
    assert found[f"ranks: {case}"] == REFUSED[case]


def test_one_float64_is_reduced_of_any_number_of_leaves(found):
    assert found["ranks: what is reduced of 100 leaves"] == ["f64[]"]


def test_arrays_that_are_global_are_reduced_once(found):
    assert found["ranks: what is reduced of global arrays"] == [1]


def test_derivatives_go_through_a_reduction(found):
    assert found["ranks: derivatives"] == pytest.approx(found["whole: derivatives"], abs=1e-7)
