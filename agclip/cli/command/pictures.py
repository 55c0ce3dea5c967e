"""What every picture needs: matplotlib, a place for the file, and text that its font has."""

from __future__ import annotations

import logging
from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path

from agclip.cli.command import CommandError


def picture(*suffixes: str) -> Callable[[str], Path]:
    """Return a reader of the path of a picture, which ends in one of some suffixes."""
    *others, last = suffixes
    known = f"{', '.join(others)} or {last}" if others else last

    def read(text: str) -> Path:
        path = Path(text)
        if path.suffix.lower() not in suffixes:
            msg = f"must end in {known}; got {text!r}"
            raise ArgumentTypeError(msg)
        return path

    return read


def require_matplotlib() -> None:
    """Check that matplotlib can be imported.

    Raises:
        CommandError: It cannot.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        msg = 'matplotlib is needed for the picture. Install it: pip install "agclip[plot]"'
        raise CommandError(msg) from error
    # What it says of its cache of fonts is not about the picture.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)


def plain_text(text: str) -> str:
    """Return a text with a question mark for each character that the font lacks."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    glyphs = get_font(findfont(FontProperties())).get_charmap()
    return "".join(letter if ord(letter) in glyphs else "?" for letter in text)
