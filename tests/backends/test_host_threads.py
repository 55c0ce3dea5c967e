"""Compiled kernels with threads, forks and children: the caller's, and their own."""

import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import agclip
import hosts
from agclip._trees.gather import gather
from agclip_backends.numpy import ndarrays

pytest_plugins = ["host_fixtures"]

AT_ONCE = 16
ENTRIES = hosts.SHARED + 77


@pytest.mark.parametrize("inplace", [False, True], ids=["functional", "in-place"])
def test_sixteen_threads_clip_at_once(host, inplace):
    x = hosts.drawn("float32", ENTRIES)
    norm = math.sqrt(math.fsum(hosts.parts(x) ** 2))
    wanted = hosts.bits(hosts.scaled(x, 0.3 * norm / norm))
    together = threading.Barrier(AT_ONCE)

    def clip(_):
        leaf = host.copy(x)
        together.wait()
        with hosts.accelerated(host.mode):  # which other threads do not see
            function = agclip.clip_by_norm_ if inplace else agclip.clip_by_norm
            return hosts.bits(host.entries(function(leaf, 0.3 * norm))) == wanted

    with ThreadPoolExecutor(AT_ONCE) as pool:
        assert list(pool.map(clip, range(AT_ONCE))) == [True] * AT_ONCE


def test_sixteen_threads_clip_one_tree(host):
    tree = [host.copy(hosts.drawn("float32", size)) for size in (ENTRIES, 5, 3000)]
    wanted = float(agclip.global_norm(tree))
    together = threading.Barrier(AT_ONCE)

    def clip(_):
        together.wait()
        with hosts.accelerated(host.mode):
            _, norm = agclip.clip_by_global_norm(tree, 1.0)
        return float(norm)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        assert set(pool.map(clip, range(AT_ONCE))) == {wanted}


@pytest.fixture
def leaves(monkeypatch):
    """Leaves enough for three threads, and their table."""
    owner = ndarrays._LIBRARY._replace(threads=lambda: 3)
    monkeypatch.setattr(ndarrays, "_LIBRARY", owner)
    with hosts.accelerated("numba"):
        yield gather([np.zeros(ENTRIES, "float32")], "t").arrays


def test_every_block_is_worked_off_once(leaves):
    ranges = []
    leaves.work(lambda _, start, stop: ranges.append((start, stop)))
    blocks = [block for start, stop in sorted(ranges) for block in range(start, stop)]
    assert blocks == list(range(-(-ENTRIES // hosts.BLOCK)))


def test_what_a_helper_raises_is_raised(leaves):
    here = threading.get_ident()
    helping = threading.Event()

    def kernel(*_):
        if threading.get_ident() == here:
            assert helping.wait(60)
        else:
            helping.set()
            raise MemoryError

    with pytest.raises(MemoryError):
        leaves.work(kernel)


def test_an_interrupt_does_not_leave_helpers_writing_to_memory_that_is_let_go(leaves):
    here = threading.get_ident()
    helping, interrupted, done = (threading.Event() for _ in range(3))

    def kernel(*_):
        if threading.get_ident() == here:
            assert helping.wait(60)
            interrupted.set()
            raise KeyboardInterrupt
        if not helping.is_set():
            helping.set()
            assert interrupted.wait(60)
            time.sleep(0.3)  # for the other thread to leave, if it does not wait
            done.set()

    with pytest.raises(KeyboardInterrupt):
        leaves.work(kernel)
    assert done.is_set()


PRELUDE = """
import os, sys
import numpy as np
import agclip
from agclip_backends._host.loader import loader

def clip(size, bound=8.0):
    leaf = np.full(size, 2.0, "float32")
    (out,), norm = agclip.clip_by_global_norm([leaf], bound)
    return float(norm) == float(np.float32(2.0 * size**0.5)) and bool(
        (out == np.float32(2.0) * np.float32(bound / (2.0 * size**0.5))).all()
    )

def in_a_child(work):
    child = os.fork()
    if child == 0:
        ok = False
        try:
            ok = work()
        finally:
            os._exit(0 if ok else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""

FORKS = {
    "before the kernels are loaded": """
print(loader.module, in_a_child(lambda: clip(3 << 20) and loader.module is not None), clip(3 << 20))
""",
    "after a threaded call": """
assert clip(3 << 20)
print(None, in_a_child(lambda: clip(3 << 20) and clip(100)), clip(3 << 20))
""",
    "of a child": """
assert clip(3 << 20)
print(None, in_a_child(lambda: clip(3 << 20) and in_a_child(lambda: clip(3 << 20)) == 0), True)
""",
}

TORCH_FORK = """
import torch
torch.set_num_threads(2)
leaf = torch.ones(3 << 20)

def work():
    clipped = agclip.clip_by_norm_(leaf.detach(), 1.0).numpy()
    return abs(float(np.linalg.norm(clipped.astype(float))) - 1.0) < 1e-6

agclip.clip_by_norm(leaf, 1.0)
print(None, in_a_child(work), work())
"""


@pytest.fixture
def needs_numba():
    pytest.importorskip("numba", reason="Numba is not installed")


@pytest.mark.parametrize("when", FORKS, ids=lambda name: name.replace(" ", "-"))
@pytest.mark.filterwarnings("ignore:.*fork")
def test_a_forked_child_clips(needs_numba, when):
    done = hosts.program(PRELUDE + FORKS[when], "numba", warn="default")
    assert (done.returncode, done.stdout) == (0, "None 0 True\n"), done.stderr


def test_a_forked_child_clips_tensors(needs_numba):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    done = hosts.program(PRELUDE + TORCH_FORK, "numba", warn="default")
    assert (done.returncode, done.stdout) == (0, "None 0 True\n"), done.stderr


HELD_UP = """
import threading
go_on = threading.Event()
loader.load_aside = lambda: go_on.wait(60)
assert clip(5 << 20)
print(loader.thread.is_alive(), in_a_child(lambda: clip(5 << 20) and clip(5 << 20)))
go_on.set()
"""


def test_a_child_that_is_forked_while_the_kernels_are_compiled_clips_without(needs_numba):
    done = hosts.program(PRELUDE + HELD_UP, "auto", warn="default")
    assert (done.returncode, done.stdout) == (0, "True 0\n"), done.stderr


SPAWN = """
import multiprocessing
import numpy as np
import agclip

def clip(size):
    return float(np.linalg.norm(agclip.clip_by_norm(np.ones(size, "float32"), 1.0)))

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        clip(1 << 20)
        print(*(round(norm, 4) for norm in pool.map(clip, [3, 1 << 20])))
"""


def test_a_spawned_child_clips(needs_numba, tmp_path):
    path = tmp_path / "spawning.py"
    path.write_text(SPAWN)
    done = hosts.run([path], "numba")
    assert (done.returncode, done.stdout) == (0, "1.0 1.0\n"), done.stderr


AT_THE_END = """
import atexit
clip(1000)
atexit.register(lambda: print(clip(3 << 20)))
"""


@pytest.mark.parametrize("mode", hosts.MODES)
def test_a_clip_at_the_exit_of_a_program_needs_no_threads(needs_numba, mode):
    done = hosts.program(PRELUDE + AT_THE_END, mode)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
