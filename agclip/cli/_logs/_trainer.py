"""`trainer_state.json`, which the Trainer of Hugging Face writes into every checkpoint."""

from __future__ import annotations

import json

from agclip.cli._logs._columns import History, LogError, history

_HISTORY = "log_history"


def read_trainer_state(text: str, column: str | None) -> History:
    """Read the norms of `log_history`."""
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        msg = f"it is no JSON, or is cut off (line {error.lineno}: {error.msg})"
        raise LogError(msg) from error
    entries = document.get(_HISTORY) if isinstance(document, dict) else document
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        msg = f"it must hold a list {_HISTORY!r} of objects, as trainer_state.json does"
        raise LogError(msg)
    rows = [(f"entry {number}", entry) for number, entry in enumerate(entries)]
    return history(rows, column)
