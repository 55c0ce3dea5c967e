"""Compiled kernels on the threads that PyTorch has: the bits, and where they must not be used."""

import ctypes
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

import agclip
import hosts
from agclip._trees.gather import gather
from agclip.testing import _surroundings
from agclip_backends._host import team as team_
from agclip_backends._host import threads as threads_
from thinned import thinned

pytest.importorskip("numba", reason="Numba is not installed")
torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from agclip_backends.torch import tensors  # noqa: E402 - imports torch

if tensors.team() is None or not tensors.team().free():
    pytest.skip("PyTorch has no threads of OpenMP here", allow_module_level=True)

AT_ONCE = 16
SIZES = (hosts.SHARED, 5, 0, 3 * hosts.BLOCK + 1, 3 * hosts.BLOCK, 1)


@pytest.fixture(autouse=True)
def compiled():
    """Compiled kernels, and three threads of PyTorch's."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    with hosts.accelerated("numba"):
        yield
    torch.set_num_threads(before)


@pytest.fixture
def handed(monkeypatch):
    """The numbers of threads of the calls that a team was handed, which never rests."""
    calls = []
    monkeypatch.setattr(team_, "_LONGEST", 0)
    monkeypatch.setattr(tensors.team(), "_rest", 0)
    work_off = team_.Team.work_off

    def counting(self, kernels, job, threads):
        calls.append(threads)
        work_off(self, kernels, job, threads)

    monkeypatch.setattr(team_.Team, "work_off", counting)
    return calls


@pytest.fixture
def owned(monkeypatch):
    """The numbers of threads of the calls that agclip's own threads were handed."""
    calls = []
    work_off = threads_.work_off

    def counting(shares, threads):
        calls.append(threads)
        work_off(shares, threads)

    monkeypatch.setattr("agclip_backends._host.tables.work_off", counting)
    return calls


HOST = hosts.Host("torch", "numba")


def tree_of(dtype, sizes=SIZES):
    return [HOST.copy(hosts.drawn(dtype, size, seed=seed)) for seed, size in enumerate(sizes)]


def odd_tree_of(dtype):
    """The same with NaN, infinities and subnormal numbers."""
    tree = tree_of(dtype)
    for leaf in (tree[0], tree[3]):
        real = leaf.view(-1) if dtype in hosts.REAL else torch.view_as_real(leaf).view(-1)
        real[7::100_003] = math.nan
        real[8::100_003] = -math.inf
        real[9::1_003] *= 1e-6
    return tree


def arguments_of(kernels, leaves):
    """What each kernel takes besides the table and blocks; and the memory that it writes."""
    blocks, n = leaves.blocks, len(leaves)
    out, parts = np.zeros(blocks), np.zeros((blocks, 3), np.int64)
    new = [torch.zeros_like(leaf) for leaf in leaves]
    to = np.array([leaf.data_ptr() for leaf in new])
    anchors = np.array([1.5 * 2.0 ** (60 - b) for b in (32, 64, 96)])
    factor = np.array([0.3, 0.7, 0.4, 0.9])
    lows, highs = np.linspace(-1, -0.1, n), np.linspace(0.1, 1, n)
    return {
        kernels.sum_squares: ((0.75, out), out),
        kernels.sum_magnitudes: ((out,), out),
        kernels.peaks: ((out,), out),
        kernels.exact_parts: ((0.5, anchors, True, parts), parts),
        kernels.scale: ((to, factor), new),
        kernels.clip: ((to, lows, highs), new),
    }


def memory(written):
    if isinstance(written, np.ndarray):
        return written.tobytes()
    return b"".join(
        ctypes.string_at(leaf.data_ptr(), leaf.nbytes) for leaf in written if leaf.nbytes
    )


KERNELS = ("sum_squares", "sum_magnitudes", "peaks", "exact_parts", "scale", "clip")


