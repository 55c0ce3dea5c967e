"""Which library gets which norm wrong: a table of errors, in Markdown.

    python bench/who_is_wrong.py [-o FILE]

Every row is one array whose L2 norm is an ordinary number of its dtype; every cell the error of a
library's norm. The true norm comes from integer arithmetic on the bits of the entries. Libraries
that are not installed are left out.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import math
import platform
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes  # noqa: F401 - makes bfloat16 a dtype of NumPy
import numpy as np

import agclip

WIDTH = 100
"""Of the lines of text."""
EXTRA_BITS = 256
"""Bits of the true norm beyond those of its square's integer root."""


class Format(NamedTuple):
    """A floating-point format: its bits of precision, and the exponent of its smallest number."""

    precision: int
    lowest: int


FORMATS = {
    "float16": Format(11, -24),
    "bfloat16": Format(8, -133),
    "float32": Format(24, -149),
    "float64": Format(53, -1074),
}


@dataclass(frozen=True, slots=True)
class Case:
    """An array: runs of equal entries, or that many normally distributed ones."""

    title: str
    dtype: str
    runs: tuple[tuple[float, int], ...] = ()
    normal: int = 0

    def array(self) -> Any:
        """Return the array."""
        if self.normal:
            return np.random.default_rng(0).standard_normal(self.normal).astype(self.dtype)
        return np.concatenate([np.full(count, x, self.dtype) for x, count in self.runs])

    def entries(self) -> Iterable[tuple[float, int]]:
        """Return the entries as they are in the array, with their numbers."""
        if self.normal:
            return ((x, 1) for x in self.array().tolist())
        return ((float(np.full((), x, self.dtype)), count) for x, count in self.runs)


CASES = (
    Case("float16, 300 × 1e3", "float16", ((300.0, 10**3),)),
    Case("float16, 0.1 × 1e6", "float16", ((0.1, 10**6),)),
    Case("bfloat16, 1e20 × 100", "bfloat16", ((1e20, 100),)),
    Case("bfloat16, 0.1 × 1e6", "bfloat16", ((0.1, 10**6),)),
    Case("float32, 1e20 × 100", "float32", ((1e20, 100),)),
    Case("float32, 1e-23 × 100", "float32", ((1e-23, 100),)),
    Case("float32, 1e-40 × 100", "float32", ((1e-40, 100),)),
    Case("float32, 0.1 × 1e7", "float32", ((0.1, 10**7),)),
    Case("float32, 0.1 × 1e8", "float32", ((0.1, 10**8),)),
    Case("float32, normal × 4e6", "float32", normal=4 * 10**6),
    Case("float32, 1 and 1e-4 × 4e6", "float32", ((1.0, 1), (1e-4, 4 * 10**6))),
    Case("float64, 1e200 × 100", "float64", ((1e200, 100),)),
    Case("float64, 1e-200 × 100", "float64", ((1e-200, 100),)),
    Case("float64, 1e-310 × 100", "float64", ((1e-310, 100),)),
    Case("float64, 1e300 and 1e-300 × 50", "float64", ((1e300, 50), (1e-300, 50))),
)


def true_norm(entries: Iterable[tuple[float, int]]) -> Fraction:
    """Return the L2 norm, right to a relative 2^-256.

    Args:
        entries: Numbers, and how often each occurs.
    """
    squares: Counter[int] = Counter()
    for x, count in entries:
        mantissa, exponent = math.frexp(x)
        squares[exponent] += count * int(mantissa * 2.0**53) ** 2
    lowest = min(squares)
    total = sum(square << 2 * (exponent - lowest) for exponent, square in squares.items())
    root = math.isqrt(total << 2 * EXTRA_BITS)
    return root * Fraction(2) ** (lowest - 53 - EXTRA_BITS)


def ulps(found: float, true: Fraction, dtype: str) -> float:
    """Return the error of a finite number in units in the last place of the true one."""
    exponent = true.numerator.bit_length() - true.denominator.bit_length()
    exponent += true >= Fraction(2) ** exponent
    spacing = max(exponent - FORMATS[dtype].precision, FORMATS[dtype].lowest)
    return float(abs(Fraction(found) - true) / Fraction(2) ** spacing)


class Library(NamedTuple):
    """What is asked of a library."""

    convert: Callable[[Any], Any]
    """From a NumPy array to the library's."""
    norm: Callable[[Any], Any]
    context: Callable[[str], Any] = lambda _: contextlib.nullcontext()
    """What a dtype needs around all calls."""


def _numpy() -> Library:
    return Library(lambda x: x, np.linalg.norm)


def _scipy() -> Library:
    import scipy.linalg

    return Library(lambda x: x, scipy.linalg.norm)


