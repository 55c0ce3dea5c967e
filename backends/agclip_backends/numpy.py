"""NumPy: norms block by block in cache, one pass of scaling, no warnings for what is handled."""

from __future__ import annotations

import functools
import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import array_api_compat.numpy as xp
import numpy as np

from agclip import Backend, _kernels
from agclip._dtypes import Kind, kind_named, kind_of
from agclip._kernels import Factor, is_one
from agclip._known import Known
from agclip._typing import Access
from agclip_backends import _host
from agclip_backends._loader import loader

BLOCK = 1 << 13
"""Elements that are widened at a time: 64 KiB of float64, which stays in cache.

OpenBLAS (0.3.31) splits a dot product of more than 10,000 entries over threads, whose start costs
more than the product.
"""


_KINDS = ("float16", "float32", "float64", "complex64", "complex128", "bfloat16")


@functools.cache
def _formats(bfloat16: bool) -> Any:
    """Return triples: a dtype's address, its code, and the real numbers in an entry."""
    if bfloat16:
        import ml_dtypes
    rows = []
    for name in _KINDS if bfloat16 else _KINDS[:-1]:
        dtype = np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)
        rows.append((id(dtype), _host.CODES[name], 2 if dtype.kind == "c" else 1))
    return np.array(rows, np.int64)


@functools.cache
def _kinds(found: int) -> frozenset[Kind]:
    formats = _formats("ml_dtypes" in sys.modules)
    names = [name for i, name in enumerate(_KINDS[: len(formats)]) if found >> i & 1]
    return frozenset(map(kind_named, names))


def _table(leaves: Sequence[Any], kernels: Any, *, written: bool) -> tuple[Any, int]:
    table = np.empty((4, len(leaves) + 1), np.int64)
    objects = np.fromiter(map(id, leaves), np.int64, len(leaves))
    formats = _formats("ml_dtypes" in sys.modules)
    found = kernels.read_arrays(objects, object.__basicsize__, formats, written, table)
    return table, found


@functools.cache
def _reads_arrays(kernels: Any) -> bool:
    """Tell whether this build of NumPy lays out its arrays as the kernels expect."""
    sample = np.ones((2, 3), np.float32)
    table, found = _table([sample], kernels, written=True)
    wanted = [sample.ctypes.data, sample.size, _host.CODES["float32"]]
    return found == 2 and table[: kernels.FIRST, 0].tolist() == wanted


def _survey(leaves: Sequence[Any], inplace: bool) -> Known | None:
    if set(map(type, leaves)) != {np.ndarray}:
        return None
    kernels = loader.kernels()
    if kernels is not None and _reads_arrays(kernels):
        table, found = _table(leaves, kernels, written=inplace)
        if found > 0:
            return _host.Leaves(leaves, _kinds(found), table, kernels, _LIBRARY)
    if inplace and not all(x.flags.writeable and x.flags.forc for x in leaves):
        return None
    dtypes = {x.dtype for x in leaves}
    if not all(dtype.isnative for dtype in dtypes):
        return None
    kinds = frozenset(map(kind_of, dtypes))
    entries = sum(x.size for x in leaves) * (1 + any(k.family == "complex" for k in kinds))
    loader.went_without(len(leaves), entries)
    return Known(leaves, kinds, entries, "free")


def _addresses(leaves: Sequence[Any]) -> Any:
    kernels = loader.kernels()
    table, _ = _table(leaves, kernels, written=True)
    return table[kernels.ADDRESS, :-1]


_LIBRARY = _host.Library(
    new=np.empty_like,
    addresses=_addresses,
    threads=lambda: len(os.sched_getaffinity(0)),
    written=lambda _: None,
)


def _sum_squares(_: Any, leaves: Sequence[Any], __: Any, scale: float) -> list[float]:
    if isinstance(leaves, _host.Leaves):
        return _host.sum_squares(leaves, scale)
    return [_of_leaf(leaf, scale) for leaf in leaves]


def _of_leaf(leaf: Any, scale: float) -> float:
    kind = kind_of(leaf.dtype)
    flat = np.asarray(leaf)
    if kind.family == "complex":
        return math.fsum((_of_leaf(flat.real, scale), _of_leaf(flat.imag, scale)))
    # A square of float32 is exact in float64, so any order of summation will do; squares of float64
    # are not, and pairwise summation loses least.
    square = _pairwise if kind.precision == 53 else np.dot
    sums = []
    blocks: Any = np.nditer(
        flat,
        flags=["external_loop", "buffered", "zerosize_ok"],
        op_dtypes=[np.float64],
        casting="unsafe",
        buffersize=BLOCK,
    )
    for block in blocks:
        y = block if is_one(scale) else block * scale
        sums.append(float(square(y, y)))
    return _total(sums)