@pytest.mark.parametrize("dtype", [*hosts.REAL, *hosts.COMPLEX])
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_kernel_writes_the_same_bits_whoever_works(kernel, dtype, handed, owned):
    leaves = gather(odd_tree_of(dtype), "t").arrays
    call = getattr(leaves.kernels, kernel)
    found = []
    for whose in ("auto", "own", 1):
        given, written = arguments_of(leaves.kernels, leaves)[call]
        with agclip.config_context(threads=whose):
            leaves.work(call, *given)
        found.append(memory(written))
    assert found[0] == found[1] == found[2]
    assert (handed, owned) == ([3], [3, 1])


def test_every_kernel_of_the_table_can_be_handed_to_a_team():
    kernels = gather(tree_of("float32"), "t").arrays.kernels
    assert {kernel.__name__ for kernel in kernels.SHARED} == {*KERNELS}
    assert sorted(kernels.SHARED.values()) == list(range(len(KERNELS)))


CALLS = {
    "norm": lambda t: agclip.clip_by_global_norm(t, 1.0),
    "norm in place": lambda t: agclip.clip_by_global_norm_(t, 1.0),
    "within": lambda t: agclip.clip_by_global_norm_(t, 1e12),
    "order 1": lambda t: agclip.clip_by_global_norm(t, 1.0, ord=1),
    "largest": lambda t: agclip.clip_by_global_norm(t, 0.5, ord=math.inf),
    "reproducible": lambda t: agclip.clip_by_global_norm(t, 1.0, reproducible=True),
    "value": lambda t: (agclip.clip_by_value(t, -0.1, 0.2), torch.zeros(())),
    "value in place": lambda t: (agclip.clip_by_value_(t, -0.1, 0.2), torch.zeros(())),
}


@pytest.mark.parametrize("name", CALLS, ids=hosts.kebab)
@pytest.mark.parametrize("dtype", hosts.REAL)
def test_a_clip_has_the_same_bits_whoever_works(name, dtype, handed):
    found = []
    for whose in ("auto", "own"):
        with agclip.config_context(threads=whose):
            clipped, norm = CALLS[name](tree_of(dtype))
        found.append([hosts.bits(HOST.entries(x)) for x in (*clipped, norm)])
    assert found[0] == found[1]
    assert handed


@pytest.mark.parametrize("size", [hosts.SHARED - 1, hosts.SHARED], ids=["less", "enough"])
def test_the_team_is_handed_what_is_worth_sharing(size, handed):
    agclip.global_norm(torch.ones(size))
    assert handed == [3] * (size >= hosts.SHARED)


def test_a_number_of_threads_is_a_number_of_own_ones(handed, owned):
    with agclip.config_context(threads=2):
        agclip.global_norm(torch.ones(hosts.SHARED))
    assert (handed, owned) == ([], [2])


def test_arrays_of_a_library_without_a_team_are_worked_on_by_own_threads(handed, owned):
    agclip.global_norm(np.ones(hosts.SHARED))
    assert (handed, len(owned)) == ([], 1)


def test_the_number_of_threads_is_the_one_that_pytorch_uses_now(handed, owned):
    leaf, found = HOST.copy(hosts.drawn("float32", 3 * hosts.SHARED)), set()
    for threads in (2, 5, 1, 3, 2):
        torch.set_num_threads(threads)
        found.add(float(agclip.global_norm(leaf)))
    assert len(found) == 1
    assert (handed, owned) == ([2, 5, 3, 2], [1])


def test_sixteen_threads_clip_at_once_each_with_a_team(handed):
    x = hosts.drawn("float32", hosts.SHARED + 77)
    norm = math.sqrt(math.fsum(hosts.parts(x) ** 2))
    wanted = hosts.bits(hosts.scaled(x, 0.3 * norm / norm))
    together = threading.Barrier(AT_ONCE)

    def clip(_):
        torch.set_num_threads(2)
        leaf = HOST.copy(x)
        together.wait()
        with hosts.accelerated("numba"):  # which other threads do not see
            agclip.clip_by_norm_(leaf, 0.3 * norm)
        return hosts.bits(HOST.entries(leaf)) == wanted

    with ThreadPoolExecutor(AT_ONCE) as pool:
        assert list(pool.map(clip, range(AT_ONCE))) == [True] * AT_ONCE
    assert len(handed) == 2 * AT_ONCE


