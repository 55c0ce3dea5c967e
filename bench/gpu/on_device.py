"""Checks of the fused CUDA kernels that need a device: streams, threads, graphs, and waiting."""

from __future__ import annotations

import math
import threading
import time
from typing import Any

import numpy as np
import torch

import agclip
from agclip_backends._cuda.fused_source import AGAIN, FINITE, LIMITED, RECORD
from agclip_backends._cuda.source import CHUNK
from agclip_backends._cuda.table import Terms
from bench.gpu import run
from bench.gpu.against_numpy import SIZES


def same_every_time() -> str:
    x = run.of("f32", 3_000_001 if run.device == "cuda" else 40_001)
    found = set()
    for i in range(40):
        run.room.norm_blocks, before = (4, 0, 1, 8)[i % 4], run.room.norm_blocks
        done = run.room.clip([x], None, Terms(), math.inf)
        run.room.norm_blocks = before
        assert done is not None
        found.add(run.back(done.record)[:7].tobytes())
    assert len(found) == 1, f"{len(found)} different records"
    return "40 calls"


def record_says() -> str:
    x = torch.ones(100, device=run.device)
    done = run.room.clip([x], None, Terms(), 1.0)
    assert done is not None
    state = int(run.back(done.record).view(np.int64)[7])
    assert state & (FINITE | LIMITED | AGAIN) == FINITE | LIMITED, state
    assert done.record.numel() == RECORD + 1
    return f"state {state}"


def no_synchronisation() -> str:
    leaves = [run.of("f32", 1000 + i) for i in range(200)]
    run.room.clip(leaves, None, Terms(), 1.0)
    fresh = [run.of("f32", 1000 + i) for i in range(200)]
    run.wait()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for policy in ("propagate", "zero"):
            run.room.clip(leaves, None, Terms(policy=policy), 0.5, 2.0)
        run.room.clip(fresh, None, Terms(), 0.5)
        run.room.clip(fresh, None, Terms(joint=False), 0.5)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return "4 calls"


def not_waited_for() -> str:
    """A call returns long before the device has worked through what was queued before it."""
    leaves = [run.of("f32", 1000 + i) for i in range(200)]
    run.room.clip(leaves, None, Terms(), 1.0)
    big = run.of("f32", 1 << 28)
    run.wait()
    for _ in range(40):
        big.mul_(1.0)
    before = time.perf_counter()
    run.room.clip(leaves, None, Terms(), 0.5)
    called = time.perf_counter() - before
    run.wait()
    waited = time.perf_counter() - before
    assert called < waited / 3, (called, waited)
    return f"returned after {called * 1e6:.0f} us, {waited * 1e3:.1f} ms before the device was done"


def graphs() -> str:
    texts = []
    for count, joint in ((3, True), (300, True), (40, False)):
        sizes = [1 + (997 * i) % 5000 for i in range(count)]
        sizes[0] = 5 * CHUNK + 3
        static = [run.of("f32", n) for n in sizes]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            run.room.clip(static, None, Terms(joint=joint), 1.0)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            done = run.room.clip(static, None, Terms(joint=joint), 1.0)
        assert done is not None
        for turn in range(4):
            new = [run.of("f32", n, 10.0**turn) for n in sizes]
            mine = [x.clone() for x in new]
            eager = run.room.clip(mine, None, Terms(joint=joint), 1.0)
            assert eager is not None
            for x, y in zip(static, new, strict=True):
                x.copy_(y)
            graph.replay()
            # Calls beside it must not disturb it.
            run.room.clip([run.of("f32", 70_000)], None, Terms(), 1.0)
            run.wait()
            bad = sum(
                run.differing(run.back(x), run.back(y)) for x, y in zip(static, mine, strict=True)
            )
            assert bad == 0, f"{count} leaves, turn {turn}: {bad} entries differ"
            if joint:
                assert float(done.norm) == float(eager.norm), (done.norm, eager.norm)
        texts.append(f"{count} leaves")
    return ", ".join(texts)


