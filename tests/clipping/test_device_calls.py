"""What a call on tensors of a device costs the host: functions of ours, and methods of tensors.

A launch takes the host some 5 microseconds, and a method of a tensor 0.05: asked for a dozen things
each, a thousand leaves cost more than all launches. The tensors are the host's, and nothing runs.
"""

import functools
import math
import sys
from collections import Counter
from operator import attrgetter
from pathlib import Path

import pytest

import agclip
import agclip_backends

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import fused_host  # noqa: E402
import fused_rehearsal  # noqa: E402 - PyTorch is optional
from agclip.integrations.torch import (  # noqa: E402
    clip_grad_norm_,
    clip_grad_value_,
    clip_grads_with_norm_,
    get_total_norm,
)
from agclip_backends._cuda import fused as launches  # noqa: E402
from agclip_backends._cuda import kept, recent, table  # noqa: E402
from agclip_backends._cuda.seam import Seam  # noqa: E402
from agclip_backends.torch import fused, misplaced, resident, tensors  # noqa: E402

OURS = (str(Path(agclip.__file__).parent), str(Path(agclip_backends.__path__[0])))
ASKED = {"get_device", "requires_grad", "data_ptr", "is_contiguous", "dtype", "numel"}
ASKED |= {"version", "is_neg"}
"""What each tensor is asked for, once a call."""
RULE, ZCLIP = agclip.ClipByGlobalNorm(0.5), agclip.ZClip()
COMPREHENSIONS = ("<listcomp>", "<dictcomp>", "<setcomp>", "<genexpr>")
"""Frames of their own up to Python 3.11, those of generators for good."""

METHOD = type(torch.Tensor.numel)


def zeros(count):
    made = torch.zeros(count, dtype=torch.int64)
    return made, made.data_ptr()


def parameters(leaves):
    made = [torch.nn.Parameter(x.clone()) for x in leaves]
    for p, x in zip(made, leaves, strict=True):
        p.grad = x
    return made


@functools.cache
def state():
    """Return a state of the rule with memory, whatever leaves it is for."""
    return ZCLIP.init([torch.ones(1)])


CALLS = {
    "clip_by_global_norm_": (lambda t, _: agclip.clip_by_global_norm_(t, 0.5), 66, 2),
    "clip_by_norm_": (lambda t, _: agclip.clip_by_norm_(t, 0.5), 67, 2),
    "clip_by_value_": (lambda t, _: agclip.clip_by_value_(t, -1, 1), 54, 1),
    "global_norm": (lambda t, _: agclip.global_norm(t), 54, 1),
    "ClipByGlobalNorm": (lambda t, _: RULE.update_(t, ()), 82, 3),
    "ZClip": (lambda t, _: ZCLIP.update_(t, state()), 133, 4),
    "clip_grad_norm_": (lambda _, p: clip_grad_norm_(p, 0.5), 80, 2),
    "clip_grads_with_norm_": (lambda _, p: clip_grads_with_norm_(p, 0.5, 2.0), 82, 2),
    "get_total_norm": (lambda t, _: get_total_norm(t), 64, 1),
    "clip_grad_value_": (lambda _, p: clip_grad_value_(p, 1.0), 60, 1),
}
"""Calls of leaves and parameters, how many functions they may enter, and how often they launch."""


@pytest.fixture
def idle():
    """A device for CPU tensors."""
    host = fused_host.Idle(zeros)
    with fused_rehearsal.device(Seam(launches.Room(fused_rehearsal.CpuLibrary(host)))):
        yield host


@pytest.fixture
def asked(monkeypatch):
    """Count what tensors are asked for by the modules that look at whole lists of them."""
    found = Counter()

    def counted(name, ask):
        def asking(*given):
            found[name] += 1
            return ask(*given)

        return asking

    for module in (resident, tensors, fused, misplaced):
        for name, value in list(vars(module).items()):
            if isinstance(value, (attrgetter, METHOD)):
                monkeypatch.setattr(module, name, counted(name.strip("_"), value))
    return found


def entered(call):
    """Return the functions of ours that a call enters, and methods of tensors called in Python."""
    ours, methods = Counter(), Counter()

    def note(frame, event, what):
        inside = frame.f_code.co_filename.startswith(OURS)
        if event == "call" and inside and frame.f_code.co_name not in COMPREHENSIONS:
            ours[frame.f_code.co_qualname] += 1
        elif event == "c_call" and inside and isinstance(what.__self__, torch.Tensor):
            methods[what.__name__] += 1

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(before)
    return ours, methods


@pytest.mark.parametrize("name", CALLS)
def test_no_function_of_ours_is_entered_leaf_by_leaf(idle, name):
    call, most, _ = CALLS[name]
    found = []
    for count in (3, 100):
        leaves = [torch.ones(10) for _ in range(count)]
        params = parameters(leaves)
        for _ in range(3):
            call(leaves, params)
        found.append(entered(lambda t=leaves, p=params: call(t, p)))
    few, many = found
    assert many[0] == few[0]
    assert many[1] == few[1]
    assert 0 < many[0].total() <= most, many[0].most_common()


