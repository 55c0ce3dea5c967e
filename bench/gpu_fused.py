"""The fused CUDA kernels on a real device: are they right, and how fast, in one short run.

    PYTHONPATH=$PWD:$PWD/backends python3 bench/gpu_fused.py --budget 100

Every part stands on its own: one that fails is reported and costs the others nothing. Results are
printed as they come, then as tables, and written to `gpu_fused.json` in the folder that `--out`
names. `--rehearse` runs all of it without a GPU, on the source compiled for the host.
"""

# ruff: noqa: B023, C901, PERF401, PLR0915, PLW0603, PT018 - parts of one script, run in turn
from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import itertools
import json
import math
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import torch

import agclip
from agclip._backends.dtypes import kind_named
from agclip._numerics.coefficient import strict_shrink
from agclip_backends._cuda import driver
from agclip_backends._cuda.fused import Room
from agclip_backends._cuda.fused_source import (
    AGAIN,
    FINITE,
    KERNELS,
    LIMITED,
    NORMS,
    RECORD,
    SOURCE,
)
from agclip_backends._cuda.source import CHUNK, THREADS
from agclip_backends._cuda.table import Terms
from agclip_backends.torch import fused as _fused
from agclip_backends.torch.fused import TorchLibrary

START = time.perf_counter()
DTYPES = {"f16": "float16", "bf16": "bfloat16", "f32": "float32", "f64": "float64"}
STEP = {"f32": 2.0**-10, "bf16": 2.0**-6, "f16": 2.0**-8, "f64": 2.0**-10}
"""By what a bound shrinks from call to call, beyond the rounding of a norm in place."""

results: dict[str, Any] = {"checks": {}, "times": {}, "variants": {}, "errors": {}}
options: argparse.Namespace
device = "cuda"


def elapsed() -> float:
    return time.perf_counter() - START


def left() -> float:
    return options.budget - elapsed()


def save() -> None:
    results["seconds"] = round(elapsed(), 1)
    if options.out:
        Path(options.out).mkdir(parents=True, exist_ok=True)
        Path(options.out, "gpu_fused.json").write_text(json.dumps(results, indent=1, default=str))


def part(kind: str, name: str, function: Any, *args: Any, least: float = 3.0) -> None:
    """Run one part if there is time for it, and keep what it returns or how it fails."""
    if options.only and not any(word in f"{kind}.{name}" for word in options.only.split(",")):
        return
    if left() < least:
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


# Leaves


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
    room = torch.empty(t.numel() + offset, dtype=t.dtype, device=device)
    room[offset:].copy_(t.reshape(-1))
    return room[offset:].view(t.shape)


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


def strict_terms(names: set[str]) -> tuple[float, ...]:
    shrink = strict_shrink([kind_named(DTYPES[n]) for n in names], "float64")
    return (shrink,) * 4


room: Room


# Checks against NumPy


def against_numpy(
    arrays: list[Any], bound: Any, offsets: Any = 0, *, exact: bool = True, **given: Any
) -> str:
    """Clip in place and into new memory; compare with agclip on NumPy."""
    policy, strict = given.get("policy", "propagate"), given.get("strict", False)
    loss = given.get("loss")
    offsets = [offsets] * len(arrays) if isinstance(offsets, int) else offsets
    shrink = None
    if strict:
        names = {short for short in DTYPES for x in arrays if x.dtype.name == DTYPES[short]}
        shrink = strict_terms(names)
    terms = Terms(policy=policy, shrink=shrink)
    more = {"nonfinite": policy, "strict": strict, "loss_scale": loss}
    wanted, norm = agclip.clip_by_global_norm([x.copy() for x in arrays], bound, **more)
    leaves = [there(x, o) for x, o in zip(arrays, offsets, strict=True)]
    targets = [torch.full_like(x, 7.0) for x in leaves]
    b = float(bound) if not given.get("device_bound") else torch.tensor(bound, device=device)
    new = room.clip(leaves, targets, terms, b, loss)
    done = room.clip(leaves, None, terms, b, loss)
    assert done is not None and new is not None, "not taken"
    bad = sum(differing(back(x), y) for x, y in zip(leaves, wanted, strict=True))
    bad_new = sum(differing(back(x), y) for x, y in zip(targets, wanted, strict=True))
    found = back(done.norm)
    same = differing(found.reshape(1), np.asarray(norm).reshape(1)) == 0
    close = abs(float(found) / float(norm) - 1) < 1e-14 if np.isfinite(norm) and norm else same
    total = sum(x.size for x in arrays)
    text = f"{bad}/{bad_new} of {total} entries differ; norm {found} wanted {norm}"
    fine = bad == 0 and bad_new == 0 and same
    if not exact:
        fine = close and max(bad, bad_new) <= total * 0.6 + 1
        fine = fine and all(
            np.allclose(back(x).astype(float), y.astype(float), rtol=1e-6, atol=0, equal_nan=True)
            for x, y in zip(leaves, wanted, strict=True)
        )
    assert fine, text
    return text


SIZES = (0, 1, 7, 100, 255, 257, CHUNK - 1, CHUNK, 3 * CHUNK + 77, 40_001)


def one_dtype(name: str, offset: int) -> str:
    arrays = [drawn(name, n, n) for n in SIZES]
    return against_numpy(arrays, 1.5, offset, exact=name != "f64")


