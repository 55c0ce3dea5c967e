"""When Numba is loaded: not at the start, not for little work, and never to anybody's harm."""

import json

import numpy as np
import pytest

import agclip
import hosts
from agclip_backends._host import loader

pytest_plugins = ["host_fixtures"]

PRELUDE = """
import sys
import numpy as np
import agclip
from agclip_backends._host.loader import loader

def numba():
    return sorted({"numba", "llvmlite"} & {*sys.modules})

def work(calls=1):
    leaf = np.full(5 << 20, 2.0, "float32")
    for _ in range(calls):
        norm = agclip.global_norm([leaf])
    return float(norm)
"""


@pytest.fixture
def needs_numba():
    pytest.importorskip("numba", reason="Numba is not installed")


LIFE = """
import json
found = {"at the start": numba()}
agclip.clip_by_norm(np.ones(1000, "float32"), 1.0)
found["after a small call"] = numba()
work()
loader.thread.join()
found["after much work"] = numba()
from agclip._trees.gather import gather
found["takes"] = type(gather([np.ones(3)], "t").arrays).__module__
found["threads"] = loader.thread is not None
found["norm"] = work()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def life():
    """What a program sees that begins with little work, and goes on with much."""
    pytest.importorskip("numba", reason="Numba is not installed")
    done = hosts.program(PRELUDE + hosts.AT_ONCE + LIFE, "auto")
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_numba_is_not_loaded_at_the_start(life):
    assert life["at the start"] == []


def test_numba_is_not_loaded_for_a_small_call(life):
    assert life["after a small call"] == []


def test_after_much_work_the_kernels_are_loaded_in_a_thread_and_used(life):
    assert life["after much work"] == ["llvmlite", "numba"]
    assert life["takes"] == "agclip_backends._host.tables"
    assert life["threads"]
    assert life["norm"] == pytest.approx(2 * (5 << 20) ** 0.5, rel=1e-6)


def test_a_program_may_end_while_the_kernels_are_compiled(needs_numba, tmp_path):
    done = hosts.program(PRELUDE + "work(); print(1)", "auto", NUMBA_CACHE_DIR=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


ABSENT = "import sys; sys.modules['numba'] = None" + PRELUDE
COUNTED = """
import importlib.util
searches = []
search = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: searches.append(name) or search(name, *rest)
"""


def test_without_numba_array_calls_answer():
    done = hosts.program(ABSENT + "print(work(3), numba(), loader.module)", "auto")
    answer = float(np.float32(2 * (5 << 20) ** 0.5))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{answer} ['numba'] None\n"


def test_numba_is_looked_for_once():
    program = ABSENT + COUNTED + "work(9); print(searches.count('numba'))"
    done = hosts.program(program, "auto")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


@pytest.fixture
def broken(tmp_path):
    """A folder with a Numba that refuses this version of NumPy, as its releases do."""
    package = tmp_path / "numba"
    package.mkdir()
    package.joinpath("__init__.py").write_text(
        'raise ImportError("Numba needs NumPy 2.0 or less. Got NumPy 9.9.")\n'
    )
    return tmp_path


def test_with_a_numba_that_does_not_load_array_calls_answer(broken):
    program = PRELUDE + "work(); loader.thread.join(); print(work(), loader.module)"
    done = hosts.program(program, "auto", PYTHONPATH=broken)
    answer = float(np.float32(2 * (5 << 20) ** 0.5))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{answer} None\n", "")


def test_a_numba_that_does_not_load_is_an_error_where_it_is_asked_for(broken):
    done = hosts.program(PRELUDE + "work()", "numba", PYTHONPATH=broken)
    assert done.returncode == 1
    assert "Numba needs NumPy 2.0 or less" in done.stderr


@pytest.mark.parametrize(("mode", "ends"), [("auto", 0), ("off", 0), ("numba", 1)])
def test_a_numba_that_does_not_compile_is_an_error_where_it_is_asked_for(
    needs_numba, tmp_path, mode, ends
):
    done = hosts.program(
        PRELUDE + "work(); loader.thread and loader.thread.join(); work(); print(loader.module)",
        mode,
        NUMBA_DISABLE_JIT=1,
        NUMBA_CACHE_DIR=tmp_path,
    )
    assert (done.returncode, done.stdout) == (ends, "" if ends else "None\n")
    assert ("with NUMBA_DISABLE_JIT. Unset one of them." in done.stderr) == bool(ends)


def test_switched_off_nothing_is_loaded(needs_numba):
    done = hosts.program(PRELUDE + "work(3); print(numba(), loader.thread)", "off")
    assert (done.returncode, done.stdout, done.stderr) == (0, "[] None\n", "")


def test_asked_for_it_must_be_installed(monkeypatch):
    monkeypatch.setattr(loader, "_installed", lambda: False)
    monkeypatch.setattr(loader.loader, "module", None)
    message = r'`accelerate` must not be "numba" without Numba; .*pip install "agclip\[fast\]"'
    with (
        agclip.config_context(accelerate="numba"),
        pytest.raises(ModuleNotFoundError, match=message),
    ):
        agclip.global_norm([np.ones(3)])


def test_with_kernels_at_hand_they_can_be_switched_off(compiled_host):
    leaf = compiled_host.array([3.0, 4.0])
    assert hosts.compiled([leaf])
    with agclip.config_context(accelerate="off"):
        assert not hosts.compiled([leaf])
    assert hosts.compiled([leaf])
