"""A cache on disk that cannot be read or written costs time, and is nobody's error."""

import itertools
import json
import shutil
import sys

import pytest

import hosts
from agclip_backends._host import compiler
from thinned import thinned

# One small kernel stands for all. Another process would end by the same error: none is started.
PROGRAM = """
import json
import numpy as np
import agclip
from agclip_backends._host import compiler, first_calls
from agclip_backends._host.loader import loader

compiler.why_not = lambda: "a reason"
first_calls.make_all = lambda k, between=lambda: None: (k._float32(0x3F800000), between())
leaf = np.full(5 << 20, 2.0, "float32")
norm = float(agclip.global_norm([leaf]))
if loader.thread is not None:
    loader.thread.join()
kernel = loader.module._float32
print(json.dumps([norm == float(np.float32(2.0 * leaf.size**0.5)), kernel.stats.cache_path]))
"""
FULL = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))
"""


def emptied(suffix):
    def damage(folder):
        found = list(folder.rglob(f"*.{suffix}"))
        assert found
        for path in found:
            path.write_bytes(b"")

    return damage


def replaced(folder):
    for path in list(folder.rglob("*.nbi")):
        path.unlink()
        path.mkdir()


DAMAGES = {
    "an index cut short": emptied("nbi"),
    "a kernel cut short": emptied("nbc"),
    "a folder for a file": replaced,
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A folder of kernels that can be read."""
    pytest.importorskip("numba", reason="Numba is not installed")
    folder = tmp_path_factory.mktemp("kernels")
    whole = hosts.program(PROGRAM, "numba", NUMBA_CACHE_DIR=folder)
    assert (whole.returncode, whole.stderr) == (0, "")
    assert json.loads(whole.stdout)[1] is not None
    return folder


@pytest.fixture
def needs_numba():
    pytest.importorskip("numba", reason="Numba is not installed")


# Each compiles kernels, for ten seconds.
CELLS = list(itertools.product(DAMAGES, ["auto", "numba"]))
RUN = [("an index cut short", "auto")]


@pytest.mark.parametrize(("case", "mode"), thinned(CELLS, RUN, ids="-".join, tuples=True))
def test_what_cannot_be_read_is_compiled_in_memory(case, mode, cache, tmp_path):
    folder = shutil.copytree(cache, tmp_path / "kernels")
    DAMAGES[case](folder)
    done = hosts.program(PROGRAM, mode, NUMBA_CACHE_DIR=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == [True, None]


@pytest.mark.parametrize("mode", thinned(["auto", "numba"], ["auto"]))
def test_what_cannot_be_written_is_kept_in_memory(mode, needs_numba, tmp_path):
    pytest.importorskip("resource", reason="Windows has no limits of files")
    done = hosts.program(FULL + PROGRAM, mode, NUMBA_CACHE_DIR=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == [True, None]


def test_another_process_has_the_flags_that_its_bytecode_depends_on(monkeypatch, tmp_path):
    prefix = str(tmp_path / "caches")
    flags = type("Flags", (), {"optimize": 2})()
    monkeypatch.setattr(sys, "flags", flags)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(sys, "pycache_prefix", prefix)
    seen = "[sys.flags.optimize, sys.dont_write_bytecode, sys.pycache_prefix]"
    program = f"import json, sys; open(sys.argv[1], 'w').write(json.dumps({seen}))"
    path = tmp_path / "seen"
    with compiler._start(["-c", program, str(path)]) as process:
        assert process.wait() == 0
    assert json.loads(path.read_text(encoding="utf-8")) == [2, True, prefix]
