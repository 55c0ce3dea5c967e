"""Settings of a process and of a block: which one counts, and that a mistake changes nothing."""

import concurrent.futures
import dataclasses
import threading

import pytest

import agclip
from agclip import config


def in_force(key):
    settings = agclip.get_config()
    return getattr(settings, key), settings.source(key)


# --- the record --------------------------------------------------------------------------------


@pytest.mark.usefixtures("project")
def test_by_default_agclip_follows_the_arrays_and_says_what_tensorflow_says():
    assert agclip.get_config() == config.Settings(
        backend="auto",
        device=None,
        on_foreign="error",
        on_shard="error",
        accelerate="auto",
        threads=None,
        nonfinite="propagate",
        reproducible=False,
        strict=False,
        clip=(),
    )


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("key", config.KEYS)
def test_a_default_says_that_it_is_one(key):
    assert agclip.get_config().source(key) == "default"


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        agclip.get_config().backend = "other"


def test_only_settings_have_a_source():
    text = r"^`key` must be one of backend, device, .*, clip; got 'bakend'\.$"
    with pytest.raises(ValueError, match=text):
        agclip.get_config().source("bakend")


def test_the_values_say_no_more_than_they_are():
    assert repr(agclip.get_config()).startswith("Settings(backend='auto', device=None, ")
    assert "source" not in repr(agclip.get_config())


# --- what counts more --------------------------------------------------------------------------

PLACES = ("a user's file", "a project's file", "a named file", "a variable", "set", "a context")


@pytest.fixture
def say(project, monkeypatch, tmp_path):
    """A function that says the number of threads in one place; it returns the source to expect."""
    contexts = []

    def write(path, threads):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"threads = {threads}\n")
        return f"{path}: threads"

    def enter(threads):
        contexts.append(agclip.config_context(threads=threads))
        contexts[-1].__enter__()
        return "config_context"

    def name(threads):
        path = tmp_path / "named.toml"
        monkeypatch.setenv("AGCLIP_CONFIG", str(path))
        return write(path, threads)

    def export(threads):
        monkeypatch.setenv("AGCLIP_THREADS", str(threads))
        return "AGCLIP_THREADS"

    def assign(threads):
        agclip.set_config(threads=threads)
        return "set_config"

    ways = {
        "a user's file": lambda n: write(tmp_path / "home/agclip/config.toml", n),
        "a project's file": lambda n: write(project / "agclip.toml", n),
        "a named file": name,
        "a variable": export,
        "set": assign,
        "a context": enter,
    }
    yield lambda place, threads: ways[place](threads)
    for context in reversed(contexts):
        context.__exit__(None, None, None)


@pytest.mark.parametrize("highest", range(len(PLACES)))
def test_each_place_counts_more_than_those_before_it(say, highest):
    sources = [say(place, n) for n, place in enumerate(PLACES[: highest + 1], start=1)]
    assert in_force("threads") == (highest + 1, sources[-1])


def test_an_argument_counts_most(say):
    say("a context", 1)
    with agclip.config_context(nonfinite="zero"):
        clipped = agclip.clip_by_norm([float("nan"), 1.0], 1.0, nonfinite="skip")
    assert clipped[1] == 1.0


def test_each_setting_comes_from_the_place_that_says_it(say):
    say("a project's file", 3)
    agclip.set_config(strict=True)
    with agclip.config_context(nonfinite="zero"):
        settings = agclip.get_config()
    assert [settings.source(key) for key in ("threads", "strict", "nonfinite", "device")] == [
        f"{settings.source('threads')}",
        "set_config",
        "config_context",
        "default",
    ]
    assert (settings.threads, settings.strict, settings.nonfinite) == (3, True, "zero")


# --- set_config --------------------------------------------------------------------------------


@pytest.mark.usefixtures("project")
def test_none_takes_back_what_was_set():
    agclip.set_config(strict=True, nonfinite="skip")
    agclip.set_config(strict=None)
    assert in_force("strict") == (False, "default")
    assert in_force("nonfinite") == ("skip", "set_config")


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    "change", [agclip.set_config, lambda **settings: agclip.config_context(**settings).__enter__()]
)
def test_one_mistake_changes_nothing(change):
    before = agclip.get_config()
    with pytest.raises(ValueError, match="`accelerate` must be"):
        change(strict=True, accelerate="fast", reproducible=True)
    assert agclip.get_config() == before


@pytest.mark.usefixtures("project")
def test_what_was_got_before_stays_as_it_was():
    before = agclip.get_config()
    agclip.set_config(strict=True)
    assert (before.strict, agclip.get_config().strict) == (False, True)


@pytest.mark.usefixtures("project")
def test_what_is_set_is_a_copy():
    table = {"rule": "norm", "clip_norm": 1.0, "axes": [0]}
    agclip.set_config(clip=table)
    table["axes"].append(1)
    assert agclip.get_config().clip == ({"rule": "norm", "clip_norm": 1.0, "axes": [0]},)


@pytest.mark.usefixtures("project")
def test_what_is_set_holds_in_every_thread():
    agclip.set_config(strict=True)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert pool.submit(in_force, "strict").result() == (True, "set_config")


@pytest.mark.usefixtures("project")
def test_many_threads_may_set_and_read_at_once():
    names = ("propagate", "error", "zero", "skip")
    barrier = threading.Barrier(len(names))

    def work(name):
        barrier.wait()
        seen = set()
        for _ in range(200):
            agclip.set_config(nonfinite=name)
            with agclip.config_context(strict=True) as settings:
                seen.add((settings.nonfinite in names, settings.strict))
            seen.add((agclip.get_config().nonfinite in names, not agclip.get_config().strict))
        return seen

    with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
        assert list(pool.map(work, names)) == [{(True, True)}] * len(names)
