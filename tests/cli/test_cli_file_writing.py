"""A clipped file is on the disk whole and under its name, or the old one stays and nothing else."""

import os
import re
import secrets
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from agclip.cli import main

posix = pytest.mark.skipif(os.name != "posix", reason="a matter of POSIX systems")

ENTRIES = 3000


def write_npz(path):
    np.savez(path, w=np.ones(ENTRIES, np.float32), ids=np.arange(9))


def write_npy(path):
    np.save(path, np.ones(ENTRIES, np.float32))


def write_safetensors(path):
    save = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    save.save_file({"w": np.ones(ENTRIES, np.float32)}, path)


def write_pt(path):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    torch.save({"w": torch.ones(ENTRIES)}, path)


WRITERS = {
    ".npz": write_npz,
    ".npy": write_npy,
    ".safetensors": write_safetensors,
    ".pt": write_pt,
}


@pytest.fixture(params=WRITERS)
def source(request, tmp_path):
    path = tmp_path / f"in{request.param}"
    WRITERS[request.param](path)
    path.chmod(0o644)
    return path


@pytest.fixture
def npy(tmp_path):
    path = tmp_path / "in.npy"
    write_npy(path)
    return path


def clip(source, output, *arguments):
    return main(["clip", str(source), "-o", str(output), "--clip-norm", "1", *arguments])


@pytest.fixture(params=["at once", "on the first page", "on the last page"])
def room(request):
    """The largest size that a file may have: less than the output needs."""
    return {"at once": 0, "on the first page": 100, "on the last page": ENTRIES * 4}[request.param]


def clip_within(room, *arguments):
    resource = pytest.importorskip("resource", reason="limits of a process are POSIX")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, old[1]))
    try:
        return clip(*arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def test_file_that_does_not_fit_leaves_the_old_one(source, room, capsys):
    output = source.with_stem("out")
    output.write_bytes(b"old")
    assert clip_within(room, source, output, "--force") == 1
    assert capsys.readouterr().err == (
        f"agclip clip: error: the file {str(output)!r} could not be written: File too large. Make "
        f"room or name another place with --output FILE{output.suffix}.\n"
    )
    assert output.read_bytes() == b"old"
    assert sorted(output.parent.iterdir()) == sorted([source, output])


def test_bytes_that_get_lost_are_found(npy, capsys, monkeypatch):
    output = npy.with_stem("out")
    output.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", lambda descriptor: os.truncate(descriptor, 100))
    assert clip(npy, output, "--force") == 1
    length = npy.stat().st_size
    assert f"could not be written: 100 of {length} bytes arrived." in capsys.readouterr().err
    assert output.read_bytes() == b"old"


def test_file_is_synced_before_it_takes_its_place(npy, monkeypatch):
    calls = []
    sync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("sync"), sync(fd))[1])
    monkeypatch.setattr(Path, "replace", lambda *a: (calls.append("replace"), replace(*a))[1])
    assert clip(npy, npy.with_stem("out")) == 0
    assert calls[:2] == ["sync", "replace"]


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o666, 0o400])
def test_permissions_are_those_of_the_input(mode, source):
    output = source.with_stem("out")
    source.chmod(mode)
    assert clip(source, output) == 0
    assert stat.S_IMODE(output.stat().st_mode) == mode


@posix
@pytest.mark.parametrize("name", [".out.npy.{pid}.tmp", ".agclip-00.tmp"])
def test_planted_link_is_never_followed(name, npy, monkeypatch):
    output, victim = npy.with_stem("out"), npy.with_name("victim")
    victim.write_bytes(b"mine")
    npy.with_name(name.format(pid=os.getpid())).symlink_to(victim)
    # Even a name that could be foreseen is not opened if something is there.
    monkeypatch.setattr(secrets, "token_hex", lambda _: "00")
    clip(npy, output)
    assert victim.read_bytes() == b"mine"


@posix
def test_link_in_the_place_of_the_output_is_kept(npy, capsys):
    output = npy.with_stem("out")
    output.symlink_to(npy.with_name("nowhere"))
    assert clip(npy, output) == 2
    assert "`--output` must be a new file; got" in capsys.readouterr().err
    assert output.is_symlink()


@posix
def test_pipe_in_the_place_of_the_output_is_kept(npy, capsys):
    output = npy.with_stem("out")
    os.mkfifo(output)
    assert clip(npy, output, "--force") == 1
    assert "it is a device or a pipe. Name another" in capsys.readouterr().err
    assert stat.S_ISFIFO(output.stat().st_mode)


ENDED = """
import os, signal, sys
from agclip.cli import main
from agclip.cli.files import clip_file
number = int(sys.argv[1])
signal.signal(number, signal.SIG_DFL)  # nohup and a shell's background jobs ignore some
real = clip_file.to_host
def to_host(*arguments):
    os.kill(os.getpid(), number)
    return real(*arguments)
clip_file.to_host = to_host
sys.exit(main(sys.argv[2:]))
"""


@posix
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_signal_leaves_nothing(name, npy):
    number = getattr(signal, name)
    command = ["clip", str(npy), "-o", str(npy.with_stem("out")), "--clip-norm", "1"]
    done = subprocess.run(
        [sys.executable, "-c", ENDED, str(int(number)), *command], capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (128 + number, f"agclip clip: ended by {name}\n")
    assert list(npy.parent.iterdir()) == [npy]


def test_handler_of_a_signal_is_given_back(npy):
    before = signal.getsignal(signal.SIGTERM)
    assert clip(npy, npy.with_stem("out")) == 0
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_full_standard_output_is_one_line(npy):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "agclip", "norms", str(npy)], stdout=full, text=True,
            stderr=subprocess.PIPE, check=False, timeout=120,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "agclip norms: error: standard output: No space left on device.\n"


@pytest.mark.parametrize(("place", "argument"), [(0, "IN"), (1, "--output")])
def test_name_that_is_too_long_is_one_line(place, argument, npy, capsys):
    paths = [npy, npy.with_stem("out")]
    paths[place] = npy.with_name("a" * 300 + ".npy")
    assert clip(*paths) in {1, 2}
    err = capsys.readouterr().err
    assert re.fullmatch(rf"agclip clip: error: `{argument}` must .*File name too long.*\n", err)
