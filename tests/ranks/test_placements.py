"""The same gradients on ranks in whatever way: the norm is that of one process.

Leaves are cut, held by one rank or by several, and some ranks hold nothing. With `reproducible` no
bit depends on it.
"""

import math
import random
from typing import NamedTuple

import numpy as np
import pytest

import agclip
from ranks.thread_ranks import together

DTYPES = ("float16", "float32", "float64")
SIZES = (1.0, 1e-6, 300.0)
EXTREME = (1e-300, 1e300)


class Placed(NamedTuple):
    """Leaves, and what each rank holds of them by path, with how many ranks hold each piece."""

    leaves: list
    trees: list
    replicas: dict


def placed(draw, ranks):
    """Return some leaves, placed at random."""
    leaves, trees, replicas = [], [{} for _ in range(ranks)], {}
    idle = {rank for rank in range(ranks) if draw.random() < 0.2}
    hosts = sorted(set(range(ranks)) - idle) or [0]
    for k in range(draw.randint(1, 4)):
        dtype = draw.choice(DTYPES)
        size = draw.choice(SIZES if dtype != "float64" else (*SIZES, *EXTREME))
        values = [size * draw.uniform(-1, 1) for _ in range(draw.randint(1, 40))]
        leaf = np.array(values, dtype)
        leaves.append(leaf)
        cuts = sorted(draw.randint(0, leaf.size) for _ in range(draw.randint(0, 3)))
        for j, piece in enumerate(np.split(leaf, cuts)):
            holders = draw.sample(hosts, draw.randint(1, len(hosts)))
            for rank in holders:
                trees[rank][f"leaf{k}.{j}"] = piece.copy()
            replicas[f"leaf{k}.{j}"] = len(holders)
    return Placed(leaves, trees, replicas)


def on_ranks(found, ranks, **options):
    """Return the clipped trees, and the norm on each rank."""

    def program(rank, met):
        return agclip.clip_by_global_norm(
            found.trees[rank],
            0.37,
            comm=met.communicator(rank),
            replicas=lambda path, _: found.replicas[path],
            **options,
        )

    return together(ranks, program)


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"reproducible": True},
        {"ord": 1, "reproducible": True},
        {"ord": 1},
        {"ord": 3},
        {"ord": 0.5},
        {"ord": 200.0},
        {"ord": math.inf},
        {"strict": True},
    ],
    ids=str,
)
def test_a_placement_changes_nothing(options, ranks):
    draw = random.Random(f"{options} {ranks}")
    for _ in range(25):
        found = placed(draw, ranks)
        whole, wanted = agclip.clip_by_global_norm(found.leaves, 0.37, **options)
        exact = options.get("reproducible")
        rel = 0.0 if exact else 4e-7 if wanted.dtype == np.float32 else 1e-13
        for rank, got in enumerate(on_ranks(found, ranks, **options)):
            assert isinstance(got, tuple), got
            tree, norm = got
            assert norm.dtype == wanted.dtype
            assert math.isclose(float(norm), float(wanted), rel_tol=rel), (rank, norm, wanted)
            require_pieces(tree, found, whole, exact=exact)


def require_pieces(tree, found, whole, *, exact):
    """Check that pieces are cut from the leaves that one process gets."""
    for k, leaf in enumerate(whole):
        names = sorted(
            (name for name in found.replicas if name.startswith(f"leaf{k}.")),
            key=lambda name: int(name.rpartition(".")[2]),
        )
        start = 0
        for name in names:
            held = next(held for held in found.trees if name in held)[name]
            piece = leaf[start : start + held.size]
            start += held.size
            if name in tree and exact:
                assert tree[name].tobytes() == piece.tobytes()
            elif name in tree:
                np.testing.assert_allclose(
                    tree[name], piece, rtol=2e-3 if leaf.dtype == np.float16 else 1e-6
                )
