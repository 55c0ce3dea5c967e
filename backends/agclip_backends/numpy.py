"""NumPy: norms block by block in cache, one pass of scaling, no warnings for what is handled."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import array_api_compat.numpy as xp
import numpy as np

from agclip import Backend, _kernels
from agclip._dtypes import kind_of
from agclip._kernels import Factor, is_one
from agclip._typing import Access
from agclip_backends import _numpy_arrays, _small_leaves
from agclip_backends._host import accelerated

BLOCK = 1 << 13
"""Entries whose squares are added in one dot product, one after the other.

OpenBLAS (0.3.31) splits a dot product of more than 10,000 entries over threads, whose start costs
more than the product.
"""
_PIECE = 3 << 16
"""Entries that are widened at a time: 1.5 MiB of float64. Fewer take longer, for an entry."""


def _sum_squares(_: Any, leaves: Sequence[Any], __: Any, scale: float) -> list[float]:
    if not is_one(scale) or any(leaf.dtype.kind == "c" for leaf in leaves):
        return [_of_leaf(leaf, scale) for leaf in leaves]
    return _small_leaves.sum_squares(
        leaves,
        [leaf.size for leaf in leaves],
        _small_leaves.joined,
        lambda leaf: _of_leaf(leaf, 1.0),
    )


def _of_leaf(leaf: Any, scale: float) -> float:
    kind = kind_of(leaf.dtype)
    flat = np.asarray(leaf)
    if kind.family == "complex":
        return math.fsum((_of_leaf(flat.real, scale), _of_leaf(flat.imag, scale)))
    sums: list[float] = []
    pieces: Any = np.nditer(
        flat,
        flags=["external_loop", "buffered", "zerosize_ok"],
        op_dtypes=[np.float64],
        casting="unsafe",
        buffersize=_PIECE,
    )
    for piece in pieces:
        y = piece if is_one(scale) else piece * scale
        # A square of float32 is exact in float64, so any order of summation will do; squares of
        # float64 are not, and pairwise summation loses least.
        sums += [float(np.add.reduce(y * y))] if kind.precision == 53 else _dots(y)
    return _total(sums)


def _dots(x: Any) -> list[float]:
    """Return the sums of squares of blocks, all but the last in one call."""
    whole = x.size - x.size % BLOCK
    blocks, rest = x[:whole].reshape(-1, BLOCK), x[whole:]
    sums: list[float] = np.matmul(blocks[:, None, :], blocks[:, :, None]).ravel().tolist()
    return [*sums, float(np.dot(rest, rest))]


def _abs_max(_: Any, leaves: Sequence[Any], wide: Any) -> Sequence[Any]:
    return [
        np.max([_kernels.abs_max(xp, [piece], wide)[0] for piece in _kernels.pieces(leaf, BLOCK)])
        for leaf in leaves
    ]


def _total(sums: list[float]) -> float:
    try:
        return math.fsum(sums)
    except OverflowError:
        return math.inf


@functools.cache
def _loop(dtype: Any) -> tuple[Any, Any]:
    """Return the types in which a factor and the product are formed."""
    kind = kind_of(dtype)
    compute = np.float64 if kind.precision == 53 else np.float32
    return compute, np.result_type(compute, np.complex64) if kind.family == "complex" else compute


def _multiply(leaf: Any, factor: Factor, out: Any) -> Any:
    """Write leaf·factor into `out`: a ufunc converts block by block, so nothing is copied whole."""
    compute, loop = _loop(leaf.dtype)
    pre, rest = factor.wide if compute is np.float64 else factor.narrow
    if pre is None and isinstance(rest, float):
        return np.multiply(leaf, rest, out, dtype=loop, casting="unsafe")

    def fitted(part: Any) -> Any:
        # In the leaf's own precision, or the product would be formed in that of the factor.
        return part if isinstance(part, float) else np.asarray(part, dtype=compute)

    if pre is not None and np.any(fitted(pre) != 1):
        leaf = np.multiply(leaf, fitted(pre), dtype=loop, casting="unsafe")
    return np.multiply(leaf, fitted(rest), out=out, dtype=loop, casting="unsafe")


def _scale(_: Any, leaves: Sequence[Any], factor: Factor) -> Sequence[Any]:
    return [_multiply(leaf, factor, np.empty_like(leaf)) for leaf in leaves]


def _scale_in_place(_: Any, leaves: Sequence[Any], factor: Factor) -> None:
    for leaf in leaves:
        _multiply(leaf, factor, leaf)


def _branch(
    _: Any,
    predicate: Any,
    if_true: Callable[[], Sequence[Any]],
    if_false: Callable[[], Sequence[Any]],
) -> Sequence[Any]:
    return if_true() if predicate else if_false()


def _access(_: Any) -> Access:
    return "free"


def _refuse(x: Any) -> str | None:
    if not isinstance(x, (np.ndarray, np.generic)):
        return "is no numpy.ndarray"
    if isinstance(x, np.ma.MaskedArray):
        return "is masked"
    return "is a matrix" if isinstance(x, np.matrix) else None


def _unwritable(x: Any) -> str | None:
    if isinstance(x, np.generic):
        return "is an immutable scalar"
    if not x.flags.writeable:
        return "is read-only"
    if _kernels.overlaps_itself(x.shape, x.strides, x.itemsize):
        return "holds several entries in the same memory"
    return None


def _restore(leaf: Any, new: Any) -> Any:
    # A ufunc makes scalars of 0-d arrays, and native byte order of any; `where` drops subclasses.
    if isinstance(leaf, np.generic):
        return new[()]
    new = np.asanyarray(new, dtype=leaf.dtype)
    return new if type(new) is type(leaf) else leaf.__array_wrap__(new)


def _context() -> Any:
    # Overflow, underflow and NaN are what the programs look for: they are no cause for a warning.
    return np.errstate(all="ignore")


def _run(program: Callable[..., Any], static: tuple[Any, ...], arrays: tuple[Any, ...]) -> Any:
    with _context():
        return program(*static, *arrays)


_plain = Backend(
    name="numpy",
    xp=xp,
    sum_squares=_sum_squares,
    abs_max=_abs_max,
    survey=_numpy_arrays.survey,
    scale=_scale,
    scale_=_scale_in_place,
    branch=_branch,
    access=_access,
    refuse=_refuse,
    unwritable=_unwritable,
    device=lambda _: None,
    wide=lambda _, __: np.float64,
    restore=_restore,
    export=lambda x: x if all(stride >= 0 for stride in x.strides) else x.copy(),
    context=_context,
    run=_run,
    block=BLOCK,
)
backend = accelerated(_plain)
