"""Settings and dispatch where threads, tasks and processes meet: nothing hangs or is lost."""

import asyncio
import contextlib
import dataclasses
import os
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

import agclip
import arrays
from agclip._backends import registry as _registry
from agclip.config import _now

pytestmark = pytest.mark.usefixtures("project")


def nonfinite():
    return agclip.get_config().nonfinite


# --- contexts that end elsewhere ---------------------------------------------------------------


def in_thread(call):
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()


def test_a_context_that_another_thread_ends_has_ended():
    context = agclip.config_context(nonfinite="zero")
    context.__enter__()
    assert nonfinite() == "zero"
    in_thread(lambda: context.__exit__(None, None, None))
    assert nonfinite() == "propagate"
    assert _now._process.contexts == 0


async def generator(name):
    with agclip.config_context(nonfinite=name):
        yield nonfinite()
        yield nonfinite()


def test_a_context_that_another_task_ends_has_ended():
    async def main():
        opened = generator("zero")
        assert await anext(opened) == "zero"
        await asyncio.create_task(opened.aclose())
        return nonfinite()

    assert asyncio.run(main()) == "propagate"
    assert nonfinite() == "propagate"
    assert _now._process.contexts == 0


def test_a_context_that_the_loop_ends_does_not_stop_others():
    async def main():
        with agclip.config_context(strict=True):
            opened = generator("skip")
            assert await anext(opened) == "skip"
            await asyncio.create_task(opened.aclose())
            inside = nonfinite(), agclip.get_config().strict
        return inside, agclip.get_config().strict

    assert asyncio.run(main()) == (("propagate", True), False)


def test_contexts_may_end_in_any_order():
    first = agclip.config_context(nonfinite="zero", strict=True)
    second = agclip.config_context(nonfinite="skip")
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert (nonfinite(), agclip.get_config().strict) == ("skip", False)
    second.__exit__(None, None, None)
    assert agclip.get_config().source("nonfinite") == "default"
    assert _now._process.contexts == 0


def test_contexts_that_ended_elsewhere_do_not_pile_up():
    for _ in range(3):
        context = agclip.config_context(nonfinite="zero")
        context.__enter__()
        in_thread(lambda c=context: c.__exit__(None, None, None))
    with agclip.config_context(strict=True):
        assert _now._overlay.get().outer is None


def test_a_context_may_be_used_again_and_within_itself():
    context = agclip.config_context(nonfinite="zero")
    with context:
        with context, agclip.config_context(nonfinite="skip"):
            assert nonfinite() == "skip"
        assert nonfinite() == "zero"
    assert nonfinite() == "propagate"
    with context:
        assert nonfinite() == "zero"


def test_a_context_may_be_shared_by_threads():
    context = agclip.config_context(nonfinite="zero")
    inside, seen = threading.Barrier(2, timeout=60), []

    def other():
        with context:
            inside.wait()
            inside.wait()
            seen.append(nonfinite())
        seen.append(nonfinite())

    thread = threading.Thread(target=other)
    thread.start()
    with context:
        inside.wait()
    assert nonfinite() == "propagate"
    inside.wait()
    thread.join()
    assert seen == ["zero", "propagate"]


def test_a_function_may_be_decorated_with_a_context():
    @agclip.config_context(nonfinite="zero")
    def recurse(depth):
        return [nonfinite(), *(recurse(depth - 1) if depth else [])]

    assert recurse(2) == ["zero"] * 3
    assert nonfinite() == "propagate"


def test_a_context_that_cannot_be_entered_leaves_nothing(project):
    project.joinpath("agclip.toml").write_text("threads = 0")
    with pytest.raises(ValueError, match="threads"), agclip.config_context(strict=True):
        pytest.fail("entered")
    project.joinpath("agclip.toml").unlink()
    assert agclip.get_config().source("strict") == "default"
    assert _now._process.contexts == 0


