"""Leaves for the fused CUDA kernels on the host, and what a clip of them has to give."""

from __future__ import annotations

import numpy as np

import agclip
from agclip._backends.dtypes import kind_named
from agclip._numerics.coefficient import strict_shrink
from agclip_backends._cuda.fused_source import RECORD
from agclip_backends._cuda.source import CHUNK, THREADS
from agclip_backends._cuda.table import Terms

NARROW = ["float16", "bfloat16", "float32"]
SIZES = [0, 1, 7, 100, 8 * THREADS, CHUNK - 1, CHUNK, 3 * CHUNK + 77]
EACH = Terms(joint=False)


def dtype_named(name):
    return np.dtype(name)


def entries(dtype, size, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(size) * 10.0 ** rng.integers(-3, 3, size)).astype(dtype)


def moved(x, offset):
    """A copy at an address that is so many entries off a multiple of 16 bytes."""
    memory = np.empty(x.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 16 + offset * x.itemsize
    copy = memory[start : start + x.nbytes].view(x.dtype)
    copy[...] = x
    return copy


def differing(a, b):
    """How many entries differ, NaN taken as NaN."""
    word = {2: np.uint16, 4: np.uint32, 8: np.uint64}[a.itemsize]
    nan = np.isnan(a.astype(float)) & np.isnan(b.astype(float))
    return int(((a.view(word) != b.view(word)) & ~nan).sum())


def state(clipped, group=0):
    return int(clipped.record.view(np.int64)[RECORD * group + 7])


def like_the_kernel(x):
    """The sum of squares of float32 or narrower entries in the order that the source promises."""
    size, v, partial = 16 // x.itemsize, x.astype(np.float64), []

    def tree(s):
        while len(s) > 1:
            s = s[: len(s) // 2] + s[len(s) // 2 :]
        return s[0]

    def rows(values, width):
        return np.pad(values, (0, -len(values) % width)).reshape(-1, width)

    for start in range(0, len(v), CHUNK):
        sums = np.zeros(THREADS * size)
        for row in rows(v[start : start + CHUNK], THREADS * size):
            sums += row * row
        partial.append(tree(tree(sums.reshape(THREADS, size).T)))
    sums = np.zeros(THREADS)
    for row in rows(np.array(partial), THREADS):
        sums += row
    return float(tree(sums))


def agrees(room, leaves, bound, *, exact=True, loss_scale=None, **options):
    """Clip into new memory and in place; compare with the definition on NumPy."""
    wanted, norm = agclip.clip_by_global_norm(
        [x.copy() for x in leaves], float(bound), loss_scale=loss_scale, **options
    )
    kinds = [kind_named(x.dtype.name) for x in leaves]
    shrink = (strict_shrink(kinds, "float64"),) * 4 if options.get("strict") else None
    terms = Terms(policy=options.get("nonfinite", "propagate"), shrink=shrink)
    targets = [np.full_like(x, 7) for x in leaves]
    before = [x.copy() for x in leaves]
    new = room.clip(leaves, targets, terms, bound, loss_scale)
    assert [differing(x, y) for x, y in zip(leaves, before, strict=True)] == [0] * len(leaves)
    done = room.clip(leaves, None, terms, bound, loss_scale)
    for found in (leaves, targets):
        for x, y in zip(found, wanted, strict=True):
            if exact:
                assert differing(x, y) == 0
            else:
                np.testing.assert_allclose(x.astype(float), y.astype(float), rtol=2.0**-22, atol=0)
    for clipped in (new, done):
        assert clipped.norm.dtype == norm.dtype
        if exact:
            np.testing.assert_array_equal(clipped.norm, norm)
        else:
            np.testing.assert_allclose(clipped.norm, norm, rtol=2.0**-48)
    return done
