"""Own threads: one call each, in short slices where the system has them; else as they are."""

import ctypes
import math
import sys
import threading

import numpy as np
import pytest

import agclip
import hosts
from agclip._trees.gather import gather
from agclip_backends._host import slices, tables, threads
from thinned import thinned

pytest_plugins = ["host_fixtures"]


def in_a_thread(work):
    found = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


def attributes():
    """Return how the calling thread is scheduled: see `slices._ATTRIBUTES`."""
    size = slices._ATTRIBUTES.size
    memory = ctypes.create_string_buffer(size)
    get = slices._NUMBERS[slices.os.uname().machine][0]
    numbers = map(ctypes.c_long, (get, 0))
    failed = ctypes.CDLL(None).syscall(*numbers, memory, ctypes.c_long(size), ctypes.c_long(0))
    return None if failed else slices._ATTRIBUTES.unpack(memory.raw)


@pytest.fixture
def scheduled():
    if sys.platform != "linux" or slices.os.uname().machine not in slices._NUMBERS:
        pytest.skip("this system does not say how long a slice is")
    if in_a_thread(attributes) is None:
        pytest.skip("this system does not let a thread ask how it is scheduled")


@pytest.mark.usefixtures("scheduled")
def test_nothing_but_the_slice_of_the_asking_thread_is_changed():
    def ask():
        before = attributes()
        slices.ask_for_short_ones()
        return before, attributes()

    here = attributes()
    before, after = in_a_thread(ask)
    assert after[:5] == before[:5]
    assert after[6:] == before[6:]
    assert after[5] in (before[5], slices._SLICE)  # the same before Linux 6.12
    assert attributes() == here


def of_two_threads():
    """Who has done two shares of which each waits for the other."""
    both, came = threading.Barrier(2), []

    def together(*_):
        both.wait(60)
        came.append(threading.get_ident())

    threads.work_off(threads.Shares(together, 2, 1, None), 2)
    return came


@pytest.mark.usefixtures("scheduled")
def test_helpers_ask_and_the_caller_does_not(monkeypatch):
    asked, crew = [], threads._Crew()
    monkeypatch.setattr(threads, "_crew", crew)
    monkeypatch.setattr(slices, "ask_for_short_ones", lambda: asked.append(threading.get_ident()))
    assert len(set(of_two_threads())) == 2
    assert len(asked) == crew.count == 1
    assert asked != [threading.get_ident()]


def refuse(*_):
    return -1


REFUSALS = {
    "another system": ("sys.platform", "darwin"),
    "another processor": ("_NUMBERS", {}),
    "no such function": ("ctypes.CDLL", lambda _: object()),
    "a refusal": ("ctypes.CDLL", lambda _: type("Library", (), {"syscall": refuse})),
}


@pytest.mark.parametrize("name", REFUSALS, ids=hosts.kebab)
def test_what_a_system_does_not_have_is_gone_without(name, monkeypatch):
    place, value = REFUSALS[name]
    monkeypatch.setattr(f"agclip_backends._host.slices.{place}", value)
    assert slices.ask_for_short_ones() is None


def test_a_helper_whose_wish_fails_works_all_the_same(monkeypatch):
    def fail():
        raise MemoryError

    monkeypatch.setattr(threads, "_crew", threads._Crew())
    monkeypatch.setattr(slices, "ask_for_short_ones", fail)
    assert len(set(of_two_threads())) == 2


SIZES = (hosts.SHARED, 5, 0, 3 * hosts.BLOCK + 1, 1)
CALLS = {
    "norm": lambda t: agclip.clip_by_global_norm_(t, 1.0),
    "within": lambda t: agclip.clip_by_global_norm_(t, 1e12),
    "order 1": lambda t: agclip.clip_by_global_norm(t, 1.0, ord=1),
    "largest": lambda t: agclip.clip_by_global_norm(t, 0.5, ord=math.inf),
    "reproducible": lambda t: agclip.clip_by_global_norm(t, 1.0, reproducible=True),
    "value": lambda t: (agclip.clip_by_value(t, -0.1, 0.2), np.zeros(())),
}


def clipped(name, dtype, count):
    tree = [hosts.drawn(dtype, size, seed=i).copy() for i, size in enumerate(SIZES)]
    with agclip.config_context(threads=count):
        leaves, norm = CALLS[name](tree)
    return [hosts.bits(x) for x in (*leaves, norm)]


@pytest.mark.parametrize(
    ("name", "dtype"),
    thinned(
        [(name, dtype) for name in CALLS for dtype in hosts.REAL],
        keep=[("norm", "float32"), ("order 1", "float64"), ("value", "float16")],
        ids=lambda pair: hosts.kebab("-".join(pair)),
        tuples=True,
    ),
)
@pytest.mark.parametrize("count", [2, 3, 16])
def test_arrays_have_the_same_bits_on_any_number_of_own_threads(name, dtype, count):
    with hosts.accelerated("numba"):
        assert clipped(name, dtype, count) == clipped(name, dtype, 1)


@pytest.fixture
def leaves():
    with hosts.accelerated("numba"):
        yield gather([np.ones(4 * hosts.SHARED, "float32")], "t").arrays


def test_a_thread_takes_part_in_one_call(leaves, monkeypatch):
    """Calls of Python would take turns: how many there are does not grow with the elements."""
    asked = []
    work_off = tables.work_off

    def counting(shares, count):
        asked.append(len(shares))
        work_off(shares, count)

    monkeypatch.setattr(tables, "work_off", counting)
    with agclip.config_context(threads=3):
        peaks = leaves.per_block(leaves.kernels.peaks)
    assert asked == [3]
    assert (peaks == 1).all()


def test_a_share_that_an_own_thread_could_not_do_is_told_of(leaves, monkeypatch):
    monkeypatch.setattr(tables, "work_off", lambda *_: None)
    with pytest.raises(MemoryError, match="64 KiB a thread"):
        leaves.per_block(leaves.kernels.peaks)
