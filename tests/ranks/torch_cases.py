"""DTensors on four ranks of gloo: each case against the same call on whole tensors."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.debug import CommDebugMode

import agclip
from agclip.integrations.torch import clip_grad_norm_, get_total_norm
from ranks.cases import outcome, plain

S, R = Shard, Replicate()


class World(NamedTuple):
    """One rank, and the meshes of all four."""

    rank: int
    line: Any
    square: Any
    pairs: Any
    """The process groups of this rank's row and column."""


def numbers(seed, *shape, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def tree_of(w, kind):
    """Return whole tensors, and them as they are placed."""
    line, square = w.line, w.square
    if kind == "fully sharded":
        wholes = [numbers(1, 8, 3), numbers(2, 5), numbers(3, 3, 2), numbers(4, 1)]
        return wholes, [distribute_tensor(x, line, [S(0)]) for x in wholes]
    if kind == "fully sharded, float64":
        wholes = [numbers(1, 8, 3, dtype=torch.float64) * 1e200, numbers(2, 5)]
        return wholes, [distribute_tensor(x, line, [S(0)]) for x in wholes]
    if kind == "hybrid sharded":
        wholes = [numbers(1, 8, 3), numbers(2, 3)]
        return wholes, [distribute_tensor(x, square, [R, S(0)]) for x in wholes]
    if kind == "two dimensions":
        wholes = [numbers(1, 8, 4), numbers(2, 6), numbers(3, 4), numbers(5, 3)]
        placed = [[S(0), S(1)], [S(0), R], [R, S(0)], [R, R]]
        return wholes, [
            distribute_tensor(x, square, p) for x, p in zip(wholes, placed, strict=True)
        ]
    if kind == "three meshes":
        wholes = [numbers(1, 8), numbers(2, 6), numbers(3, 4)]
        meshes = [line, square["row"], square["column"]]
        return wholes, [
            distribute_tensor(x, m, [S(0)]) for x, m in zip(wholes, meshes, strict=True)
        ]
    if kind == "replicated":
        wholes = [numbers(1, 8)]
        return wholes, [distribute_tensor(x, line, [R]) for x in wholes]
    if kind == "beside plain tensors":
        wholes = {"a": numbers(1, 8), "b": numbers(2, 5)}
        return wholes, {"a": distribute_tensor(wholes["a"], line, [S(0)]), "b": wholes["b"].clone()}
    if kind == "sums not formed":
        parts = [numbers(10 + r, 6) for r in range(4)]
        wholes = [sum(parts), numbers(1, 8)]
        summed = DTensor.from_local(parts[w.rank].clone(), line, [Partial()])
        return wholes, [summed, distribute_tensor(wholes[1], line, [S(0)])]
    raise AssertionError(kind)


KINDS = {
    "fully sharded": 1,
    "fully sharded, float64": 1,
    "hybrid sharded": 1,
    "two dimensions": 2,
    "three meshes": 3,
    "replicated": 0,
    "beside plain tensors": 1,
}
"""Trees, and how many vectors a norm of them takes."""
ORDERS = {"2": {}, "1": {"ord": 1}, "3": {"ord": 3}, "inf": {"ord": "inf"}}
ORDERS["reproducible"] = {"reproducible": True}


def full(x):
    """Return a result with whole tensors, as plain data."""
    if isinstance(x, (list, tuple)):
        return [full(one) for one in x]
    if isinstance(x, dict):
        return {key: full(one) for key, one in x.items()}
    return plain(x.full_tensor() if isinstance(x, DTensor) else x)


def leaves_of(x):
    return list(x.values()) if isinstance(x, dict) else list(x)


def joint(w, kind, options):
    """Return how a clip of DTensors differs from that of whole tensors, and its vectors."""
    wholes, placed = tree_of(w, kind)
    wanted, norm = agclip.clip_by_global_norm(wholes, 0.5, **options)
    with CommDebugMode() as counted:
        new, found = agclip.clip_by_global_norm(placed, 0.5, **options)
    alike = [
        (type(a), getattr(a, "placements", None)) == (type(b), getattr(b, "placements", None))
        for a, b in zip(leaves_of(new), leaves_of(placed), strict=True)
    ]
    again, _ = agclip.clip_by_global_norm_(placed, 0.5, **options)
    alike += [a is b for a, b in zip(leaves_of(again), leaves_of(placed), strict=True)]
    return {
        "norm": [float(found), float(norm)],
        "new": [full(new), full(wanted)],
        "in place": [full(placed), full(wanted)],
        "alike": alike,
        "vectors": counted.get_total_counts(),
    }


def each(w, clip, in_place):
    """Return the same of a clip of each leaf."""
    wholes, placed = tree_of(w, "two dimensions")
    wanted = clip(wholes)
    with CommDebugMode() as counted:
        new = clip(placed)
    in_place(placed)
    return {
        "new": [full(new), full(wanted)],
        "in place": [full(placed), full(wanted)],
        "vectors": counted.get_total_counts(),
    }


EACH = {
    "norm": (lambda t: agclip.clip_by_norm(t, 0.5), lambda t: agclip.clip_by_norm_(t, 0.5)),
    "norm, order 3": (
        lambda t: agclip.clip_by_norm(t, 0.5, ord=3),
        lambda t: agclip.clip_by_norm_(t, 0.5, ord=3),
    ),
    "average norm": (
        lambda t: agclip.clip_by_average_norm(t, 0.05),
        lambda t: agclip.clip_by_average_norm_(t, 0.05),
    ),
    "rms": (lambda t: agclip.clip_by_rms(t, 0.3), lambda t: agclip.clip_by_rms_(t, 0.3)),
    "value": (
        lambda t: agclip.clip_by_value(t, -0.5, 0.5),
        lambda t: agclip.clip_by_value_(t, -0.5, 0.5),
    ),
}


def summed(w, options):
    wholes, placed = tree_of(w, "sums not formed")
    wanted, norm = agclip.clip_by_global_norm(wholes, 0.5, **options)
    new, found = agclip.clip_by_global_norm(placed, 0.5, **options)
    kept = new[0].placements == placed[0].placements
    return {"norm": [float(found), float(norm)], "new": [full(new), full(wanted)], "alike": [kept]}


def stages(w):
    """Two pipeline stages, each sharded over its column, and a communicator between them."""
    wholes = [numbers(1, 6), numbers(2, 5)]
    mine = distribute_tensor(wholes[w.rank // 2], w.square["column"], [S(0)])
    _, norm = agclip.clip_by_global_norm([mine], 0.5, comm=w.pairs[1])
    return {"norm": [float(norm), float(agclip.global_norm(wholes))]}


def held_by_both(w):
    """A comm that is one of the links that types have told is not reduced over again."""
    wholes, placed = tree_of(w, "fully sharded")
    found = agclip.global_norm(placed, comm=w.line.get_group())
    return {"norm": [float(found), float(agclip.global_norm(wholes))]}


def alone(w):
    """Clip what is here alone."""
    _, placed = tree_of(w, "fully sharded")
    wanted = agclip.global_norm([x.to_local() for x in placed])
    return {"norm": [float(agclip.global_norm(placed, comm=())), float(wanted)]}


def always_told(w):
    """What shards without a type are taken for does not matter to DTensors."""
    wholes, placed = tree_of(w, "fully sharded")
    with agclip.config_context(on_shard="whole"):
        found = agclip.global_norm(placed)
    return {"norm": [float(found), float(agclip.global_norm(wholes))]}


def drop_in(w, order):
    """PyTorch's own function on the same parameters, and ours: both give a DTensor."""

    def parameters():
        wholes, placed = tree_of(w, "fully sharded")
        found = [torch.nn.Parameter(torch.zeros_like(x)) for x in placed]
        for p, grad in zip(found, placed, strict=True):
            p.grad = grad
        return wholes, found

    _, theirs = parameters()
    wanted = torch.nn.utils.clip_grad_norm_(theirs, 0.5, norm_type=order)
    wholes, ours = parameters()
    with CommDebugMode() as counted:
        norm = clip_grad_norm_(ours, 0.5, norm_type=order)
    measured = get_total_norm([p.grad for p in parameters()[1]], norm_type=order)
    return {
        "norm": [float(norm.full_tensor()), float(wanted.full_tensor())],
        "measured": [full(measured), full(norm)],
        "right": [float(norm.full_tensor()), float(agclip.global_norm(wholes, order))],
        "new": [full([p.grad for p in ours]), full([p.grad for p in theirs])],
        "alike": [isinstance(norm, DTensor) and isinstance(wanted, DTensor)],
        "vectors": counted.get_total_counts(),
    }


def rules(w, make):
    """Return the steps of a rule on DTensors beside those on whole tensors."""
    told = []
    states = {}
    for t in range(6):
        for kind in ("whole", "placed"):
            wholes, placed = tree_of(w, "two dimensions")
            grads = [x * (1 + t % 3) for x in (wholes if kind == "whole" else placed)]
            rule = make()
            state = states.get(kind) or rule.init(grads)
            new, state, info = rule.update(grads, state)
            states[kind] = state
            again, _, _ = rule.update_(grads, states[kind])
            told.append([full(new), dict(info.to_host()._asdict()), full(again)])
    return {"new": [told[1::2], told[::2]]}


RULES = {
    "ClipByGlobalNorm": lambda: agclip.ClipByGlobalNorm(0.5),
    "ClipByNorm": lambda: agclip.ClipByNorm(0.5),
    "ZClip": lambda: agclip.ZClip(warmup=2),
    "AdaGC": lambda: agclip.AdaGC(warmup=2),
    "Chain": lambda: agclip.Chain(agclip.ClipByValue(-1, 1), agclip.ClipByGlobalNorm(0.5)),
    "PerGroup": lambda: agclip.PerGroup(
        {"0": agclip.ClipByGlobalNorm(0.5), "*": agclip.ClipByNorm(0.5)}
    ),
}

REFUSED = {
    "a maximum that is not formed": lambda w: agclip.clip_by_norm(
        DTensor.from_local(torch.ones(2), w.line, [Partial("max")]), 1.0
    ),
    "elements of a sum that is not formed": lambda w: agclip.clip_by_value(
        DTensor.from_local(torch.ones(2), w.line, [Partial()]), -1, 1
    ),
    "norms along axes": lambda w: agclip.clip_by_norm(
        distribute_tensor(torch.ones(4, 4), w.line, [S(0)]), 1.0, axes=0
    ),
    "second moments": lambda w: agclip.SpikeClip().update(
        [distribute_tensor(torch.ones(4, 4), w.line, [S(0)])], ()
    ),
    "recorded by autograd": lambda w: agclip.global_norm(
        [torch.ones(2, requires_grad=True)], comm=w.line.get_group()
    ),
}


def found_by(rank, groups, pairs):
    """Return what every case gives on this rank."""
    square = init_device_mesh("cpu", (2, 2), mesh_dim_names=("row", "column"))
    w = World(rank, init_device_mesh("cpu", (4,)), square, pairs)
    found = {
        f"{kind}, {name}": outcome(lambda w, k=kind, o=options: joint(w, k, o), w)
        for kind in KINDS
        for name, options in ORDERS.items()
    }
    found |= {
        f"each, {name}": outcome(lambda w, c=calls: each(w, *c), w) for name, calls in EACH.items()
    }
    found |= {
        f"sums, {name}": outcome(lambda w, o=options: summed(w, o), w)
        for name, options in ORDERS.items()
    }
    found |= {
        f"drop-in, {order}": outcome(lambda w, p=order: drop_in(w, p), w) for order in (2.0, 1.0)
    }
    found |= {
        f"rule, {name}": outcome(lambda w, m=make: rules(w, m), w) for name, make in RULES.items()
    }
    more = {"stages": stages, "held by both": held_by_both, "alone": alone, "told": always_told}
    found |= {name: outcome(program, w) for name, program in {**more, **REFUSED}.items()}
    return {f"torch: {name}": one for name, one in found.items()}
