"""What a call costs for each leaf more: on leaves of the host no function of ours is entered.

Time cannot be tested where others work too; functions that are entered can. One that is entered for
each leaf costs more than a small leaf's arithmetic.
"""

import sys
from pathlib import Path

import numpy as np
import pytest

import agclip
import agclip_backends
import arrays
from agclip_backends._host.loader import loader

OURS = (str(Path(agclip.__file__).parent), str(Path(agclip_backends.__path__[0])))
FEW, MANY = 10, 60

CALLS = {
    "clip_by_global_norm": lambda grads: agclip.clip_by_global_norm(grads, 1e3),
    "clip_by_global_norm_": lambda grads: agclip.clip_by_global_norm_(grads, 1e3),
    "clip_by_norm": lambda grads: agclip.clip_by_norm(grads, 1e3),
    "clip_by_norm_": lambda grads: agclip.clip_by_norm_(grads, 1e3),
    "clip_by_value_": lambda grads: agclip.clip_by_value_(grads, -1.0, 1.0),
    "ClipByGlobalNorm": lambda grads: agclip.ClipByGlobalNorm(1e3).update(grads, ()),
    "ClipByNorm": lambda grads: agclip.ClipByNorm(1e3).update(grads, ()),
    "Clipper": agclip.ClipByGlobalNorm(1e3),
    "ZClip": agclip.ZClip(max_norm=None),
    "AutoClip": agclip.AutoClip(100.0, 100),
}
"""Functions, or rules that a clipper is made of."""


@pytest.fixture(params=["numpy", "torch"])
def lib(request):
    return arrays.library(request.param)


@pytest.fixture(params=list(CALLS))
def call(request):
    found = CALLS[request.param]
    return found if callable(found) else agclip.Clipper(found, inplace=True)


def entered(call, grads):
    """Return how many functions of ours a call enters, those of comprehensions aside."""
    found = 0

    def profile(frame, event, _):
        nonlocal found
        code = frame.f_code
        ours = code.co_filename.startswith(OURS) and not code.co_name.startswith("<")
        found += event == "call" and ours

    before = sys.getprofile()
    for _ in range(2):
        call(grads)
    sys.setprofile(profile)
    try:
        call(grads)
    finally:
        sys.setprofile(before)
    return found


def test_a_leaf_more_enters_no_function_more(lib, call, monkeypatch):
    monkeypatch.setattr(loader, "work", 0)
    agclip.set_config(accelerate="off")
    try:
        few, many = (
            entered(call, [lib.convert(np.full(4, 0.5, np.float32)) for _ in range(count)])
            for count in (FEW, MANY)
        )
    finally:
        agclip.set_config(accelerate=None)
    assert 0 < many == few
