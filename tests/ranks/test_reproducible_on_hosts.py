"""`reproducible=True` where ranks are on the host: bits of one process, mostly by one sum."""

import math
import random

import numpy as np
import pytest

import agclip
from agclip._numerics import rounding
from agclip.distributed import _engines, _peaks
from ranks import placing
from ranks.cases import ELSEWHERE, NO_REPLICAS, OTHER_CALL
from ranks.host_engine import host_engine, on_host  # noqa: F401 - a fixture
from ranks.placing import placed
from ranks.test_placements import require_pieces
from ranks.test_rounding_over_ranks import CALLS as USUAL
from ranks.test_rounding_over_ranks import rule

pytestmark = pytest.mark.usefixtures("host_engine")

PROBE = ("sum", 9 + _peaks.COUNT)
PASSED, PEAKS, ALL = [PROBE], [PROBE, ("sum", 7)], [PROBE, ("max", 6), ("sum", 7)]
OLD = [("max", 6), ("sum", 7)]
EXACT = {"reproducible": True}


@pytest.fixture
def unsure(monkeypatch):
    """No test is passed: the error is taken for as large as the norm."""
    monkeypatch.setattr(rounding, "error_over_ranks", lambda count, ranks: 1.0)


def bits(arrays):
    return [np.asarray(x).tobytes() for x in arrays]


def drawn(seed, dtype, size):
    """Return leaves of which ranks hold every so many, none of them but the first rank with 1."""
    rng = np.random.default_rng(seed)
    powers = (-300, 300) if dtype == "float64" and seed % 2 else (-3, 3)
    scale = 10.0 ** rng.integers(*powers)
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed").bfloat16
    counts = rng.integers(0, 2000, size=(2 * size + 1, 1, size)[seed % 3])
    return [(scale * rng.standard_normal(n)).astype(dtype) for n in counts]


def state_rule(leaves, **options):
    made = agclip.ZClip(warmup=1, **options)
    state = made.init(leaves)
    for _ in range(3):
        new, state, info = made.update(leaves, state)
    return new, info.norm


CALLS = {
    **USUAL,
    "order 1": lambda t, **o: agclip.clip_by_global_norm(t, 0.37, ord=1, **o),
    "state": state_rule,
}
DTYPES = ["float16", "bfloat16", "float32", "float64"]


def vectors_of(name, dtype, *, forced):
    if name == "order 1":
        return OLD
    if name == "state":
        return PEAKS * 3
    if dtype == "float64" or name == "rule":
        return PEAKS
    return ALL if forced else PASSED


@pytest.mark.parametrize("forced", [False, True])
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CALLS)
def test_bits_are_those_of_one_process(name, dtype, size, forced, request):
    if forced:
        request.getfixturevalue("unsure")
    call = CALLS[name]
    for seed in range(6):
        leaves = drawn(seed, dtype, size)
        wanted, norm = call(leaves, **EXACT)
        found, vectors = on_host(
            size, lambda rank, comm, t=leaves: call(t[rank::size], comm=comm, **EXACT)
        )
        expected = vectors_of(name, dtype, forced=forced)
        if dtype == "float64" and len(leaves) < size and name not in ("order 1", "state"):
            assert vectors == PEAKS  # a rank without leaves has told its peak as well
        assert vectors == expected or not float(norm) > 0, (vectors, found)
        for rank, got in enumerate(found):
            assert isinstance(got, tuple), got
            assert bits([got[1]]) == bits([norm])
            assert bits(got[0]) == bits(wanted[rank::size])


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
@pytest.mark.parametrize("dtypes", [("float16", "float32"), placing.DTYPES], ids=str)
def test_pieces_and_replicas_have_the_bits_of_wholes(ranks, dtypes, monkeypatch):
    monkeypatch.setattr(placing, "DTYPES", dtypes)
    draw = random.Random(f"{ranks} {dtypes}")
    for _ in range(15):
        found = placed(draw, ranks)
        whole, wanted = agclip.clip_by_global_norm(found.leaves, 0.37, **EXACT)

        def program(rank, comm, found=found):
            several = max(found.replicas.values()) > 1
            replicas = (lambda path, _: found.replicas[path]) if several else None
            return agclip.clip_by_global_norm(
                found.trees[rank], 0.37, comm=comm, replicas=replicas, **EXACT
            )

        for tree, norm in on_host(ranks, program)[0]:
            assert bits([norm]) == bits([wanted])
            require_pieces(tree, found, whole, exact=True)


