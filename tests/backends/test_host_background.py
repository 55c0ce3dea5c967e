"""How kernels come beside a program that goes on: who compiles them, who reads them, the rests."""

import json
import os
import subprocess
import sys
import threading
import types

import pytest

import hosts
from agclip_backends._host import background, first_calls

# One small kernel stands for all, in both processes: what is asked is who compiles it.
PROGRAM = """
import json, sys
import numpy as np
import agclip
from agclip_backends._host import compiler, first_calls
from agclip_backends._host.loader import loader

first_calls.make_all = lambda k, between=lambda: None: (k._float32(0x3F800000), between())
compiler._PROGRAM = compiler._PROGRAM.replace("run(place)", '''
from agclip_backends._host import first_calls
first_calls.make_all = lambda k: k._float32(0x3F800000)
run(place)
''')
compiler._ENVIRONMENT["NUMBA_NUM_THREADS"] = "1"
started, start = [], compiler._start
def counted(arguments):
    started.append(arguments)
    return start(arguments)
compiler._start = counted
exec(sys.argv[1] if len(sys.argv) > 1 else "")

def clip():
    leaf = np.full(5 << 20, 2.0, "float32")
    return float(agclip.global_norm([leaf])) == float(np.float32(2.0 * leaf.size**0.5))

right = [clip()]
if loader.thread is not None:
    loader.thread.join()
    import importlib
    kernels = importlib.import_module("agclip_backends._host.kernels")
    read = sum(kernels._float32.stats.cache_hits.values())
else:
    read = 0
print(json.dumps([len(started), bool(read), right == [True], loader.module is not None]))
"""


def begin(change="", mode="auto", **environment):
    variables = {name: str(value) for name, value in environment.items()}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", hosts.AT_ONCE + PROGRAM, change],
        env={**os.environ, "AGCLIP_ACCELERATE": mode, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process):
    out, error = process.communicate(timeout=300)
    assert (process.returncode, error) == (0, "")
    started, read, right, there = json.loads(out)
    assert right
    return {"started": started, "read": read, "there": there}


@pytest.fixture
def needs_numba(monkeypatch):
    pytest.importorskip("numba", reason="Numba is not installed")
    for variable in background.compiler._LAUNCHED:
        monkeypatch.delenv(variable, raising=False)


BY_THE_OTHER = {"started": 1, "read": True, "there": True}
FROM_DISK = {"started": 0, "read": True, "there": True}
BY_ITSELF = {"started": 0, "read": False, "there": True}


def test_what_is_not_kept_is_compiled_by_another_process_and_read(needs_numba, tmp_path):
    assert end(begin(NUMBA_CACHE_DIR=tmp_path)) == BY_THE_OTHER
    assert end(begin(NUMBA_CACHE_DIR=tmp_path)) == FROM_DISK


def test_many_at_once_start_one(needs_numba, tmp_path):
    found = [end(process) for process in [begin(NUMBA_CACHE_DIR=tmp_path) for _ in range(3)]]
    assert sorted(one["started"] for one in found) == [0, 0, 1]
    assert all(one["read"] and one["there"] for one in found)


