"""Whether the last commit is slower than another revision.

    python -m bench.compare BASE [--rounds N] [--only TEXT]

Both revisions are checked out beside each other, and measured by the same interpreter with the same
dependencies, in fresh processes with one thread each, in the order AB, BA, AB; clips in training in
one with all threads that the libraries want. In each round the base is measured twice, which tells
how far apart two measurements of the same code are. What looks slower is measured once more, with
more rounds, before the comparison fails with exit status 1.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import accelerate
from bench.compare_set import NAMES, TRAINING
from bench.verdict import Verdict, judge

ROOT = Path(__file__).parents[1]
SET = Path(__file__).with_name("compare_set.py")
ROUNDS = 6
CONFIRMING = 2
"""How many times as many rounds the second measurement has."""
SOURCES = ("agclip", "backends")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")

Times = dict[str, float]


class UsageError(Exception):
    """What was asked for cannot be compared."""


def git(*arguments: str, root: Path) -> str:
    """Return what Git prints.

    Raises:
        UsageError: If it fails.
    """
    done = subprocess.run(
        ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UsageError(done.stderr.strip())
    return done.stdout.rstrip()


def commit(revision: str, root: Path) -> str:
    """Return the hash of a revision.

    Raises:
        UsageError: If there is none.
    """
    try:
        return git(
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            f"{revision}^{{commit}}",
            root=root,
        )
    except UsageError:
        msg = (
            f"`BASE` must be a revision of this repository; got {revision!r}. `git log` lists them."
        )
        raise UsageError(msg) from None


def require_clean(root: Path) -> None:
    """Require that the last commit is what lies in the tree.

    Raises:
        UsageError: If sources were changed since.
    """
    changed = git("status", "--porcelain", "--", *SOURCES, root=root)
    if changed:
        files = ", ".join(line[3:] for line in changed.splitlines()[:3])
        msg = f"the sources must be committed; got changes in {files}. Commit or stash them."
        raise UsageError(msg)


@contextlib.contextmanager
def checkouts(revisions: Sequence[str], root: Path) -> Iterator[list[Path]]:
    """Check revisions out into a temporary folder, and remove them afterwards."""
    with tempfile.TemporaryDirectory(prefix="agclip-") as folder:
        trees = [Path(folder) / str(place) for place in range(len(revisions))]
        try:
            for tree, revision in zip(trees, revisions, strict=True):
                git("worktree", "add", "--quiet", "--detach", str(tree), revision, root=root)
            yield trees
        finally:
            for tree in filter(Path.exists, trees):
                git("worktree", "remove", "--force", str(tree), root=root)


def run(tree: Path, names: Sequence[str]) -> Times:
    """Return the times of a revision, measured in processes of its own.

    Raises:
        UsageError: If one fails.
    """
    after_work = [name for name in names if name.endswith(TRAINING)]
    alone = [name for name in names if name not in after_work]
    one = dict.fromkeys(_THREADS, "1")
    return {
        **(_run(tree, alone, one) if alone else {}),
        **(_run(tree, after_work, {}) if after_work else {}),
    }


def _run(tree: Path, names: Sequence[str], variables: dict[str, str]) -> Times:
    path = os.pathsep.join(map(str, (tree, tree / "backends")))
    environment = {**os.environ, **variables, "PYTHONPATH": path}
    accelerate.use(environment)
    done = subprocess.run(
        [sys.executable, "-P", str(SET), str(tree), *names],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=tree,
    )
    if done.returncode:
        msg = f"the benchmarks must run in both revisions; got: {done.stderr.strip()[-2000:]}"
        raise UsageError(msg)
    found: Times = json.loads(done.stdout)
    return found


def measure(base: Path, head: Path, names: Sequence[str], rounds: int) -> list[Verdict]:
    """Return the verdicts after a number of rounds, every other one in reverse order."""
    order = [("base", base), ("head", head), ("again", base)]
    times: dict[str, list[Times]] = {slot: [] for slot, _ in order}
    for _ in range(rounds):
        for slot, tree in order:
            times[slot].append(run(tree, names))
        order.reverse()
    return judge(times["base"], times["again"], times["head"])


def compare(base: Path, head: Path, names: Sequence[str], rounds: int) -> list[Verdict]:
    """Print what was measured, and return the verdicts on what is slower."""
    for tree in (base, head):
        run(
            tree, list(dict.fromkeys((names[0], names[-1])))
        )  # compiles, where compiled code is kept
    verdicts = measure(base, head, names, rounds)
    print(*table(verdicts), sep="\n")
    missing = sorted(set(names) - {verdict.name for verdict in verdicts})
    for name in missing:
        print(f"Left out: {name}, which not both revisions can run here.")
    slower = [verdict.name for verdict in verdicts if verdict.slower]
    if not slower:
        return []
    print(f"Slower at first: {', '.join(slower)}. Measured once more:", "", sep="\n")
    verdicts = measure(base, head, slower, CONFIRMING * rounds)
    print(*table(verdicts), sep="\n")
    return [verdict for verdict in verdicts if verdict.slower]


def table(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Yield the lines of a table, in Markdown."""
    width = max((len(verdict.name) for verdict in verdicts), default=0)
    yield f"| {'':{width}} | head ÷ base | interval     | base ÷ base  | allowed | head − base |"
    yield f"| {'-' * width} | ----------: | -----------: | -----------: | ------: | ----------: |"
    for v in verdicts:
        cells = (
            f"{v.ratio.median:11.2f}",
            f"{v.ratio.low:5.2f} – {v.ratio.high:.2f}".rjust(12),
            f"{v.noise.low:5.2f} – {v.noise.high:.2f}".rjust(12),
            f"{v.allowed:7.2f}",
            f"{v.lost * 1e6:8.1f} µs",
        )
        yield f"| {v.name:{width}} | {' | '.join(cells)} |"
    yield ""


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Compare, and return the exit status: 1 if slower, 2 if there is nothing to compare."""
    parser = argparse.ArgumentParser(
        prog="bench.compare", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("base", metavar="BASE", help="the revision to compare with")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of the first measurement")
    parser.add_argument("--only", default="", metavar="TEXT", help="benchmarks with it in the name")
    options = parser.parse_args(arguments)
    names = [name for name in NAMES if options.only in name]
    try:
        slower = _main(options.base, names, options.rounds, root)
    except UsageError as error:
        print(f"bench.compare: {error}", file=sys.stderr)
        return 2
    if slower:
        print(f"Slower than {options.base}: {', '.join(v.name for v in slower)}.")
        return 1
    print(f"Not slower than {options.base}.")
    return 0


def _main(revision: str, names: Sequence[str], rounds: int, root: Path) -> list[Verdict]:
    if not names:
        msg = f"`--only` must be part of a name; got no match in {', '.join(NAMES)}."
        raise UsageError(msg)
    if rounds < 3:
        msg = f"`--rounds` must be at least 3; got {rounds}."
        raise UsageError(msg)
    git("rev-parse", "--git-dir", root=root)
    base = commit(revision, root)
    require_clean(root)
    with checkouts((base, commit("HEAD", root)), root) as trees:
        return compare(trees[0], trees[1], names, rounds)


if __name__ == "__main__":
    sys.exit(main())
