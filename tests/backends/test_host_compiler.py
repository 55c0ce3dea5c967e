"""A process that compiles the kernels: who starts one, what it inherits, and that none is left."""

import json
import os
import subprocess
import sys
import time
import types

import pytest

import hosts
from agclip_backends._host import compiler, team

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no groups of processes")


@pytest.fixture
def here(monkeypatch):
    """A process that may start others."""
    for variable in compiler._LAUNCHED:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.delitem(sys.modules, "mpi4py.MPI", raising=False)
    monkeypatch.setattr(team._forked, "here", False)
    assert compiler.why_not() == ""
    return monkeypatch


def never(*_):
    pytest.fail("a process was started")


# --- who starts one -------------------------------------------------------------------------------


NOT_PYTHON = "it is no program of an interpreter that can be started"
CASES = {
    "frozen": (NOT_PYTHON, lambda m: m.setattr(sys, "frozen", True, raising=False)),
    "no interpreter": (NOT_PYTHON, lambda m: m.setattr(sys, "executable", None)),
    "unknown interpreter": (NOT_PYTHON, lambda m: m.setattr(sys, "executable", "")),
    "embedded": (NOT_PYTHON, lambda m: m.setattr(sys, "executable", "/usr/bin/uwsgi")),
    "forked": ("it was forked", lambda m: m.setattr(team._forked, "here", True)),
    "daemon": (
        "it is a daemon of multiprocessing",
        lambda m: m.setitem(
            sys.modules,
            "multiprocessing.process",
            types.SimpleNamespace(current_process=lambda: types.SimpleNamespace(daemon=True)),
        ),
    ),
    "MPI": (
        "it is a rank of MPI",
        lambda m: m.setitem(sys.modules, "mpi4py.MPI", types.ModuleType("mpi4py.MPI")),
    ),
    **{
        variable: ("it is a rank of MPI", lambda m, name=variable: m.setenv(name, "0"))
        for variable in compiler._LAUNCHED
    },
}


@pytest.mark.parametrize("case", CASES)
def test_who_starts_no_process(case, here):
    reason, make = CASES[case]
    make(here)
    here.setattr(compiler, "_start", never)
    assert (compiler.why_not(), compiler.trial()) == (reason, reason)
    assert not compiler.compiled("/nowhere", time.sleep)


@pytest.mark.parametrize("name", ["python", "python3.13", "Python", "pythonw.exe", "python.exe"])
def test_an_interpreter_is_known_by_its_name(name, here):
    here.setattr(sys, "executable", f"/opt/bin/{name}")
    assert compiler.why_not() == ""


REFUSALS = [OSError("no more processes"), PermissionError("not here"), RuntimeError("a sandbox")]


@pytest.mark.parametrize("error", REFUSALS, ids=repr)
def test_where_no_process_can_be_started_it_is_gone_without(error, here):
    def refuse(*_, **__):
        raise error

    here.setattr(subprocess, "Popen", refuse)
    assert not compiler.compiled("/nowhere", time.sleep)
    assert compiler.trial() == f"no process can be started: {error}"


def test_one_that_fails_is_told(here):
    start = compiler._start
    here.setattr(compiler, "_start", lambda _: start(["-c", "raise SystemExit(7)"]))
    assert compiler.trial() == "a process that it starts ends with status 7"


def test_one_that_ends_well_is_not_told(here):
    assert compiler.trial() == ""


# --- what it is given -----------------------------------------------------------------------------


@pytest.mark.parametrize(("program", "done"), [("pass", True), ("raise SystemExit(3)", False)])
def test_its_status_says_whether_it_is_done(program, done, here):
    here.setattr(compiler, "_PROGRAM", program)
    assert compiler.compiled("/nowhere", time.sleep) is done


def told(here, what):
    """Return what a process of the compiler finds, given as an expression."""
    write = "import json, os, sys; open(sys.argv[1], 'w').write(json.dumps({}))"
    here.setattr(compiler, "_PROGRAM", write.format(what))
    return lambda path: (
        compiler.compiled(str(path), time.sleep),
        json.loads(path.read_text(encoding="utf-8")),
    )


def test_it_gets_the_path_of_this_process(here, tmp_path):
    here.setattr(sys, "path", ["", "/made up", *sys.path])
    assert told(here, "sys.argv[2:]")(tmp_path / "a") == (True, sys.path)


def test_its_streams_are_its_own(here, tmp_path):
    streams = "[os.fstat(n).st_rdev == os.stat(os.devnull).st_rdev for n in (1, 2)]"
    assert told(here, streams)(tmp_path / "a") == (True, [True, True])


def test_no_variable_has_it_stop_or_warn_or_compile_for_itself(here, tmp_path):
    for name, value in {
        "PYTHONWARNINGS": "error",
        "PYTHONINSPECT": "1",
        "PYTHONPATH": "/made up",
        "AGCLIP_ACCELERATE": "auto",
    }.items():
        here.setenv(name, value)
    seen = "[sys.warnoptions, sys.flags.inspect, os.environ['AGCLIP_ACCELERATE']]"
    assert told(here, seen)(tmp_path / "a") == (True, [[], 0, "off"])


@posix
def test_an_interrupt_of_the_terminal_does_not_reach_it(here, tmp_path):
    done, (group, session) = told(here, "[os.getpgrp() == os.getpid(), os.getsid(0)]")(
        tmp_path / "a"
    )
    assert (done, group, session) == (True, True, os.getsid(0))


# --- none is left ---------------------------------------------------------------------------------


class Unwanted(Exception):
    """There is no need of it any more."""


@pytest.fixture
def made(here):
    """The processes that were started, of a compiler that takes for ever."""
    found = []
    start = compiler._start
    here.setattr(compiler, "_PROGRAM", "import time; time.sleep(600)")
    here.setattr(compiler, "_start", lambda *a: found.append(start(*a)) or found[-1])
    return found


