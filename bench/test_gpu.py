"""clip_by_global_norm_ on a GPU against PyTorch's own, and against what moving the memory costs.

`python -m bench.test_gpu` prints the ratios without pytest, on machines that have little else. The
roof is a copy of all and a copy of half of the memory: as many bytes as one read, and one read and
write. Every timed call ends when the device has done its work.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import itertools
import json
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

import agclip
from bench import pairs

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

SIZES = {"1e6": ((1_000_000,),), "1e8": ((10_000, 10_000),), "layers": ((1024, 1024),) * 100}
DTYPES = ("float32", "bfloat16")
STEP = {"float32": 2.0**-10, "bfloat16": 2.0**-6}
"""By what a bound shrinks from call to call, beyond the rounding of a norm in place."""

Call = Callable[[], Any]


def why_not(library: str) -> str:
    """Return why a library cannot be measured here; empty if it can."""
    if importlib.util.find_spec(library) is None:
        return f"{library} is not installed"
    if library == "torch":
        import torch

        return "" if torch.cuda.is_available() else "PyTorch finds no GPU"
    from agclip_backends.cupy import backend

    return backend.usable() or ""


def bounds(norm: float, dtype: str, *, clips: bool) -> Iterator[float]:
    """Yield a bound for each call: below the norm that the last call left, or far above it."""
    bound = norm * (0.5 if clips else 2.0)
    while True:
        yield bound
        bound *= 1 - STEP[dtype] if clips else 1.0


def torch_calls(shapes: Any, dtype: str, *, clips: bool) -> dict[str, Call]:
    """Return PyTorch's contenders: its own clip first."""
    import torch

    def leaves() -> list[Any]:
        generator = torch.Generator("cuda").manual_seed(0)
        return [
            torch.randn(shape, generator=generator, device="cuda").to(getattr(torch, dtype))
            for shape in shapes
        ]

    norm = math.sqrt(sum(math.prod(shape) for shape in shapes))

    def waiting(call: Callable[[float], Any]) -> Call:
        limits = bounds(norm, dtype, clips=clips)

        def timed() -> None:
            call(next(limits))
            torch.cuda.synchronize()

        return timed

    ours, parameters = leaves(), []
    for grad in leaves():
        parameters.append(torch.nn.Parameter(torch.empty_like(grad)))
        parameters[-1].grad = grad
    memory = torch.ones(sum(map(math.prod, shapes)), dtype=getattr(torch, dtype), device="cuda")
    spare = torch.empty_like(memory)
    clip = functools.partial(torch.nn.utils.clip_grad_norm_, parameters, foreach=True)
    return {
        "torch": waiting(clip),
        "agclip": waiting(lambda bound: agclip.clip_by_global_norm_(ours, bound)),
        "roof": waiting(lambda _: _move(spare, memory, lambda to, x: to.copy_(x), clips=clips)),
    }


def cupy_calls(shapes: Any, dtype: str, *, clips: bool) -> dict[str, Call]:
    """Return CuPy's contenders: the roof first."""
    import cupy

    def leaves() -> list[Any]:
        rng = cupy.random.default_rng(0)
        return [rng.standard_normal(shape, dtype="float32").astype(dtype) for shape in shapes]

    norm = math.sqrt(sum(math.prod(shape) for shape in shapes))
    limits = bounds(norm, dtype, clips=clips)
    ours = leaves()
    memory = cupy.ones(sum(map(math.prod, shapes)), dtype=dtype)
    spare = cupy.empty_like(memory)

    def waiting(call: Call) -> Call:
        def timed() -> None:
            call()
            cupy.cuda.get_current_stream().synchronize()

        return timed

    return {
        "roof": waiting(lambda: _move(spare, memory, cupy.copyto, clips=clips)),
        "agclip": waiting(lambda: agclip.clip_by_global_norm_(ours, next(limits))),
    }


def _move(spare: Any, memory: Any, copy: Callable[[Any, Any], Any], *, clips: bool) -> None:
    """Move as many bytes as a clip has to: one read; and one read and write if it clips."""
    copy(spare[: len(spare) // 2], memory[: len(memory) // 2])
    if clips:
        copy(spare, memory)


CONTESTS = {"torch": torch_calls, "cupy": cupy_calls}


@pytest.fixture
def _grouped() -> None:
    """Take the place of the suite's fixture: there is no contest to group these by."""


@pytest.mark.large
@pytest.mark.parametrize("clips", [True, False], ids=["clips", "within"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("library", CONTESTS)
def test_in_place(
    benchmark: BenchmarkFixture, library: str, size: str, dtype: str, clips: bool
) -> None:
    reason = why_not(library)
    if reason:
        pytest.skip(reason)
    calls = CONTESTS[library](SIZES[size], dtype, clips=clips)
    benchmark.group = f"{library}, {size}, {dtype}, {'clips' if clips else 'within the bound'}"
    benchmark.extra_info.update(measured(calls))
    benchmark(calls["agclip"])
    assert benchmark.extra_info


def measured(calls: dict[str, Call]) -> dict[str, float]:
    """Return the time of ours divided by each other's."""
    times = pairs.alternate(calls, lambda _: contextlib.nullcontext())
    return {
        f"agclip ÷ {other}": round(pairs.ratio(times, "agclip", other).median, 3)
        for other in calls
        if other != "agclip"
    }


def main() -> None:
    """Print all ratios that can be measured here, and why the others cannot."""
    for library, calls in CONTESTS.items():
        reason = why_not(library)
        if reason:
            print(f"{library}: not measured: {reason}")
            continue
        for size, dtype, clips in itertools.product(SIZES, DTYPES, (True, False)):
            found = measured(calls(SIZES[size], dtype, clips=clips))
            what = "clips" if clips else "within the bound"
            print(f"{library}, {size}, {dtype}, {what}: {json.dumps(found, ensure_ascii=False)}")


if __name__ == "__main__":
    main()
