"""A bound for each element from its second moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

from agclip._backends import devices, kernels
from agclip._backends.backend import Backend
from agclip._backends.dtypes import kind_of, real_dtype
from agclip._clipping import arguments
from agclip._trees.leaves import Leaves
from agclip._typing import Array, NonFinite, Scalar, Tree
from agclip.rules import _checks, _elements, _memory, _paths
from agclip.rules._arithmetic import average
from agclip.rules._layout import COUNT, SIZE, ByPath, Parts
from agclip.rules._rule import State, Step, configured


@dataclass(frozen=True, repr=False)
class SpikeClip(_memory.Remembers):
    """Clip elements that are large against their own second moment (the spike rule of SPAM).

    ```
    out = sign(g) · √(threshold · v)  if g² > threshold · v  else  g      after `warmup` steps
    v ← decay·v + (1 - decay)·out²
    ```

    For complex elements sign(g) is g/|g|. An element with v = 0 is not clipped: it could never move
    again. A zero, a NaN and an infinity do not enter v. A leaf that gets its first gradient after
    the first step has a warm-up of its own from there. The state holds an array of the size of each
    leaf. In the record `threshold` is the argument, `norm` the L2 norm of all leaves, and `scale`
    the least |out|/|in|. SPAM's resets of the momentum are a matter of the optimiser.

    Attributes:
        threshold: θ, the largest allowed ratio of g² to v: a number > 0.
        decay: β₂, the weight of the past in v: between 0 and 1.
        warmup: The number of steps before anything is clipped.
        nonfinite: What becomes of an element that is NaN or infinite: "propagate" and "skip" leave
            it, "zero" zeroes it, "error" raises; None for what the settings
            say.
        loss_scale: What the gradients come in multiplied by, and are divided by: a number > 0.

    Example:
        >>> clipper = agclip.Clipper(agclip.SpikeClip(threshold=4000.0, warmup=1))
        >>> for entry in (1.0, 100.0):
        ...     clipped, info = clipper(np.array([entry, 1.0]))
        >>> clipped.round(9).tolist()
        [2.0, 1.0]

    Source: T. Huang et al., "SPAM: Spike-aware Adam with momentum reset for stable LLM training",
    2025, arXiv:2501.06842, section 4.
    """

    threshold: float = 5000.0
    decay: float = 0.999
    warmup: int = 20
    _: KW_ONLY
    nonfinite: NonFinite | None = None
    loss_scale: Any = None

    def __post_init__(self) -> None:
        """Check the numbers as far as they can be read."""
        _checks.positive("threshold", self.threshold)
        _checks.fraction("decay", self.decay)
        _checks.count("warmup", self.warmup)
        _checks.policy(self.nonfinite)
        _checks.positive("loss_scale", self.loss_scale, none="None")

    def _resolved(self) -> SpikeClip:
        """Return the rule with the settings in the place of None."""
        return replace(self, nonfinite=configured(self.nonfinite)["nonfinite"])

    def _fresh(self, leaves: Leaves) -> State:
        """Return the count at 0, and for each leaf an array of zeros."""
        leaves.require_dense("where every element has a bound of its own")
        backend = leaves.backend
        zeros = backend.run(_zeros, (backend,), (leaves.arrays,))
        moments = dict(zip(_paths.paths(leaves), zeros, strict=True))
        return {"count": _memory.array(leaves, COUNT), "second_moment": moments}

    def _layout(self) -> Parts:
        return {"count": COUNT, "second_moment": ByPath(SIZE._replace(shape=None))}

    def _limit_of_nothing(self, leaves: Leaves) -> Scalar | None:
        return float(self.threshold)

    def _run(self, leaves: Leaves, state: State, params: Tree | None, *, inplace: bool) -> Step:
        leaves.require_dense("where every element has a bound of its own")
        leaves.require_uncut()
        policy = configured(self.nonfinite)["nonfinite"]
        paths = _paths.paths(leaves)

        def zeros(i: int) -> Array:
            (made,) = leaves.backend.run(_zeros, (leaves.backend,), (leaves.arrays[i : i + 1],))
            return made

        state = _memory.joined(self, leaves, state, "second_moment", zeros)
        scale = arguments.positive("loss_scale", self.loss_scale, leaves)
        before = _elements.unscaled(leaves, scale)
        moments = [_moment(leaves, state, paths, i) for i in range(len(paths))]
        late = _memory.since(leaves, state)
        numbers = float(self.threshold), float(self.decay), self.warmup, policy == "zero"
        after, count, moments = leaves.backend.run(
            _advance, (leaves.backend, numbers), (before, state["count"], late, moments)
        )
        info = _elements.info(leaves, before, after, numbers[0], scale, policy)
        state = _memory.advanced(leaves, state, "second_moment", count, moments)
        return _elements.step(leaves, after, state, info, inplace=inplace)


def _moment(leaves: Leaves, state: State, paths: Sequence[str], i: int) -> Array:
    """Return the second moments of a leaf, in its real dtype and on its device.

    Raises:
        TypeError: If they are no array of the library of the leaves.
        ValueError: If they are of another shape.
    """
    backend, leaf = leaves.backend, leaves.arrays[i]
    path = f"state['second_moment'][{paths[i]!r}]"
    moment = _memory.here(leaves, state["second_moment"][paths[i]], path, i)
    if tuple(moment.shape) != tuple(leaf.shape):
        msg = (
            f"`{leaves.name}` must have the shapes that the state was made for; got "
            f"{tuple(leaf.shape)} at {leaves.path(i)} and {tuple(moment.shape)} at {path}. Make a "
            f"new state with init(params)."
        )
        raise ValueError(msg)
    with backend.context():
        return kernels.cast(backend.xp, moment, real_dtype(backend.xp, kind_of(leaf.dtype)))


def _zeros(backend: Backend, arrays: Sequence[Array]) -> list[Array]:
    xp = backend.xp
    return [xp.zeros_like(leaf, dtype=real_dtype(xp, kind_of(leaf.dtype))) for leaf in arrays]


def _advance(
    backend: Backend,
    numbers: tuple[float, float, int, bool],
    arrays: Sequence[Array],
    count: Array,
    late: Sequence[Array | None],
    moments: Sequence[Array],
) -> tuple[list[Array], Array, list[Array]]:
    results, new = [], []
    for leaf, since, moment in zip(arrays, late, moments, strict=True):
        active = (count if since is None else count - since) >= numbers[2]
        here = devices.to_device(backend, active, backend.device(leaf))
        out, after = backend.at(leaf, _advance_leaf, backend, numbers, leaf, here, moment)
        results.append(out)
        new.append(after)
    return results, count + 1, new


def _advance_leaf(
    backend: Backend,
    numbers: tuple[float, float, int, bool],
    leaf: Array,
    active: Array,
    moment: Array,
) -> tuple[Array, Array]:
    threshold, decay, _, zeroing = numbers
    xp = backend.xp
    y = xp.astype(leaf, xp.float32) if kind_of(leaf.dtype).half else leaf
    size = xp.abs(y)
    bound = moment * threshold
    finite = xp.isfinite(y)
    over = active & finite & (bound > 0) & (size * size > bound)
    square = kernels.cast(xp, bound, backend.acc_dtype(xp, bound))
    limit = kernels.cast(xp, backend.sqrt(xp, square), bound.dtype)
    if kind_of(leaf.dtype).family == "complex":
        short = y * (limit / xp.where(over, size, xp.ones_like(size)))
    else:
        short = xp.where(y < 0, -limit, limit)
    out = xp.where(over, short, y)
    if zeroing:
        out = xp.where(finite, out, xp.zeros_like(out))
    left = xp.where(over, bound, size * size)
    # Zeros would pull the moment to zero, and with it the bound on all that comes after.
    entering = xp.where(xp.isfinite(left) & finite & (left > 0), left, moment)
    after = xp.where(xp.equal(entering, moment), moment, average(xp, moment, entering, decay))
    return kernels.cast(xp, out, leaf.dtype), after
