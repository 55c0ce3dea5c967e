"""Axes of many leaves are found in time that grows with their number, and not with its square.

A path takes a walk from the first leaf on: asked for leaf by leaf a thousand took two seconds.
"""

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import agclip

OURS = str(Path(agclip.__file__).parent)


def by_optax(grads):
    pytest.importorskip("optax", reason="optax is not installed")
    from agclip.integrations import optax

    return optax.adaptive_grad_clip(0.1, axis=0).update(grads, (), grads)


RULE = agclip.AdaptiveGradClip(0.1, unit_axes="out_in")
CALLS = {
    "axes": lambda t: agclip.clip_by_norm(t, 0.5, axes=1),
    "units": lambda t: agclip.adaptive_grad_clip(t, t, 0.1, unit_axes="out_in"),
    "units by a function": lambda t: agclip.adaptive_grad_clip(
        t, t, 0.1, unit_axes=lambda path, leaf: 1
    ),
    "a rule": lambda t: RULE.update(t, (), t),
    "optax": by_optax,
}


def entered(call, grads):
    """How often functions and generators of ours are entered, or gone on with."""
    found = Counter()

    def note(frame, event, _):
        if event == "call" and frame.f_code.co_filename.startswith(OURS):
            found[frame.f_code.co_qualname] += 1

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        call(grads)
    finally:
        sys.setprofile(before)
    return found


@pytest.mark.parametrize("name", CALLS)
def test_twice_the_leaves_take_twice_the_calls(name):
    totals = []
    for count in (40, 80):
        grads = {f"layer{i}": [np.ones((2, 3), np.float32)] for i in range(count)}
        CALLS[name](grads)
        totals.append(entered(CALLS[name], grads))
    few, many = totals
    assert many.total() < 2.1 * few.total(), (many - few).most_common(5)
