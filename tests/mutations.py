"""Break lines of the package, one at a time, and see whether the tests that guard them fail.

    make mutations
    make mutations MUTATION=shared  # those with a word in their name

Each line is broken in a temporary copy of the tree. It counts as caught if a test fails with it,
and the same test passes without. A line is named by its text, wherever it stands; a text that is
gone, or that stands twice, ends the run: the table in `mutated.py` is then to be mended.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from mutated import MUTATIONS, Mutation

ROOT = Path(__file__).parents[1]
COPIED = ("agclip", "backends", "docs", "tests", "conftest.py", "pyproject.toml", "README.md")
SOURCES = ("agclip/**/*.py", "backends/**/*.py", "docs/**/*.md")
FAILED = 1
"""The exit status of pytest where tests failed, and nothing else happened."""


def where(mutation: Mutation, root: Path) -> Path:
    """Return the one file with the line.

    Raises:
        SystemExit: If there is none, or the line stands twice.
    """
    found = []
    for pattern in SOURCES:
        for path in root.glob(pattern):
            found += [path] * path.read_text(encoding="utf-8").count(mutation.line)
    if len(found) != 1:
        places = ", ".join(str(path.relative_to(root)) for path in found) or "nowhere"
        sys.exit(f"{mutation.line!r} must stand once; found it in: {places}. Mend mutated.py.")
    return found[0]


def tested(root: Path, tests: str, *options: str) -> int:
    """Run pytest in the copy, and return its exit status."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, (root, root / "backends"))),
    }
    arguments = ["-m", "pytest", "-x", "-q", "--no-summary", *options, *shlex.split(tests)]
    done = subprocess.run(
        [sys.executable, *arguments], cwd=root, env=environment, capture_output=True, check=False
    )
    if done.returncode not in (0, FAILED):
        output = (done.stdout + done.stderr).decode(errors="replace")
        sys.exit(f"{output}\npytest {tests} ended with the status {done.returncode}")
    return done.returncode


def caught(mutation: Mutation, root: Path) -> bool:
    """Tell whether a test fails with the broken line, and passes without."""
    path = where(mutation, root)
    whole = path.read_text(encoding="utf-8")
    stamp = path.stat().st_mtime
    path.write_text(whole.replace(mutation.line, mutation.broken), encoding="utf-8")
    # Bytecode is taken for that of a source of the same size and second.
    os.utime(path, (stamp, stamp + 10))
    try:
        failed = tested(root, mutation.tests) == FAILED
    finally:
        path.write_text(whole, encoding="utf-8")
        os.utime(path, (stamp, stamp + 20))
    # The examples of a page build on one another: none of them passes alone.
    options = () if mutation.tests.startswith("docs/") else ("--last-failed",)
    return failed and tested(root, mutation.tests, *options) == 0


def main(words: Sequence[str]) -> int:
    """Break the lines, print what became of each, and return how many were not caught."""
    chosen = {name: m for name, m in MUTATIONS.items() if all(word in name for word in words)}
    missed = 0
    with tempfile.TemporaryDirectory(prefix="agclip-mutations-") as folder:
        copy = Path(folder) / "agclip"
        copy.mkdir()
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(
                    ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__")
                )
            else:
                shutil.copy(ROOT / name, copy / name)
        for mutation in chosen.values():
            where(mutation, copy)
        for name, mutation in chosen.items():
            start = time.perf_counter()
            found = caught(mutation, copy)
            missed += not found
            took = time.perf_counter() - start
            print(f"{'caught' if found else 'MISSED'}  {took:5.1f} s  {name}", flush=True)  # noqa: T201
    print(f"{len(chosen) - missed} of {len(chosen)} caught")  # noqa: T201
    return missed


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
