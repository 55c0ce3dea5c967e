"""The rules of the clips by a norm: of all leaves, of each leaf, average and root mean square."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from agclip._clipping import arguments, axis_arguments, pipeline, weights
from agclip._trees.leaves import Leaves
from agclip._typing import Bound, Order, Scalar, Tree
from agclip.rules import _checks
from agclip.rules._rule import Options, State, Step, taken


@dataclass(frozen=True, kw_only=True, repr=False)
class OfNorm(Options):
    """A rule whose bound is one of its numbers, and which remembers nothing."""

    _name: ClassVar[str] = "clip_norm"
    """The argument that holds the bound."""

    def __post_init__(self) -> None:
        """Check the numbers as far as they can be read."""
        super().__post_init__()
        _checks.bound(self._name, getattr(self, self._name))
        _checks.order(getattr(self, "ord", 2))

    def _limit_of_nothing(self, leaves: Leaves) -> Scalar | None:
        return arguments.threshold(self._name, getattr(self, self._name), leaves)

    def _form(self, leaves: Leaves) -> dict[str, Any]:
        """Return the fields of the plan that set the rule apart from others."""
        return {}

    def _run(self, leaves: Leaves, state: State, params: Tree | None, *, inplace: bool) -> Step:
        name, bound = self._name, getattr(self, self._name)
        try:
            plan = self._plan(leaves, bound, getattr(self, "ord", 2), **self._form(leaves))
        except Exception:
            self._fail()
            raise
        outcome = pipeline.run(leaves, plan, name, bound, self.loss_scale, inplace=inplace)
        return taken(outcome, plan.nonfinite, state, inplace=inplace)


@dataclass(frozen=True, repr=False)
class ClipByGlobalNorm(OfNorm):
    """Clip all leaves by one coefficient, as `clip_by_global_norm` does.

    ```
    n = ‖g‖                            over all elements of all leaves
    out = g · clip_norm / n  if n > clip_norm  else  g
    ```

    In the record `threshold` is `clip_norm`, and `scale` the coefficient.

    Attributes:
        clip_norm: The bound: a number >= 0 or a 0-d array; infinity or None for no bound.
        ord: The order of the norm: a number > 0, `inf` or "inf" for the largest absolute value.

    Example:
        >>> clipper = agclip.Clipper(agclip.ClipByGlobalNorm(1.0))
        >>> clipped, info = clipper({"w": np.array([3.0]), "b": np.array([4.0])})
        >>> float(info.norm), float(agclip.global_norm(clipped))
        (5.0, 1.0)

    Source: R. Pascanu, T. Mikolov, Y. Bengio, "On the difficulty of training recurrent neural
    networks", 2013, arXiv:1211.5063.
    """

    clip_norm: Bound
    ord: Order = field(default=2, kw_only=True)

    _joint: ClassVar[bool] = True

    def _form(self, leaves: Leaves) -> dict[str, Any]:
        return {"joint": True}


@dataclass(frozen=True, repr=False)
class ClipByNorm(OfNorm):
    """Clip each leaf by its own norm, as `clip_by_norm` does.

    ```
    n = ‖g_leaf‖                       over the whole leaf, or over `axes`
    out = g_leaf · clip_norm / n  if n > clip_norm  else  g_leaf
    ```

    In the record `threshold` is `clip_norm`, `norm` that of all leaves together, and `scale` the
    smallest coefficient.

    Attributes:
        clip_norm: The bound: a number >= 0 or a 0-d array; infinity or None for no bound.
        axes: The axes a norm is taken over; None for all.
        ord: The order of the norm: a number > 0, `inf` or "inf" for the largest absolute value.

    Example:
        >>> clipped, info = agclip.Clipper(agclip.ClipByNorm(1.0))(
        ...     [np.array([3.0, 4.0]), np.ones(1)]
        ... )
        >>> clipped
        [array([0.6, 0.8]), array([1.])]

    Source: TensorFlow's `tf.clip_by_norm`; R. Pascanu, T. Mikolov, Y. Bengio, 2013,
    arXiv:1211.5063.
    """

    clip_norm: Bound
    axes: int | tuple[int, ...] | None = None
    ord: Order = field(default=2, kw_only=True)

    def __post_init__(self) -> None:
        """Check the numbers as far as they can be read."""
        super().__post_init__()
        if isinstance(self.axes, list):
            object.__setattr__(self, "axes", tuple(self.axes))

    def _form(self, leaves: Leaves) -> dict[str, Any]:
        return {"axes": axis_arguments.of_leaves(self.axes, leaves)}


@dataclass(frozen=True, repr=False)
class ClipByAverageNorm(OfNorm):
    """Clip each leaf by its average norm, as `clip_by_average_norm` does.

    ```
    n = ‖g_leaf‖₂ / N                 N elements in the leaf
    out = g_leaf · clip_norm / n  if n > clip_norm  else  g_leaf
    ```

    In the record `threshold` is `clip_norm`, `scale` the smallest coefficient, and the norms are L2
    norms, not divided by anything.

    Attributes:
        clip_norm: The bound: a number >= 0 or a 0-d array; infinity or None for no bound.

    Example:
        >>> agclip.Clipper(agclip.ClipByAverageNorm(1.0))(np.array([3.0, 4.0]))[0]
        array([1.2, 1.6])

    Source: TensorFlow's `tf.clip_by_average_norm`.
    """

    clip_norm: Bound

    def _form(self, leaves: Leaves) -> dict[str, Any]:
        return {"weights": weights.of_leaves(leaves, weights.size)}


@dataclass(frozen=True, repr=False)
class ClipByRMS(OfNorm):
    """Clip each leaf by its root mean square, as `clip_by_rms` does.

    ```
    n = ‖g_leaf‖₂ / √N                N elements in the leaf
    out = g_leaf · clip_rms / n  if n > clip_rms  else  g_leaf
    ```

    In the record `threshold` is `clip_rms`, `scale` the smallest coefficient, and the norms are L2
    norms, not divided by anything.

    Attributes:
        clip_rms: The bound: a number >= 0 or a 0-d array; infinity or None for no bound.

    Example:
        >>> agclip.Clipper(agclip.ClipByRMS(1.0))(np.array([1.0, 7.0]))[0]
        array([0.2, 1.4])

    Source: N. Shazeer, M. Stern, "Adafactor: Adaptive learning rates with sublinear memory cost",
    2018, arXiv:1804.04235, section 6.
    """

    clip_rms: Bound

    _name: ClassVar[str] = "clip_rms"

    def _form(self, leaves: Leaves) -> dict[str, Any]:
        return {"weights": weights.of_leaves(leaves, weights.root_size)}
