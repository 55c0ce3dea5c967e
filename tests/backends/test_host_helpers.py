"""Helpers that cannot be started, that are lost, or that work for several calls at once."""

import _thread
import math
import os
import threading
from types import SimpleNamespace

import numpy as np
import pytest

import agclip
import hosts
from agclip_backends._host import threads as _threads

pytest_plugins = ["host_fixtures"]

THREADS = 5
ENTRIES = 3 * hosts.SHARED + 77


@pytest.fixture
def crew(monkeypatch):
    """Helpers of a test's own."""
    made = _threads._Crew()
    monkeypatch.setattr(_threads, "_crew", made)
    return made


@pytest.fixture(params=range(THREADS), ids=lambda n: f"after-{n}-threads")
def limit(request, crew, monkeypatch):
    """A system that starts some threads for helpers, and no more."""
    left = iter(range(request.param))

    def start(*arguments):
        if next(left, None) is None:
            message = "can't start new thread"
            raise RuntimeError(message)
        return _thread.start_new_thread(*arguments)

    monkeypatch.setattr(_threads, "_thread", SimpleNamespace(start_new_thread=start))
    with agclip.config_context(threads=THREADS):
        yield request.param


@pytest.fixture(scope="module")
def drawn():
    """Entries, and their norm."""
    x = hosts.drawn("float32", ENTRIES)
    return x, math.sqrt(math.fsum(hosts.parts(x) ** 2))


@pytest.mark.parametrize("inplace", [False, True], ids=["functional", "in-place"])
def test_with_fewer_helpers_than_wanted_no_share_is_lost(
    compiled_host, crew, limit, drawn, inplace
):
    x, norm = drawn
    clip = agclip.clip_by_global_norm_ if inplace else agclip.clip_by_global_norm
    (clipped,), got = clip([compiled_host.copy(x)], 0.3 * norm)
    assert crew.count == limit
    assert float(got) == np.float32(norm)
    assert hosts.bits(compiled_host.entries(clipped)) == hosts.bits(hosts.scaled(x, 0.3))


def test_a_helper_that_could_not_be_started_is_started_by_a_later_call(crew, monkeypatch):
    taken = []

    def start(*_):
        message = "can't start new thread"
        raise RuntimeError(message)

    with monkeypatch.context() as patch:
        patch.setattr(_threads, "_thread", SimpleNamespace(start_new_thread=start))
        _threads.work_off(_threads.Shares(lambda *_: taken.append(1), 4, 1, None), 3)
        assert crew.count == 0
    _threads.work_off(_threads.Shares(lambda *_: taken.append(1), 4, 1, None), 3)
    assert (crew.count, taken) == (2, [1] * 8)


@pytest.mark.parametrize("threads", [2, 200_000])
def test_no_more_helpers_are_started_than_there_are_shares(crew, threads):
    taken = []
    shares = _threads.Shares(lambda *share: taken.append(share), 7, 3, None)
    _threads.work_off(shares, threads)
    assert sorted(taken) == [(0, 3), (3, 6), (6, 7)]
    assert crew.count == min(threads, 3) - 1


def test_without_memory_for_a_door_the_caller_works_alone(crew, monkeypatch):
    monkeypatch.setattr(_threads, "_new_lock", lambda: None)
    threads = set()
    shares = _threads.Shares(lambda *_: threads.add(threading.get_ident()), 4, 1, None)
    _threads.work_off(shares, 3)
    assert threads == {threading.get_ident()}


@pytest.fixture(params=["caller", "helper"])
def nested(request, crew):
    """The shares of a call that is made in the midst of another, by one of its threads."""
    here = threading.get_ident()
    inner, outer, begun = [], [], threading.Event()

    def kernel(start, _):
        mine = threading.get_ident() == here
        if not mine:
            begun.set()
        assert begun.wait(60)
        if mine == (request.param == "caller") and not inner:
            shares = _threads.Shares(lambda start, _: inner.append(start), 5, 1, None)
            _threads.work_off(shares, 3)
        outer.append(start)

    _threads.work_off(_threads.Shares(kernel, 5, 1, None), 3)
    return inner, outer