def _torch() -> Library:
    import torch

    def convert(x: Any) -> Any:
        half = x.dtype.name == "bfloat16"  # unknown to from_numpy
        return torch.from_numpy(x.astype(np.float32)).bfloat16() if half else torch.from_numpy(x)

    return Library(convert, lambda x: torch.nn.utils.get_total_norm([x]))


def _jax() -> Library:
    import jax

    return Library(
        jax.numpy.asarray, jax.numpy.linalg.norm, lambda dtype: jax.enable_x64(dtype == "float64")
    )


def _tensorflow() -> Library:
    import tensorflow as tf

    return Library(tf.constant, lambda x: tf.linalg.global_norm([x]))


LIBRARIES = {
    "NumPy": ("numpy", "np.linalg.norm", _numpy),
    "SciPy": ("scipy", "scipy.linalg.norm", _scipy),
    "PyTorch": ("torch", "torch.nn.utils.get_total_norm", _torch),
    "JAX": ("jax", "jnp.linalg.norm", _jax),
    "TensorFlow": ("tensorflow", "tf.linalg.global_norm", _tensorflow),
}
"""By title: the name of the module, the function whose results are shown, and how to get it."""

OURS = ("NumPy", "PyTorch", "JAX")
"""The libraries whose arrays go through agclip as well."""


def available() -> tuple[dict[str, Library], dict[str, str]]:
    """Return the libraries that can be imported, and why the others cannot."""
    found, missing = {}, {}
    for title, (_, _, load) in LIBRARIES.items():
        try:
            found[title] = load()
        except ImportError as error:
            missing[title] = str(error)
    return found, missing


def cell(found: Any, x: Any, true: Fraction) -> str:
    """Return the error of a norm as text; where it left the range, what became of it."""
    # SciPy returns the float32 result of BLAS as a Python float.
    dtype = found.dtype if hasattr(found, "dtype") else x.dtype
    value = float(found)
    if not math.isfinite(value) or value == 0:
        return f"**{value:.0f}**"
    error = ulps(value, true, getattr(dtype, "name", str(dtype).removeprefix("torch.")))
    return f"{error:.1f}" if error < 10 else f"{float(f'{error:.2g}'):,.0f}"


def row(case: Case, libraries: dict[str, Library]) -> list[str]:
    """Return the cells of a case: those of the libraries, of agclip, and whether its bits agree."""
    true, x = true_norm(case.entries()), case.array()
    theirs, ours, bits = [], [], {}
    for title, library in libraries.items():
        with library.context(case.dtype), np.errstate(all="ignore"):
            leaf = library.convert(x)
            theirs.append(cell(library.norm(leaf), x, true))
            if title in OURS:
                ours.append(cell(agclip.global_norm([leaf]), x, true))
                bits[title] = float(agclip.global_norm([leaf], reproducible=True))
    others = [title for title, value in bits.items() if value != bits["NumPy"]]
    return [case.title, *theirs, *ours, f"not {' and '.join(others)}" if others else "yes"]


def table(rows: list[list[str]]) -> Iterator[str]:
    """Yield the lines of a table whose first row is its head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    for title, *cells in (rows[0], rule, *rows[1:]):
        padded = (text.rjust(width) for text, width in zip(cells, widths[1:], strict=True))
        yield f"| {' | '.join([title.ljust(widths[0]), *padded])} |"


def report() -> Iterator[str]:
    """Yield the lines of the whole report."""
    libraries, missing = available()
    yield from textwrap.wrap(
        "Errors in units in the last place of the result's dtype. **inf** and **0**: the norm is "
        "lost, although it is representable. Every row is one array; the last column tells whether "
        "`reproducible=True` gives the same bits for the arrays of every library.",
        WIDTH,
    )
    yield ""
    ours = [f"agclip: {title}" for title in OURS if title in libraries]
    head = ["", *libraries, *ours, "same bits"]
    yield from table([head, *(row(case, libraries) for case in CASES)])
    yield ""
    functions = [f"`{LIBRARIES[title][1]}`" for title in libraries]
    yield from textwrap.wrap(f"{', '.join(functions)}; `agclip.global_norm`.", WIDTH)
    yield from (f"Left out: {title} ({reason})." for title, reason in missing.items())
    versions = [f"{title} {version_of(LIBRARIES[title][0])}" for title in libraries]
    made = [time.strftime("%Y-%m"), f"CPU ({platform.machine()})"]
    made += [f"Python {platform.python_version()}", *versions, f"agclip {agclip.__version__}"]
    yield from textwrap.wrap(f"{', '.join(made)}.", WIDTH)


def version_of(module: str) -> str:
    """Return the version of an installed library."""
    return str(importlib.import_module(module).__version__)


def main() -> None:
    """Print the report, or write it to a file."""
    parser = argparse.ArgumentParser(description="Which library gets which norm wrong.")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write it to a file")
    output = parser.parse_args().output
    text = "\n".join(report()) + "\n"
    if output is None:
        print(text, end="")
    else:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
