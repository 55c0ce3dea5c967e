"""Where CuPy's calls are made: on the device of their arrays, in order with the caller's stream."""

import types

import pytest

pytest.importorskip("cupy", reason="CuPy is not installed")


class Pretended:
    """Two devices with a stream each, and a journal of what the streams are told."""

    def __init__(self):
        self.current, self.journal = 0, []
        self.ndarray = Array
        self.cuda = types.SimpleNamespace(
            Device=lambda: Device(self, self.current),
            Event=lambda **_: len(self.journal),
            get_current_stream=lambda: Stream(self, self.current),
        )


class Device:
    def __init__(self, owner, number):
        self.owner, self.number, self.before = owner, number, []

    def __eq__(self, other):
        return self.number == other.number

    __hash__ = None

    def __enter__(self):
        self.before.append(self.owner.current)
        self.owner.current = self.number

    def __exit__(self, *_):
        self.owner.current = self.before.pop()


class Stream:
    def __init__(self, owner, number):
        self.owner, self.number = owner, number

    def record(self, event):
        assert self.owner.current == self.number, "an event is of the device of its stream"
        self.owner.journal.append(("record", self.number, event))
        return event

    def wait_event(self, event):
        self.owner.journal.append(("wait", self.number, event))


class Array:
    def __init__(self, owner, number):
        self.owner, self.device = owner, Device(owner, number)


@pytest.fixture
def cupy(monkeypatch):
    from agclip_backends.cupy import devices

    made = Pretended()
    monkeypatch.setattr(devices, "cupy", made)
    return made


def called(cupy, number, function=None):
    from agclip_backends.cupy.devices import at

    def work():
        cupy.journal.append(("work", cupy.current, None))
        if function:
            function()

    at(Array(cupy, number), work)
    return [(what, where) for what, where, _ in cupy.journal]


def test_on_the_current_device_nothing_is_recorded(cupy):
    assert called(cupy, 0) == [("work", 0)]


def test_streams_wait_for_each_other_before_and_after(cupy):
    expected = [("record", 0), ("wait", 1), ("work", 1), ("record", 1), ("wait", 0)]
    assert called(cupy, 1) == expected
    events = [event for what, _, event in cupy.journal if what != "work"]
    assert events[0] == events[1] != events[2] == events[3]


def test_after_an_error_the_device_is_the_callers(cupy):
    def fails():
        msg = "no"
        raise KeyError(msg)

    with pytest.raises(KeyError):
        called(cupy, 1, fails)
    assert cupy.current == 0


@pytest.mark.parametrize("where", [0, 1])
def test_a_program_runs_where_its_first_array_is(cupy, where):
    from agclip_backends.cupy.devices import run

    tree = ([Array(cupy, where), Array(cupy, 1 - where)], None, 2.0)
    assert run(lambda *_: cupy.current, ("static",), tree) == where
    assert run(lambda *_: cupy.current, (), ({"a": (tree,)},)) == where
    assert run(lambda *_: cupy.current, (), ([], None, 2.0)) == 0


def test_a_function_follows_its_first_array(cupy):
    from agclip_backends.cupy.devices import following

    there = following(lambda *_, **__: cupy.current)
    assert there([Array(cupy, 1)], axis=0) == 1
    assert there(2.0) == 0
    assert cupy.current == 0
