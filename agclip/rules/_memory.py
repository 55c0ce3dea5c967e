"""What rules with memory are made of: states of 0-d arrays, and bounds that follow from them.

Statistics are formed in float64 where there is one, with operations that IEEE 754 defines to the
bit: a run that moves to another library goes on with the thresholds of one that stayed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from agclip._backends import devices, host_scalars, kernels, registry
from agclip._backends.backend import Backend
from agclip._backends.registry import resolve
from agclip._checks import describe
from agclip._clipping import pipeline
from agclip._clipping.measure import float_of, settle, value_of, widened
from agclip._clipping.plan import Inputs, StaticArgs
from agclip._numerics.ranges import Norm
from agclip._trees.gather import gather
from agclip._trees.leaves import Leaves
from agclip._trees.stand_in import standing_in
from agclip._typing import Array, Namespace, Scalar, Tree
from agclip.rules import _checks, _kept, _paths
from agclip.rules._arithmetic import allowing
from agclip.rules._kept import Kept
from agclip.rules._layout import JOINED, ByPath, Numbers, Parts
from agclip.rules._rule import Options, State, Step, Steps, taken

Advance = Callable[
    [Backend, Namespace, tuple[float, ...], dict[str, Any], Scalar],
    tuple[Scalar, Scalar, dict[str, Any]],
]
"""`(backend, m, numbers, state, norm)` → the bound, the threshold to report, and the new state.

