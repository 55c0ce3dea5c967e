"""NumPy: norms block by block in cache, one pass of scaling, no warnings for what is handled."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import array_api_compat.numpy as xp
import numpy as np

from agclip import adapters
from agclip.adapters import Access, Backend, Factor, exact_sum, kind_of
from agclip_backends._host import array_sums
from agclip_backends._host.array_sums import BLOCK, joined, of_leaf
from agclip_backends._host.tables import accelerated
from agclip_backends.numpy import ndarrays, sparse


def _sum_squares(_: Any, leaves: Sequence[Any], __: Any, scale: float) -> list[float]:
    kept: list[Any] = []

    def single(leaf: Any, scale: float = 1.0) -> float:
        # In a norm that is reported in float64 the sums of float32 leaves must be as good.
        with _context():
            return of_leaf(leaf, scale, closely=adapters.double(leaves), kept=kept)

    if scale != 1.0 or not adapters.all_real(leaves):
        return [single(leaf, scale) for leaf in leaves]
    return array_sums.of_leaves(leaves, adapters.counts(leaves), joined, single)


def _power_sums(
    _: Any, leaves: Sequence[Any], acc_dtype: Any, p: float, scale: Any, unit: Any
) -> Sequence[float]:
    return adapters.power_sums_in_pieces(xp, leaves, acc_dtype, p, scale, unit, BLOCK)


def _abs_max(_: Any, leaves: Sequence[Any], acc_dtype: Any) -> Sequence[Any]:
    return [
        np.max(
            [adapters.abs_max(xp, [piece], acc_dtype)[0] for piece in adapters.pieces(leaf, BLOCK)]
        )
        for leaf in leaves
    ]


_LARGE = 1 << 20
"""Elements from which on a leaf is worth a call of a compiled kernel."""


@functools.cache
def _loop(dtype: Any) -> Any:
    """Return the type in which a factor and the product are formed."""
    return np.float64 if kind_of(dtype).precision == 53 else np.float32


def _reals(x: Any) -> Any:
    """Return the two parts of complex elements along an axis of their own."""
    return np.asarray(x)[..., None].view(x.real.dtype)


def multiply(leaf: Any, factor: Factor, out: Any) -> None:
    """Write leaf·factor into `out`: a ufunc converts block by block, so nothing is copied whole."""
    compute = _loop(leaf.dtype)
    pre, rest = factor.wide if compute is np.float64 else factor.narrow
    pairs = leaf.dtype.kind == "c"
    # Times a complex number, -0 would become 0, and an infinity beside a 0 a NaN.
    source, target = (_reals(leaf), _reals(out)) if pairs else (leaf, out)
    if pre is None and isinstance(rest, float):
        np.multiply(source, rest, target, dtype=compute, casting="unsafe")
        return

    def fitted(part: Any) -> Any:
        # In the leaf's own precision, or the product would be formed in that of the factor.
        if isinstance(part, float):
            return part
        part = np.asarray(part, dtype=compute)
        return part[..., None] if pairs else part

    if pre is not None and np.any(fitted(pre) != 1):
        source = np.multiply(source, fitted(pre), dtype=compute, casting="unsafe")
    np.multiply(source, fitted(rest), out=target, dtype=compute, casting="unsafe")


def _scale(_: Any, leaves: Sequence[Any], factor: Factor) -> Sequence[Any]:
    new = list(map(np.empty_like, leaves))
    for leaf, out in zip(leaves, new, strict=True):
        multiply(leaf, factor, out)
    return new


def _scale_in_place(_: Any, leaves: Sequence[Any], factor: Factor) -> None:
    for leaf in leaves:
        multiply(leaf, factor, leaf)


def _scale_each(
    _: Any, leaves: Sequence[Any], factors: Sequence[Factor], inplace: bool
) -> Sequence[Any] | None:
    halves = any(kind.half for kind in adapters.kinds(leaves))
    if halves or max(adapters.counts(leaves)) >= _LARGE:  # what compiled kernels do better
        return None
    new = leaves if inplace else list(map(np.empty_like, leaves))
    for leaf, factor, out in zip(leaves, factors, new, strict=True):
        multiply(leaf, factor, out)
    return new


def _clip(
    _: Any, leaves: Sequence[Any], lows: Sequence[float], highs: Sequence[float], inplace: bool
) -> Sequence[Any] | None:
    """Return min(max(x, low), high) of each leaf.

    None where NumPy has another answer, or none: at a bound of zero the sign of a zero differs, and
    dtypes of other packages cannot be clipped.
    """
    if 0.0 in lows or 0.0 in highs or any(leaf.dtype.kind != "f" for leaf in leaves):
        return None
    ends: dict[Any, tuple[Any, Any]] = {}
    new = list(leaves) if inplace else list(map(np.empty_like, leaves))
    for leaf, low, high, out in zip(leaves, lows, highs, new, strict=True):
        key = leaf.dtype, low, high
        pair = ends.get(key)
        if pair is None:  # arrays, which are no number to convert for each leaf
            pair = ends[key] = np.array(low, leaf.dtype), np.array(high, leaf.dtype)
        leaf.clip(*pair, out=out)
    return new


def _branch(
    _: Any,
    predicate: Any,
    if_true: Callable[[], Sequence[Any]],
    if_false: Callable[[], Sequence[Any]],
) -> Sequence[Any]:
    return if_true() if predicate else if_false()


def _access(_: Any) -> Access:
    return "free"


_PROTOCOLS = [
    (name, getattr(np.ndarray, name)) for name in ("__array_ufunc__", "__array_function__")
]
"""The methods by which a subclass changes what arithmetic means (NEP 13, NEP 18)."""


def _refuse(x: Any) -> str | None:
    if not isinstance(x, (np.ndarray, np.generic)):
        return sparse.refuse(x) or "is no numpy.ndarray"
    if isinstance(x, np.ma.MaskedArray):
        return "is masked"
    if isinstance(x, np.matrix):
        return "is a matrix"
    cls = type(x)
    # Of units above all: a norm of metres and centimetres is neither (unyt 3.2, astropy 8.0).
    if any(getattr(cls, name, own) is not own for name, own in _PROTOCOLS):
        return f"computes in a way of its own ({cls.__module__}.{cls.__qualname__})"
    return None


def _unwritable(x: Any) -> str | None:
    if isinstance(x, np.generic):
        return "is an immutable scalar"
    if not x.flags.writeable:
        return "is read-only"
    if adapters.overlaps_itself(x.shape, x.strides, x.itemsize):
        return "holds several elements in the same memory"
    return None


def _restore(leaf: Any, new: Any) -> Any:
    # A ufunc makes scalars of 0-d arrays, and native byte order of any; `where` drops subclasses.
    if isinstance(leaf, np.generic):
        return new[()]
    if type(new) is type(leaf) and new.dtype is leaf.dtype:
        return new
    new = np.asanyarray(new, dtype=leaf.dtype)
    return new if type(new) is type(leaf) else leaf.__array_wrap__(new)


# Overflow, underflow and NaN are what the programs look for: they are no cause for a warning.
_context = functools.partial(np.errstate, all="ignore")


def _run(program: Callable[..., Any], static: tuple[Any, ...], arrays: tuple[Any, ...]) -> Any:
    with _context():
        return program(*static, *arrays)


_plain = Backend(
    name="numpy",
    xp=xp,
    sum_squares=_sum_squares,
    abs_max=_abs_max,
    power_sums=_power_sums,
    exact_sum=functools.partial(exact_sum, size=1 << 15),
    survey=ndarrays.survey,
    clip=_clip,
    scale=_scale,
    scale_=_scale_in_place,
    scale_each=_scale_each,
    # The namespace's `full` takes 1.5 microseconds, this 0.3 (bench/test_dispatch.py).
    scalar_like=lambda _, value, dtype, __: np.array(value, dtype),
    branch=_branch,
    access=_access,
    sparse=sparse.stored,
    refuse=_refuse,
    unwritable=_unwritable,
    memory=ndarrays.memory,
    device=lambda _: None,
    acc_dtype=lambda _, __: np.float64,
    restore=_restore,
    export=lambda x: x if all(stride >= 0 for stride in x.strides) else x.copy(),
    context=_context,
    run=_run,
    block=1 << 15,
    chain=BLOCK,
)
backend = accelerated(_plain)
