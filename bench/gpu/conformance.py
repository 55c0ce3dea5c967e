"""A share of the conformance suite on one library's GPU; a failure costs the others nothing.

    PYTHONPATH=$PWD:$PWD/backends python3 -m bench.gpu.conformance torch 0 3 --seconds 100

runs the first of three shares. It prints a line a failure, and writes the counts to
`conformance-torch-0.json` in the folder that `--out` names. The exit status is 1 if one fails.
"""

from __future__ import annotations

import argparse
import collections
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agclip.testing import Library
from agclip.testing._report import fixed_checks, report_on
from agclip.testing.checks import sampling
from agclip.testing.harness.check import Check


def library(name: str, *, rehearsed: bool) -> Library:
    """Return a library whose arrays lie on the GPU, or where it puts them in a rehearsal."""
    if name == "jax":
        import jax

        def with_64_bits(nested: Any, dtype: Any) -> Any:
            with jax.enable_x64(True):
                return jax.numpy.asarray(nested, dtype=dtype)

        if jax.default_backend() == "cpu" and not rehearsed:
            sys.exit("JAX finds no GPU")
        return Library("jax", asarray=with_64_bits)
    if name == "torch" and not rehearsed:
        import torch

        return Library("torch", device=torch.device("cuda"))
    return Library(name)


def in_turn(checks: Sequence[Check]) -> list[Check]:
    """Put one check of every promise first: what no time is left for is more of the same."""
    seen: collections.Counter[str] = collections.Counter()
    rows = []
    for place, check in enumerate(checks):
        promise = check.name.partition(" [")[0].partition(":")[0]
        seen[promise] += 1
        rows.append((seen[promise], place, check))
    return [check for _, _, check in sorted(rows, key=lambda row: row[:2])]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.conformance", description=__doc__)
    parser.add_argument("library")
    parser.add_argument("share", type=int)
    parser.add_argument("shares", type=int)
    parser.add_argument("--seconds", type=float, default=200.0, help="begin no check after them")
    parser.add_argument("--out", default="")
    parser.add_argument("--rehearse", action="store_true", help="wherever the arrays are")
    options = parser.parse_args()
    begin = time.monotonic()
    lib = library(options.library, rehearsed=options.rehearse)
    counts: collections.Counter[str] = collections.Counter()
    failures = {}
    every = in_turn((*fixed_checks(), *sampling.checks()))
    for check in every[options.share :: options.shares]:
        if time.monotonic() - begin > options.seconds:
            counts["not run"] += 1
            continue
        (outcome,) = report_on(lib, [check]).outcomes
        counts[outcome.status] += 1
        if outcome.status == "failed":
            failures[check.name] = outcome.detail
            print(f"FAILED {check.name}: {outcome.detail[:400]}", flush=True)
    found = {"library": options.library, "counts": counts, "failures": failures}
    print(json.dumps(found["counts"]))
    if options.out:
        Path(options.out).mkdir(parents=True, exist_ok=True)
        path = Path(options.out, f"conformance-{options.library}-{options.share}.json")
        path.write_text(json.dumps(found, indent=1))
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
