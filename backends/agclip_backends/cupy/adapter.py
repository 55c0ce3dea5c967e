"""CuPy: everything stays on the device; the host is never waited for."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import array_api_compat
import array_api_compat.cupy as xp
import cupy
import numpy as np
from numpy.typing import NDArray

from agclip import Backend
from agclip._backends import kernels
from agclip._backends.dtypes import kind_of, real_dtype
from agclip_backends._cuda import calls
from agclip_backends._cuda.source import SOURCE, THREADS
from agclip_backends._probe import kept

BLOCK = 1 << 24
"""Entries of a leaf with gaps that are widened at a time: at most 128 MiB of device memory."""


class _Driver:
    """The kernels on CuPy's arrays, on the current device and stream."""

    def address(self, x: Any) -> int:
        return int(x.data.ptr)

    def dense(self, x: Any) -> bool:
        return bool(x.flags.forc)

    def upload(self, words: NDArray[np.int64]) -> Any:
        # CuPy copies through pinned memory, which it keeps until the copy has been made.
        return cupy.asarray(words)

    def doubles(self, count: int) -> Any:
        return cupy.empty(count, dtype=cupy.float64)

    def launch(self, name: str, blocks: int, *words: int) -> None:
        _kernel(name)((blocks,), (THREADS,), tuple(map(np.int64, words)))


_DRIVER = _Driver()


@functools.cache
def _kernel(name: str) -> Any:
    # What is added to what, and rounded when, is as the source has it.
    module = cupy.RawModule(code=SOURCE, options=("--std=c++14", "--fmad=false"))
    return module.get_function(name)


def _places(leaves: Sequence[Any]) -> Iterator[tuple[Any, list[int]]]:
    """Yield each device with the positions of its leaves that the kernels take."""
    found: dict[int, list[int]] = {}
    for i, leaf in enumerate(leaves):
        if calls.fits(_DRIVER, leaf):
            found.setdefault(leaf.device.id, []).append(i)
    for number, places in found.items():
        with cupy.cuda.Device(number) as device:
            yield device, places


def _sum_squares(namespace: Any, leaves: Sequence[Any], wide: Any, scale: Any) -> list[Any]:
    results: list[Any] = [None] * len(leaves)
    if wide == cupy.float64 and calls.is_scalar(scale):
        for device, places in _places(leaves):
            if not isinstance(scale, float) and scale.device != device:
                scale = array_api_compat.to_device(scale, device)
            sums = calls.sum_squares(_DRIVER, namespace, [leaves[i] for i in places], scale)
            for i, value in zip(places, sums, strict=True):
                results[i] = value
    for i, value in enumerate(results):
        if value is None:
            pieces = list(kernels.pieces(leaves[i], BLOCK))
            parts = kernels.sum_squares(namespace, pieces, wide, scale)
            results[i] = functools.reduce(lambda a, b: a + b, parts)
    return results


def _scale(namespace: Any, leaves: Sequence[Any], factor: kernels.Factor) -> list[Any]:
    new = [_empty_like(leaf) for leaf in leaves]
    _write_scaled(namespace, leaves, new, factor)
    return new


def _empty_like(leaf: Any) -> Any:
    with leaf.device:
        return cupy.empty_like(leaf)


def _scale_in_place(namespace: Any, leaves: Sequence[Any], factor: kernels.Factor) -> None:
    _write_scaled(namespace, leaves, leaves, factor)


def _write_scaled(
    namespace: Any, sources: Sequence[Any], targets: Sequence[Any], factor: kernels.Factor
) -> None:
    """Write each source times the factor to its target; a factor of one changes no bit."""
    rest = set(range(len(sources)))
    if all(map(calls.is_scalar, (*factor.narrow, *factor.wide))):
        for _, places in _places(sources):
            chosen = [i for i in places if sources[i].strides == targets[i].strides]
            rest.difference_update(chosen)
            calls.scale(
                _DRIVER,
                namespace,
                [sources[i] for i in chosen],
                [targets[i] for i in chosen],
                factor,
            )
    for i in sorted(rest):
        _multiply(namespace, sources[i], targets[i], factor)


def _multiply(namespace: Any, source: Any, target: Any, factor: kernels.Factor) -> None:
    """Multiply a leaf with gaps in memory, or by a factor that differs along its axes."""
    kind = kind_of(source.dtype)
    if kind.half:
        whole = not all(map(calls.is_scalar, factor.narrow))
        size = math.prod(source.shape) if whole else BLOCK
        for piece, there in zip(
            kernels.pieces(source, size), kernels.pieces(target, size), strict=True
        ):
            there[...] = kernels.scale(namespace, [piece], factor)[0]
        return
    pairs = [(source, target)]
    if kind.family == "complex":
        # By parts: a complex product would turn an infinite entry into NaN.
        pairs = [(source.real, target.real), (source.imag, target.imag)]
    for here, there in pairs:
        product = here
        for part in factor.wide if kind.precision == 53 else factor.narrow:
            if part is not None:
                real = cupy.asarray(part, dtype=real_dtype(namespace, kind))
                product = cupy.multiply(product, real, out=there)


def _unwritable(x: Any) -> str | None:
    if kernels.overlaps_itself(x.shape, x.strides, x.itemsize):
        return "holds several entries in the same memory"
    return None


def _named_device(_: Any, name: str) -> Any:
    """Return the device of a name such as "cuda:0"."""
    kind, _, index = name.partition(":")
    known = {str(i): i for i in range(cupy.cuda.runtime.getDeviceCount())}
    number = known.get(index or "0") if kind == "cuda" else None
    return None if number is None else cupy.cuda.Device(number)


@kept
def _usable() -> str | None:
    """Allocate and compute: CuPy imports on a machine without a driver, where neither works."""
    try:
        if float(cupy.ones(2).sum()) != 2:
            return "the sum of two ones is not two"
    except Exception as error:  # noqa: BLE001 - the reason is the answer
        return f"{type(error).__name__}: {error}"
    return None


backend = Backend(
    name="cupy",
    xp=xp,
    sum_squares=_sum_squares,
    total=lambda _, values: cupy.sum(cupy.stack(list(values))),
    scale=_scale,
    scale_=_scale_in_place,
    keeps_bits=lambda _: True,
    unwritable=_unwritable,
    named_device=_named_device,
    usable=_usable,
    wide=lambda _, __: cupy.float64,
    export=lambda x: x if all(stride >= 0 for stride in x.strides) else x.copy(),
    block=BLOCK,
)
