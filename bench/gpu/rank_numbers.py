"""Checks of numbers over the ranks of one GPU: bits, dtypes, devices, and how many vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.debug import CommDebugMode

import agclip
from agclip.integrations.torch import clip_grad_norm_
from bench.gpu.rank_leaves import (
    OPTIONS,
    TREES,
    differing,
    grads_of,
    group,
    locals_of,
    models,
    ratio,
    tree,
    vectors_of,
)


def same_as_alone() -> Any:
    """With `comm=` all is as without it: to the bit with `reproducible`, else to a rounding."""
    found: dict[str, int] = {}
    for kind, dtypes in TREES.items():
        for name, more in OPTIONS.items():
            wanted, norm = agclip.clip_by_global_norm(tree(dtypes), 1.5, **more)
            new, got = agclip.clip_by_global_norm(tree(dtypes), 1.5, comm=group(), **more)
            placed = tree(dtypes)
            _, again = agclip.clip_by_global_norm_(placed, 1.5, comm=group(), **more)
            assert got.dtype == norm.dtype, (kind, name, got.dtype, norm.dtype)
            assert got.device == norm.device, (kind, name, got.device, norm.device)
            near = max(ratio(got, norm), ratio(again, norm))
            exact = name in {"reproducible", "order inf"}
            bound = 0.0 if exact else 1e-14 if norm.dtype == torch.float64 else 2e-7
            assert near <= bound, (kind, name, float(got), float(norm))
            bad = differing(new, wanted)
            assert not (exact and bad), (kind, name, bad)
            assert differing(placed, new) == 0, (kind, name, "in place differs from new")
            if bad:
                found[f"{kind}, {name}"] = bad
    return {"calls": len(TREES) * len(OPTIONS), "differing bytes": found}


def vectors() -> Any:
    """How many collectives of the engine a norm takes, whatever the leaves."""
    found = {}
    for name, more in OPTIONS.items():
        for leaves, dtypes in TREES.items():
            with CommDebugMode() as counted:
                agclip.clip_by_global_norm(tree(dtypes), 1.5, comm=group(), **more)
            found[f"{name}, {leaves}"] = count = counted.get_total_counts()
            assert count == vectors_of(name, dtypes), (name, leaves, count)
    return found


def numpy_arrays() -> Any:
    """NumPy's arrays over the same group."""
    norm: Any = agclip.global_norm([np.float32([3.0]), np.float32([4.0])], comm=group())
    assert float(norm) == 5.0, norm
    return float(norm)


def nothing_held() -> Any:
    norm: Any = agclip.global_norm([], comm=group())
    assert float(norm) == 0.0, norm
    return str(norm.dtype)


def beside_gloo() -> Any:
    """A group of gloo for tensors of a device: the vector goes by way of the host, or not."""
    other: Any = dist.new_group([0], backend="gloo")
    found, norm = agclip.clip_by_global_norm(tree(["float32"]), 1.5, comm=other)
    wanted, value = agclip.clip_by_global_norm(tree(["float32"]), 1.5)
    assert found[0].device == wanted[0].device
    assert ratio(norm, value) <= 2e-7
    return str([str(x) for x in other._device_types])


def what_is_no_number() -> Any:
    x = tree(["float32"])
    x[0][0] = float("nan")
    _, norm = agclip.clip_by_global_norm(x, 1.0, comm=group())
    assert float(norm) != float(norm), norm
    kept, _ = agclip.clip_by_global_norm(x, 1.0, comm=group(), nonfinite="skip")
    assert differing(kept, x) == 0
    zeros, _ = agclip.clip_by_global_norm(x, 1.0, comm=group(), nonfinite="zero")
    assert not any(bool(leaf.any()) for leaf in zeros)
    said = ""
    try:
        agclip.clip_by_global_norm(x, 1.0, comm=group(), nonfinite="error")
    except FloatingPointError as error:
        said = str(error)
    assert said, "no error"
    return said


def fsdp2() -> Any:
    """Gradients of FSDP2 are clipped to the numbers of plain tensors, in every way."""
    plain, sharded = models()
    ours, theirs = grads_of(sharded), grads_of(plain)
    assert all(isinstance(x, DTensor) for x in ours), "no DTensors"
    assert differing(locals_of(ours), theirs) == 0, "the gradients differ before any clip"
    found: dict[str, Any] = {}
    for name, more in OPTIONS.items():
        new, norm = agclip.clip_by_global_norm(ours, 0.5, **more)
        wanted, value = agclip.clip_by_global_norm(theirs, 0.5, **more)
        assert all(isinstance(x, DTensor) for x in new), name
        assert ratio(norm, value) <= (0.0 if name == "reproducible" else 2e-7), name
        found[name] = differing(locals_of(new), wanted)
        assert not (name == "reproducible" and found[name]), found
    norm = clip_grad_norm_(sharded.parameters(), 0.5)
    value = torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
    assert isinstance(norm, DTensor), type(norm)
    assert ratio(norm.full_tensor(), value) < 1e-6
    worst = max(
        float((a - b).abs().max())
        for a, b in zip(locals_of(grads_of(sharded)), grads_of(plain), strict=True)
    )
    assert worst < 1e-6, worst
    return {"differing bytes": found, "from torch's clip, at most": worst}


def rules() -> Any:
    """A rule on DTensors takes the steps of one on plain tensors, and one with `comm=` too."""
    plain, sharded = models()
    rule = agclip.ZClip(warmup=2, max_norm=None)
    kinds = {
        "plain": (rule, grads_of(plain)),
        "DTensors": (rule, grads_of(sharded)),
        "comm": (agclip.ZClip(warmup=2, max_norm=None, comm=group()), grads_of(plain)),
    }
    told: dict[str, list[Any]] = {}
    for kind, (each, grads) in kinds.items():
        state = each.init(grads)
        for t in range(6):
            scaled = [x * (1.0 + 9 * (t == 4)) for x in grads]
            _, state, info = each.update(scaled, state)
            told.setdefault(kind, []).append(info.to_host().threshold)
    for kind in ("DTensors", "comm"):
        both = zip(told[kind], told["plain"], strict=True)
        assert all(a == b or ratio(a, b) < 1e-6 for a, b in both), told
    return told["comm"]
