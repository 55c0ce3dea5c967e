"""The rule of `clip_by_value`."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agclip._backends import devices, kernels
from agclip._clipping import arguments, by_value, merging, value_bounds
from agclip._trees.leaves import Leaves
from agclip._typing import Array, Bound, Number, Tree
from agclip.rules import _checks, _elements
from agclip.rules._rule import State, Step, Steps


@dataclass(frozen=True, repr=False)
class ClipByValue(Steps):
    """Clip every element into [clip_value_min, clip_value_max], as `clip_by_value` does.

    ```
    out = max(min(g, clip_value_max), clip_value_min)
    ```

    NaN stays NaN, and an infinity becomes the bound. In the record `threshold` is the largest
    absolute value that can come out, `norm` the L2 norm of all leaves, `scale` the least |out|/|in|
    of an element, and `skip` whether NaN came out. The record takes a read of the leaves more than
    the function does.

    Attributes:
        clip_value_min: Lower bound: a number, or an array that broadcasts to every leaf; None for
            no bound.
        clip_value_max: Upper bound, likewise.
        loss_scale: What the gradients come in multiplied by, and are divided by: a number > 0.

    Example:
        >>> agclip.Clipper(agclip.ClipByValue(-1.0, 1.0))(np.array([3.0, -0.5]))[0]
        array([ 1. , -0.5])

    Source: TensorFlow's `tf.clip_by_value`.
    """

    clip_value_min: Bound
    clip_value_max: Bound
    loss_scale: Number | None = None

    def __post_init__(self) -> None:
        """Check the numbers as far as they can be read."""
        _checks.real("clip_value_min", _or_zero(self.clip_value_min), _elements.BOUND)
        _checks.real("clip_value_max", _or_zero(self.clip_value_max), _elements.BOUND)
        value_bounds.check_numbers(self.clip_value_min, self.clip_value_max)
        _checks.positive("loss_scale", self.loss_scale, none="None")

    def _run(self, leaves: Leaves, state: State, params: Tree | None, *, inplace: bool) -> Step:
        scale = arguments.positive("loss_scale", self.loss_scale, leaves)
        before = _elements.unscaled(merging.as_dense(leaves)[0], scale)
        after = by_value.clip(
            leaves, self.clip_value_min, self.clip_value_max, scale, inplace=False
        )
        info = _elements.info(leaves, before, after, self._largest(leaves), scale)
        return _elements.step(leaves, after, state, info, inplace=inplace)

    def _largest(self, leaves: Leaves) -> Any:
        """Return the largest absolute value of a bound."""
        pair = value_bounds.readable(self.clip_value_min, self.clip_value_max, leaves)
        if any(value is None for value in pair):
            return math.inf
        if all(isinstance(value, numbers.Real) for value in pair):
            return max(abs(float(value)) for value in pair)
        return leaves.backend.run(_largest, (leaves.backend,), (leaves.arrays[:1], pair))


def _or_zero(value: Any) -> Any:
    return 0.0 if value is None else value


def _largest(backend: Any, arrays: Sequence[Array], pair: Sequence[Any]) -> Array:
    xp, acc_dtype = backend.xp, backend.acc_dtype(backend.xp, arrays[0])
    device = backend.device(arrays[0])
    peaks = [
        xp.abs(kernels.number(xp, value, acc_dtype, device))
        if isinstance(value, numbers.Real)
        else devices.to_device(
            backend, kernels.peak(xp, xp.abs(kernels.cast(xp, value, acc_dtype))), device
        )
        for value in pair
    ]
    return xp.maximum(*peaks)