def mixed() -> str:
    arrays = [drawn(name, n, n) for n in SIZES for name in ("f32", "f16", "bf16")]
    texts = [against_numpy(arrays, 0.7, [i % 5 for i in range(len(arrays))])]
    arrays += [drawn("f64", n, n) for n in SIZES]
    texts.append(against_numpy(arrays, 0.7, [i % 5 for i in range(len(arrays))], exact=False))
    return "; ".join(texts)


def subnormals() -> str:
    tiny = np.array([1e-45, -1e-40, 1.1754942e-38, 0.5, -0.0], np.float32)
    texts = [against_numpy([tiny], bound) for bound in (100.0, 0.3, 1e-30)]
    small = np.full(1000, 1e-40, np.float32)
    texts.append(against_numpy([small], 1e-39))
    texts.append(against_numpy([small], 1e-42))
    bits = np.arange(1 << 16, dtype=np.uint16)
    for name in ("f16", "bf16"):
        x = bits.view(numpy_dtype(name))
        x = x[np.isfinite(x.astype(np.float32))]
        texts.append(against_numpy([x], 1.0))
        texts.append(against_numpy([x], float(np.linalg.norm(x.astype(float))) * 0.7))
    return f"{len(texts)} calls; last: {texts[-1]}"


def nonfinite() -> str:
    texts = []
    for policy, name in itertools.product(("propagate", "zero", "skip"), ("f32", "bf16")):
        for value in (np.nan, np.inf, -np.inf):
            arrays = [drawn(name, n, n) for n in (100, CHUNK + 5, 0, 7)]
            arrays[1][CHUNK + 1] = value
            for loss in (None, 8.0):
                texts.append(against_numpy(arrays, 1.0, policy=policy, loss=loss))
    return f"{len(texts)} calls; last: {texts[-1]}"


def numbers_of_leaves() -> str:
    texts = []
    for count in (1, 3, 95, 96, 97, 300, 1000):
        arrays = [drawn("f32", 1 + (37 * i) % 300, i) for i in range(count)]
        if count == 300:
            arrays[5] = drawn("f32", 20 * CHUNK + 3)
        texts.append(against_numpy(arrays, 2.0))
    return f"{len(texts)} calls; last: {texts[-1]}"


def options_of_a_clip() -> str:
    texts = []
    for name in ("f32", "bf16"):
        arrays = [drawn(name, n, n) for n in (CHUNK + 9, 33)]
        norm = math.sqrt(sum(float((x.astype(float) ** 2).sum()) for x in arrays))
        for given in (
            {"strict": True},
            {"loss": 1024.0},
            {"loss": 0.37},
            {"loss": 3.0, "strict": True},
            {"device_bound": True},
        ):
            for bound in (0.01 * norm, 0.9 * norm, 2.0 * norm, 0.0, math.inf):
                b = float(np.float32(bound))
                texts.append(against_numpy(arrays, b, **given))
    return f"{len(texts)} calls; last: {texts[-1]}"


def rescued_float64() -> str:
    texts = []
    for scale in (2.0**600, 2.0**-600, 2.0**-1060, 0.0):
        arrays = [drawn("f64", n, n) * scale for n in (CHUNK * 2 + 3, 100)]
        for bound in (2.0**590, 2.0**-610):
            texts.append(against_numpy(arrays, bound, exact=False))
    one = [drawn("f64", 1000) * 2.0**600, drawn("f64", 1000), drawn("f64", 1000) * 2.0**-700]
    leaves = [there(x) for x in one]
    done = room.clip(leaves, None, Terms(joint=False), 1.0)
    assert done is not None
    wanted = agclip.clip_by_norm([x.copy() for x in one], 1.0)
    for x, y in zip(leaves, wanted, strict=True):
        assert np.allclose(back(x), y, rtol=1e-14, atol=0), "by leaves"
    return f"{len(texts)} calls; last: {texts[-1]}"


def per_leaf() -> str:
    bad = calls = 0
    for name in ("f32", "bf16", "f16"):
        arrays = [drawn(name, n, n) for n in SIZES] * 12
        weights = tuple(0.5 + i % 7 for i in range(len(arrays)))
        leaves = [there(x) for x in arrays]
        assert room.clip(leaves, None, Terms(joint=False), 0.25) is not None
        wanted = agclip.clip_by_norm([x.copy() for x in arrays], 0.25)
        bad += sum(differing(back(x), y) for x, y in zip(leaves, wanted, strict=True))
        leaves = [there(x) for x in arrays]
        assert room.clip(leaves, None, Terms(joint=False, weights=weights), 0.25) is not None
        wanted = [
            agclip.clip_by_norm(x.copy(), 0.25 * w) for x, w in zip(arrays, weights, strict=True)
        ]
        bad += sum(differing(back(x), y) for x, y in zip(leaves, wanted, strict=True))
        calls += 2
    assert bad == 0, f"{bad} entries differ"
    return f"{calls} calls"


