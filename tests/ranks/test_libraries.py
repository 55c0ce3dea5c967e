"""Norms across ranks of every library, on threads; what they send, and what comes back."""

import pytest

import agclip
from ranks.thread_ranks import together

LIBRARIES = ["numpy", "torch", "jax", "tensorflow", "array_api_strict"]
OPTIONS = [{}, {"reproducible": True}, {"ord": 3}, {"ord": "inf"}, {"nonfinite": "error"}]
NORMS = {"3": 91 ** (1 / 3), "inf": 4.0}


@pytest.fixture(params=LIBRARIES)
def xp(request, need_backend):
    if request.param == "array_api_strict":
        pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")
    else:
        need_backend(request.param)
    return agclip.get_backend(request.param).xp


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_library_gets_the_norm_in_its_own_arrays(xp, options):
    kind = type(xp.asarray([1.0], dtype=xp.float32))

    def program(rank, met):
        tree = [xp.asarray([number], dtype=xp.float32) for number in ([3.0], [4.0], [])[rank]]
        new, norm = agclip.clip_by_global_norm(tree, 1.0, comm=met.communicator(rank), **options)
        assert rank == 2 or isinstance(norm, kind)
        return [float(leaf[0]) for leaf in new], float(norm)

    norm = NORMS.get(str(options.get("ord")), 5.0)
    wanted = [[3 / norm], [4 / norm], []]
    for got, leaves in zip(together(3, program), wanted, strict=True):
        assert isinstance(got, tuple), got
        assert got[0] == pytest.approx(leaves, rel=2e-7)
        assert got[1] == pytest.approx(norm, rel=2e-7)
        if options.get("ord") != 3:
            assert got[1] == norm


def test_every_library_has_the_same_thresholds(xp):
    def program(rank, met):
        rule = agclip.ZClip(warmup=1, comm=met.communicator(rank))
        tree = [xp.asarray([3.0 + rank], dtype=xp.float32)] if rank < 2 else []
        state = rule.init(tree)
        for _ in range(3):
            _, state, info = rule.update(tree, state)
        return info.to_host().threshold, {key: float(value) for key, value in state.items()}

    first, second, third = together(3, program)
    assert isinstance(first, tuple), first
    assert first == second == third


def test_where_reading_costs_a_synchronisation_it_is_done_once():
    strict = pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")

    def program(rank, met):
        comm = met.communicator(rank)
        tree = [strict.asarray([3.0 + rank], dtype=strict.float64 if rank else strict.float32)]
        norms = [agclip.global_norm(tree, comm=comm) for _ in range(2)]
        try:
            agclip.clip_by_global_norm(tree, 2.0 + rank, comm=comm)  # not seen before: read
        except RuntimeError as error:
            return [(float(norm), norm.dtype == strict.float64) for norm in norms], str(error)
        return None

    for norms, error in together(2, program):
        assert norms == [(5.0, True)] * 2  # the dtype of the other rank is known in both calls
        assert error.startswith("every rank must make the same call; got another bound, order")
