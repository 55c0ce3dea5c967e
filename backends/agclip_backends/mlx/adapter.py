"""MLX: lazy throughout; a call records operations, and computes nothing."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from agclip.adapters import Access, Backend, LeafBatch, Misplaced, kind_of
from agclip_backends._probe import kept
from agclip_backends.mlx import devices, groups, namespace, scale, sums
from agclip_backends.mlx.tracing import tracing

_HOLDERS = (
    ("mlx.nn", "Module", "a module"),
    ("mlx.optimizers", "Optimizer", "an optimizer"),
)
"""What holds parameters: the package, the class, and what it is called."""
_GRADIENTS = (
    "Pass the gradients, as `mlx.nn.value_and_grad` returns them; where the parameters themselves "
    "are meant, `model.trainable_parameters()`."
)


def _access(_: Any) -> Access:
    return "never" if tracing() else "sync"


def _survey(leaves: Sequence[Any], types: set[type], inplace: bool) -> LeafBatch | None:
    if types != {mx.array}:
        return None
    kinds = [kind_of(leaf.dtype) for leaf in leaves]
    distinct = inplace and len(set(map(id, leaves))) == len(leaves)
    return groups.Grouped(leaves, kinds, access=_access(None), distinct=distinct)


def _misplaced(objects: Sequence[Any], types: set[type]) -> Misplaced | None:
    """Return the first module or optimizer: to Python a module is a dict of its parameters."""
    for name, base, kind in _HOLDERS:
        cls = getattr(sys.modules.get(name), base, None)
        if cls is None or not any(issubclass(one, cls) for one in types):
            continue
        i, x = next((i, x) for i, x in enumerate(objects) if isinstance(x, cls))
        return Misplaced(i, f"{kind} ({type(x).__name__})", _GRADIENTS, wrong=True)
    return None


@kept
def _usable() -> str | None:
    try:
        if mx.sum(mx.ones(2)).item() != 2:
            return "the sum of two ones is not two"
    except RuntimeError as error:
        return str(error)
    return None


backend = Backend(
    name="mlx",
    xp=namespace,
    sum_squares=sums.sum_squares,
    abs_max=sums.abs_max,
    power_sums=sums.power_sums,
    sums=sums.sums,
    total=sums.total,
    scale=scale.scale,
    scale_=scale.scale_,
    survey=_survey,
    run=devices.run,
    at=devices.at,
    access=_access,
    keeps_bits=lambda _: devices.on_cpu(),
    misplaced=_misplaced,
    refuse=lambda x: None if isinstance(x, mx.array) else "is no mlx.core.array",
    unwritable=lambda _: None,
    # An array that is assigned to gets memory of its own: two are one only where they are one
    # object, which is told apart without looking at the memory.
    memory=lambda leaves: [None] * len(leaves),
    usable=_usable,
    device=lambda _: None,
    named_device=devices.named,
    acc_dtype=devices.acc_dtype,
    export=mx.contiguous,
)
