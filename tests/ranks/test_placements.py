"""The same gradients on ranks in whatever way: the norm is that of one process.

Leaves are cut, held by one rank or by several, and some ranks hold nothing. With `reproducible` no
bit depends on it.
"""

import math
import random

import numpy as np
import pytest

import agclip
from ranks.placing import placed
from ranks.thread_ranks import together


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