def other_orders() -> str:
    texts = []
    for order, name in itertools.product((1.0, math.inf), ("f32", "bf16", "f16")):
        for value in (None, np.nan, np.inf):
            arrays = [drawn(name, n, n) for n in (100, 0, CHUNK * 3 + 5, 7)]
            if value is not None:
                arrays[2][5] = value
            wanted = agclip.global_norm([x.copy() for x in arrays], ord=order)
            leaves = [there(x) for x in arrays]
            done = room.clip(leaves, None, Terms(order=order), 0.5)
            assert done is not None
            found = back(done.norm)
            text = f"order {order} {name}: {found} wanted {wanted}"
            assert differing(found.reshape(1), np.asarray(wanted).reshape(1)) == 0, text
            texts.append(text)
    return f"{len(texts)} calls; last: {texts[-1]}"


def by_value() -> str:
    bad = 0
    for name, offset in itertools.product(("f16", "bf16", "f32", "f64"), (0, 1, 3)):
        arrays = [drawn(name, n, n) for n in SIZES]
        arrays[4][:3] = np.nan, np.inf, -np.inf
        dtype = numpy_dtype(name)
        low, high = float(np.asarray(-0.3).astype(dtype)), float(np.asarray(0.7).astype(dtype))
        leaves = [there(x, offset) for x in arrays]
        assert room.within(leaves, None, (low,) * 4, (high,) * 4)
        wanted = agclip.clip_by_value([x.copy() for x in arrays], low, high)
        bad += sum(differing(back(x), y) for x, y in zip(leaves, wanted, strict=True))
    assert bad == 0, f"{bad} entries differ"
    return "12 calls"


