"""What only some systems have is asked for before it is used: agclip runs where it is missing."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import logging, os, random, signal, subprocess, sys, tempfile, threading, uuid
import numpy as np
if sys.argv[1] == "torch":
    import torch

for module, names in {
    os: (
        "RTLD_NOLOAD", "RTLD_NOW", "fchmod", "fork", "getuid", "register_at_fork",
        "sched_getaffinity",
    ),
    signal: ("SIGHUP", "SIGPIPE", "SIGALRM"),
}.items():
    for name in names:
        if hasattr(module, name):
            delattr(module, name)

import pathlib
read = pathlib.Path.read_text
def read_text(self, *arguments, **options):
    if str(self).startswith("/proc"):
        raise FileNotFoundError(self)
    return read(self, *arguments, **options)
pathlib.Path.read_text = read_text

import agclip
from agclip.cli import main
import importlib.util

if sys.argv[1] == "torch":
    grads = [torch.full((3, 500_000), 2.0), torch.ones(4)]
else:
    grads = [np.full((3, 500_000), 2.0, np.float32), np.ones(4, np.float32)]
for accelerate in ("off", "numba") if importlib.util.find_spec("numba") else ("off",):
    with agclip.config_context(accelerate=accelerate, threads=2):
        clipped, norm = agclip.clip_by_global_norm(grads, 1.0)
        assert abs(float(norm) - 6_000_004**0.5) < 1e-3
        assert abs(float(agclip.global_norm(clipped)) - 1) < 1e-5
np.savez("grads.npz", w=np.asarray([3.0, 4.0]))
main(["clip", "grads.npz", "--clip-norm", "1", "-o", "out.npz"])
assert abs(np.linalg.norm(np.load("out.npz")["w"]) - 1) < 1e-12
"""


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_agclip_runs_without_what_only_posix_has(library, tmp_path):
    pytest.importorskip(library)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, library],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