MIXED = {
    "float64 beside float32": (lambda r: np.ones(2, np.float64 if r == 1 else np.float32), {}, ALL),
    "float64 beside none": (lambda r: np.ones(2) if r == 1 else None, {}, PEAKS),
    "replicas": (lambda _: np.ones(2, np.float32), {"replicas": 3}, PEAKS),
}


@pytest.mark.parametrize("name", MIXED)
def test_what_ranks_cannot_prove_together_is_summed_exactly(name):
    make, options, vectors = MIXED[name]

    def program(rank, comm):
        leaf = make(rank)
        tree = [] if leaf is None else [leaf]
        return float(agclip.global_norm(tree, comm=comm, **options, **EXACT))

    count = 6 if name == "float64 beside float32" else 2
    wanted = float(agclip.global_norm([np.ones(count)], **EXACT))
    found, sent = on_host(3, program)
    assert sent == vectors
    assert found == [pytest.approx(wanted, rel=1e-7)] * 3


def test_replicas_said_on_some_ranks_alone_are_looked_at():
    def program(rank, comm):
        shared = np.float32([1.0 + (rank == 0) * 2.0**-11])
        tree = {"own": np.ones(2, np.float32)} if rank == 1 else {"shared": shared}
        replicas = None if rank == 1 else {"shared": 3}
        return float(agclip.global_norm(tree, comm=comm, replicas=replicas, **EXACT))

    found, sent = on_host(4, program)
    assert sent == ALL
    assert found == [NO_REPLICAS] * 4


def test_values_that_are_not_finite_are_found():
    for dtype in ("float32", "float64"):
        for bad in (math.inf, math.nan):

            def program(rank, comm, bad=bad, dtype=dtype):
                tree = [np.array([bad if rank == 1 else 2.0], dtype)]
                return float(agclip.global_norm(tree, comm=comm, **EXACT))

            found, sent = on_host(3, program)
            assert sent == (PASSED if dtype == "float32" else PEAKS)
            assert bits(found) == bits([bad] * 3)


def other_arrays(name):
    strict = pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")
    return strict.ones(2, dtype=getattr(strict, name))