`m` is the namespace of the arrays, or `host_scalars` where the state and the norm are floats."""


class Remembers(Steps):
    """A rule whose state is made of the leaves of the first step that has any."""

    def init(self, params: Tree) -> State:
        """Return the state before the first step; `()`, none yet, of a tree without arrays."""
        leaves = gather(params, "params", listed=True)
        if not leaves.arrays and self._joins():
            leaves = standing_in(leaves, params)
        return self._fresh(leaves) if leaves.arrays else ()

    def _fresh(self, leaves: Leaves) -> dict[str, Any]:
        """Return the state before the first step, on the device of the first leaf."""
        return {
            key: {path: array(leaves, part.of) for path in _paths.paths(leaves)}
            if isinstance(part, ByPath)
            else array(leaves, part)
            for key, part in self._layout().items()
        }

    def _layout(self) -> Parts:
        """Return what a state is made of."""
        raise NotImplementedError


def ready(rule: Remembers, leaves: Leaves, state: State) -> dict[str, Any]:
    """Return the state that a step starts from, its 0-d arrays on the device of the first leaf.

    A state that is not made yet, `()`, is made of the leaves.

    Raises:
        TypeError: If the state is of another kind, or its arrays are of another library.
        ValueError: If it is that of another rule.
    """
    held, layout = _checks.begun(state), rule._layout()
    if held is None:
        return rule._fresh(leaves)
    if [key for key in layout if key not in held]:
        wanted, found = (", ".join(map(repr, keys)) or "none" for keys in (layout, held))
        msg = (
            f"`state` must be what init(params) or the last step of this rule returned, with the "
            f"keys {wanted}; got {found}. Begin with init(params)."
        )
        raise ValueError(msg)
    backend, made = leaves.backend, {**held}
    device, plain = backend.device(leaves.arrays[0]), backend.read is kernels.read
    for key, made_of in layout.items():
        if type(made_of) is ByPath:
            continue
        value = held[key]
        known = plain and registry.BY_TYPE.get(type(value)) is backend
        if not known or (device is not None and backend.device(value) != device):
            made[key] = here(leaves, value, f"state[{key!r}]")
    return made


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
    device = backend.device(leaves.arrays[place])
    return value if device is None else devices.to_device(backend, value, device)


def joined(
    rule: Remembers,
    leaves: Leaves,
    state: State,
    key: str,
    make: Callable[[int], Array],
) -> dict[str, Any]:
    """Return the state of `ready` with all leaves: those without a gradient yet join at this step.

    `make` makes the statistics of the leaf at a position, for those under `key`.
    """
    held = ready(rule, leaves, state)
    new = {p: make(i) for i, p in enumerate(_paths.paths(leaves)) if p not in held[key]}
    if not new:
        return held
    steps = {**held.get(JOINED, {}), **dict.fromkeys(new, held["count"])}
    return {**held, key: {**held[key], **new}, JOINED: steps}


def advanced(
    leaves: Leaves, state: dict[str, Any], key: str, count: Array, new: Sequence[Array]
) -> Any:
    """Return the state after a step; leaves that have no gradient in it keep their statistics."""
    kept = {**state[key], **dict(zip(_paths.paths(leaves), new, strict=True))}
    return settled({**state, "count": count, key: kept})


def since(leaves: Leaves, state: dict[str, Any]) -> list[Array | None]:
    """Return for each leaf the count at its first step; None if that was the first of all."""
    found = state.get(JOINED, {})
    return [
        here(leaves, found[path], f"state[{JOINED!r}][{path!r}]") if path in found else None
        for path in _paths.paths(leaves)
    ]


def array(leaves: Leaves, numbers: Numbers, values: Any = None) -> Array:
    """Return numbers of a state on the device of the first leaf: those it begins with, or saved."""
    backend, xp = leaves.backend, leaves.backend.xp
    first = leaves.arrays[0]
    dtype = xp.int32 if numbers.integer else backend.acc_dtype(xp, first)
    begin = int(numbers.start) if numbers.integer else numbers.start
    with backend.context():
        return kernels.number(xp, begin if values is None else values, dtype, backend.device(first))


def settled(state: Any) -> Any:
    """Return a state that holds no graph of earlier steps (torch under autograd)."""
    if isinstance(state, dict):
        return {key: settled(value) for key, value in state.items()}
    return state.detach() if hasattr(state, "detach") else state


@dataclass(frozen=True, kw_only=True, repr=False)
class OfGlobalNorm(Remembers, Options):
    """A rule whose bound on the global norm follows from the norms of earlier steps."""

    _joint: ClassVar[bool] = True
    _remembered: ClassVar[bool] = False
    """Whether the bound may be a norm as it is remembered, or be formed of such alone."""

    def _facts(self) -> tuple[Any, ...]:
        return (*super()._facts(), *self._advance()[1])

    def _advance(self) -> tuple[Advance, tuple[float, ...]]:
        """Return the program of one step, and the numbers it takes before its arrays."""
        raise NotImplementedError

    def _checked(self, leaves: Leaves, state: State) -> State:
        """Return the state that a step starts from."""
        if type(state) is Kept:
            # What divides the leaves may be an array, and the arithmetic one of arrays then.
            if self.loss_scale is None and state.leads_to(leaves):
                return state
            state = state.arrays()
        return ready(self, leaves, state)

    def _run(self, leaves: Leaves, state: State, params: Tree | None, *, inplace: bool) -> Step:
        try:
            state = self._checked(leaves, state)
            program, numbers = self._advance()
            # NumPy's scalars of float32 would make of floats what is no more precise.
            limits = FromNorm(program, tuple(map(float, numbers)), self._remembered)
            plan = self._plan(leaves, 1.0, joint=True, limits=limits)
        except Exception:
            self._fail()
            raise
        outcome = pipeline.run(
            leaves, plan, "bound", None, self.loss_scale, extra=state, inplace=inplace
        )
        threshold, new = outcome.extra
        return taken(outcome, plan.nonfinite, new, inplace=inplace, threshold=threshold)


class FromNorm(NamedTuple):
    """The limit on the global norm that follows from it and from a state, `Inputs.extra`."""

    program: Advance
    """`(backend, numbers, state, norm)` → the bound, the threshold to report, and the new state."""
    numbers: tuple[float, ...]
    remembered: bool

    def __call__(
        self, call: StaticArgs, norms: Sequence[Norm], inputs: Inputs
    ) -> tuple[list[Scalar], tuple[Scalar, State]]:
        """Return the limit; and what is reported as the threshold, with the new state."""
        backend, arrays, state = call.backend, inputs.arrays, inputs.extra
        loss_scale = inputs.loss_scale
        if loss_scale is not None:
            loss_scale = widened(call, arrays, loss_scale)
        whole = settle(call, arrays, norms[0], loss_scale)
        like, held = state, None
        if type(state) is Kept:
            like, held = state.like, state.numbers
        elif call.host:
            held = _kept.read(backend, state)
        if held is not None:
            m, size = host_scalars, float_of(call, arrays, whole, loss_scale)
            bound, threshold, new = self.program(backend, m, self.numbers, held, size)
            if self.remembered:
                bound = self._compared(call, m, size, bound)
            return [bound], (threshold, Kept(backend, like, new))
        value = value_of(call, arrays, whole, loss_scale)
        if not call.host:
            bound, extra = self.of_norm(call, value, inputs)
            return [bound], extra
        with backend.context():
            bound, extra = self.of_norm(call, value, inputs)
        return [bound], extra

    def of_norm(
        self, call: StaticArgs, value: Array, inputs: Inputs
    ) -> tuple[Scalar, tuple[Scalar, State]]:
        """Return the same from the norm's value alone, an array."""
        backend, xp = call.backend, call.backend.xp
        norm = kernels.cast(xp, value, call.acc_dtype)
        bound, threshold, new = self.program(backend, xp, self.numbers, inputs.extra, norm)
        bound = self._compared(call, xp, norm, bound)
        limit = widened(call, inputs.arrays, known(backend, bound))
        return limit, (threshold, settled(new))

    def _compared(self, call: StaticArgs, m: Namespace, norm: Scalar, bound: Scalar) -> Scalar:
        """Return the bound that the norm as it is measured is compared with."""
        return allowing(m, norm, bound) if self.remembered and not call.plan.strict else bound


def known(backend: Backend, bound: Array) -> Scalar:
    """Return a bound as a float where it can be read for nothing, else itself."""
    return float(bound) if backend.access(bound) == "free" else bound
