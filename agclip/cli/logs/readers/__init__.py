"""Training logs that people have already: the gradient norms in them.

What a log is read as its content decides, not its name.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from agclip.cli.logs.readers._columns import Columns
from agclip.cli.logs.readers._document import is_document, read_document
from agclip.cli.logs.readers._events import add_events, is_events
from agclip.cli.logs.readers._history import History, LogError
from agclip.cli.logs.readers._names import listed
from agclip.cli.logs.readers._source import Source
from agclip.cli.logs.readers._tables import read_table, table_of
from agclip.cli.logs.readers._text import as_object, read_lines

__all__ = ["FORMATS", "History", "LogError", "listed", "read_log"]

FORMATS = (
    "JSON (as trainer_state.json), JSON lines, CSV, the printed lines of a training, an event file "
    "of TensorBoard or its folder; - for standard input"
)

_EVENTS = "event file of TensorBoard"


def read_log(log: Path | BinaryIO, column: str | None) -> History:
    """Read the gradient norms of a log.

    Args:
        log: The log, or a stream of its bytes.
        column: The column, key or tag that holds the norms; None to find it.

    Raises:
        LogError: If the log cannot be read, holds no norms, or it is not clear which they are.
        OSError: If it is not there.
    """
    if not isinstance(log, Path):
        return _read(log, column)
    if log.is_dir():
        return _read_folder(log, column)
    with log.open("rb") as stream:
        return _read(stream, column)


def _read(stream: BinaryIO, column: str | None) -> History:
    source = Source(stream)
    if is_events(source.head):
        columns = Columns(_EVENTS, column, "step")
        add_events(source.stream(), columns)
        return columns.history()
    start = source.start()
    if is_document(start):
        return read_document(source.text(), column)
    first = next(filter(str.strip, start.splitlines()), "")
    split = None if as_object(first.strip()) is not None else table_of(start, column)
    if split is None:
        return read_lines(source.lines(), column)
    return read_table(source.lines(), split, column)


def _read_folder(folder: Path, column: str | None) -> History:
    """Read all event files of a run.

    Raises:
        LogError: If there are none, or those of several runs.
    """
    files = sorted(folder.rglob("*tfevents*"))
    runs = sorted({file.parent for file in files})
    if folder in runs:
        files = [file for file in files if file.parent == folder]
    elif len(runs) != 1:
        inside = sorted(path.name for path in folder.iterdir() if path.is_file())
        hint = f"; name the file: there is {listed(inside)}" if inside else ""
        if runs:
            hint = f"; name one of the runs in it: {listed([str(run) for run in runs])}"
        msg = f"it is a folder without an {_EVENTS}{hint}"
        raise LogError(msg)
    columns = Columns(_EVENTS, column, "step")
    for file in files:
        with file.open("rb") as stream:
            add_events(stream, columns)
    return columns.history()
