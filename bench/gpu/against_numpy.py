"""Checks of the fused CUDA kernels against NumPy: bits of entries, norms and sums."""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import numpy as np
import torch

import agclip
from agclip._backends.dtypes import kind_named
from agclip._numerics.coefficient import strict_shrink
from agclip_backends._cuda import halves
from agclip_backends._cuda.source import CHUNK, THREADS
from agclip_backends._cuda.table import Terms
from bench.gpu import run

SIZES = (0, 1, 7, 100, 255, 257, CHUNK - 1, CHUNK, 3 * CHUNK + 77, 40_001)


def strict_terms(names: set[str]) -> tuple[float, ...]:
    shrink = strict_shrink([kind_named(run.DTYPES[n]) for n in names], "float64")
    return (shrink,) * 4


def against_numpy(
    arrays: list[Any], bound: Any, offsets: Any = 0, *, exact: bool = True, **given: Any
) -> str:
    """Clip in place and into new memory; compare with agclip on NumPy."""
    policy, strict = given.get("policy", "propagate"), given.get("strict", False)
    loss = given.get("loss")
    offsets = [offsets] * len(arrays) if isinstance(offsets, int) else offsets
    shrink = None
    if strict:
        names = {short for short in run.DTYPES for x in arrays if x.dtype.name == run.DTYPES[short]}
        shrink = strict_terms(names)
    terms = Terms(policy=policy, shrink=shrink)
    more = {"nonfinite": policy, "strict": strict, "loss_scale": loss}
    wanted, norm = agclip.clip_by_global_norm([x.copy() for x in arrays], bound, **more)
    leaves = [run.there(x, o) for x, o in zip(arrays, offsets, strict=True)]
    targets = [torch.full_like(x, 7.0) for x in leaves]
    b = float(bound) if not given.get("device_bound") else torch.tensor(bound, device=run.device)
    new = run.room.clip(leaves, targets, terms, b, loss)
    done = run.room.clip(leaves, None, terms, b, loss)
    assert done is not None, "not taken"
    assert new is not None, "not taken"
    bad = sum(run.differing(run.back(x), y) for x, y in zip(leaves, wanted, strict=True))
    bad_new = sum(run.differing(run.back(x), y) for x, y in zip(targets, wanted, strict=True))
    found = run.back(done.norm)
    same = run.differing(found.reshape(1), np.asarray(norm).reshape(1)) == 0
    close = abs(float(found) / float(norm) - 1) < 1e-14 if np.isfinite(norm) and norm else same
    total = sum(x.size for x in arrays)
    text = f"{bad}/{bad_new} of {total} entries differ; norm {found} wanted {norm}"
    fine = bad == 0 and bad_new == 0 and same
    if not exact:
        fine = close and max(bad, bad_new) <= total * 0.6 + 1
        fine = fine and all(
            np.allclose(
                run.back(x).astype(float), y.astype(float), rtol=1e-6, atol=0, equal_nan=True
            )
            for x, y in zip(leaves, wanted, strict=True)
        )
    assert fine, text
    return text


def one_dtype(name: str, offset: int) -> str:
    arrays = [run.drawn(name, n, n) for n in SIZES]
    return against_numpy(arrays, 1.5, offset, exact=name != "f64")


def mixed() -> str:
    arrays = [run.drawn(name, n, n) for n in SIZES for name in ("f32", "f16", "bf16")]
    texts = [against_numpy(arrays, 0.7, [i % 5 for i in range(len(arrays))])]
    arrays += [run.drawn("f64", n, n) for n in SIZES]
    texts.append(against_numpy(arrays, 0.7, [i % 5 for i in range(len(arrays))], exact=False))
    return "; ".join(texts)


def subnormals() -> str:
    tiny = np.array([1e-45, -1e-40, 1.1754942e-38, 0.5, -0.0], np.float32)
    texts = [against_numpy([tiny], bound) for bound in (100.0, 0.3, 1e-30)]
    small = np.full(1000, 1e-40, np.float32)
    texts.append(against_numpy([small], 1e-39))
    texts.append(against_numpy([small], 1e-42))
    bits = np.arange(1 << 16, dtype=np.uint16)
    for name in ("f16", "bf16"):
        x = bits.view(run.numpy_dtype(name))
        x = x[np.isfinite(x.astype(np.float32))]
        texts.append(against_numpy([x], 1.0))
        texts.append(against_numpy([x], float(np.linalg.norm(x.astype(float))) * 0.7))
    return f"{len(texts)} calls; last: {texts[-1]}"


