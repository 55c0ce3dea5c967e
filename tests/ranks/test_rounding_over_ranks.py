"""The rounding test over one link: bits of a single process, and the same vectors everywhere."""

import random

import numpy as np
import pytest

import agclip
from agclip._numerics import rounding
from ranks import placing
from ranks.placing import placed
from ranks.test_placements import on_ranks, require_pieces
from ranks.thread_ranks import Together, together

ONE, ALL = [("sum", 8)], [("sum", 8), ("max", 6), ("sum", 7)]
SIZE = 3


@pytest.fixture
def unsure(monkeypatch):
    """No test is passed: the error is taken for as large as the norm."""
    monkeypatch.setattr(rounding, "error_over_ranks", lambda count, ranks: 1.0)


def sent(program):
    """Return what each rank gets, and the vectors, which all send alike."""
    logs = [[] for _ in range(SIZE)]
    found = together(SIZE, lambda rank, met: program(rank, met.communicator(rank, logs[rank])))
    assert all(log == logs[0] for log in logs), (logs, found)
    return found, logs[0]


def drawn(seed):
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.integers(-18, 4)
    dtypes = [np.float32 if seed % 2 else np.float16, np.float32] * SIZE
    return [
        (scale * rng.standard_normal(n)).astype(dtype)
        for n, dtype in zip(rng.integers(1, 3000, size=2 * SIZE), dtypes, strict=True)
    ]


def rule(leaves, **options):
    made = agclip.ClipByGlobalNorm(0.37, **options)
    new, _, info = made.update(leaves, made.init(leaves))
    return new, info.norm


CALLS = {
    "clip": lambda t, **o: agclip.clip_by_global_norm(t, 0.37, **o),
    "strict": lambda t, **o: agclip.clip_by_global_norm(t, 0.37, strict=True, **o),
    "loss scale": lambda t, **o: agclip.clip_by_global_norm(t, 0.37, loss_scale=0.3, **o),
    "in place": lambda t, **o: agclip.clip_by_global_norm_([x.copy() for x in t], 1e-9, **o),
    "norm": lambda t, **o: ([], agclip.global_norm(t, **o)),
    "rule": rule,
}


def bits(arrays):
    return [np.asarray(x).tobytes() for x in arrays]


@pytest.mark.parametrize("forced", [False, True])
@pytest.mark.parametrize("name", CALLS)
def test_bits_are_those_of_one_process_by_default(name, forced, request):
    if forced:
        request.getfixturevalue("unsure")
    call = CALLS[name]
    for seed in range(8):
        leaves = drawn(seed)
        wanted, norm = call(leaves)
        found, vectors = sent(lambda rank, comm, t=leaves: call(t[rank::SIZE], comm=comm))
        assert vectors == (ALL if forced else ONE)
        for rank, (new, value) in enumerate(found):
            assert bits([value]) == bits([norm])
            assert bits(new) == bits(wanted[rank::SIZE])


@pytest.mark.parametrize("forced", [False, True])
@pytest.mark.parametrize("ranks", [2, 4])
def test_pieces_and_replicas_have_the_bits_of_wholes(ranks, forced, monkeypatch, request):
    monkeypatch.setattr(placing, "DTYPES", ("float16", "float32"))
    if forced:
        request.getfixturevalue("unsure")
    draw = random.Random(ranks)
    for _ in range(15):
        found = placed(draw, ranks)
        whole, wanted = agclip.clip_by_global_norm(found.leaves, 0.37)
        for tree, norm in on_ranks(found, ranks):
            assert bits([norm]) == bits([wanted])
            require_pieces(tree, found, whole, exact=True)


def test_a_norm_at_the_bound_takes_one_vector():
    def program(rank, comm):
        return agclip.clip_by_global_norm([np.float32([rank])], 5.0**0.5, comm=comm)

    found, vectors = sent(program)
    assert vectors == ONE
    assert [float(new[0][0]) for new, _ in found] == [0.0, 1.0, 2.0]


def other_arrays(rank):
    """What one rank may have beside two with NumPy's float32."""
    strict = pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")
    return {
        "float64": np.ones(2),
        "a device": strict.ones(2, dtype=strict.float32),  # reading costs, as far as can be told
    }


@pytest.mark.parametrize("name", ["float64", "a device"])
def test_no_rank_takes_the_test_if_one_cannot(name, unsure):
    odd = other_arrays(1)[name]

    def program(rank, comm):
        x = odd if rank == 1 else np.ones(2, np.float32)
        return float(agclip.global_norm([x], comm=comm))

    found, vectors = sent(program)
    assert vectors == ONE
    assert found == [pytest.approx(6**0.5)] * SIZE


PLANS = {
    "order 1": lambda t, comm: agclip.global_norm(t, 1, comm=comm),
    "a threshold of a state": lambda t, comm: agclip.ZClip(comm=comm).update(
        t, agclip.ZClip().init(t)
    ),
}


@pytest.mark.parametrize("name", PLANS)
def test_plans_that_are_not_tested_take_one_vector(name, unsure):
    found, vectors = sent(lambda rank, comm: PLANS[name]([np.ones(2, np.float32)], comm))
    assert not any(isinstance(one, str) for one in found), found
    assert vectors == ONE


def test_links_in_turn_are_not_tested(unsure):
    rows, columns = ([Together(2) for _ in range(2)] for _ in range(2))
    logs = [[] for _ in range(4)]

    def program(rank, _):
        i, j = divmod(rank, 2)
        comm = [rows[i].communicator(j, logs[rank]), columns[j].communicator(i, logs[rank])]
        return float(agclip.global_norm([np.float32([1.0 + rank])], comm=comm))

    assert together(4, program) == [pytest.approx(30**0.5)] * 4
    assert logs == [ONE * 2] * 4


def test_replicas_that_differ_by_a_rounding_are_no_error(unsure):
    def program(rank, comm):
        x = np.float32([1.0 + (rank == 0) * 2.0**-23])
        return float(agclip.global_norm([x], comm=comm, replicas=SIZE))

    found, vectors = sent(program)
    assert vectors == ALL
    assert found == [pytest.approx(1.0)] * SIZE
    assert len(set(found)) == 1


def test_a_rank_that_fails_in_the_second_vector_is_heard(unsure, monkeypatch):
    from agclip._clipping import rank_sums

    plain = rank_sums.limb_sums

    def failing(call, parts, bits, arrays, tops):
        if float(arrays[0][0]) == 7.0:
            raise MemoryError
        return plain(call, parts, bits, arrays, tops)

    monkeypatch.setattr(rank_sums, "limb_sums", failing)

    def program(rank, comm):
        return agclip.global_norm([np.float32([6.0 + rank])], comm=comm)

    first, second, third = sent(program)[0]
    assert second == "MemoryError: "
    assert first == third
    assert first.startswith("RuntimeError: every rank must get as far as the reduction; got")


@pytest.mark.parametrize("count", [1, 10**3, 10**6, 10**10])
@pytest.mark.parametrize("chain", [2**12, 2**14, 3 << 16, 2**18])
def test_the_bound_is_that_of_every_part_or_above(chain, count):
    assert rounding.known_chain(chain)
    for ranks in (1, 3, 1000):
        bound = rounding.error_over_ranks(count, ranks)
        for part in (count // ranks, count):
            assert bound >= rounding.error_of(chain, part)


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_backends_of_the_host_sum_in_known_chains(name, need_backend):
    need_backend(name)
    backend = agclip.get_backend(name)
    assert rounding.known_chain(backend.chain or backend.block)
