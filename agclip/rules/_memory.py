"""What rules with memory are made of: states of 0-d arrays, arithmetic that is the same anywhere.

Statistics are formed in float64 where there is one, with operations that IEEE 754 defines to the
bit: a run that moves to another library goes on with the thresholds of one that stayed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from agclip._backends import devices, kernels
from agclip._backends.backend import Backend
from agclip._backends.registry import resolve
from agclip._checks import describe
from agclip._clipping import pipeline
from agclip._clipping.measure import widened as widened_for
from agclip._clipping.plan import Inputs, StaticArgs
from agclip._clipping.record import reported
from agclip._numerics.ranges import Norm
from agclip._trees.gather import gather
from agclip._trees.leaves import Leaves
from agclip._typing import Array, DType, Namespace, Scalar, Tree
from agclip.rules._layout import JOINED, ByPath, Layout
from agclip.rules._rule import Options, State, Step, Steps, taken

Advance = Callable[..., tuple[Scalar, Scalar, dict[str, Any]]]
"""`(xp, …)` → the bound, the threshold to report, and the new state."""


class Remembers(Steps):
    """A rule whose state is made of the leaves of the first step that has any."""

    def init(self, params: Tree) -> State:
        """Return the state before the first step; `()`, none yet, of a tree without arrays."""
        leaves = gather(params, "params", listed=True)
        return self._fresh(leaves) if leaves.arrays else ()

    def _fresh(self, leaves: Leaves) -> dict[str, Any]:
        """Return the state before the first step, on the device of the first leaf."""
        raise NotImplementedError

    def _layout(self) -> dict[str, Layout]:
        """Return what a state is made of."""
        raise NotImplementedError


def ready(rule: Remembers, leaves: Leaves, state: State) -> dict[str, Any]:
    """Return the state that a step starts from, its 0-d arrays on the device of the first leaf.

    A state that is not made yet, `()`, is made of the leaves.

    Raises:
        TypeError: If the state is of another kind, or its arrays are of another library.
        ValueError: If it is that of another rule.
    """
    if isinstance(state, tuple) and not state:
        return rule._fresh(leaves)
    layout = rule._layout()
    if not isinstance(state, dict):
        msg = (
            f"`state` must be what init(params) or the last step of this rule returned; got "
            f"{describe(state)}. Begin with init(params)."
        )
        raise TypeError(msg)
    if not all(key in state for key in layout):
        wanted, found = (", ".join(map(repr, keys)) or "none" for keys in (layout, state))
        msg = (
            f"`state` must be what init(params) or the last step of this rule returned, with the "
            f"keys {wanted}; got {found}. Begin with init(params)."
        )
        raise ValueError(msg)
    single = [key for key, made_of in layout.items() if not isinstance(made_of, ByPath)]
    return {**state, **{key: here(leaves, state[key], f"state[{key!r}]") for key in single}}


def here(leaves: Leaves, value: Array, path: str, place: int = 0) -> Array:
    """Return an array of a state on the device of a leaf.

    Raises:
        TypeError: If it is no array of the library of the leaves.
    """
    backend, owner = leaves.backend, resolve(value)
    if owner is not None and owner.read is not kernels.read:
        (value,) = owner.read([value], {type(value)})
    if owner is not backend and owner != backend:
        found = describe(value) if owner is None else f"one of {owner.name}"
        msg = (
            f"`state` must hold arrays of {backend.name}, as `{leaves.name}` does; got {found} at "
            f"{path}. Convert it, make a new one with init(params), or load the state_dict() of a "
            f"Clipper into a new one, which goes on in any library."
        )
        raise TypeError(msg)
    return devices.to_device(backend, value, backend.device(leaves.arrays[place]))


def joined(
    state: dict[str, Any], key: str, paths: Sequence[str], make: Callable[[int], Array]
) -> dict[str, Any]:
    """Return a state that knows every leaf: those that had no gradient yet join at this step."""
    new = {path: make(i) for i, path in enumerate(paths) if path not in state[key]}
    if not new:
        return state
    steps = {**state.get(JOINED, {}), **dict.fromkeys(new, state["count"])}
    return {**state, key: {**state[key], **new}, JOINED: steps}


def since(leaves: Leaves, state: dict[str, Any], paths: Sequence[str]) -> list[Array | None]:
    """Return for each leaf the count at its first step; None if that was the first of all."""
    found = state.get(JOINED, {})
    return [
        here(leaves, found[path], f"state[{JOINED!r}][{path!r}]") if path in found else None
        for path in paths
    ]


def start(leaves: Leaves, counts: Sequence[str], numbers: dict[str, float]) -> dict[str, Array]:
    """Return a state of counts at 0 and numbers, on the device of the first leaf."""
    return {name: integer(leaves) for name in counts} | {
        name: real(leaves, value) for name, value in numbers.items()
    }


def array(leaves: Leaves, values: Any, *, integer: bool) -> Array:
    """Return saved numbers as an array of a state."""
    return _made(leaves, values, leaves.backend.xp.int32 if integer else _acc_dtype(leaves))


def integer(leaves: Leaves) -> Array:
    """Return a count at 0."""
    return _made(leaves, 0, leaves.backend.xp.int32)


def real(leaves: Leaves, value: float) -> Array:
    """Return a number of a state."""
    return _made(leaves, value, _acc_dtype(leaves))


def widened(leaves: Leaves, value: Array) -> Array:
    """Return a 0-d array in the dtype that sums have on the device of the first leaf."""
    xp = leaves.backend.xp
    return kernels.cast(xp, value, _acc_dtype(leaves))


def _made(leaves: Leaves, value: Any, dtype: DType) -> Array:
    backend = leaves.backend
    device = backend.device(leaves.arrays[0]) if leaves.arrays else None
    with backend.context():
        return kernels.number(backend.xp, value, dtype, device)


def _acc_dtype(leaves: Leaves) -> DType:
    xp = leaves.backend.xp
    return leaves.backend.acc_dtype(xp, leaves.arrays[0]) if leaves.arrays else xp.float32


def times(xp: Namespace, a: Scalar, b: Scalar) -> Array:
    """Return the product of two numbers >= 0, rounded.

    A compiler may merge a product with the sum it goes into, and round once where others round
    twice. It cannot do so through a maximum.
    """
    product = a * b
    return xp.maximum(product, xp.zeros_like(product))


def average(xp: Namespace, old: Scalar, new: Scalar, decay: float) -> Array:
    """Return decay·old + (1 - decay)·new of numbers >= 0."""
    return times(xp, old, decay) + times(xp, new, 1.0 - decay)


def settled(state: Any) -> Any:
    """Return a state that holds no graph of earlier steps (torch under autograd)."""
    if isinstance(state, dict):
        return {key: settled(value) for key, value in state.items()}
    return state.detach() if hasattr(state, "detach") else state


@dataclass(frozen=True, kw_only=True, repr=False)
class OfGlobalNorm(Remembers, Options):
    """A rule whose bound on the global norm follows from the norms of earlier steps."""

    def _advance(self) -> tuple[Advance, tuple[float, ...]]:
        """Return the program of one step, and the numbers it takes before its arrays."""
        raise NotImplementedError

    def _checked(self, leaves: Leaves, state: State) -> State:
        """Return the state that a step starts from."""
        return ready(self, leaves, state)

    def _run(self, leaves: Leaves, state: State, params: Tree | None, *, inplace: bool) -> Step:
        state = self._checked(leaves, state)
        plan = self._plan(leaves, 1.0, joint=True)._replace(limits=FromNorm(*self._advance()))
        outcome = pipeline.run(
            leaves, plan, "bound", None, self.loss_scale, extra=state, inplace=inplace
        )
        threshold, new = outcome.extra
        return taken(outcome, threshold, plan.nonfinite, settled(new), inplace=inplace)


class FromNorm(NamedTuple):
    """The limit on the global norm that follows from it and from a state, `Inputs.extra`."""

    program: Advance
    """`(backend, numbers, state, norm)` → the bound, the threshold to report, and the new state."""
    numbers: tuple[float, ...]

    def __call__(
        self, call: StaticArgs, norms: Sequence[Norm], inputs: Inputs
    ) -> tuple[list[Scalar], tuple[Scalar, State]]:
        """Return the limit; and what is reported as the threshold, with the new state."""
        backend, arrays = call.backend, inputs.arrays
        norm, _ = reported(call, norms, inputs)
        norm = kernels.cast(backend.xp, norm, call.acc_dtype)
        bound, threshold, new = self.program(backend, self.numbers, inputs.extra, norm)
        return [widened_for(call, arrays, known(backend, bound))], (threshold, new)


def known(backend: Backend, bound: Array) -> Scalar:
    """Return a bound as a float where it can be read for nothing, else itself."""
    return float(bound) if backend.access(bound) == "free" else bound