def nonfinite() -> str:
    texts = []
    for policy, name in itertools.product(("propagate", "zero", "skip"), ("f32", "bf16")):
        for value in (np.nan, np.inf, -np.inf):
            arrays = [run.drawn(name, n, n) for n in (100, CHUNK + 5, 0, 7)]
            arrays[1][CHUNK + 1] = value
            texts += [against_numpy(arrays, 1.0, policy=policy, loss=loss) for loss in (None, 8.0)]
    return f"{len(texts)} calls; last: {texts[-1]}"


def numbers_of_leaves() -> str:
    texts = []
    for count in (1, 3, 95, 96, 97, 300, 1000):
        arrays = [run.drawn("f32", 1 + (37 * i) % 300, i) for i in range(count)]
        if count == 300:
            arrays[5] = run.drawn("f32", 20 * CHUNK + 3)
        texts.append(against_numpy(arrays, 2.0))
    return f"{len(texts)} calls; last: {texts[-1]}"


def options_of_a_clip() -> str:
    texts = []
    for name in ("f32", "bf16"):
        arrays = [run.drawn(name, n, n) for n in (CHUNK + 9, 33)]
        norm = math.sqrt(sum(float((x.astype(float) ** 2).sum()) for x in arrays))
        for given in (
            {"strict": True},
            {"loss": 1024.0},
            {"loss": 0.37},
            {"loss": 3.0, "strict": True},
            {"device_bound": True},
        ):
            for bound in (0.01 * norm, 0.9 * norm, 2.0 * norm, 0.0, math.inf):
                b = float(np.float32(bound))
                texts.append(against_numpy(arrays, b, **given))
    return f"{len(texts)} calls; last: {texts[-1]}"


def rescued_float64() -> str:
    texts = []
    for scale in (2.0**600, 2.0**-600, 2.0**-1060, 0.0):
        arrays = [run.drawn("f64", n, n) * scale for n in (CHUNK * 2 + 3, 100)]
        bounds = (2.0**590, 2.0**-610)
        texts += [against_numpy(arrays, bound, exact=False) for bound in bounds]
    one = [
        run.drawn("f64", 1000) * 2.0**600,
        run.drawn("f64", 1000),
        run.drawn("f64", 1000) * 2.0**-700,
    ]
    leaves = [run.there(x) for x in one]
    done = run.room.clip(leaves, None, Terms(joint=False), 1.0)
    assert done is not None
    wanted = agclip.clip_by_norm([x.copy() for x in one], 1.0)
    for x, y in zip(leaves, wanted, strict=True):
        assert np.allclose(run.back(x), y, rtol=1e-14, atol=0), "by leaves"
    return f"{len(texts)} calls; last: {texts[-1]}"


def per_leaf() -> str:
    bad = calls = 0
    for name in ("f32", "bf16", "f16"):
        arrays = [run.drawn(name, n, n) for n in SIZES] * 12
        weights = tuple(0.5 + i % 7 for i in range(len(arrays)))
        leaves = [run.there(x) for x in arrays]
        assert run.room.clip(leaves, None, Terms(joint=False), 0.25) is not None
        wanted = agclip.clip_by_norm([x.copy() for x in arrays], 0.25)
        bad += sum(run.differing(run.back(x), y) for x, y in zip(leaves, wanted, strict=True))
        leaves = [run.there(x) for x in arrays]
        assert run.room.clip(leaves, None, Terms(joint=False, weights=weights), 0.25) is not None
        wanted = [
            agclip.clip_by_norm(x.copy(), 0.25 * w) for x, w in zip(arrays, weights, strict=True)
        ]
        bad += sum(run.differing(run.back(x), y) for x, y in zip(leaves, wanted, strict=True))
        calls += 2
    assert bad == 0, f"{bad} entries differ"
    return f"{calls} calls"


def other_orders() -> str:
    texts = []
    for order, name in itertools.product((1.0, math.inf), ("f32", "bf16", "f16")):
        for value in (None, np.nan, np.inf):
            arrays = [run.drawn(name, n, n) for n in (100, 0, CHUNK * 3 + 5, 7)]
            if value is not None:
                arrays[2][5] = value
            wanted = agclip.global_norm([x.copy() for x in arrays], ord=order)
            leaves = [run.there(x) for x in arrays]
            done = run.room.clip(leaves, None, Terms(order=order), 0.5)
            assert done is not None
            found = run.back(done.norm)
            text = f"order {order} {name}: {found} wanted {wanted}"
            assert run.differing(found.reshape(1), np.asarray(wanted).reshape(1)) == 0, text
            texts.append(text)
    return f"{len(texts)} calls; last: {texts[-1]}"