def test_a_call_in_the_midst_of_another_is_worked_off(nested):
    inner, outer = nested
    assert sorted(outer) == [0, 1, 2, 3, 4]
    assert sorted({*inner}) == [0, 1, 2, 3, 4]


def test_a_door_is_used_again(crew):
    for _ in range(50):
        _threads.work_off(_threads.Shares(lambda *_: None, 4, 1, None), 3)
    assert len(crew.spare) == 2


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt, SystemExit])
def test_a_helper_outlives_what_it_fails_with(crew, error):
    here, helping = threading.get_ident(), threading.Event()

    def kernel(*_):
        if threading.get_ident() == here:
            assert helping.wait(60)
        else:
            helping.set()
            raise error

    for _ in range(3):
        helping.clear()
        with pytest.raises(error):
            _threads.work_off(_threads.Shares(kernel, 2, 1, None), 2)
    assert crew.count == 1


PRELUDE = """
import os, sys, threading, time
import numpy as np

def clip(size=5 << 20):
    import agclip
    (out,), norm = agclip.clip_by_global_norm([np.full(size, 2.0, "float32")], 1.0)
    wanted = 2.0 * size**0.5
    return float(norm) == np.float32(wanted) and bool(
        (out == np.float32(2.0) * np.float32(1.0 / wanted)).all()
    )
"""

NO_THREADS = """
from agclip_backends._host.loader import loader
threading.stack_size(1 << 47)  # more than there are addresses for
try:
    threading.Thread(target=print).start()
except RuntimeError:
    pass
else:
    sys.exit("a thread was started")
print(clip(), clip(), loader.thread)
threading.stack_size(0)
clip()
print(loader.thread is not None or loader.module is not None)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a huge stack is no obstacle here")
@pytest.mark.parametrize("mode", [*hosts.MODES, "auto"])
def test_a_system_without_threads_left_gives_right_results(mode):
    pytest.importorskip("numba", reason="Numba is not installed")
    done = hosts.program(PRELUDE + NO_THREADS, mode)
    assert (done.returncode, done.stderr) == (0, "")
    later = {"off": "False", "numba": "True", "auto": "True"}[mode]
    assert done.stdout == f"True True None\n{later}\n"


LATE = """
def late():
    threading.main_thread().join()
    print(clip(), clip())

threading.Thread(target=late).start()
"""


@pytest.mark.parametrize("mode", [*hosts.MODES, "auto"])
def test_the_first_clip_may_come_when_the_main_thread_has_ended(mode):
    pytest.importorskip("numba", reason="Numba is not installed")
    done = hosts.program(PRELUDE + LATE, mode)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True True\n", "")


FORKS = """
assert clip()  # helpers are there
from agclip_backends._host.threads import Shares, work_off
here, helping, forked = threading.get_ident(), threading.Event(), threading.Event()
taken = []

def in_a_child(work):
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os._exit(0 if work() else 1)

def kernel(start, stop):
    if threading.get_ident() == here:
        assert helping.wait(60)
        fork()
        forked.set()
    else:
        helping.set()
        assert forked.wait(60)
    taken.append(start)
"""

BESIDE = """
def fork():
    found = []
    thread = threading.Thread(target=lambda: found.append(in_a_child(clip)))
    thread.start()
    thread.join()
    print(*found)

work_off(Shares(kernel, 2, 1, None), 2)
print(sorted(taken), clip())
"""

WITHIN = """
def fork():
    global child
    child = os.fork()

try:
    work_off(Shares(kernel, 2, 1, None), 2)
except RuntimeError as error:
    os._exit(7 if "must not be forked" in str(error) and clip() else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(sorted(taken), clip())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize(("fork", "status"), [(BESIDE, 0), (WITHIN, 7)], ids=["beside", "within"])
def test_a_process_may_be_forked_while_helpers_are_at_work(fork, status):
    pytest.importorskip("numba", reason="Numba is not installed")
    done = hosts.program(PRELUDE + FORKS + fork, "numba", warn="default", AGCLIP_THREADS=3)
    assert (done.returncode, done.stdout) == (0, f"{status}\n[0, 1] True\n"), done.stderr
