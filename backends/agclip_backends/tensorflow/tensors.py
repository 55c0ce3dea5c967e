"""What an object of TensorFlow is: a tensor or a variable, read now or traced, in host memory."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import record

from agclip.adapters import Access, LeafBatch
from agclip_backends._host import tables
from agclip_backends.numpy import ndarrays
from agclip_backends.tensorflow import memory

EAGER = tf.__internal__.EagerTensor
_HELD = tf.__internal__.types.Tensor
"""What `tf.convert_to_tensor` makes a dense tensor of: tensors, variables, those of Keras."""
_HOST = "/job:localhost/replica:0/task:0/device:CPU:"
_device = attrgetter("device")
_NDARRAYS: set[type] = {np.ndarray}


def _is_variable(cls: type) -> bool:
    return issubclass(cls, _HELD) and not issubclass(cls, tf.Tensor)


def read(objects: Sequence[Any], types: set[type]) -> Sequence[Any]:
    """Return the values of variables, and other objects as they are."""
    if not any(map(_is_variable, types)):
        return objects
    return [tf.convert_to_tensor(x) if _is_variable(type(x)) else x for x in objects]


def refuse(x: Any) -> str | None:
    """Return why an object that has been read is no dense tensor; None if it is one."""
    if isinstance(x, tf.Tensor):
        return None
    if isinstance(x, tf.RaggedTensor):
        return "is ragged"
    sparse = isinstance(x, (tf.SparseTensor, tf.IndexedSlices))
    return f"is sparse (a tf.{type(x).__name__})" if sparse else "is no tf.Tensor"


def unwritable(x: Any) -> str:
    """Return why an object cannot be overwritten."""
    if _is_variable(type(x)):
        return "is a variable, which only its own `assign` overwrites,"
    return "is immutable"


def watched() -> bool:
    """Tell whether what is done with eager tensors is recorded, for derivatives.

    There is no public test (TensorFlow 2.21).
    """
    return bool(record.could_possibly_record())


def access(x: Any) -> Access:
    """Return what reading the value of a tensor costs: see `Backend.access`."""
    if type(x) is not EAGER or not tf.executing_eagerly():
        return "never"
    if not x.device.startswith(_HOST):
        return "sync"
    return "graph" if watched() else "free"


class Hosted(LeafBatch):
    """Eager tensors in host memory, and the same memory as a batch of NumPy arrays."""

    __slots__ = ("views",)

    def __init__(self, leaves: Sequence[Any], views: LeafBatch) -> None:
        LeafBatch.__init__(
            self, leaves, views.column, views.counts, kinds=views.kinds, elements=views.elements
        )
        self.views = views


def survey(leaves: Sequence[Any], types: set[type], inplace: bool) -> Hosted | None:
    """Return eager tensors in host memory as a batch."""
    if inplace or types != {EAGER} or not tf.executing_eagerly() or watched():
        return None
    if not all(device.startswith(_HOST) for device in set(map(_device, leaves))):
        return None
    try:
        arrays = list(map(memory.view, leaves))
    except (TypeError, ValueError, NotImplementedError, tf.errors.OpError):
        return None  # of a dtype without numbers, such as a resource
    views = ndarrays.survey(arrays, _NDARRAYS, False)
    if views is None:
        return None
    if isinstance(views, tables.Leaves):
        views.library = views.library._replace(new=memory.empty)
    return Hosted(leaves, views)


def views_of(leaves: Sequence[Any]) -> Sequence[Any] | None:
    """Return leaves as NumPy arrays in the same memory; None where they cannot be read for nothing.

    Those that were chosen from a batch keep the columns of that.
    """
    if isinstance(leaves, Hosted):
        return leaves.views
    if isinstance(leaves, LeafBatch) and leaves.origin is not None:
        whole, positions = leaves.origin
        if isinstance(whole, Hosted):
            return whole.views.chosen(positions)
    if leaves and all(access(leaf) == "free" for leaf in leaves):
        return list(map(memory.view, leaves))
    return None
