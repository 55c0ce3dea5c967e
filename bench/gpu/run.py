"""What the parts of the run share: leaves, where they lie, clocks, and what was found."""

from __future__ import annotations

import argparse
import json
import statistics
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agclip_backends._cuda.fused import Room

START = time.perf_counter()
DTYPES = {"f16": "float16", "bf16": "bfloat16", "f32": "float32", "f64": "float64"}
STEP = {"f32": 2.0**-10, "bf16": 2.0**-6, "f16": 2.0**-8, "f64": 2.0**-10}
"""By what a bound shrinks from call to call, beyond the rounding of a norm in place."""

results: dict[str, Any] = {"checks": {}, "times": {}, "errors": {}}
options = argparse.Namespace(budget=100.0, size=50_000, only="", out="")
device = "cuda"
room: Room


def elapsed() -> float:
    return time.perf_counter() - START


def save() -> None:
    results["seconds"] = round(elapsed(), 1)
    if options.out:
        Path(options.out).mkdir(parents=True, exist_ok=True)
        Path(options.out, "gpu.json").write_text(json.dumps(results, indent=1, default=str))


def part(kind: str, name: str, function: Callable[..., Any], *args: Any) -> None:
    """Run one part if there is time for it, and keep what it returns or how it fails."""
    if options.only and not any(word in f"{kind}.{name}" for word in options.only.split(",")):
        return
    if options.budget - elapsed() < 3:
        results["errors"][name] = "left out: no time"
        return
    before = elapsed()
    try:
        found = function(*args)
        results[kind][name] = found
        line = f"ok   {str(found)[:400]}"
    except Exception as error:  # noqa: BLE001 - the other parts go on
        results["errors"][name] = f"{type(error).__name__}: {error}"
        line = f"FAIL {type(error).__name__}: {str(error)[:600]}"
        if not isinstance(error, AssertionError):
            line += "\n" + traceback.format_exc(limit=-4)[-900:]
    print(f"[{elapsed():5.1f} s, {elapsed() - before:4.1f}] {kind}.{name}: {line}", flush=True)
    save()


def numpy_dtype(name: str) -> Any:
    if name == "bf16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(DTYPES[name])


def drawn(name: str, size: int, seed: int = 0, spread: int = 3) -> Any:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(size) * 10.0 ** rng.integers(-spread, spread, size)
    return x.astype(numpy_dtype(name))


def there(x: Any, offset: int = 0) -> torch.Tensor:
    """Copy an array to the device, to an address that is `offset` entries off."""
    word = torch.from_numpy(x.view(np.int16).copy()) if x.dtype.name == "bfloat16" else None
    t = word.view(torch.bfloat16) if word is not None else torch.from_numpy(np.array(x))
    memory = torch.empty(t.numel() + offset, dtype=t.dtype, device=device)
    memory[offset:].copy_(t.reshape(-1))
    return memory[offset:].view(t.shape)


def back(t: torch.Tensor) -> Any:
    t = t.detach().cpu()
    if t.dtype == torch.bfloat16:
        return t.view(torch.int16).numpy().view(numpy_dtype("bf16"))
    return t.numpy()


def differing(a: Any, b: Any) -> int:
    """How many entries differ, NaN taken as NaN."""
    word = {2: np.uint16, 4: np.uint32, 8: np.uint64}[a.itemsize]
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    x, y = a.astype(np.float64), b.astype(np.float64)
    return int(((a.view(word) != b.view(word)) & ~((x != x) & (y != y))).sum())


def of(name: str, size: int, scale: float = 1.0) -> torch.Tensor:
    return (torch.randn(size, device=device) * scale).to(getattr(torch, DTYPES[name]))


def wait() -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def event_times(
    function: Callable[[], Any], inner: int, outer: int, host_us: float = 60.0
) -> float:
    """The median of seconds a call on the device, over groups of `inner` calls.

    The device waits until the host, which takes `host_us` a call, has given it all of a group: so
    no time is counted in which it has nothing to do.
    """
    if device != "cuda":
        function()
        return 1e-3
    found = []
    for _ in range(outer):
        a, b = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        wait()
        torch.cuda._sleep(int((host_us * inner + 100) * 2e3))
        a.record()
        for _ in range(inner):
            function()
        b.record()
        b.synchronize()
        found.append(a.elapsed_time(b) * 1e-3 / inner)
    return statistics.median(found)


def host_times(function: Callable[[], Any], inner: int, outer: int) -> tuple[float, float]:
    """Seconds that a call takes the host, and that it takes until the device is done."""
    if device != "cuda":
        function()
        return 1e-3, 1e-3
    called, done = [], []
    for _ in range(outer):
        wait()
        a = time.perf_counter()
        for _ in range(inner):
            function()
        b = time.perf_counter()
        wait()
        called.append((b - a) / inner)
        done.append((time.perf_counter() - a) / inner)
    return statistics.median(called), statistics.median(done)


def share(passes: float, size: int, itemsize: int, seconds: float) -> float:
    """Bytes a second, of that many reads and writes of all, over the rate of a copy."""
    return round(passes * size * itemsize / seconds / results.get("copy", 4.2e12), 3)
