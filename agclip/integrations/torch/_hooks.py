"""Steps that call the step of their base class, whose hooks are called once more."""

from __future__ import annotations

import sys

from agclip.integrations.torch._places import Optimizer


def within_a_step(optimizer: Optimizer) -> bool:
    """Tell whether hooks are called by a step within the step of the same optimizer.

    Each class that defines `step` has hooks called around its own (torch 2.13), so a subclass that
    calls `super().step()` has them called twice.
    """
    hooked = [
        one
        for one in (vars(cls).get("step") for cls in type(optimizer).__mro__)
        if getattr(one, "hooked", False)
    ]
    if len(hooked) < 2:
        return False
    code = getattr(hooked[0], "__code__", None)
    frame, steps = sys._getframe(1), 0
    while frame is not None:
        if frame.f_code is code and frame.f_locals.get("self") is optimizer:
            steps += 1
        frame = frame.f_back  # type: ignore[assignment]
    return steps > 1
