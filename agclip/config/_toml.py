"""TOML that anybody may have written: read in bounded time and memory, or refused in one line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

LARGEST = 1 << 20
"""Bytes of a file: tomllib takes a second for as many."""
_PARTS = 32
"""Dots in a key. tomllib keeps every prefix of one, in memory that grows with the square."""

# An unfinished string or comment reaches to the end of its line or of the file: so this is linear.
_PROSE = re.compile(
    r'"""(?:[^\\]|\\.)*?(?:"""|\Z)'
    r"|'''.*?(?:'''|\Z)"
    r'|"(?:[^"\\\n]|\\.)*"?'
    r"|'[^'\n]*'?"
    r"|#[^\n]*",
    re.DOTALL,
)
_BETWEEN_KEYS = re.compile(r"[=,{}\[\]\n]")


def read(path: Path) -> bytes:
    """Return the content of a file.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is too large for settings.
    """
    with path.open("rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        msg = f"{path} must have at most {LARGEST} bytes; got more. Name another file."
        raise ValueError(msg)
    return content


def parsed(content: bytes, path: Path) -> dict[str, Any]:
    """Return the document of a file; a mark of the byte order at its beginning is passed over.

    Raises:
        ValueError: If it is no TOML in UTF-8, or nested beyond reason.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        msg = f"{path} must be text in UTF-8; got byte {error.start} that is not. Save it as such."
        raise ValueError(msg) from None
    try:
        return document(text)
    except ValueError as error:
        msg = f"{path} must be valid TOML; got: {error}. Mend that place."
        raise ValueError(msg) from None


def document(text: str) -> dict[str, Any]:
    """Return the document of a text.

    Raises:
        ValueError: If it is no TOML, or nested beyond reason.
    """
    import tomllib  # Most processes have no file: they need no parser.

    keys = _BETWEEN_KEYS.split(_PROSE.sub("", text))
    if max(key.count(".") for key in keys) > _PARTS:
        msg = f"a key of more than {_PARTS} parts"
        raise ValueError(msg)
    try:
        return tomllib.loads(text)
    except RecursionError:
        msg = "values that are nested too deep"
        raise ValueError(msg) from None
    except tomllib.TOMLDecodeError:
        raise
    except ValueError:
        # What int() says of more digits than Python reads is advice to a programmer.
        msg = "an integer that is too long"
        raise ValueError(msg) from None