def test_one_that_is_not_wanted_any_more_is_ended(made):
    def rest(_):
        raise Unwanted

    with pytest.raises(Unwanted):
        compiler.compiled("/nowhere", rest)
    assert [bool(process.returncode) for process in made] == [True]


def test_one_that_takes_too_long_is_ended(made, here):
    rests = []
    here.setattr(compiler, "_POLLS_AT_FIRST", 2)
    here.setattr(compiler, "_POLLS", 3)
    assert not compiler.compiled("/nowhere", rests.append)
    assert rests == [compiler._INTERVAL] * 5
    assert [bool(process.returncode) for process in made] == [True, True]


@pytest.mark.parametrize("looks", [0, 20 * 60])
def test_where_others_leave_too_little_a_second_one_has_more(here, tmp_path, looks):
    program = f"import sys; open({str(tmp_path / 'nice')!r}, 'a').write(f'{{nice}} ')"
    here.setattr(compiler, "_PROGRAM", program)
    here.setattr(compiler, "_POLLS_AT_FIRST", looks)
    start = compiler._start

    def started(arguments):
        process = start(arguments)
        if looks == 0:
            process.wait()  # what it has done stays, though nobody looks
        return process

    here.setattr(compiler, "_start", started)
    assert compiler.compiled("/nowhere", time.sleep)
    assert (tmp_path / "nice").read_text() == ("19 5 " if looks == 0 else "19 ")


# The process holds a pipe open for as long as it lives, and so it tells when that is over. If it
# lives for longer than it should, it says so.
PARENT = """
import os, signal, sys, threading
from agclip_backends._host import compiler
from agclip_backends._host.background import Pace

compiler._PROGRAM = compiler._PROGRAM.replace("run(place)", '''
import os, time
def wait(_):
    with open(place, "w") as alive:
        time.sleep(20)
        alive.write("still there")
os.nice = wait
run(place)
''')
thread = threading.Thread(target=compiler.compiled, args=(sys.argv[1], Pace().wait))
threading.excepthook = lambda _: None
thread.start()
sys.stdin.readline()
"""
ENDS = {
    "well": "",
    "at once": "os._exit(0)",
    "killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "by another program": 'os.execv("/bin/true", ["true"])',
}


@posix
@pytest.mark.parametrize("end", ENDS)
def test_it_ends_with_the_process_that_has_started_it(end, here, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PARENT + ENDS[end], str(pipe)],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as parent:
        with pipe.open(encoding="utf-8") as alive:  # waits until the other end is open
            _, error = parent.communicate("\n", timeout=60)
            assert alive.read() == ""  # waits until it is closed
        assert error == ""


FORK = """
import os, sys, threading
import numpy as np
import agclip
from agclip_backends._host import compiler
from agclip_backends._host.loader import loader
begun = threading.Event()
start = compiler._start
compiler._PROGRAM = "import os; os.read(0, 1)"
compiler._start = lambda arguments: (start(arguments), begun.set())[0]
def clip():
    leaf = np.full(5 << 20, 2.0, "float32")
    return float(agclip.global_norm([leaf])) == float(np.float32(2.0 * leaf.size**0.5))
clip()
begun.wait()
child = os.fork()
if child == 0:
    sys.exit(not (clip() and loader.hopeless and loader.module is None))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), loader.module)
"""


@posix
def test_a_fork_of_a_process_that_has_one_clips_and_ends(here, tmp_path):
    pytest.importorskip("numba", reason="Numba is not installed")
    # Python 3.12 warns of any fork with threads.
    done = hosts.program(FORK, "auto", warn="default", NUMBA_CACHE_DIR=tmp_path)
    told = [line for line in done.stderr.splitlines() if "ResourceWarning" in line]
    assert (done.returncode, done.stdout, told) == (0, "0 None\n", [])


# --- one at a time --------------------------------------------------------------------------------

HOLDER = """
import fcntl, sys
file = open(sys.argv[1], "ab")
fcntl.lockf(file, fcntl.LOCK_EX)
print(flush=True)
sys.stdin.read()
"""


@pytest.fixture
def taken(tmp_path):
    """A folder that another process compiles into, and that process."""
    pytest.importorskip("fcntl", reason="Windows has no fcntl")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "agclip-compiles.lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        holder.stdout.readline()
        yield tmp_path, holder
        holder.stdin.close()


def test_a_process_waits_for_the_one_that_compiles(taken):
    place, holder = taken
    rests = []

    def rest(seconds):
        rests.append(seconds)
        if len(rests) == 3:
            holder.kill()  # with it goes its lock
            holder.wait()

    with compiler.locked(str(place), rest):
        assert rests == [compiler._INTERVAL] * 3


def test_one_that_takes_too_long_is_not_waited_for(taken, monkeypatch):
    rests = []
    monkeypatch.setattr(compiler, "_POLLS", 2)
    with compiler.locked(str(taken[0]), rests.append):
        assert rests == [compiler._INTERVAL] * 2


def test_without_locks_nobody_waits(tmp_path, monkeypatch):
    with compiler.locked(str(tmp_path / "missing"), never):
        pass
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with compiler.locked(str(tmp_path), never):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_turn_that_is_over_is_another_process_s(tmp_path):
    pytest.importorskip("fcntl", reason="Windows has no fcntl")
    with compiler.locked(str(tmp_path), never):
        pass
    done = subprocess.run(
        [sys.executable, "-c", HOLDER, str(tmp_path / "agclip-compiles.lock")],
        stdin=subprocess.DEVNULL,
        check=True,
        timeout=60,
    )
    assert done.returncode == 0
