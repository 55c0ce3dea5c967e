"""What a call on CuPy's arrays costs the host: functions of ours, launches and attributes.

NumPy's arrays pass for CuPy's, and nothing runs.
"""

import sys
from collections import Counter
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest

import agclip
import agclip_backends
import cuda_host
import fused_host

pytest.importorskip("cupy", reason="CuPy is not installed")

from agclip_backends.cupy import fused, resident
from cupy_rehearsal import Array, device, there

OURS = (str(Path(agclip.__file__).parent), str(Path(agclip_backends.__path__[0])))
COMPREHENSIONS = ("<listcomp>", "<dictcomp>", "<setcomp>", "<genexpr>")
"""Frames of their own up to Python 3.11, those of generators for good."""
RULE = agclip.ClipByGlobalNorm(0.5)
CALLS = {
    "clip_by_global_norm_": (lambda t: agclip.clip_by_global_norm_(t, 0.5), 77, 2),
    "clip_by_norm_": (lambda t: agclip.clip_by_norm_(t, 0.5), 78, 2),
    "clip_by_value_": (lambda t: agclip.clip_by_value_(t, -1, 1), 50, 1),
    "global_norm": (agclip.global_norm, 60, 1),
    "ClipByGlobalNorm": (lambda t: RULE.update_(t, ()), 93, 3),
}
"""Calls of leaves, how many functions they may enter, and how often they launch."""


def zeros(count):
    made = np.zeros(count, np.int64).view(Array)
    return made, made.ctypes.data


@pytest.fixture
def idle(monkeypatch):
    host = fused_host.Idle(zeros)
    monkeypatch.setattr(cuda_host, "HostEntries", lambda _: None)
    monkeypatch.setattr("cupy_rehearsal.Entries", lambda _: None)
    monkeypatch.setattr(resident, "_known", resident.Recent())
    with device(host, None) as made:
        made.launched = host.launched
        yield made


def entered(call):
    """Return the functions of ours that a call enters, each as often."""
    found = Counter()

    def note(frame, event, _):
        inside = frame.f_code.co_filename.startswith(OURS)
        if event == "call" and inside and frame.f_code.co_name not in COMPREHENSIONS:
            found[frame.f_code.co_qualname] += 1

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(before)
    return found


@pytest.mark.parametrize("name", CALLS)
def test_no_function_of_ours_is_entered_leaf_by_leaf(idle, name):
    call, most, launches = CALLS[name]
    found = []
    for count in (3, 100):
        leaves = [there(np.ones(10, np.float32)) for _ in range(count)]
        for _ in range(3):
            call(leaves)
        idle.launched.clear()
        found.append(entered(lambda t=leaves: call(t)))
        assert len(idle.launched) == launches
    few, many = found
    assert many == few
    assert 0 < many.total() <= most, many.most_common()


@pytest.mark.parametrize("name", CALLS)
def test_an_array_is_asked_for_each_thing_once(idle, name, monkeypatch):
    call, asked = CALLS[name][0], Counter()
    leaves = [there(np.ones(10, np.float32)) for _ in range(100)]
    for _ in range(2):
        call(leaves)

    def counted(name, ask):
        def asking(x):
            asked[name] += 1
            return ask(x)

        return asking

    for key, value in list(vars(resident).items()):
        if isinstance(value, attrgetter):
            monkeypatch.setattr(resident, key, counted(key, value))
    call(leaves)
    each = ("_data", "_device_id", "_ptr", "_dtype", "_size", "_c_contiguous")
    assert asked == dict.fromkeys(each, 100)


OTHERS = {
    "fewer": lambda x: x[:6],
    "another dtype": lambda x: x.view(np.float16),
    "axes swapped": lambda x: x.reshape(3, 4).T,
    "of double length": lambda x: x.view(np.complex64),
}


@pytest.mark.parametrize("name", OTHERS)
def test_arrays_at_one_address_are_told_apart(idle, name):
    x = there(np.ones(12, np.float32))
    other = OTHERS[name](x)
    for leaf in (x, other, x, other):
        found = resident.survey([leaf], {Array}, True)
        reals = 2 * leaf.size if leaf.dtype.kind == "c" else leaf.size
        assert found.counts == found.described.counts
        assert list(found.counts) == [reals]
        assert [kind.name for kind in found.column] == [leaf.dtype.name]
    assert resident.survey([x[::2]], {Array}, True) is None
    assert resident.survey([x.view(np.int32)], {Array}, True) is None


def test_kernels_are_launched_where_the_arrays_are(idle, monkeypatch):
    """Asking for a device that is current anyway costs two functions of its own."""
    library, asked = idle.seam.room.library, []
    monkeypatch.setattr(fused.devices, "on", lambda device: asked.append(device) or fused._HERE)
    leaves = [there(np.ones(3, np.float32))]
    assert library.on(leaves) is fused._HERE
    assert asked == []
    monkeypatch.setattr(fused.cupy.cuda.runtime, "getDevice", lambda: 1)
    library.on(leaves)
    assert asked == [leaves[0].device]
