"""TensorFlow: host memory in eager code; tensors throughout under a tape, and when traced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import array_api_compat.numpy as np_xp
import numpy as np
import tensorflow as tf

from agclip import adapters
from agclip.adapters import Backend, Factor
from agclip_backends import numpy as host
from agclip_backends._host import tables
from agclip_backends._probe import kept
from agclip_backends.numpy.adapter import multiply
from agclip_backends.tensorflow import memory, namespace, scale, sparse, sums, tensors


def _branch(
    xp: Any,
    predicate: Any,
    if_true: Callable[[], Sequence[Any]],
    if_false: Callable[[], Sequence[Any]],
) -> Sequence[Any]:
    if tensors.access(predicate) in ("free", "graph"):
        return if_true() if bool(predicate) else if_false()
    chosen: Sequence[Any] = tf.cond(predicate, lambda: list(if_true()), lambda: list(if_false()))
    return chosen


def _on_host(name: str, other: Callable[..., Any]) -> Callable[..., Any]:
    """Return a kernel that has NumPy's do the work on tensors in host memory."""
    own: Callable[..., Any] = getattr(host.backend, name)

    def kernel(xp: Any, leaves: Sequence[Any], acc_dtype: Any, *arguments: Any) -> Any:
        views = tensors.views_of(leaves)
        if views is None:
            return other(xp, leaves, acc_dtype, *arguments)
        return own(np_xp, views, np.float64, *arguments)

    return kernel


def _scale(xp: Any, leaves: Sequence[Any], factor: Factor) -> Sequence[Any]:
    parts = [part for part in (*factor.narrow, *factor.wide) if part is not None]
    views = tensors.views_of(leaves) if all(isinstance(part, float) for part in parts) else None
    if views is None:
        return scale.scale(xp, leaves, factor, _branch)
    if isinstance(views, tables.Leaves):
        new = host.backend.scale(np_xp, views, factor)
    else:
        new = list(map(memory.empty, views))
        for view, out in zip(views, new, strict=True):
            multiply(view, factor, out)
    return list(map(memory.tensor, new))


def _clip(
    _: Any, leaves: Sequence[Any], lows: Sequence[float], highs: Sequence[float], inplace: bool
) -> Sequence[Any] | None:
    views = tensors.views_of(leaves)
    new = None if views is None else host.backend.clip(np_xp, views, lows, highs, inplace)
    return None if new is None else list(map(memory.tensor, new))


def _named_device(_: Any, name: str) -> str | None:
    """Return the device of a name such as "cpu", "GPU:1" or TensorFlow's own."""
    kind, _, index = name.rpartition("/")[2].removeprefix("device:").partition(":")
    found = [one.name for one in tf.config.list_logical_devices(kind.upper())]
    return dict(enumerate(found)).get(int(index or 0)) if (index or "0").isdigit() else None


@kept
def _usable() -> str | None:
    try:
        with tf.init_scope():  # whoever asks may be in a function that is traced
            if tf.reduce_sum(tf.ones(2)).numpy() != 2:
                return "the sum of two ones is not two"
    except tf.errors.OpError as error:
        return str(error)
    return None


backend = Backend(
    name="tensorflow",
    xp=namespace,
    sum_squares=_on_host("sum_squares", sums.sum_squares),
    abs_max=_on_host("abs_max", adapters.abs_max),
    power_sums=_on_host("power_sums", adapters.power_sums),
    exact_sum=_on_host("exact_sum", adapters.exact_sum),
    total=sums.total,
    scalar_like=memory.scalar_like,
    scale=_scale,
    clip=_clip,
    survey=tensors.survey,
    branch=_branch,
    run=host.backend.run,
    access=tensors.access,
    read=tensors.read,
    sparse=sparse.stored,
    refuse=tensors.refuse,
    unwritable=tensors.unwritable,
    usable=_usable,
    device=lambda _: None,
    named_device=_named_device,
    acc_dtype=lambda _, __: tf.float64,
    export=lambda x: x,
    context=host.backend.context,
    chain=host.backend.chain,
)
