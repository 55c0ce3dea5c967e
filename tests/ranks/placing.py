"""Gradients placed on ranks at random: cut, held by one rank or by several, and idle ranks."""

from typing import NamedTuple

import numpy as np

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
