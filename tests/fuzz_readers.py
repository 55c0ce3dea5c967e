"""Fuzz the readers of files and logs by what they execute: whatever the bytes, read or refused.

    make fuzz-readers
    make fuzz-readers FUZZ_ARGS="logs -max_total_time=600"

atheris changes bytes at random and keeps what reaches new lines of `agclip.cli`. Anything but the
documented errors ends the run with a traceback and leaves the bytes in a file; given as the last
argument, that file is run alone.
"""

from __future__ import annotations

import contextlib
import io
import math
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import atheris

TESTS = Path(__file__).parent
sys.path[:0] = [str(TESTS), str(TESTS / "cli")]

with atheris.instrument_imports(include=["agclip.cli"]):
    from agclip.cli.files.readers import FileError, _npy, _npz, _pt, _safetensors, open_file  # noqa: F401 - instrumented
    from agclip.cli.logs.readers import LogError, read_log

# They import the readers, which have to be instrumented by then.
import test_cli_file_damage as files  # noqa: E402
import test_cli_log_fuzz as logs  # noqa: E402
from test_cli_log_events import record  # noqa: E402

FOLDER = Path(tempfile.mkdtemp(prefix="agclip-fuzz-"))


def _zipped(compression: int) -> Callable[[bytes], bytes]:
    return lambda data: files.npz_bytes(data, compression)


FILE_WRAPS = (bytes, _zipped(zipfile.ZIP_STORED), _zipped(zipfile.ZIP_DEFLATED))
"""The first byte of an input says how the rest is wrapped: checksums would hide what is inside."""
LOG_WRAPS = (bytes, record)


def _require_one_line(error: Exception) -> None:
    assert len(str(error).splitlines()) == 1, "the message is one line"


def read_file(data: bytes) -> None:
    """Read every leaf of a file."""
    path = FOLDER / "input"
    path.write_bytes(FILE_WRAPS[data[0] % len(FILE_WRAPS)](data[1:]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            with open_file(path) as source:
                for place, leaf in enumerate(source.leaves):
                    assert source.read(place).shape == leaf.shape
                source.write(io.BytesIO(), lambda _: None)
        except FileError as error:
            _require_one_line(error)


def read_norms(data: bytes) -> None:
    """Read the norms of a log."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            history = read_log(io.BytesIO(LOG_WRAPS[data[0] % len(LOG_WRAPS)](data[1:])), None)
        except LogError as error:
            _require_one_line(error)
            return
    assert len(history.steps) == len(history.norms) > 0
    assert all(0 <= norm < math.inf for norm in history.norms)


def file_seeds() -> Iterator[bytes]:
    """Return a file of each format whose library is there, and headers that make no sense."""
    path = FOLDER / "seed"
    for write, suffix, _ in files.FORMATS.values():
        with contextlib.suppress(files.pytest.skip.Exception):
            write(path.with_suffix(suffix))
            yield b"\0" + path.with_suffix(suffix).read_bytes()
    for header in files.HEADERS.values():
        yield b"\0" + header
        yield b"\1" + header
    for header in files.SAFETENSORS.values():
        yield b"\0" + files.safetensors_bytes(header, bytes(4))


def log_seeds() -> Iterator[bytes]:
    """Return a log of each kind."""
    for seed in logs.SEEDS.values():
        yield b"\0" + seed
    yield b"\1" + logs.event(3, "grad_norm", logs.simple(2.5))[12:-4]


TARGETS = {"files": (read_file, file_seeds), "logs": (read_norms, log_seeds)}


def main(arguments: list[str]) -> None:
    """Fuzz one of the targets, for a minute unless told otherwise."""
    name = arguments.pop(0) if arguments and arguments[0] in TARGETS else "files"
    target, seeds = TARGETS[name]

    def one(data: bytes) -> None:
        if data:
            target(data)

    corpus = FOLDER / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds()):
        (corpus / str(number)).write_bytes(seed)
    given = [] if any(not one.startswith("-") for one in arguments) else [str(corpus)]
    limits = ["-max_total_time=60", "-timeout=10", "-rss_limit_mb=2048", "-max_len=8192"]
    atheris.Setup([sys.argv[0], *limits, *arguments, *given], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
