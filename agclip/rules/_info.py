"""What a rule has done in one step, as arrays that nobody has read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from agclip._backends import devices, kernels, registry
from agclip._backends.backend import Backend
from agclip._backends.fused import Details
from agclip._backends.lazy import LazyDict
from agclip._trees.leaves import Leaves
from agclip._typing import Array, Scalar
from agclip.rules import _paths


class ClipInfo(NamedTuple):
    """What a rule has done in one step.

    All are 0-d arrays of the gradients' library: looking at none of them costs nothing. The tuple
    is a container to every library, so it passes through `jax.jit`, `lax.scan` and `torch.compile`.
    Of a loss scale nothing is seen here: norms are those of the gradients divided by it.

    Attributes:
        norm: The norm of all leaves together, before clipping; of the rule's order if it has one,
            else L2.
        scale: The smallest number that anything was multiplied by: the coefficient of the group
            (all leaves, a leaf, a slice, a unit); for clips of single elements the least
            |out|/|in|. 1 if nothing was clipped; NaN where the policy "propagate" wrote NaN.
        threshold: The bound in force in this step, in the terms of the rule's documentation.
        clipped: Whether anything finite exceeded its bound.
        nonfinite: Whether a NaN or an infinity came in.
        leaf_norms: The norm of each leaf before clipping, by its path, such as "layers.0.bias".
        skip: Whether a NaN or an infinity may have come out: a step with it would spoil the
            parameters. Never with the policy "zero".

    Example:
        >>> _, info = agclip.Clipper(agclip.ClipByGlobalNorm(1.0))([np.array([3.0, 4.0])])
        >>> info.to_host().norm, info.to_host().clipped
        (5.0, True)
    """

    norm: Array
    scale: Array
    threshold: Array
    clipped: Array
    nonfinite: Array
    leaf_norms: Mapping[str, Array]
    skip: Array

    def to_host(self) -> HostClipInfo:
        """Return the same with Python's floats and bools for arrays.

        The one place where a device is waited for or a lazy array computed: once for all values.

        Raises:
            ValueError: If the arrays are traced and have no values yet.
        """
        scalars = [*self[:5], self.skip, *self.leaf_norms.values()]
        backend = registry.resolve(scalars[0])
        if backend is None:
            return cast("HostClipInfo", self)
        if any(backend.access(value) == "never" for value in scalars):
            msg = (
                "`info` must hold values to bring to the host; got traced arrays. Return it from "
                "the compiled function, and call to_host() there."
            )
            raise ValueError(msg)
        norm, scale, threshold, clipped, nonfinite, skip, *norms = _read(backend, scalars)
        return HostClipInfo(
            norm,
            scale,
            threshold,
            bool(clipped),
            bool(nonfinite),
            dict(zip(self.leaf_norms, norms, strict=True)),
            bool(skip),
        )


if TYPE_CHECKING:

    class HostClipInfo(NamedTuple):
        """A record of Python's floats and bools: the same class to everyone but type checkers."""

        norm: float
        scale: float
        threshold: float
        clipped: bool
        nonfinite: bool
        leaf_norms: Mapping[str, float]
        skip: bool

else:
    HostClipInfo = ClipInfo


def _read(backend: Backend, scalars: Sequence[Array]) -> list[float]:
    """Return scalars as floats: joined on one device, and read there together."""
    if all(backend.access(value) == "free" for value in scalars):
        return [float(value) for value in scalars]
    with backend.context():
        return [float(value) for value in host_list(joined(backend, scalars, scalars[0]))]


def joined(backend: Backend, scalars: Sequence[Array], like: Array) -> Array:
    """Return scalars as one array on the device of an array, in the dtype of sums there."""
    xp = backend.xp
    acc_dtype = backend.acc_dtype(xp, like)
    device = backend.device(like)
    ones = [
        kernels.cast(xp, devices.to_device(backend, value, device), acc_dtype) for value in scalars
    ]
    made: Array = xp.stack(ones)
    return made


def host_list(array: Array) -> Any:
    """Return an array as a nested list of Python numbers, in one transfer where there is one."""
    if hasattr(array, "compute"):
        array = array.compute()
    if hasattr(array, "tolist"):
        return array.tolist()
    if array.ndim == 0:
        return float(array)
    return [host_list(array[i, ...]) for i in range(array.shape[0])]


def info_of(leaves: Leaves, details: Details, threshold: Scalar | None, policy: str) -> ClipInfo:
    """Return the record of a call of the core; without a threshold that is the one it reports."""
    nonfinite, found = details.nonfinite, details.leaf_norms
    norms: Mapping[str, Array]
    if callable(found):
        norms = LazyDict(_paths.later(leaves), found)
    else:
        norms = dict(zip(_paths.paths(leaves), found, strict=not leaves.stand_in))
    return ClipInfo(
        details.norm,
        details.scale,
        details.threshold if threshold is None else scalar(leaves, threshold),
        details.clipped,
        nonfinite,
        norms,
        leaves.backend.xp.zeros_like(nonfinite) if policy == "zero" else nonfinite,
    )


def empty_info(leaves: Leaves, threshold: Scalar | None) -> ClipInfo:
    """Return the record of a call without leaves."""
    backend = leaves.backend
    xp = backend.xp
    device = backend.device(leaves.arrays[0]) if leaves.arrays else None
    bound = float("inf") if threshold is None else threshold
    zero, one, most = (kernels.number(xp, value, xp.float32, device) for value in (0.0, 1.0, bound))
    false = kernels.number(xp, False, xp.bool, device)
    return ClipInfo(zero, one, most, false, false, {}, false)


def scalar(leaves: Leaves, value: Scalar) -> Array:
    """Return a number as a 0-d array in the widest real dtype of the first leaf's device."""
    backend, first = leaves.backend, leaves.arrays[0]
    acc_dtype = backend.acc_dtype(backend.xp, first)
    # Not `hasattr`: a compiler's symbol of a number cannot be asked.
    plain = isinstance(value, (float, int))
    if plain and leaves.access == "free":
        return backend.scalar_like(backend.xp, value, acc_dtype, first)
    with backend.context():
        if plain:
            return devices.constant(backend, value, acc_dtype, first)
        return kernels.cast(backend.xp, value, acc_dtype)
