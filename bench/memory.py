"""The most memory that a call holds besides what it was given: counted, not timed.

NumPy's memory is counted by `tracemalloc`, PyTorch's by its profiler; what a compiled kernel takes
from the system by itself is seen by neither.
"""

from __future__ import annotations

import gc
import itertools
import json
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from torch.profiler import ProfilerActivity, profile

Call = Callable[[], object]


def peak(call: Call) -> int:
    """Return the bytes held at the peak of a call, its result included."""
    call()  # what is allocated once stays
    return _numpy_peak(call) + _torch_peak(call)


def _numpy_peak(call: Call) -> int:
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        result = call()
        _, most = tracemalloc.get_traced_memory()
        del result
    finally:
        tracemalloc.stop()
    return most - before


def _torch_peak(call: Call) -> int:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    found: list[tuple[float, int]] = sorted(
        (event["ts"], event["args"]["Bytes"]) for event in events if event["name"] == "[memory]"
    )
    return max(itertools.accumulate((size for _, size in found), initial=0))
