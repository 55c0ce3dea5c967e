"""How many functions of ours one call enters, and how deep the kernels lie below it.

Time cannot be tested where others work too; what it goes into on small arrays can: every function
costs some 0.1 microseconds whatever it does. A count that rises is a layer that came back.
"""

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import agclip
import agclip_backends
from agclip_backends._host import tables
from agclip_backends._host.loader import loader

OURS = (str(Path(agclip.__file__).parent), str(Path(agclip_backends.__path__[0])))
COMPREHENSIONS = ("<listcomp>", "<dictcomp>", "<setcomp>")
"""Frames of their own up to Python 3.11."""

DEEPEST = 6
"""Frames from the public function to what calls a kernel, both included."""

ONE = [np.ones(1000, np.float32)]
RULE, ZCLIP = agclip.ClipByGlobalNorm(0.5), agclip.ZClip()
STATE = ZCLIP.init(ONE)
CLIPPER, KEPT, OLD, EACH = (
    agclip.Clipper(rule, inplace=True)
    for rule in (
        agclip.ClipByGlobalNorm(1e3),
        agclip.ZClip(max_norm=None),
        agclip.AutoClip(100.0),
        agclip.AdaGC(),
    )
)
CALLS = {
    "clip_by_global_norm": (lambda: agclip.clip_by_global_norm(ONE, 0.5), 57),
    "clip_by_global_norm, within": (lambda: agclip.clip_by_global_norm(ONE, 1e3), 39),
    "clip_by_global_norm_": (lambda: agclip.clip_by_global_norm_([ONE[0].copy()], 0.5), 62),
    "clip_by_norm": (lambda: agclip.clip_by_norm(ONE[0], 0.5), 55),
    "clip_by_value": (lambda: agclip.clip_by_value(ONE[0], -1, 1), 46),
    "clip_by_value_": (lambda: agclip.clip_by_value_(ONE[0].copy(), -1, 1), 45),
    "ClipByGlobalNorm": (lambda: RULE.update(ONE, ()), 75),
    # Its statistics are Python floats, whose operations are functions of `host_scalars`.
    "ZClip": (lambda: ZCLIP.update(ONE, STATE), 134),
    "Clipper": (lambda: CLIPPER(ONE), 56),
    # These keep their states as numbers: no arrays are made of them, nor read.
    "ZClip in a Clipper": (lambda: KEPT(ONE), 103),
    "AutoClip in a Clipper": (lambda: OLD(ONE), 75),
    "AdaGC in a Clipper": (lambda: EACH(ONE), 119),
}


class Profile:
    """Functions of ours that were entered, and the stacks in which kernels were."""

    def __init__(self):
        self.calls = Counter()
        self.depths = []

    def __call__(self, frame, event, _):
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(OURS):
            return
        if code.co_name in COMPREHENSIONS:
            return
        self.calls[code.co_filename, code.co_qualname] += 1
        if code is KERNEL:
            self.depths.append(depth_of(frame.f_back))


def depth_of(frame):
    """Return how many functions of ours are in a stack, comprehensions aside."""
    depth = 0
    while frame is not None:
        code = frame.f_code
        depth += code.co_filename.startswith(OURS) and code.co_name not in COMPREHENSIONS
        frame = frame.f_back
    return depth


KERNEL = agclip.get_backend("numpy").sum_squares.__code__
"""The code that all kernels of a host library are entered by: see `tables.accelerated`."""


@pytest.fixture(params=list(CALLS))
def profiled(request, monkeypatch):
    """Return the profile of a call, and how many functions it may enter."""
    call, most = CALLS[request.param]
    monkeypatch.setattr(loader, "work", 0)  # else a call in some hundred looks at the settings
    agclip.set_config(accelerate="off")  # not a context: while one is open settings take a search
    for _ in range(3):
        call()
    profile, before = Profile(), sys.getprofile()
    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(before)
        agclip.set_config(accelerate=None)
    return profile, most


def test_a_call_enters_few_functions(profiled):
    profile, most = profiled
    entered = sum(profile.calls.values())
    assert 0 < entered <= most, "\n".join(f"{n} {name}" for name, n in profile.calls.most_common())


def test_kernels_lie_close_below_the_public_function(profiled, request):
    profile, _ = profiled
    assert KERNEL.co_filename == tables.__file__
    assert profile.depths, "no kernel was called"
    # A rule takes a step: `update`, `_step` and `_run` come before the pipeline. A clipper has it
    # take one: `__call__`, `_take` and `step` are in the place of `update`.
    name = request.node.callspec.params["profiled"]
    more = 3 * ("Clip" in name) + 2 * ("Clipper" in name)
    assert max(profile.depths) <= DEEPEST + more