def test_with_nowhere_to_keep_it_the_thread_compiles(needs_numba, tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    nowhere = {"NUMBA_CACHE_DIR": path, "NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator"}
    assert end(begin(**nowhere)) == BY_ITSELF


BREAKS = {
    "none may be started": (0, "compiler.why_not = lambda: 'a reason'"),
    "it cannot be started": (1, "compiler.sys.executable = '/nowhere/python'"),
    "it fails": (1, "compiler._PROGRAM = 'raise SystemExit(1)'"),
    "it compiles nothing": (1, "compiler._PROGRAM = 'pass'"),
    "it would compile into another folder": (1, "compiler._ENVIRONMENT['NUMBA_CACHE_DIR'] = other"),
}


@pytest.mark.parametrize("case", BREAKS)
def test_where_it_does_not_the_thread_compiles(case, needs_numba, tmp_path):
    started, change = BREAKS[case]
    folder, other = tmp_path / "a", tmp_path / "b"
    found = end(begin(f"other = {str(other)!r}\n{change}", NUMBA_CACHE_DIR=folder))
    assert found == {**BY_ITSELF, "started": started}
    assert not list(other.rglob("*.nbi"))


@pytest.mark.parametrize("mode", ["off", "numba"])
def test_no_process_is_started_where_a_setting_decides(mode, needs_numba, tmp_path):
    # Instead of a call that compiles all of them.
    change = "loader.load = lambda: setattr(loader, 'hopeless', True)"
    found = end(begin(change, mode, NUMBA_CACHE_DIR=tmp_path))
    assert found == {"started": 0, "read": False, "there": False}


WHOLE = """
import numpy as np
import agclip
from agclip_backends._host.loader import loader
leaf = np.full(5 << 20, 2.0, "float32")
agclip.global_norm([leaf])
loader.thread.join()
from agclip_backends._host import kernels
made = [*kernels.SHARED, kernels.complete, kernels.totals, kernels.maxima, kernels.read_arrays]
print(all(sum(kernel.stats.cache_hits.values()) == 1 for kernel in made), loader.module is kernels)
"""


@pytest.mark.whole
def test_of_all_kernels_none_is_compiled_here(needs_numba, tmp_path):
    done = hosts.program(hosts.AT_ONCE + WHOLE, "auto", NUMBA_CACHE_DIR=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True True\n", "")


# --- what is read and what is not -----------------------------------------------------------------


@pytest.fixture
def function():
    numba = pytest.importorskip("numba", reason="Numba is not installed")
    return numba.njit(lambda x: x + 1)


def test_what_would_have_to_be_compiled_is_refused_and_can_be_compiled_afterwards(function):
    with background._nothing_compiled(__name__), pytest.raises(background._NotKeptError):
        function(1)
    assert function(1) == 2


def test_functions_of_other_modules_are_compiled_all_the_same(function):
    with background._nothing_compiled("another"):
        assert function(1) == 2


def test_other_threads_compile_all_the_same(function):
    found = []
    with background._nothing_compiled(__name__):
        thread = threading.Thread(target=lambda: found.append(function(1)))
        thread.start()
        thread.join()
    assert found == [2]


# --- the rests ------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by what is slept, and by what is added to it."""
    time = types.SimpleNamespace(now=100.0, slept=[])

    def sleep(seconds):
        time.slept.append(seconds)
        time.now += seconds

    stand_in = types.SimpleNamespace(monotonic=lambda: time.now, sleep=sleep)
    monkeypatch.setattr(background, "time", stand_in)
    return time


def test_a_rest_is_as_long_as_the_work_before_it(clock):
    pace = background.Pace()
    for work in (0.25, 0.03, 0.4):
        clock.now += work
        clock.slept.clear()
        pace.rest()
        assert sum(clock.slept) == pytest.approx(work)
        assert max(clock.slept) <= background._SLICE


def test_what_was_waited_for_is_no_work(clock):
    pace = background.Pace()
    pace.wait(30.0)
    clock.slept.clear()
    pace.rest()
    assert clock.slept == []


def test_a_program_that_is_over_is_not_held_up(clock, monkeypatch):
    pace = background.Pace()
    ended = threading.Thread(target=int)
    monkeypatch.setattr(threading, "main_thread", lambda: ended)
    for way in (pace.rest, lambda: pace.wait(9.0)):
        with pytest.raises(background.OverError):
            way()
    assert clock.slept == []


def test_there_is_a_rest_after_every_piece(monkeypatch):
    pytest.importorskip("numba", reason="Numba is not installed")
    told = []
    monkeypatch.setattr(background.Pace, "rest", lambda _: told.append("rest"))
    monkeypatch.setattr(background.importlib, "import_module", told.append)
    monkeypatch.setattr(background, "_read", lambda *_: told.append("read") or True)
    background.kernels()
    assert told == [*(x for name in background._PIECES for x in (name, "rest")), "read"]


def test_every_kernel_is_a_piece():
    kernels = pytest.importorskip("agclip_backends._host.kernels", reason="Numba is not installed")
    made = []

    class Kernels:
        def __getattr__(self, name):
            if name.isupper():
                return getattr(kernels, name)
            return lambda *_: made.append(name)

    first_calls.make_all(Kernels(), lambda: made.append("rest"))
    names = made[::2]
    assert made[1::2] == ["rest"] * len(names)
    shared = {kernel.__name__ for kernel in kernels.SHARED}
    assert shared | {"complete", "totals", "maxima", "read_arrays", "team_body"} <= set(names)
