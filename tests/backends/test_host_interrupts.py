"""Ctrl-C in the midst of a call that threads share: prompt, and nothing is written after it."""

import itertools
import json
import signal
import threading
import time
import weakref

import numpy as np
import pytest

import agclip
import hosts
from agclip._trees.gather import gather
from agclip_backends._host import tables, threads
from agclip_backends._host.loader import loader
from agclip_backends.numpy import ndarrays
from thinned import thinned

pytest_plugins = ["host_fixtures"]

needs_timer = pytest.mark.skipif(
    not hasattr(signal, "setitimer"), reason="this system has no timer that sends signals"
)

STORM = """
import faulthandler, json, random, signal, sys, time
import numpy as np
faulthandler.enable()
library, way, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
if library == "torch":
    import torch
import agclip

agclip.set_config(accelerate="numba", threads=3)
x = np.full(3 << 20, 2.0, "float32")
wanted = float(np.float32(2.0 * x.size**0.5))
y = x.copy()
leaf = torch.from_numpy(y) if library == "torch" else y
armed = False

def interrupt(*_):
    if armed:
        raise KeyboardInterrupt

def clip():
    if way == "in-place":
        return agclip.clip_by_global_norm_([leaf], 1e-3)[1]
    return agclip.clip_by_global_norm([leaf], 1.0)[1]

signal.signal(signal.SIGALRM, interrupt)
clip()
y[...] = 2.0
start = time.perf_counter()
clip()
span = 1.2 * (time.perf_counter() - start)
rng = random.Random(0)
found = {"interrupted": 0, "finished": 0, "wrong": 0, "late": 0}
until = time.monotonic() + seconds
while time.monotonic() < until:
    y[...] = 2.0
    norm = None
    try:
        armed = True
        signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-6, span), rng.choice([0, 5e-5]))
        norm = clip()
    except KeyboardInterrupt:
        pass
    armed = False  # before the next call: a handler runs after one
    signal.setitimer(signal.ITIMER_REAL, 0)
    if norm is not None:
        found["finished"] += 1
        found["wrong"] += float(norm) != wanted
        continue
    found["interrupted"] += 1
    if way == "in-place":
        now = y.tobytes()
        time.sleep(0.001)
        found["late"] += now != y.tobytes()
print(json.dumps(found))
"""


@needs_timer
@pytest.mark.parametrize(
    ("library", "way"),
    thinned(
        itertools.product(hosts.LIBRARIES, ("new", "in-place")),
        keep=[("numpy", "new"), ("torch", "in-place")],
        ids="-".join,
        tuples=True,
    ),
)
def test_interrupts_at_any_time_leave_memory_whole(library, way):
    pytest.importorskip("numba", reason="Numba is not installed")
    pytest.importorskip(library, reason=f"{library} is not installed")
    done = hosts.run(["-c", STORM, library, way, 1.5], "numba")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["interrupted"] > 5
    assert (found["wrong"], found["late"]) == (0, 0)


@pytest.fixture
def leaves(monkeypatch):
    """Leaves enough for three threads, and their table."""
    owner = ndarrays._LIBRARY._replace(threads=lambda: 3)
    monkeypatch.setattr(ndarrays, "_LIBRARY", owner)
    with hosts.accelerated("numba"):
        yield gather([np.zeros(hosts.SHARED + 77, "float32")], "t").arrays


class Work:
    """A kernel of which a helper does one share, and is not done with it at once."""

    def __init__(self, seconds, here=lambda: None):
        self.seconds, self.here = seconds, here
        self.main = threading.get_ident()
        self.began, self.ended = threading.Event(), threading.Event()
        self.shares = 0

    def __call__(self, *_):
        self.shares += 1
        if threading.get_ident() == self.main:
            assert self.began.wait(60)
            self.here()
        elif not self.began.is_set():
            self.began.set()
            time.sleep(self.seconds)
            self.ended.set()


@pytest.fixture
def alarms():
    """A function that has interrupts raised in this thread from now on, again and again."""

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    yield lambda first, interval: signal.setitimer(signal.ITIMER_REAL, first, interval)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@needs_timer
@pytest.mark.parametrize("interval", [0, 0.002], ids=["one", "many"])
def test_interrupts_while_the_caller_waits_do_not_end_the_wait(leaves, alarms, interval):
    work = Work(0.4, here=lambda: alarms(0.1, interval))
    ended = None
    try:
        try:
            leaves.work(work)
        finally:
            ended = work.ended.is_set()
            signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        pass
    assert ended


def test_an_interrupt_ends_the_work_after_the_shares_that_were_begun():
    def interrupt():
        raise KeyboardInterrupt

    work = Work(0.2, here=interrupt)
    with pytest.raises(KeyboardInterrupt):
        threads.work_off(threads.Shares(work, 1000, 1, None), 2)
    assert work.ended.is_set()
    assert work.shares == 2


class Interrupted:
    """A queue of which an interrupt comes right after something was put."""

    def __init__(self, queue, began):
        self.queue, self.began, self.get = queue, began, queue.get

    def put(self, call):
        self.queue.put(call)
        assert self.began.wait(60)
        raise KeyboardInterrupt


def test_an_interrupt_while_helpers_are_asked_leaves_none_at_work(leaves, monkeypatch):
    work = Work(0.3)
    crew = threads._Crew()
    crew.calls = Interrupted(crew.calls, work.began)
    monkeypatch.setattr(threads, "_crew", crew)
    with pytest.raises(KeyboardInterrupt):
        leaves.work(work)
    assert work.ended.is_set()


class Leaf:
    """Something that can be seen to be let go."""


def test_who_takes_part_holds_what_it_writes():
    leaf, began, go_on = Leaf(), threading.Event(), threading.Event()
    held = weakref.ref(leaf)

    def kernel(*_):
        began.set()
        assert go_on.wait(60)

    shares = threads.Shares(kernel, 1, 1, [leaf])
    helper = threading.Thread(target=shares.help)
    helper.start()
    assert began.wait(60)
    del shares, leaf
    assert held() is not None
    go_on.set()
    helper.join()
    del helper
    assert held() is None


def test_new_leaves_are_held_by_those_who_write_them(compiled_host, monkeypatch):
    written = []

    def alone(shares, _):
        written.append(shares.owned)
        shares.take()

    monkeypatch.setattr(tables, "work_off", alone)
    leaf = compiled_host.array(np.full(hosts.SHARED, 0.5))
    with agclip.config_context(threads="own"):
        clipped = agclip.clip_by_value(leaf, -0.25, 0.25)
    assert written[0][0] is clipped


def test_autograd_knows_of_what_was_written_before_an_interrupt(monkeypatch):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")

    def interrupted(*_):
        raise KeyboardInterrupt

    with hosts.accelerated("numba"):
        leaf = torch.full((1000,), 2.0)
        version = leaf._version
        agclip.global_norm([leaf])
        monkeypatch.setattr(loader.module, "scale", interrupted)
        with pytest.raises(KeyboardInterrupt):
            agclip.clip_by_norm_(leaf, 1.0)
    assert leaf._version > version