def test_within_a_parallel_region_the_team_is_not_used(handed, owned):
    team, seen = tensors.team(), []
    leaf = HOST.copy(hosts.drawn("float32", hosts.SHARED))
    wanted = float(agclip.global_norm(leaf))
    handed.clear()

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    def body(_):
        with hosts.accelerated("numba"):
            seen.append((team.free(), float(agclip.global_norm(leaf))))

    team._parallel(ctypes.cast(body, ctypes.c_void_p), None, 2, 0)
    assert seen == [(False, wanted)] * 2
    assert (handed, len(owned)) == ([], 2)
    assert team.free()


class Runtime:
    """A runtime whose region ends in some way of its own."""

    def __init__(self, team, end):
        self.parallel, self.end = team._parallel, end

    def __call__(self, *arguments):
        self.parallel(*arguments)
        self.end()


def test_an_interrupt_comes_when_all_is_written(monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    x = hosts.drawn("float32", hosts.SHARED)
    leaf = HOST.copy(x)
    version, team = leaf._version, tensors.team()
    monkeypatch.setattr(team, "_rest", 0)
    monkeypatch.setattr(team, "_parallel", Runtime(team, interrupt))
    with pytest.raises(KeyboardInterrupt):
        agclip.clip_by_value_(leaf, -0.1, 0.2)
    assert hosts.bits(HOST.entries(leaf)) == hosts.bits(
        np.clip(x, np.float32(-0.1), np.float32(0.2))
    )
    assert leaf._version > version
    monkeypatch.undo()
    assert float(agclip.global_norm(leaf, math.inf)) == np.float32(0.2)


class Late:
    """A runtime of which some threads come when nothing is left to do."""

    def __init__(self, team, prompt):
        self.parallel, self.prompt = team._parallel, prompt

    def __call__(self, body, job, threads, flags):
        self.parallel(body, job, min(threads, self.prompt), flags)


def test_a_team_that_is_waited_for_is_given_a_rest(monkeypatch, owned):
    # One thread does all that three were asked for, as if the others had come too late.
    leaf = torch.full((hosts.SHARED,), 2.0)
    asked, norms, team = [], [], tensors.team()
    late = Late(team, 1)
    monkeypatch.setattr(team, "_rest", 0)
    monkeypatch.setattr(team, "_next_rest", 0)
    monkeypatch.setattr(team, "_parallel", lambda *a: asked.append(len(norms)) or late(*a))
    norms.extend(float(agclip.global_norm(leaf)) for _ in range(140))
    assert norms == [2048.0] * 140
    assert asked == [0, 2, 6, 14, 30, 62, 126]
    assert len(owned) == 140 - len(asked)


@pytest.mark.parametrize(("came", "rest"), [(3, 0), (2, 1), (1, 1)])
def test_a_team_rests_if_a_thread_found_nothing_to_do(came, rest):
    def parallel(*_):
        job[8:10] = 64, came

    team = team_.Team(parallel, lambda: 0)
    kernels = gather(tree_of("float32"), "t").arrays.kernels
    job = np.zeros(kernels.WORDS, np.int64)
    job[kernels.BLOCKS], job[kernels.SHARE] = 64, 16
    team.work_off(SimpleNamespace(**{**vars(kernels), "team_body": lambda: 0}), job, 3)
    assert [team.prompt() for _ in range(2)] == [not rest, True]


def test_a_share_that_is_not_done_is_told_of(monkeypatch):
    monkeypatch.setattr(tensors.team(), "_rest", 0)
    monkeypatch.setattr(tensors.team(), "_parallel", lambda *_: None)
    with pytest.raises(MemoryError, match="64 KiB a thread"):
        agclip.global_norm(torch.ones(hosts.SHARED))


# --- where there is none ------------------------------------------------------------------------


def test_without_a_runtime_there_is_no_team(monkeypatch):
    def library(*_, **__):
        raise OSError

    monkeypatch.setattr(ctypes, "CDLL", library)
    assert team_.team_of(torch._C.__file__) is None


def test_a_library_that_is_not_loaded_is_not_loaded_for_its_team(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(ctypes, "CDLL", lambda *a, mode: asked.append(mode) or object())
    assert team_.team_of(str(tmp_path / "none.so")) is None
    assert all(mode & team_.os.RTLD_NOLOAD for mode in asked)


def test_threads_that_are_not_of_openmp_are_no_team(monkeypatch):
    text = "ATen parallel backend: native thread pool"
    monkeypatch.setattr(torch.__config__, "parallel_info", lambda: text)
    assert tensors.team.__wrapped__() is None


@pytest.fixture
def no_team(monkeypatch):
    monkeypatch.setattr(tensors, "_LIBRARY", tensors._LIBRARY._replace(team=lambda: None))


@pytest.mark.usefixtures("no_team")
def test_without_a_team_own_threads_are_used(owned):
    assert float(agclip.global_norm(torch.full((hosts.SHARED,), 2.0))) == 2048.0
    assert owned == [3]


@pytest.mark.parametrize("text", ["", "7 (a name", "7 (a) b) S 1 1", "7 (a) S 1 1 0 -1 x"])
def test_what_a_system_does_not_tell_is_no_fork(text, tmp_path, monkeypatch):
    path = tmp_path / "stat"
    path.write_text(text)
    monkeypatch.setattr(team_, "Path", lambda _: path)
    assert not team_._is_forked()


def test_a_fork_is_seen_behind_any_name(tmp_path, monkeypatch):
    path = tmp_path / "stat"
    monkeypatch.setattr(team_, "Path", lambda _: path)
    found = []
    for flags in (0x400040, 0x400000):
        path.write_text(f"7 (a) b) 1 2 3 4 5 64) S 1 7 7 0 -1 {flags} 64 64")
        found.append(team_._is_forked())
    assert found == [True, False]


def test_the_check_tells_whose_threads_are_used(monkeypatch):
    def said(whose):
        with agclip.config_context(threads=whose) as settings:
            return _surroundings.threads(settings)

    runtime = tensors.team().runtime
    assert "omp" in runtime.lower()
    assert said("auto") == f"{runtime} for torch, agclip's own for others"
    assert said("own") == "agclip's own (config_context says so)"
    assert said(2) == "agclip's own, 2 (config_context says so)"
    monkeypatch.setattr(team_._forked, "here", True)
    assert said("auto") == "agclip's own"


# --- processes ----------------------------------------------------------------------------------

PRELUDE = """
import atexit, os, sys, threading
import numpy as np
import torch
torch.set_num_threads(2)

# Memory of NumPy's: in a forked child PyTorch's own loops wait for ever for their threads.
def use():
    return float(torch.ones(3 << 20).sum())

def clip(size=3 << 20):
    import agclip
    x = np.full(size, 2.0, "float32")
    norm = agclip.clip_by_global_norm_([torch.from_numpy(x)], 8.0)[1]
    wanted = 2.0 * size**0.5
    right = x == np.float32(2.0) * np.float32(8.0 / wanted)
    return float(norm) == np.float32(wanted) and bool(right.all())

def handed(work=None):
    import agclip
    from agclip_backends._host import team
    Team, team._LONGEST = team.Team, 0
    work = work or clip
    calls = []
    off = Team.work_off
    Team.work_off = lambda *a: calls.append(1) or off(*a)
    try:
        return work(), bool(calls)
    finally:
        Team.work_off = off

def in_a_child(work):
    child = os.fork()
    if child == 0:
        status = 9
        try:
            status = 0 if work() else 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""

PROGRAMS = {
    "a child of one that has clipped": """
print(handed(), in_a_child(lambda: handed() == (True, False)), handed())
""",
    "a child that loads agclip after the fork": """
use()
print((True, True), in_a_child(lambda: handed() == (True, False)), handed())
""",
    "a child of a child": """
assert clip()
child = lambda: in_a_child(lambda: handed() == (True, False)) == 0
print((True, True), in_a_child(child), handed())
""",
    "a fork in another thread": """
assert clip()
found = []
thread = threading.Thread(target=lambda: found.append(in_a_child(clip)))
thread.start()
thread.join()
print((True, True), *found, handed())
""",
    "workers that load data": """
from torch.utils.data import DataLoader

class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, row):
        torch.set_num_threads(1 + row % 2)
        return handed() == (True, False)

assert handed() == (True, True)
loader = DataLoader(Rows(), num_workers=2, batch_size=None, multiprocessing_context="fork")
print((True, True), 0 if all(loader) else 1, handed())
""",
    "at the exit": """
assert clip()
atexit.register(lambda: print((True, True), 0, (clip(), True)))
""",
    "after the main thread": """
def late():
    threading.main_thread().join()
    print((True, True), 0, (handed() == (True, False), True))

assert clip()
threading.Thread(target=late).start()
""",
    "a thread that clips until the process ends": """
ready = threading.Event()

import agclip
from agclip._trees.gather import gather
from agclip_backends._host import team
team._LONGEST = 0

# Not by way of PyTorch's functions: its C++ does not outlive the end of Python 3.11 in a thread.
def always():
    leaves = gather([torch.ones(3 << 20)], "t").arrays
    out = np.zeros(leaves.blocks)
    while True:
        leaves.work(leaves.kernels.peaks, out)
        ready.set()

for _ in range(3):
    threading.Thread(target=always, daemon=True).start()
assert ready.wait(200)
print((True, True), 0, (True, True))
""",
}


IN_TURN = "a child of one that has clipped", "workers that load data"
TO_THE_END = ("a thread that clips until the process ends",)
"""Alone: PyTorch's C++ that has loaded data does not outlive the end of Python 3.11 either."""
CELLS = [*((name,) for name in PROGRAMS), IN_TURN]


@pytest.mark.parametrize(
    "names",
    thinned(CELLS, keep=[IN_TURN, TO_THE_END], ids=lambda names: hosts.kebab(", ".join(names))),
)
def test_in_a_program(names):
    if any(word in name for word in ("child", "fork", "data") for name in names):
        needs_fork()
    done = hosts.program(
        PRELUDE + "".join(PROGRAMS[name] for name in names), "numba", warn="ignore"
    )
    wanted = "(True, True) 0 (True, True)\n" * len(names)
    assert (done.returncode, done.stdout, done.stderr) == (0, wanted, "")


def needs_fork():
    if not hasattr(team_.os, "fork"):
        pytest.skip("this system does not fork")


SPAWN = """
import multiprocessing
import torch
import agclip

def clip(_):
    from agclip_backends._host import team
    torch.set_num_threads(2)
    Team, team._LONGEST = team.Team, 0
    calls, off = [], Team.work_off
    Team.work_off = lambda *a: calls.append(1) or off(*a)
    norm = agclip.clip_by_norm(torch.ones(1 << 20), 1.0).norm()
    return round(float(norm), 4), len(calls)

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        clip(0)
        print(*pool.map(clip, [0]))
"""


def test_a_spawned_child_has_a_team_of_its_own(tmp_path):
    path = tmp_path / "spawning.py"
    path.write_text(SPAWN)
    done = hosts.run([path], "numba")
    assert (done.returncode, done.stdout) == (0, "(1.0, 2)\n"), done.stderr


ALONE = """
import torch
assert torch.get_num_threads() == 1
from agclip_backends._host.team import Team
from agclip_backends.torch import tensors
import agclip
Team.work_off = None
print(tensors.team() is not None, float(agclip.global_norm(torch.full((1 << 20,), 2.0))))
"""


def test_one_thread_of_openmp_works_alone():
    done = hosts.program(ALONE, "numba", OMP_NUM_THREADS=1)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True 2048.0\n", "")