def clip_again_and_again(
    new: list[Any], wanted: list[Any], stream: Any, bad: list[Any], turns: int = 10
) -> None:
    """What each of several threads does, in a stream that they may share."""
    try:
        with torch.cuda.stream(stream):
            for _ in range(turns):
                mine = [x.clone() for x in new]
                run.room.clip(mine, None, Terms(), 1.0)
                stream.synchronize()
                bad += odd_ones(mine, wanted)
    except Exception as error:  # noqa: BLE001 - told by the main thread
        bad.append(repr(error))


def odd_ones(leaves: list[Any], wanted: list[Any]) -> list[int]:
    found = [run.differing(run.back(x), y) for x, y in zip(leaves, wanted, strict=True)]
    return [count for count in found if count]


def streams_and_threads() -> str:
    sizes = [30 * CHUNK + 5, 1000, 7 * CHUNK, 3]
    new = [[run.of("f32", n, 1.0 + k) for n in sizes] for k in range(4)]
    wanted = []
    for leaves in new:
        mine = [x.clone() for x in leaves]
        run.room.clip(mine, None, Terms(), 1.0)
        wanted.append([run.back(x) for x in mine])
    run.wait()
    bad: list[Any] = []
    for shared in (False, True):
        one = torch.cuda.Stream()
        streams = [one if shared else torch.cuda.Stream() for _ in range(4)]
        threads = [
            threading.Thread(target=clip_again_and_again, args=(*given, bad))
            for given in zip(new, wanted, streams, strict=True)
        ]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    # Without waiting in between: four streams at once, from one thread.
    streams = [torch.cuda.Stream() for _ in range(4)]
    for _ in range(10):
        copies = [[x.clone() for x in leaves] for leaves in new]
        run.wait()
        for mine, stream in zip(copies, streams, strict=True):
            with torch.cuda.stream(stream):
                run.room.clip(mine, None, Terms(), 1.0)
        run.wait()
        for mine, right in zip(copies, wanted, strict=True):
            bad += odd_ones(mine, right)
    assert not bad, bad[:4]
    return "120 calls"


def more_than_two_to_the_31() -> str:
    free, _ = torch.cuda.mem_get_info()
    if free < 6 << 30:
        return "left out: too little memory"
    size = (1 << 31) + 5
    x = torch.ones(size, dtype=torch.bfloat16, device=run.device)
    x[-1] = 100
    before = time.perf_counter()
    done = run.room.clip([x], None, Terms(), 1.0)
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
    x = run.of("f32", 1000)
    found: list[Any] = []

    def work() -> None:
        try:
            found.append(run.room.clip([x], None, Terms(), 1e-3))
        except Exception as error:  # noqa: BLE001 - told by the main thread
            found.append(repr(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not isinstance(found[0], str), found
    return "fine"


def cupy_checks() -> str:
    import cupy

    from agclip_backends.cupy.fused import room as cupy_room

    bad = calls = 0
    for name in ("f16", "f32"):
        arrays = [run.drawn(name, n, n) for n in (*SIZES, 1)]
        arrays.append(
            (np.full(1000, 1e-40) if name == "f32" else np.full(9, 6e-8)).astype(run.DTYPES[name])
        )
        for count, bound in ((1, 0.5), (len(arrays), 1.5), (len(arrays), 1e9)):
            for repeat in (1, 30):
                these = [x.copy() for x in arrays[-count:] * repeat]
                leaves = [cupy.asarray(x) for x in these]
                done = cupy_room.clip(leaves, None, Terms(), bound)
                assert done is not None, "not taken"
                wanted, norm = agclip.clip_by_global_norm(these, bound)
                bad += sum(run.differing(x.get(), y) for x, y in zip(leaves, wanted, strict=True))
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


CHECKS = {"same every time": same_every_time, "record": record_says}
ON_DEVICE = {
    "graphs": graphs,
    "streams and threads": streams_and_threads,
    "a new thread": new_threads_have_a_context,
    "no synchronisation": no_synchronisation,
    "not waited for": not_waited_for,
    "2**31 entries": more_than_two_to_the_31,
    "cupy": cupy_checks,
}
