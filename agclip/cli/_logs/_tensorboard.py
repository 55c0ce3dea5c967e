"""Event files of TensorBoard, read with TensorBoard's own reader."""

from __future__ import annotations

from pathlib import Path

from agclip.cli._logs._columns import History, LogError, history

_MARK = "tfevents"


def is_event_log(path: Path) -> bool:
    """Tell whether a path is an event file, or a folder of a run."""
    return path.is_dir() or _MARK in path.name


def read_events(path: Path, column: str | None) -> History:
    """Read the norms of a tag: of one file, or of all files of a folder.

    Raises:
        LogError: If there is nothing to read, or TensorBoard is not installed.
    """
    files = [path] if path.is_file() else sorted(path.glob(f"*{_MARK}*"))
    if not files:
        msg = "it is a folder without an event file of TensorBoard"
        raise LogError(msg)
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    except ImportError as error:
        msg = "TensorBoard is needed to read it: pip install tensorboard"
        raise LogError(msg) from error
    # 0: every value, none left out at random.
    events = EventAccumulator(str(path), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    values = {
        tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.scalars.Keys()
    }
    for tag in events.tensors.Keys():
        found = [(e.step, _scalar(e.tensor_proto)) for e in events.Tensors(tag)]
        if all(value is not None for _, value in found):
            values.setdefault(tag, found)
    rows = [
        (f"step {step} of {tag!r}", {tag: value, "step": step})
        for tag, steps in values.items()
        for step, value in steps
    ]
    if not rows:
        msg = "it holds no scalars, or is cut off"
        raise LogError(msg)
    return history(rows, column)


def _scalar(proto: object) -> float | None:
    """Return the one number of a tensor, None if it is something else."""
    values = getattr(proto, "float_val", None) or getattr(proto, "double_val", None)
    return float(values[0]) if values and len(values) == 1 else None
