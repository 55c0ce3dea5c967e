"""What is raised of leaves that are not finite, with the policy "error"."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agclip._backends import kernels
from agclip._clipping.plan import Inputs
from agclip._numerics.ranges import Norm
from agclip._trees.leaves import Leaves
from agclip._typing import Array

_NAMED = 10
"""How many findings an error names one by one."""


def _known_finite(leaves: Leaves, norm: Norm) -> bool:
    finite = norm.finite
    return bool(finite if isinstance(finite, bool) else leaves.backend.xp.all(finite))


def require_finite(leaves: Leaves, inputs: Inputs, norms: Sequence[Norm], given: str = "") -> None:
    """Raise if a norm is not finite, naming the leaves that hold a NaN or an infinity.

    Reads one value a group: a synchronisation on devices, a computation on lazy arrays.
    """
    backend, xp = leaves.backend, leaves.backend.xp
    traced = leaves.access == "never"
    if inputs.use_norm is not None and not traced and not _known_finite(leaves, norms[0]):
        msg = (
            f'`{given}` must be finite with `nonfinite="error"`; got one that is not. Skip the '
            "step, or choose another policy for `nonfinite`."
        )
        raise FloatingPointError(msg)
    if traced:
        msg = (
            '`nonfinite` must not be "error" for traced arrays, whose values cannot be read; got '
            f"traced arrays of {backend.name} in `{leaves.name}`. Use another policy, and test the "
            "norm outside of the compiled function."
        )
        raise ValueError(msg)
    if all(_known_finite(leaves, norm) for norm in norms):
        return

    def holds(leaf: Array, test: Callable[[Array], Array]) -> bool:
        return bool(xp.any(test(kernels.computable(xp, leaf))))

    with backend.context():
        found = [
            (i, name)
            for i, leaf in enumerate(leaves.arrays if inputs.merged is None else inputs.merged)
            for name, test in (("NaN", xp.isnan), ("an infinity", xp.isinf))
            if backend.at(leaf, holds, leaf, test)
        ]
    listed = _listed(leaves, found) if found else "a NaN or an infinity on another rank"
    msg = (
        f"`{leaves.name}` must be finite; got {listed}. "
        "Skip the step, or choose another policy for `nonfinite`."
    )
    raise FloatingPointError(msg)


def _listed(leaves: Leaves, found: Sequence[tuple[int, str]]) -> str:
    """Name the first leaves that are not finite, and say in how many more."""
    named = ", ".join(f"{name} at {leaves.path(i)}" for i, name in found[:_NAMED])
    count, shown = len({i for i, _ in found}), len({i for i, _ in found[:_NAMED]})
    return named if count == shown else f"{named} and {count - shown} more of {count} leaves"