def like_the_kernel(x: Any) -> float:
    """The sum of squares of float32 or narrower entries, in the order of the source."""
    size, v, partial = 16 // x.itemsize, x.astype(np.float64), []

    def tree(s: Any) -> Any:
        while len(s) > 1:
            s = s[: len(s) // 2] + s[len(s) // 2 :]
        return s[0]

    def rows(values: Any, width: int) -> Any:
        return np.pad(values, (0, -len(values) % width)).reshape(-1, width)

    for start in range(0, len(v), CHUNK):
        sums = np.zeros(THREADS * size)
        for row in rows(v[start : start + CHUNK], THREADS * size):
            sums += row * row
        partial.append(tree(tree(sums.reshape(THREADS, size).T)))
    sums = np.zeros(THREADS)
    for row in rows(np.array(partial), THREADS):
        sums += row
    return float(tree(sums))


def bits_of_the_sums() -> str:
    odd = []
    for name, n in itertools.product(("f16", "bf16", "f32"), (1, 255, CHUNK + 1, 1_000_003)):
        x = drawn(name, n, n, 2)
        for offset, blocks in ((0, 4), (1, 4), (0, 0), (0, 1)):
            room.norm_blocks, before = blocks, room.norm_blocks
            done = room.clip([there(x, offset)], None, Terms(), math.inf)
            room.norm_blocks = before
            assert done is not None
            root, wanted = float(back(done.record)[0]), math.sqrt(like_the_kernel(x))
            if root != wanted:
                odd.append((name, n, offset, blocks, root, wanted))
    assert not odd, f"roots that differ from the order written down: {odd[:4]}"
    return "48 roots"


def same_every_time() -> str:
    x = of("f32", 3_000_001 if device == "cuda" else 40_001)
    found = set()
    for i in range(40):
        room.norm_blocks, before = (4, 0, 1, 8)[i % 4], room.norm_blocks
        done = room.clip([x], None, Terms(), math.inf)
        room.norm_blocks = before
        assert done is not None
        found.add(back(done.record)[:7].tobytes())
    assert len(found) == 1, f"{len(found)} different records"
    return "40 calls"


def record_says() -> str:
    x = torch.ones(100, device=device)
    done = room.clip([x], None, Terms(), 1.0)
    assert done is not None
    state = int(back(done.record).view(np.int64)[7])
    assert state & FINITE and state & LIMITED and not state & AGAIN, state
    assert done.record.numel() == RECORD + 1
    return f"state {state}"


def no_synchronisation() -> str:
    leaves = [of("f32", 1000 + i) for i in range(200)]
    room.clip(leaves, None, Terms(), 1.0)
    fresh = [of("f32", 1000 + i) for i in range(200)]
    wait()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for policy in ("propagate", "zero"):
            room.clip(leaves, None, Terms(policy=policy), 0.5, 2.0)
        room.clip(fresh, None, Terms(), 0.5)
        room.clip(fresh, None, Terms(joint=False), 0.5)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return "4 calls"


def not_waited_for() -> str:
    """A call returns long before the device has worked through what was queued before it."""
    leaves = [of("f32", 1000 + i) for i in range(200)]
    room.clip(leaves, None, Terms(), 1.0)
    big = of("f32", 1 << 28)
    wait()
    for _ in range(40):
        big.mul_(1.0)
    before = time.perf_counter()
    room.clip(leaves, None, Terms(), 0.5)
    called = time.perf_counter() - before
    wait()
    waited = time.perf_counter() - before
    assert called < waited / 3, (called, waited)
    return f"returned after {called * 1e6:.0f} us, {waited * 1e3:.1f} ms before the device was done"


def graphs() -> str:
    texts = []
    for count, joint in ((3, True), (300, True), (40, False)):
        sizes = [1 + (997 * i) % 5000 for i in range(count)]
        sizes[0] = 5 * CHUNK + 3
        static = [of("f32", n) for n in sizes]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            room.clip(static, None, Terms(joint=joint), 1.0)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            done = room.clip(static, None, Terms(joint=joint), 1.0)
        assert done is not None
        for turn in range(4):
            new = [of("f32", n, 10.0**turn) for n in sizes]
            mine = [x.clone() for x in new]
            eager = room.clip(mine, None, Terms(joint=joint), 1.0)
            assert eager is not None
            for x, y in zip(static, new, strict=True):
                x.copy_(y)
            graph.replay()
            # Calls beside it must not disturb it.
            room.clip([of("f32", 70_000)], None, Terms(), 1.0)
            wait()
            bad = sum(differing(back(x), back(y)) for x, y in zip(static, mine, strict=True))
            assert bad == 0, f"{count} leaves, turn {turn}: {bad} entries differ"
            if joint:
                assert float(done.norm) == float(eager.norm), (done.norm, eager.norm)
        texts.append(f"{count} leaves")
    return ", ".join(texts)


def streams_and_threads() -> str:
    sizes = [30 * CHUNK + 5, 1000, 7 * CHUNK, 3]
    new = [[of("f32", n, 1.0 + k) for n in sizes] for k in range(4)]
    wanted = []
    for leaves in new:
        mine = [x.clone() for x in leaves]
        room.clip(mine, None, Terms(), 1.0)
        wanted.append([back(x) for x in mine])
    wait()
    bad: list[Any] = []

    def work(k: int, stream: Any, turns: int) -> None:
        try:
            with torch.cuda.stream(stream):
                for _ in range(turns):
                    mine = [x.clone() for x in new[k]]
                    room.clip(mine, None, Terms(), 1.0)
                    stream.synchronize()
                    odd = sum(differing(back(x), y) for x, y in zip(mine, wanted[k], strict=True))
                    if odd:
                        bad.append((k, odd))
        except Exception as error:  # noqa: BLE001 - told by the main thread
            bad.append((k, repr(error)))

    for shared in (False, True):
        one = torch.cuda.Stream()
        all_streams = [one if shared else torch.cuda.Stream() for _ in range(4)]
        threads = [threading.Thread(target=work, args=(k, all_streams[k], 10)) for k in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert not bad, bad[:4]
    # Without waiting in between: four streams at once, from one thread.
    for _ in range(10):
        made = []
        for k in range(4):
            with torch.cuda.stream(all_streams[k]):
                mine = [x.clone() for x in new[k]]
                room.clip(mine, None, Terms(), 1.0)
                made.append(mine)
        wait()
        for k, mine in enumerate(made):
            odd = sum(differing(back(x), y) for x, y in zip(mine, wanted[k], strict=True))
            assert not odd, (k, odd)
    return "120 calls"


def more_than_two_to_the_31() -> str:
    free, _ = torch.cuda.mem_get_info()
    if free < 6 << 30:
        return "left out: too little memory"
    size = (1 << 31) + 5
    x = torch.ones(size, dtype=torch.bfloat16, device=device)
    x[-1] = 100
    before = time.perf_counter()
    done = room.clip([x], None, Terms(), 1.0)
    assert done is not None
    found = float(done.norm)
    wanted = math.sqrt(size - 1 + 1e4)
    last, first = float(x[-1]), float(x[0])
    assert abs(found / wanted - 1) < 1e-7, (found, wanted)
    assert abs(last / (100 / wanted) - 1) < 2**-8, last
    assert abs(first * wanted - 1) < 2**-8, first
    assert int((x != x[0]).sum()) == 1
    return f"norm {found}, {time.perf_counter() - before:.3f} s with checks"


def new_threads_have_a_context() -> str:
    x = of("f32", 1000)
    found: list[Any] = []

    def work() -> None:
        try:
            found.append(room.clip([x], None, Terms(), 1e-3))
        except Exception as error:  # noqa: BLE001 - told by the main thread
            found.append(repr(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not isinstance(found[0], str), found
    return "fine"


# Times


def event_times(function: Any, inner: int, outer: int) -> float:
    """The median of seconds a call on the device, over groups of `inner` calls."""
    if device != "cuda":
        function()
        return 1e-3
    found = []
    for _ in range(outer):
        a, b = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        a.record()
        for _ in range(inner):
            function()
        b.record()
        b.synchronize()
        found.append(a.elapsed_time(b) * 1e-3 / inner)
    return statistics.median(found)


def host_times(function: Any, inner: int, outer: int) -> tuple[float, float]:
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


def copy_rate() -> float:
    size = 1 << (30 if device == "cuda" else 16)
    a = torch.randn(size // 4, device=device)
    b = torch.empty_like(a)
    b.copy_(a)
    seconds = event_times(lambda: b.copy_(a), 4, 7)
    results["copy"] = 2 * size / seconds
    return results["copy"]


def share(passes: float, size: int, itemsize: int, seconds: float) -> float:
    return round(passes * size * itemsize / seconds / results.get("copy", 4.2e12), 3)


VARIANTS: dict[str, tuple[str, ...]] = {
    "b4r4": (),
    "b8r3": ("-DBATCH=8", "-DRESIDENT=3"),
    "b8r2": ("-DBATCH=8", "-DRESIDENT=2"),
    "b4r5": ("-DBATCH=4", "-DRESIDENT=5"),
    "b2r5": ("-DBATCH=2", "-DRESIDENT=5"),
    "b4r3": ("-DBATCH=4", "-DRESIDENT=3"),
    "b4r4na": ("-DREAD_HINT=1",),
    "b4r4cs": ("-DREAD_HINT=2", "-DWRITE_HINT=2"),
    "b4r4ws": ("-DWRITE_HINT=2",),
}
"""Of the kernels: packs under way, blocks that must fit, hints; see the source's macros."""

rooms: dict[str, Room] = {}


def compile_all() -> str:
    """Take in what has been compiled of the variants; each is right or wrong by itself."""
    capability = torch.cuda.get_device_capability()
    failed = {}
    for label, defines in VARIANTS.items():
        library = TorchLibrary(*defines)
        try:
            for name, kinds in itertools.product(PAIR, (4, 2)):
                image = compiled(defines, name, kinds, wait_for=5.0)
                library._modules[capability, name, kinds] = image
        except Exception as error:  # noqa: BLE001 - the other variants go on
            failed[label] = f"{type(error).__name__}: {str(error)[:300]}"
        else:
            rooms[label] = Room(library)
    return f"{len(rooms)} variants; failed: {failed}"


def one_kernel(here: Room, leaves: list[Any], name: str, bound: float) -> Any:
    """A function that launches one of the kernels alone, again and again."""
    library = here._library
    place = library.place(leaves)
    described = library.describe(leaves)
    assert place is not None and described is not None
    table = here._table(place, described, leaves, None, None)
    assert table is not None
    made = here._arguments(place, table, Terms(), bound, None)
    assert made is not None
    args, clipped = made
    import ctypes

    parameters = (ctypes.c_void_p * 1)(ctypes.addressof(args))
    kept = (args, clipped, parameters)
    here._launch(place, NORMS[2.0], table, 4, parameters)

    def call(blocks: int, kept: Any = kept) -> None:
        here._launch(place, name, table, blocks, parameters)

    return call


def variants(name: str) -> dict[str, Any]:
    """Times of both kernels alone for every variant and grid, as shares of the copy rate."""
    size = options.size
    x = of(name, size)
    found: dict[str, Any] = {}
    grids = (0, 2, 3, 4, 6, 8, 16)
    for label, here in (rooms or {"b4r4": room}).items():
        if left() < 15 and device == "cuda":
            break
        for kernel, passes in (("agclip_norm_2", 1), ("agclip_product", 2)):
            try:
                # A bound just below the norm: the factor is not one, and entries stay.
                call = one_kernel(here, [x], kernel, 0.9999 * math.sqrt(size))
                for blocks in grids:
                    call(blocks)
                    seconds = event_times(lambda: call(blocks), 4, 5)
                    short = "norm" if passes == 1 else "product"
                    found[f"{short} {label} g{blocks}"] = (
                        share(passes, size, x.element_size(), seconds),
                        round(seconds * 1e6, 1),
                    )
                    x.mul_(1.0)
            except Exception as error:  # noqa: BLE001 - the other variants go on
                found[f"{kernel} {label}"] = str(error)[:200]
    best = {}
    for short in ("norm", "product"):
        rated = {k: v for k, v in found.items() if k.startswith(short) and not isinstance(v, str)}
        best[short] = sorted(rated.items(), key=lambda item: -item[1][0])[:8]
        print(name, short, *best[short], sep="\n   ", flush=True)
    return found


def tuned(name: str) -> dict[str, Any]:
    """The clip with the kernels and grids that were the fastest each by itself."""
    rated = results["variants"][name]
    kinds = {"f32": 4, "bf16": 2}[name]
    library = TorchLibrary()
    capability = torch.cuda.get_device_capability()
    here = Room(library)
    chosen = {}
    for short, kernel in (("norm", PAIR[0]), ("product", PAIR[1])):
        own = [(v[0], k) for k, v in rated.items() if k.startswith(f"{short} ") and v[0]]
        _, key = max(own)
        chosen[short] = key
        _, label, grid = key.split()
        images = rooms[label]._library._modules  # type: ignore[attr-defined]
        library._modules[capability, kernel, kinds] = images[capability, kernel, kinds]
        if short == "norm":
            here.norm_blocks = int(grid[1:])
        else:
            here.map_blocks = int(grid[1:])
    found: dict[str, Any] = {"chosen": chosen}
    for size, inner in ((options.size, 3), (options.size // 10, 20), (options.size // 100, 30)):
        found[f"{size:.0e}"] = contest(name, [size], here, inner, 5, ("fused", "fused, within"))
    return found


def falling(name: str, start: float) -> Any:
    bound = start
    while True:
        bound *= 1 - STEP[name]
        yield bound


def contest(
    name: str,
    sizes: list[int],
    here: Room,
    inner: int,
    outer: int,
    wanted: tuple[str, ...] = ("fused", "fused, within", "torch", "agclip today"),
) -> dict[str, Any]:
    """A clip in place, by the fused kernels, by PyTorch and by agclip as it is."""
    total = sum(sizes)
    itemsize = getattr(torch, DTYPES[name]).itemsize
    found: dict[str, Any] = {}
    leaves = [of(name, n) for n in sizes]
    norm = math.sqrt(total)
    bounds = falling(name, norm * 0.9)

    def fused() -> None:
        here.clip(leaves, None, Terms(), next(bounds))

    def fused_idle() -> None:
        here.clip(leaves, None, Terms(), 1e30)

    parameters = [torch.nn.Parameter(x, requires_grad=True) for x in leaves]
    for p, x in zip(parameters, leaves, strict=True):
        p.grad = x

    def theirs() -> None:
        torch.nn.utils.clip_grad_norm_(parameters, 1e-3, foreach=True)

    def today() -> None:
        agclip.clip_by_global_norm_(leaves, next(bounds))

    for label, function in (
        ("fused", fused),
        ("fused, within", fused_idle),
        ("torch", theirs),
        ("agclip today", today),
    ):
        if label not in wanted or (device != "cuda" and label == "agclip today"):
            continue
        try:
            for x in leaves:
                x.normal_()
            bounds = falling(name, norm * 0.9)
            function()
            function()
            wait()
            on_device = event_times(function, inner, outer)
            bounds = falling(name, norm * 0.5)
            for x in leaves:
                x.normal_()
            called, done = host_times(function, inner, outer)
            passes = 1 if label == "fused, within" else 3
            found[label] = {
                "device_us": round(on_device * 1e6, 1),
                "host_us": round(called * 1e6, 1),
                "wall_us": round(done * 1e6, 1),
                "share": share(passes, total, itemsize, on_device),
            }
        except Exception as error:  # noqa: BLE001 - the other contenders go on
            found[label] = str(error)[:200]
    return found


def replayed(name: str, sizes: list[int]) -> dict[str, float]:
    """Without the host: the same clip from a graph."""
    total = sum(sizes)
    leaves = [of(name, n) for n in sizes]
    bound = torch.tensor(0.9 * math.sqrt(total), device=device)
    room.clip(leaves, None, Terms(), bound)
    wait()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(10):
            bound.mul_(1 - STEP[name])
            room.clip(leaves, None, Terms(), bound)
    graph.replay()
    wait()
    for x in leaves:
        x.normal_()
    seconds = event_times(graph.replay, 1, 7) / 10
    itemsize = leaves[0].element_size()
    return {"us": round(seconds * 1e6, 1), "share": share(3, total, itemsize, seconds)}


def host_profile() -> dict[str, float]:
    """Where the host's time goes, in us a call: 10 leaves and 1000."""
    found = {}
    for count in (2, 20, 96, 97, 1000):
        leaves = [of("f32", 100) for _ in range(count)]
        library = room._library
        room.clip(leaves, None, Terms(), 1e9)
        wait()
        n = 200

        def timed(function: Any) -> float:
            function()
            a = time.perf_counter()
            for _ in range(n):
                function()
            seconds = (time.perf_counter() - a) / n
            wait()
            return round(seconds * 1e6, 2)

        found[f"{count}: all"] = timed(lambda: room.clip(leaves, None, Terms(), 1e9))
        found[f"{count}: describe"] = timed(lambda: library.describe(leaves))
        described, place = library.describe(leaves), library.place(leaves)
        assert place is not None and described is not None
        found[f"{count}: place"] = timed(lambda: library.place(leaves))
        table_of = room._table
        found[f"{count}: table"] = timed(lambda: table_of(place, described, leaves, None, None))
        table = table_of(place, described, leaves, None, None)
        assert table is not None
        found[f"{count}: arguments"] = timed(
            lambda: room._arguments(place, table, Terms(), 1e9, None)
        )
        call = one_kernel(room, leaves, "agclip_product", 1e9)
        found[f"{count}: one launch"] = timed(lambda: call(8))
        try:
            found[f"{count}: versions"] = timed(lambda: library.written(leaves))
        except Exception as error:  # noqa: BLE001 - the rest is worth more
            found[f"{count}: versions"] = str(error)[:100]
    return found


def new_addresses() -> dict[str, float]:
    """What a call costs the host when no table is kept: gradients that are made anew."""
    found = {}
    for count in (20, 300, 1000):
        sets = [[of("f32", 100) for _ in range(count)] for _ in range(6)]
        wait()
        times = []
        for leaves in sets:
            a = time.perf_counter()
            room.clip(leaves, None, Terms(), 1e9)
            times.append(time.perf_counter() - a)
        found[str(count)] = round(statistics.median(times) * 1e6, 1)
    return found


# CuPy


def cupy_checks() -> str:
    import cupy

    from agclip_backends.cupy.fused import room as cupy_room

    bad = calls = 0
    for name in ("f16", "f32"):
        arrays = [drawn(name, n, n) for n in (*SIZES, 1)]
        arrays.append(
            (np.full(1000, 1e-40) if name == "f32" else np.full(9, 6e-8)).astype(DTYPES[name])
        )
        for count, bound in ((1, 0.5), (len(arrays), 1.5), (len(arrays), 1e9)):
            for repeat in (1, 30):
                these = [x.copy() for x in arrays[-count:] * repeat]
                leaves = [cupy.asarray(x) for x in these]
                done = cupy_room.clip(leaves, None, Terms(), bound)
                assert done is not None, "not taken"
                wanted, norm = agclip.clip_by_global_norm(these, bound)
                bad += sum(differing(x.get(), y) for x, y in zip(leaves, wanted, strict=True))
                bad += float(done.norm) != float(norm)
                calls += 1
    assert not bad, f"{bad} entries differ"
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        static = [cupy.ones(1000 + i, dtype=np.float32) for i in range(200)]
        cupy_room.clip(static, None, Terms(), 1e9)
        stream.synchronize()
        stream.begin_capture()
        done = cupy_room.clip(static, None, Terms(), 1.0)
        graph = stream.end_capture()
        for _ in range(3):
            for x in static:
                x.fill(1.0)
            graph.launch(stream)
            stream.synchronize()
            total = math.sqrt(sum(x.size for x in static))
            assert abs(float(done.norm) / total - 1) < 1e-6, (float(done.norm), total)
            assert abs(float(static[0][0]) * total - 1) < 1e-6
    return f"{calls} calls, and a graph"


def cupy_times() -> dict[str, float]:
    import cupy

    from agclip_backends.cupy.fused import room as cupy_room

    found = {}
    for count in (2, 20, 200, 1000):
        leaves = [cupy.ones(100, dtype=np.float32) for _ in range(count)]
        for label, function in (
            ("fused", lambda leaves=leaves: cupy_room.clip(leaves, None, Terms(), 1e9)),
            ("today", lambda leaves=leaves: agclip.clip_by_global_norm_(leaves, 1e9)),
        ):
            try:
                function()
                cupy.cuda.Device().synchronize()
                n = 50 if label == "fused" else 5
                a = time.perf_counter()
                for _ in range(n):
                    function()
                called = (time.perf_counter() - a) / n
                cupy.cuda.Device().synchronize()
                found[f"{label} {count}: host us"] = round(called * 1e6, 1)
            except Exception as error:  # noqa: BLE001 - the other contender goes on
                found[f"{label} {count}"] = str(error)[:200]
    return found


def registers() -> dict[str, Any]:
    """What the driver says of the kernels: blocks that fit on a multiprocessor."""
    found = {}
    for label, here in {"every kind": room, "default": _fused.room, **rooms}.items():
        for (_, name, kinds), function in here._functions.items():
            found[f"{label} {name} {kinds}"] = driver.resident(function, THREADS)
    return found


CHECKS = {
    **{f"{n}, {o} off": (lambda n=n, o=o: one_dtype(n, o)) for n in DTYPES for o in (0, 1)},
    "mixed": mixed,
    "subnormals": subnormals,
    "bits of the sums": bits_of_the_sums,
    "numbers of leaves": numbers_of_leaves,
    "nonfinite": nonfinite,
    "options": options_of_a_clip,
    "per leaf": per_leaf,
    "float64 out of range": rescued_float64,
    "other orders": other_orders,
    "by value": by_value,
    "same every time": same_every_time,
    "record": record_says,
}
ON_DEVICE = {
    "graphs": graphs,
    "streams and threads": streams_and_threads,
    "a new thread": new_threads_have_a_context,
    "no synchronisation": no_synchronisation,
    "not waited for": not_waited_for,
    "2**31 entries": more_than_two_to_the_31,
}


PAIR = ("agclip_norm_2", "agclip_product")
EVERY: list[tuple[tuple[str, ...], str, int]] = [
    *(((), name, kinds) for name in PAIR for kinds in (4, 2)),
    *(((), name, 15) for name in KERNELS),
    *((v, name, kinds) for v in VARIANTS.values() if v for name in PAIR for kinds in (4, 2)),
]
compiling: dict[Any, Any] = {}
workers_of: list[Any] = []


def begin_to_compile() -> None:
    """Compile everything side by side in processes of their own, before CUDA is in use here."""
    context = multiprocessing.get_context("fork")
    workers = max(2, (os.cpu_count() or 2) - 2)
    pool = concurrent.futures.ProcessPoolExecutor(workers, mp_context=context)
    for job in EVERY:
        compiling[job] = pool.submit(compile_one, *job, (9, 0))
    workers_of.append(pool)


def compile_one(
    defines: tuple[str, ...], name: str, kinds: int, capability: tuple[int, int]
) -> bytes:
    major = int((torch.version.cuda or "13").partition(".")[0])
    every = (*_fused.OPTIONS, *defines)
    every += (f"-DONLY={KERNELS.index(name)}", f"-DKINDS={kinds}")
    try:
        return driver.compile_source(SOURCE, every, capability, major)
    except Exception:  # noqa: BLE001 - whatever it is, there is another way
        return _by_nvcc(SOURCE, every, capability, major)


def compiled(defines: tuple[str, ...], name: str, kinds: int, wait_for: float) -> bytes:
    capability = torch.cuda.get_device_capability()
    future = compiling.get((defines, name, kinds))
    if future is not None and capability == (9, 0):
        try:
            return future.result(timeout=wait_for)
        except Exception as error:
            if defines:
                raise
            print(f"   {name} {kinds}: {type(error).__name__}: {str(error)[:200]}", flush=True)
    return compile_one(defines, name, kinds, capability)


def warm_up() -> str:
    """Hand the kernels that all parts need to the libraries."""
    if device != "cuda":
        return "nothing"
    capability = torch.cuda.get_device_capability()
    for defines, name, kinds in EVERY[: 4 + len(KERNELS)]:
        library = room._library if kinds == 15 else _fused.room._library
        image = compiled(defines, name, kinds, wait_for=20.0)
        library._modules[capability, name, kinds] = image
    return f"{4 + len(KERNELS)} kernels"


def compiler() -> str:
    """See that NVRTC works; compile with nvcc otherwise."""
    text = 'extern "C" __global__ void nothing() {}'
    capability = torch.cuda.get_device_capability()
    major = int((torch.version.cuda or "13").partition(".")[0])
    try:
        driver.compile_source(text, (), capability, major)
    except Exception as error:  # noqa: BLE001 - whatever it is, there is another way
        driver.compile_source = _by_nvcc
        driver.compile_source(text, (), capability, major)
        return f"nvcc, since {str(error)[:300]}"
    return "NVRTC"


def _by_nvcc(source: str, given: Any, capability: tuple[int, int], major: int) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path, image = Path(folder, "kernels.cu"), Path(folder, "kernels.cubin")
        path.write_text(source)
        nvcc = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
        target = f"-arch=sm_{capability[0]}{capability[1]}"
        command = [nvcc, "-cubin", target, *given, str(path), "-o", str(image)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(done.stderr[:2000])
        return image.read_bytes()


def tables() -> None:
    print("\n== checks:", len(results["checks"]), "passed;", len(results["errors"]), "not")
    for name, text in results["errors"].items():
        print(f"   {name}: {str(text)[:300]}")
    copy = results.get("copy")
    print(f"== copy: {copy / 1e12:.3f} TB/s" if copy else "== no copy rate")
    for name, rows in results["times"].items():
        print(f"== {name}")
        for label, row in rows.items() if isinstance(rows, dict) else ():
            print(f"   {label:16} {row}")
    for name, rows in results["variants"].items():
        if isinstance(rows, dict):
            for short in ("norm", "product"):
                rated = [(v, k) for k, v in rows.items() if k.startswith(short)]
                rated = sorted((x for x in rated if not isinstance(x[0], str)), reverse=True)
                print(f"== {name} {short}:", *(f"{k} {v[0]}" for v, k in rated[:6]), sep="  ")


def leave(reason: str = "") -> None:
    """Print and write what there is, and end, whatever still runs."""
    if reason:
        print(reason, flush=True)
    with contextlib.suppress(Exception):
        tables()
        save()
    for pool in workers_of:
        for process in list((pool._processes or {}).values()):
            process.kill()
    sys.stdout.flush()
    os._exit(1 if reason else 0)


def run_on_device(rows: dict[str, Any]) -> None:
    """The parts that a rehearsal cannot have."""
    for name, function in ON_DEVICE.items():
        part("checks", name, function)
    for name in ("f32 1e8", "f32 1e6", "f32 1000 x 100"):
        part("times", f"{name}, replayed", replayed, *rows[name][:2])
    part("checks", "cupy", cupy_checks)
    part("times", "cupy", cupy_times)
    part("times", "resident blocks", registers)


def main() -> None:
    global options, device, room
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", type=float, default=100.0, help="seconds")
    parser.add_argument("--size", type=int, default=0, help="entries of the large leaves")
    parser.add_argument("--only", default="", help="words in the names of parts")
    parser.add_argument("--out", default=os.environ.get("OUT", ""))
    parser.add_argument("--rehearse", action="store_true", help="on the host, without a GPU")
    options = parser.parse_args()
    options.size = options.size or (50_000 if options.rehearse else 100_000_000)
    if options.rehearse:
        sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
        import fused_rehearsal

        device = "cpu"
        room = Room(fused_rehearsal.library())
    else:
        room = Room(TorchLibrary(every_kind=True))
        try:
            begin_to_compile()
        except Exception as error:  # noqa: BLE001 - then everything is compiled here
            print("no processes to compile in:", error)
        results["device"] = torch.cuda.get_device_name()
        results["torch"] = torch.__version__
        print(results["device"], torch.__version__, torch.version.cuda, flush=True)
    # A kernel that never ends must not take the results along.
    watch = threading.Timer(options.budget + 20, leave, ["stopped: the budget was overrun"])
    watch.daemon = True
    watch.start()
    torch.manual_seed(0)
    on_device = device == "cuda"
    if on_device:
        part("checks", "compiler", compiler)
    part("checks", "warm up", warm_up)
    quick = ["f32, 0 off", "bf16, 1 off", "bits of the sums"]
    for name in quick:
        part("checks", name, CHECKS[name])
    part("times", "copy rate", copy_rate)
    big = options.size
    rows = {
        "f32 1e8": ("f32", [big], 3, 5),
        "bf16 1e8": ("bf16", [big], 3, 5),
        "f32 1e6": ("f32", [big // 100], 30, 5),
        "f32 1000 x 100": ("f32", [100] * (1000 if on_device else 100), 20, 5),
        "f32 20 x 4096": ("f32", [4096] * 20, 30, 5),
        "bf16 300 x 1e6": ("bf16", [big // 100] * (300 if on_device else 3), 3, 5),
    }
    for name, (dtype, sizes, inner, outer) in rows.items():
        usual = _fused.room if on_device else room
        part("times", name, contest, dtype, sizes, usual, inner, outer)
    if on_device:
        part("times", "host", host_profile)
        part("times", "new addresses", new_addresses)
        part("checks", "variants compiled", compile_all, least=20)
    for name in ("f32", "bf16"):
        part("variants", name, variants, name, least=15)
        if on_device:
            part("times", f"{name}, tuned", tuned, name)
    for name, function in CHECKS.items():
        if name not in quick:
            part("checks", name, function)
    if on_device:
        run_on_device(rows)
    leave()


if __name__ == "__main__":
    main()
