"""Norms across ranks of every library, on threads; what they send, and what comes back."""

from functools import partial

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


class Meeting:
    """A communicator that cannot be a key, on the place of one that has gone."""

    __hash__ = None

    def __init__(self, told):
        self.told = told

    def __call__(self, vector, op):
        self.told.append(op)
        return vector


def test_what_one_communicator_has_told_is_not_taken_for_another():
    strict = pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")
    tree = [strict.asarray([3.0], dtype=strict.float32)]

    def wider(vector, op):  # as if another rank held float64
        return vector + strict.asarray([2.0**34, *[0.0] * 7], dtype=strict.float64)

    for _ in range(3):
        assert agclip.global_norm(tree, comm=lambda v, op: v).dtype == strict.float32
        assert agclip.global_norm(tree, comm=partial(wider)).dtype == strict.float64
    told = []
    for _ in range(2):
        assert float(agclip.global_norm(tree, comm=Meeting(told))) == 3.0
    assert told == ["sum", "sum"]