def _pairwise(x: Any, y: Any) -> Any:
    return np.add.reduce(x * y)


def _abs_max(_: Any, leaves: Sequence[Any], wide: Any) -> Sequence[Any]:
    if isinstance(leaves, _host.Leaves):
        return _host.abs_max(leaves)
    return [
        np.max([_kernels.abs_max(xp, [piece], wide)[0] for piece in _kernels.pieces(leaf, BLOCK)])
        for leaf in leaves
    ]


def _power_sums(
    _: Any, leaves: Sequence[Any], wide: Any, p: float, scale: Any, unit: Any
) -> Sequence[Any]:
    plain = p == 1 and is_one(scale) and is_one(unit)
    if plain and isinstance(leaves, _host.Leaves) and all(k.family == "real" for k in leaves.kinds):
        return _host.sum_magnitudes(leaves)
    return _kernels.power_sums(xp, leaves, wide, p, scale, unit)


def _exact_sum(_: Any, leaves: Sequence[Any], __: Any, grid: Any) -> int | None:
    return _host.exact_sum(leaves, grid) if isinstance(leaves, _host.Leaves) else None


def _clip(
    _: Any, leaves: Sequence[Any], lows: Sequence[float], highs: Sequence[float], inplace: bool
) -> Sequence[Any] | None:
    if isinstance(leaves, _host.Leaves):
        return _host.clip(leaves, lows, highs, inplace=inplace)
    return None


def _total(sums: list[float]) -> float:
    try:
        return math.fsum(sums)
    except OverflowError:
        return math.inf


def _multiply(leaf: Any, factor: Factor, out: Any) -> Any:
    """Write leaf·factor into `out`: a ufunc converts block by block, so nothing is copied whole."""
    kind = kind_of(leaf.dtype)
    pre, rest = factor.wide if kind.precision == 53 else factor.narrow
    compute = np.dtype(np.float64 if kind.precision == 53 else np.float32)
    loop = np.result_type(compute, np.complex64) if kind.family == "complex" else compute

    def fitted(part: Any) -> Any:
        # In the leaf's own precision, or the product would be formed in that of the factor.
        return part if isinstance(part, float) else np.asarray(part, dtype=compute)

    if pre is not None and np.any(fitted(pre) != 1):
        leaf = np.multiply(leaf, fitted(pre), dtype=loop, casting="unsafe")
    return np.multiply(leaf, fitted(rest), out=out, dtype=loop, casting="unsafe")


def _scale(_: Any, leaves: Sequence[Any], factor: Factor) -> Sequence[Any]:
    if isinstance(leaves, _host.Leaves):
        return _host.scale(leaves, factor, inplace=False)
    return [_multiply(leaf, factor, np.empty_like(leaf)) for leaf in leaves]


def _scale_in_place(_: Any, leaves: Sequence[Any], factor: Factor) -> None:
    if isinstance(leaves, _host.Leaves):
        _host.scale(leaves, factor, inplace=True)
        return
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
    # A ufunc makes scalars of 0-d arrays, and native byte order of any.
    return new[()] if isinstance(leaf, np.generic) else np.asanyarray(new, dtype=leaf.dtype)


def _context() -> Any:
    # Overflow, underflow and NaN are what the programs look for: they are no cause for a warning.
    return np.errstate(all="ignore")


def _run(program: Callable[..., Any], static: tuple[Any, ...], arrays: tuple[Any, ...]) -> Any:
    with _context():
        return program(*static, *arrays)


backend = Backend(
    name="numpy",
    xp=xp,
    sum_squares=_sum_squares,
    abs_max=_abs_max,
    power_sums=_power_sums,
    exact_sum=_exact_sum,
    clip=_clip,
    survey=_survey,
    scale=_scale,
    scale_=_scale_in_place,
    branch=_branch,
    access=_access,
    refuse=_refuse,
    unwritable=_unwritable,
    device=lambda _: None,
    wide=lambda _, __: np.float64,
    restore=_restore,
    context=_context,
    run=_run,
    block=BLOCK,
)
