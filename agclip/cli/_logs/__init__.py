"""Training logs that people have already: the gradient norms in them."""

from __future__ import annotations

from pathlib import Path

from agclip.cli._logs._columns import History, LogError
from agclip.cli._logs._tables import read_csv, read_jsonl
from agclip.cli._logs._tensorboard import is_event_log, read_events
from agclip.cli._logs._trainer import read_trainer_state

__all__ = ["FORMATS", "History", "LogError", "read_log"]

FORMATS = (
    "trainer_state.json of Hugging Face, CSV (metrics.csv of Lightning, an export of W&B), JSON "
    "lines (.jsonl), or an event file of TensorBoard or its folder"
)

_BY_SUFFIX = {
    ".csv": read_csv,
    ".tsv": read_csv,
    ".json": read_trainer_state,
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
}


def read_log(path: Path, column: str | None) -> History:
    """Read the gradient norms of a log.

    Args:
        path: The log: its name says the format.
        column: The column, key or tag that holds the norms; None to find it.

    Raises:
        LogError: If the log cannot be read, holds no norms, or it is not clear which they are.
        OSError: If it is not there.
    """
    if is_event_log(path):
        return read_events(path, column)
    reader = _BY_SUFFIX.get(path.suffix.lower())
    if reader is None:
        msg = f"its name says no format that is known: {FORMATS}"
        raise LogError(msg)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        msg = f"it is no text in UTF-8 ({error.reason} at byte {error.start})"
        raise LogError(msg) from error
    if not text.strip():
        msg = "it is empty"
        raise LogError(msg)
    return reader(text, column)
