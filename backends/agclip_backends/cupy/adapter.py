"""CuPy: everything stays on the device; the host is never waited for."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import cupy
import numpy as np
from numpy.typing import NDArray

from agclip import adapters
from agclip.adapters import Backend, Factor, kind_of
from agclip_backends._cuda import calls
from agclip_backends._cuda.arithmetic import OPTIONS
from agclip_backends._cuda.source import SOURCE, THREADS
from agclip_backends._probe import kept
from agclip_backends.cupy import elementwise
from agclip_backends.cupy import namespace as xp
from agclip_backends.cupy.devices import at, on, run, to_device
from agclip_backends.cupy.fused import seam
from agclip_backends.cupy.resident import survey
from agclip_backends.cupy.slices import scale_slices, sum_slices

BLOCK = 1 << 24
"""Elements of a leaf with gaps that are widened at a time: at most 128 MiB of device memory."""


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
    return cupy.RawModule(code=SOURCE, options=OPTIONS).get_function(name)


def _places(leaves: Sequence[Any]) -> list[tuple[Any, list[int]]]:
    """Return each device with the positions of its leaves that the kernels take."""
    found: dict[int, list[int]] = {}
    for i, leaf in enumerate(leaves):
        if calls.fits(_DRIVER, leaf):
            found.setdefault(leaf.device.id, []).append(i)
    return [(leaves[places[0]].device, places) for places in found.values()]


def _moved(scalars: Sequence[Any], device: Any) -> tuple[Any, ...]:
    """Return numbers, arrays of them on a device."""
    return tuple(x if x is None or isinstance(x, float) else to_device(x, device) for x in scalars)


def _there(kernel: Callable[..., Sequence[Any]]) -> Callable[..., list[Any]]:
    """Return a kernel that works on each leaf where it lies."""

    def of_leaves(namespace: Any, leaves: Sequence[Any], *numbers: Any) -> list[Any]:
        results: list[Any] = []
        for leaf in leaves:
            with on(leaf.device):
                results += kernel(namespace, [leaf], *numbers)
        return results

    return of_leaves


def _sum_squares(namespace: Any, leaves: Sequence[Any], acc_dtype: Any, scale: Any) -> list[Any]:
    results: list[Any] = [None] * len(leaves)
    if calls.is_scalar(scale):
        for device, places in _places(leaves):
            (there,) = _moved([scale], device)
            with on(device):
                sums = calls.sum_squares(_DRIVER, namespace, [leaves[i] for i in places], there)
                for i, value in zip(places, sums, strict=True):
                    results[i] = value
    for i, value in enumerate(results):
        if value is None:
            (results[i],) = _sum_of_pieces(namespace, leaves[i : i + 1], acc_dtype, scale)
    return results


@_there
def _sum_of_pieces(namespace: Any, leaves: Sequence[Any], acc_dtype: Any, scale: Any) -> list[Any]:
    pieces = list(adapters.pieces(leaves[0], BLOCK))
    parts = adapters.sum_squares(namespace, pieces, acc_dtype, scale)
    return [functools.reduce(lambda a, b: a + b, parts)]


def _total(_: Any, values: Sequence[Any]) -> Any:
    with on(values[0].device):
        return cupy.sum(cupy.stack(list(values)))


def _scale(namespace: Any, leaves: Sequence[Any], factor: Factor) -> list[Any]:
    new = [_empty_like(leaf) for leaf in leaves]
    _write_scaled(namespace, leaves, new, factor)
    return new


def _empty_like(leaf: Any) -> Any:
    with leaf.device:
        return cupy.empty_like(leaf)


def _scale_in_place(namespace: Any, leaves: Sequence[Any], factor: Factor) -> None:
    _write_scaled(namespace, leaves, leaves, factor)


def _write_scaled(
    namespace: Any, sources: Sequence[Any], targets: Sequence[Any], factor: Factor
) -> None:
    """Write each source times the factor to its target; a factor of one changes no bit."""
    rest = set(range(len(sources)))
    if all(map(calls.is_scalar, (*factor.narrow, *factor.wide))):
        for device, places in _places(sources):
            chosen = [i for i in places if sources[i].strides == targets[i].strides]
            rest.difference_update(chosen)
            old, new = ([arrays[i] for i in chosen] for arrays in (sources, targets))
            pairs = [_moved(pair, device) for pair in factor]
            with on(device):
                calls.scale(_DRIVER, namespace, old, new, Factor(*pairs))
    for i in sorted(rest):
        with on(sources[i].device):
            _multiply(namespace, sources[i], targets[i], factor)


def _multiply(namespace: Any, source: Any, target: Any, factor: Factor) -> None:
    """Multiply a leaf with gaps in memory, or by a factor that differs along its axes."""
    kind = kind_of(source.dtype)
    numbers = [
        part if isinstance(part, float) else adapters.cast(namespace, part, namespace.float64)
        for part in (
            1.0 if x is None else x
            for x in (factor.wide if kind.precision == 53 else factor.narrow)
        )
    ]
    pairs = [(source, target)]
    if kind.family == "complex":
        # By parts: a complex product would turn an infinite element into NaN.
        pairs = [(source.real, target.real), (source.imag, target.imag)]
    for here, there in pairs:
        elementwise.multiply(here, there, *numbers)


def _unwritable(x: Any) -> str | None:
    if adapters.overlaps_itself(x.shape, x.strides, x.itemsize):
        return "holds several elements in the same memory"
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
    abs_max=_there(adapters.abs_max),
    power_sums=_there(adapters.power_sums),
    sums=_there(adapters.sums),
    total=_total,
    clip=seam.clip,
    fused=seam.fused,
    scale=_scale,
    scale_=_scale_in_place,
    sum_slices=sum_slices,
    scale_slices=scale_slices,
    keeps_bits=lambda _: True,
    survey=survey,
    unwritable=_unwritable,
    named_device=_named_device,
    at=at,
    run=run,
    usable=_usable,
    acc_dtype=lambda _, __: cupy.float64,
    export=lambda x: x if all(stride >= 0 for stride in x.strides) else x.copy(),
    block=BLOCK,
)