def test_a_context_says_what_it_sets():
    context = agclip.config_context(nonfinite="zero", threads=2, device=None)
    assert repr(context) == "config_context(nonfinite='zero', threads=2)"


# --- forks -------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")
def test_a_child_that_is_forked_while_the_settings_are_being_changed_goes_on():
    agclip.set_config(nonfinite="zero")
    held, free = threading.Event(), threading.Event()

    def hold():
        with _now._lock:
            held.set()
            free.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    child = os.fork()
    if child == 0:
        # Nothing of pytest may run in it.
        with contextlib.suppress(BaseException):
            agclip.set_config(strict=True)
            with agclip.config_context(threads=2) as settings:
                right = (settings.nonfinite, settings.strict, settings.threads) == ("zero", True, 2)
            os._exit(0 if right else 1)
        os._exit(2)
    try:
        assert ended(child) == 0
    finally:
        free.set()
        thread.join()


def ended(child, seconds=20):
    """The exit code of a child; it is killed if it hangs."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return "hung"


# --- registering while others dispatch ---------------------------------------------------------


@pytest.fixture
def registry(tmp_path):
    with arrays.registry(tmp_path) as lent:
        yield lent


def registered(**fields):
    """NumPy's backend as a new record that is equal to no other one."""
    made = dataclasses.replace(agclip.get_backend("numpy"), usable=lambda: None, **fields)
    agclip.register_backend(made)
    return made


class Meddler:
    """A namespace that registers another backend when it is asked for a dtype."""

    def __getattr__(self, name):
        if name == "float32":
            registered(xp=np)
        return getattr(np, name)


LEAVES = [np.ones(2), np.float32(3.0), np.ones(3).view(np.recarray)]


def test_classes_that_left_the_table_are_found_again(registry):
    types = set(map(type, LEAVES))
    for leaf in LEAVES:
        _registry.resolve(leaf)
    mine = registered()
    assert _registry.backend_for(LEAVES, types, str) is mine
    assert registry.folder.is_dir()


def test_a_backend_that_is_registered_during_a_look_up_is_the_next_answer(registry):
    before = registered(xp=Meddler())
    assert _registry.resolve(np.ones(2)) is before
    assert _registry.resolve(np.ones(2)).xp is np
    assert registry.folder.is_dir()


@pytest.mark.parametrize("configured", ["auto", "numpy"])
def test_a_backend_may_be_registered_while_others_clip(registry, configured):
    agclip.set_config(backend=configured)
    stop, failed = threading.Event(), []
    before = sys.getswitchinterval()

    def clip():
        while not stop.is_set():
            try:
                clipped = agclip.clip_by_norm([*LEAVES, LEAVES[0]], 1.0)
                failed.extend(x for x in clipped if not isinstance(x, (np.ndarray, np.float32)))
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a failure
                failed.append(error)

    threads = [threading.Thread(target=clip) for _ in range(2)]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        until = time.monotonic() + 0.7
        while time.monotonic() < until:
            registered()
    finally:
        sys.setswitchinterval(before)
        stop.set()
        for thread in threads:
            thread.join()
    assert failed == []
    assert registry.folder.is_dir()


# --- after the main thread ---------------------------------------------------------------------

LATE = """
    import importlib, threading, time

    import agclip

    array = importlib.import_module({module!r}).asarray([3.0, 4.0])


    def clip():
        threading.main_thread().join()
        time.sleep(0.05)  # The interpreter has begun to end.
        clipped = agclip.clip_by_global_norm({{"w": array}}, 1.0)[0]["w"]
        print([round(float(x), 4) for x in clipped])


    threading.Thread(target=clip).start()
"""


@pytest.mark.parametrize("name", ["numpy", "array_api_strict"])
def test_the_first_clip_may_come_after_the_main_thread_has_ended(name):
    pytest.importorskip(name, reason=f"{name} is not installed")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LATE).format(module=name)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.stdout == "[0.6, 0.8]\n", done.stderr