@pytest.mark.parametrize("everywhere", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ranks_on_devices_take_part(dtype, everywhere):
    def program(rank, comm):
        own = np.ones(2, dtype)
        tree = [other_arrays(dtype) if everywhere or rank == 1 else own]
        return [
            float(agclip.global_norm(tree, comm=comm, **EXACT)),
            float(rule(tree, comm=comm, **EXACT)[1]),
        ]

    found, sent = on_host(3, program)
    wanted = float(agclip.global_norm([np.ones(6, dtype)], **EXACT))
    assert found == [[wanted] * 2] * 3
    assert sent == (ALL if dtype == "float32" and not everywhere else PEAKS) + PEAKS


FAILING = {
    "bound": lambda t, odd, **o: agclip.clip_by_global_norm(t, -1.0 if odd else 1.0, **o),
    "leaf": lambda t, odd, **o: agclip.clip_by_global_norm(["a"] if odd else t, 1.0, **o),
    "leaf of a rule": lambda t, odd, **o: rule(["a"] if odd else t, **o),
    "leaf of a device": lambda t, odd, **o: agclip.global_norm(
        ["a"] if odd else [other_arrays("float32")], **o
    ),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FAILING)
def test_a_rank_that_fails_is_heard(name, dtype):
    def program(rank, comm):
        return FAILING[name]([np.ones(2, dtype)], rank == 1, comm=comm, **EXACT)

    found, sent = on_host(3, program)
    assert sent == PASSED
    assert found[0] == found[2] == ELSEWHERE
    assert isinstance(found[1], str)


@pytest.mark.parametrize("name", ["sums", "peaks", "limb_sums"])
def test_a_rank_that_fails_at_work_is_heard(name, monkeypatch):
    from agclip._clipping import rank_sums

    plain = getattr(rank_sums, name)

    def failing(call, *rest):
        arrays = rest[-2] if name == "limb_sums" else rest[-1]
        if float(arrays[0][0]) == 7.0:
            raise MemoryError
        return plain(call, *rest)

    monkeypatch.setattr(rank_sums, name, failing)
    dtype = np.float32 if name == "sums" else np.float64

    def program(rank, comm):
        return agclip.global_norm([np.array([6.0 + rank], dtype)], comm=comm, **EXACT)

    found, sent = on_host(3, program)
    assert sent == (PEAKS if name == "limb_sums" else PASSED)
    assert found[1] == "MemoryError: "
    assert found[0] == found[2] == ELSEWHERE


def test_a_rank_that_fails_where_the_test_was_not_passed_is_heard(unsure, monkeypatch):
    from agclip._clipping import rank_sums

    plain = rank_sums.peaks

    def failing(call, parts, arrays):
        if float(arrays[0][0]) == 7.0:
            raise MemoryError
        return plain(call, parts, arrays)

    monkeypatch.setattr(rank_sums, "peaks", failing)

    def program(rank, comm):
        return agclip.global_norm([np.float32([6.0 + rank])], comm=comm, **EXACT)

    found, sent = on_host(3, program)
    assert sent == ALL[:2]
    assert found == [ELSEWHERE, "MemoryError: ", ELSEWHERE]


def test_another_call_is_seen():
    def program(rank, comm):
        if rank == 1:
            return rule([np.ones(2)], comm=comm, **EXACT)
        return agclip.clip_by_global_norm([np.ones(2, np.float32)], 0.37, comm=comm, **EXACT)

    found, sent = on_host(3, program)
    assert sent == PASSED
    assert found == [OTHER_CALL] * 3


def test_engines_that_do_not_say_host_send_what_they_sent(monkeypatch):
    def program(rank, comm):
        return float(agclip.global_norm([np.float32([3.0 + rank])], comm=comm, **EXACT))

    assert on_host(2, program, host=False) == ([5.0, 5.0], OLD)
    monkeypatch.setattr(_engines, "engine_ranks", _engines.engine_ranks._replace(host=None))
    assert on_host(2, program) == ([5.0, 5.0], OLD)


def peaks():
    rng = random.Random(0)
    powers = [2.0**k for k in range(-1074, 1024)]
    return [*powers, *(p * rng.uniform(1, 2) for p in powers[60:-1]), 0.0, math.inf, math.nan]


def grid(peak):
    """Return what the grid of a peak follows from, by comparison with powers of two."""
    if not 0 < peak < math.inf:
        return repr(peak)
    power = 2.0 ** math.floor(math.log2(peak))
    while power > peak:
        power /= 2
    return power, peak == power


def test_the_grid_of_the_largest_peak_is_told_by_a_sum():
    every = peaks()
    for peak in every:
        assert grid(_peaks.largest(_peaks.told(peak))) == grid(peak)
    rng = random.Random(1)
    ordered = sorted(every, key=lambda x: (x != x, x))
    for _ in range(500):
        low, high = sorted(rng.sample(range(len(ordered)), 2))
        columns = zip(_peaks.told(ordered[low]), _peaks.told(ordered[high]), strict=True)
        many = [131070 * a + b for a, b in columns]
        assert grid(_peaks.largest(many)) == grid(ordered[high])
