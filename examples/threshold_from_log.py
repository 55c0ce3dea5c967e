"""A threshold from a log: record the norms of a short run, ask `agclip suggest`, clip the next.

    python threshold_from_log.py [LOG]

Without an argument a log is made up. Logs of Hugging Face's Trainer, CSV, JSON lines and event
files of TensorBoard are read alike.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import agclip


def record(path, steps=500):
    """Write the norms of a run that clips nothing: with an infinite bound, or none."""
    draw = np.random.default_rng(0)
    with path.open("w", encoding="utf-8") as log:
        for step in range(steps):
            spike = 20.0 if step % 97 == 96 else 1.0
            grads = [spike * draw.standard_normal(25) / 5, spike * draw.standard_normal(75) / 9]
            norm = float(agclip.global_norm(grads))  # the norm before clipping
            log.write(json.dumps({"step": step, "grad_norm": norm}) + "\n")


def suggestion(path):
    """Return what `agclip suggest` prints as JSON."""
    command = [sys.executable, "-m", "agclip", "suggest", str(path), "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main(arguments):
    with tempfile.TemporaryDirectory() as folder:
        log = Path(arguments[0]) if arguments else Path(folder, "norms.jsonl")
        if not arguments:
            record(log)
        found = suggestion(log)
    for row in found["thresholds"]:
        print(f"{row['rate']:>3} % of the steps: clip_norm={row['rounded']:g}")
    clipper = agclip.Clipper(agclip.ClipByGlobalNorm(found["suggested"]))
    _, info = clipper([np.full(4, 50.0)])
    print(f"taken: {found['suggested']:g}; a gradient of norm {info.norm} is clipped")


if __name__ == "__main__":
    main(sys.argv[1:])