def by_value() -> str:
    bad = 0
    for name, offset in itertools.product(("f16", "bf16", "f32", "f64"), (0, 1, 3)):
        arrays = [run.drawn(name, n, n) for n in SIZES]
        arrays[4][:3] = np.nan, np.inf, -np.inf
        dtype = run.numpy_dtype(name)
        low, high = float(np.asarray(-0.3).astype(dtype)), float(np.asarray(0.7).astype(dtype))
        leaves = [run.there(x, offset) for x in arrays]
        assert run.room.within(leaves, None, (low,) * 4, (high,) * 4)
        wanted = agclip.clip_by_value([x.copy() for x in arrays], low, high)
        bad += sum(run.differing(run.back(x), y) for x, y in zip(leaves, wanted, strict=True))
    assert bad == 0, f"{bad} entries differ"
    return "12 calls"


def like_the_kernel(x: Any) -> float:
    """The sum of squares of float32 or narrower entries, in the order of the source."""
    size, v, partial = 16 // x.itemsize, x.astype(np.float64), []

    def tree(s: Any) -> Any:
        while len(s) > 1:
            s = s[: len(s) // 2] + s[len(s) // 2 :]
        return s[0]

    def rows(values: Any, width: int) -> Any:
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


def bits_of_the_sums() -> str:
    odd = []
    for name, n in itertools.product(("f16", "bf16", "f32"), (1, 255, CHUNK + 1, 1_000_003)):
        x = run.drawn(name, n, n, 2)
        for offset, blocks in ((0, 4), (1, 4), (0, 0), (0, 1)):
            run.room.norm_blocks, before = blocks, run.room.norm_blocks
            done = run.room.clip([run.there(x, offset)], None, Terms(), math.inf)
            run.room.norm_blocks = before
            assert done is not None
            root, wanted = float(run.back(done.record)[0]), math.sqrt(like_the_kernel(x))
            if root != wanted:
                odd.append((name, n, offset, blocks, root, wanted))
    assert not odd, f"roots that differ from the order written down: {odd[:4]}"
    return "48 roots"


def _placed(record: torch.Tensor) -> tuple[torch.Tensor, int]:
    return record, record.data_ptr()


def slices() -> str:
    """Sums and products of slices, each with the bits of a leaf of its own."""
    shapes = ((3, 7), (200, 1), (0, 5), (4, 0), (5, CHUNK + 1), (1, 3 * CHUNK), (70, 1000))
    counts, bad, odd = tuple(rows for rows, _ in shapes), 0, 0
    for name, offset in itertools.product(("f32", "bf16", "f16"), (0, 1)):
        arrays = [run.drawn(name, a * b, b, 2).reshape(a, b) for a, b in shapes]
        leaves = [run.there(x.ravel(), offset).view(x.shape) for x in arrays]
        sums = halves.sums(run.room, leaves, counts)
        assert sums is not None, "not taken"
        rows = [row for x in arrays for row in x]
        wanted = [like_the_kernel(row) if row.size else 0.0 for row in rows]
        odd += sum(a != b for a, b in zip(run.back(sums).tolist(), wanted, strict=True))
        factors = np.linspace(0.1, 2.0, len(rows), dtype=np.float32)
        words = np.ones((len(rows), 8))
        words[:, 4], words[:, 7] = factors, halves.STATE
        record = torch.from_numpy(words).to(run.device)
        made = functools.partial(_placed, record)
        targets = [torch.full_like(x, 7.0) for x in leaves]
        assert halves.multiply(run.room, leaves, targets, made, counts)
        assert halves.multiply(run.room, leaves, None, made, counts)
        ends = np.cumsum(counts)
        for x, end, *found in zip(arrays, ends, leaves, targets, strict=True):
            by = factors[end - len(x) : end, None]
            product = (x.astype(np.float32) * by).astype(x.dtype)
            bad += sum(run.differing(run.back(y).ravel(), product.ravel()) for y in found)
    assert not odd, f"{odd} sums differ"
    assert not bad, f"{bad} entries differ"
    return f"6 calls of {len(rows)} slices"


CHECKS = {
    **{
        f"{name}, {offset} off": functools.partial(one_dtype, name, offset)
        for name in run.DTYPES
        for offset in (0, 1)
    },
    "mixed": mixed,
    "subnormals": subnormals,
    "bits of the sums": bits_of_the_sums,
    "numbers of leaves": numbers_of_leaves,
    "nonfinite": nonfinite,
    "options": options_of_a_clip,
    "per leaf": per_leaf,
    "slices": slices,
    "float64 out of range": rescued_float64,
    "other orders": other_orders,
    "by value": by_value,
}
