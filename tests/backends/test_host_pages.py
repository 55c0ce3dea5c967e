"""New results of 4 MiB or more lie in large pages: the system is asked for them, and no more."""

from __future__ import annotations

import mmap
import sys
from pathlib import Path

import numpy as np
import pytest

import agclip
from agclip_backends._host import pages

pytest_plugins = ["host_fixtures"]

HALF_MIB = 1 << 17
"""Elements of float32."""
SIZES = [8 * HALF_MIB, 3, 12 * HALF_MIB - 5, 8 * HALF_MIB - 1]
"""4 MiB and more, little, more than 4 MiB, one element less than 4 MiB."""

CLIPS = {
    "norm": lambda leaves: agclip.clip_by_global_norm(leaves, 1.0)[0],
    "value": lambda leaves: agclip.clip_by_value(leaves, -0.5, 0.5),
}


@pytest.fixture
def asked(monkeypatch):
    """What the system has been asked for: pieces of memory, as ranges of addresses."""
    pieces = []

    def madvise(start, size, advice):
        assert advice == 14, "MADV_HUGEPAGE"
        pieces.append(range(start, start + size))
        return -1  # what a kernel without large pages says

    monkeypatch.setattr(mmap, "MADV_HUGEPAGE", 14, raising=False)
    monkeypatch.setattr(pages, "_madvise", lambda: madvise)
    return pieces


@pytest.fixture(params=CLIPS)
def clip(request):
    """A function whose results are new."""
    return CLIPS[request.param]


def leaves_of(host):
    """Return leaves of `SIZES`, all of which are clipped."""
    return [host.of(np.full(size, 2.0, np.float32)) for size in SIZES]


def address(host, leaf):
    """Return where a leaf lies."""
    return leaf.data_ptr() if host.library == "torch" else leaf.ctypes.data


def test_only_results_of_4_mib_or_more_are_asked_for(compiled_host, clip, asked):
    results = clip(leaves_of(compiled_host))
    large = [(address(compiled_host, x), x.nbytes) for x in results if x.nbytes >= 4 << 20]
    assert len(asked) == len(large) == 2
    for piece, (start, size) in zip(asked, large, strict=True):
        assert piece.start % mmap.PAGESIZE == len(piece) % mmap.PAGESIZE == 0
        # All of the result's pages, and nothing beside it.
        assert 0 <= piece.start - start < mmap.PAGESIZE
        assert 0 <= start + size - piece.stop < mmap.PAGESIZE


def test_tensors_without_compiled_kernels_ask_as_well(asked):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    leaves = [torch.full((size,), 2.0) for size in SIZES]
    with agclip.config_context(accelerate="off"):
        results = agclip.clip_by_global_norm(leaves, 1.0)[0]
    assert [results[0].data_ptr() in range(p.start - mmap.PAGESIZE, p.stop) for p in asked] == [
        True,
        False,
    ]


def test_what_is_clipped_in_place_asks_for_nothing(compiled_host, asked):
    agclip.clip_by_global_norm_(leaves_of(compiled_host), 1.0)
    assert asked == []


@pytest.mark.parametrize("missing", ["the advice", "the function"])
def test_results_are_the_same_where_the_system_has_no_large_pages(
    compiled_host, clip, monkeypatch, missing
):
    expected = [np.asarray(x) for x in clip(leaves_of(compiled_host))]
    if missing == "the advice":
        monkeypatch.delattr(mmap, "MADV_HUGEPAGE", raising=False)
    else:
        monkeypatch.setattr(pages, "_madvise", lambda: None)
    for got, wanted in zip(clip(leaves_of(compiled_host)), expected, strict=True):
        assert np.array_equal(np.asarray(got), wanted)


@pytest.mark.parametrize("error", [TypeError, OSError, AttributeError])
def test_a_system_without_madvise_is_gone_without(monkeypatch, error):
    def no_library(_):
        raise error

    pages._madvise.cache_clear()
    try:
        monkeypatch.setattr(pages.ctypes, "CDLL", no_library)
        assert pages._madvise() is None
    finally:
        pages._madvise.cache_clear()


@pytest.mark.skipif(sys.platform != "linux", reason="large pages by advice are Linux's")
def test_linux_takes_the_advice():
    size = 8 << 20
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        start = np.frombuffer(memory, np.uint8).ctypes.data
        pages.ask_for_large_ones([(start, size)])
        flags = _flags(start)
    assert "hg" in flags


def _flags(start):
    """Return the flags of the memory at an address, from the kernel's own list."""
    within = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        head = line.split(maxsplit=1)[0]
        if not head.endswith(":"):
            low, high = (int(word, 16) for word in head.split("-"))
            within = low <= start < high
        elif within and head == "VmFlags:":
            return line.split()[1:]
    return []