@pytest.mark.parametrize("name", CALLS)
def test_a_tensor_is_asked_for_each_thing_once(idle, asked, name):
    call, _, launched = CALLS[name]
    leaves = [torch.ones(10) for _ in range(100)]
    params = parameters(leaves)
    for _ in range(2):
        call(leaves, params)
    asked.clear()
    idle.launched.clear()
    call(leaves, params)
    assert len(idle.launched) == launched
    assert {key for key, n in asked.items() if n >= 100} <= ASKED
    assert all(n <= 101 for n in asked.values()), asked


def test_new_leaves_at_known_places_are_looked_at_again(idle):
    x = torch.ones(12)
    agclip.clip_by_global_norm_([x], 0.5)
    idle.launched.clear()
    # What has other elements in the same place is no leaf that is known.
    for other in (x[:6], x[::2], x.view(torch.int32).view(torch.float16), x.view(3, 4).T):
        known = resident.survey([other], True, lambda _: True)
        if other.is_contiguous():
            assert known.counts == (other.numel(),)
            assert {kind.name for kind in known.kinds} == {str(other.dtype).partition(".")[2]}
        else:
            assert (known is None) == (other.ndim == 1)
    with pytest.raises(TypeError, match="int32"):
        agclip.clip_by_global_norm_([x.view(torch.int32)], 0.5)
    assert resident.survey([x.requires_grad_()], True, lambda _: True) is None


def test_what_is_kept_of_lists_is_no_tensor_and_not_kept_for_ever(idle, monkeypatch):
    monkeypatch.setattr(recent, "MOST_LISTS", 20)
    for size in range(1, 50):
        agclip.global_norm([torch.ones(size), torch.ones(size + 1)])
    assert len(resident._known) == 20

    def tensors_in(x):
        children = x if isinstance(x, (tuple, list, frozenset)) else ()
        return isinstance(x, torch.Tensor) or any(map(tensors_in, children))

    assert not tensors_in([*resident._known.values()])


def test_tensors_made_in_inference_mode_are_not_written_outside(idle):
    with torch.inference_mode():
        made = torch.ones(9)
        agclip.clip_by_global_norm_([made], math.inf)
    for leaves in ([made], [torch.ones(4), made]):
        with pytest.raises(TypeError, match="inference mode"):
            agclip.clip_by_global_norm_(leaves, 0.5)
        assert float(made.sum()) == 9


def test_a_tensor_made_in_inference_mode_is_seen_at_a_known_place(idle):
    ordinary, other = torch.ones(4), torch.ones(9)
    agclip.clip_by_global_norm_([ordinary, other], 0.5)
    memory, idle.launched = other.data_ptr(), []
    with torch.inference_mode():
        made = torch.from_dlpack(other)
    if made.data_ptr() != memory or not made.is_inference():
        pytest.skip("this build of PyTorch makes no such tensor")
    with pytest.raises(TypeError, match="inference mode"):
        agclip.clip_by_global_norm_([ordinary, made], 0.5)
    assert "agclip_product" not in idle.launched


def test_leaves_that_are_clipped_one_by_one_are_all_known(idle, monkeypatch):
    """A hook on each parameter clips hundreds of lists of one leaf, in turns."""
    made = []
    monkeypatch.setattr(kept, "packed", lambda *given: made.append(1) or table.packed(*given))
    learn = resident._learn
    monkeypatch.setattr(resident, "_learn", lambda *given: made.append(2) or learn(*given))
    leaves = [torch.ones(10) for _ in range(300)]
    for turn in range(3):
        for x in leaves:
            agclip.clip_by_norm_(x, 0.5)
        assert len(made) == 600, turn


ROWS = {"none": [], "few": [1, 1], "as many as there may be": [60, 40], "too many": [101]}


@pytest.mark.parametrize("name", ROWS)
def test_the_latest_lists_are_kept_up_to_a_number_of_leaves(monkeypatch, name):
    monkeypatch.setattr(recent, "MOST_ROWS", 100)
    held = recent.Recent()
    for key in range(10):
        held.keep(key, None, 25)
    held.keep(9, "again", 25)
    assert [*held] == [6, 7, 8, 9]
    assert held._held == 100
    for i, rows in enumerate(ROWS[name]):
        held.keep(("new", i), None, rows)
    wanted = {"none": [6, 7, 8, 9], "few": [7, 8, 9], "as many as there may be": [], "too many": []}
    new = [("new", i) for i in range(len(ROWS[name]))]
    assert [*held] == [*wanted[name], *new]
    assert held._held == 25 * len(wanted[name]) + sum(ROWS[name])
    assert held._rows.keys() == held.keys()
