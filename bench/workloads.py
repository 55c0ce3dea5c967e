"""What is clipped: lists of gradients with the shapes of real and of awkward models."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import ml_dtypes  # noqa: F401 - makes bfloat16 a dtype of NumPy
import numpy as np
import pytest
from numpy.typing import NDArray

Shape = tuple[int, ...]
Gradients = list[NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Workload:
    """A list of gradients: its name in test ids, its title in tables, its shapes and dtype."""

    name: str
    title: str
    shapes: tuple[Shape, ...]
    dtype: str = "float32"
    large: bool = False

    @property
    def elements(self) -> int:
        """Return the number of entries of all leaves together."""
        return sum(math.prod(shape) for shape in self.shapes)

    @property
    def marks(self) -> tuple[pytest.MarkDecorator, ...]:
        """Return the marks of the tests on this workload."""
        return (pytest.mark.large,) if self.large else ()

    def gradients(self) -> Gradients:
        """Return normally distributed entries, the same at every call."""
        rng = np.random.default_rng(0)
        leaves = (rng.standard_normal(shape, dtype=np.float32) for shape in self.shapes)
        return [leaf.astype(self.dtype, copy=False) for leaf in leaves]


def in_dtype(workload: Workload, dtype: str) -> Workload:
    """Return the same gradients in another dtype."""
    name, title = f"{workload.name}-{dtype}", f"{workload.title}, {dtype}"
    return replace(workload, name=name, title=title, dtype=dtype)


def _resnet50() -> tuple[Shape, ...]:
    shapes: list[Shape] = [(64, 3, 7, 7), (64,), (64,)]
    channels = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            out = 4 * width
            shapes += [(width, channels, 1, 1), (width,), (width,)]
            shapes += [(width, width, 3, 3), (width,), (width,)]
            shapes += [(out, width, 1, 1), (out,), (out,)]
            if block == 0:
                shapes += [(out, channels, 1, 1), (out,), (out,)]
            channels = out
    return (*shapes, (1000, 2048), (1000,))


def _gpt2() -> tuple[Shape, ...]:
    width = 768
    layer: list[Shape] = [(width,), (width,), (width, 3 * width), (3 * width,), (width, width)]
    layer += [(width,), (width,), (width,), (width, 4 * width), (4 * width,)]
    layer += [(4 * width, width), (width,)]
    return ((50257, width), (1024, width), *layer * 12, (width,), (width,))


def _ragged() -> tuple[Shape, ...]:
    """Return 32 sizes from 1 to a million, evenly spaced in logarithm, large and small mixed."""
    sizes = [round(10 ** (6 * i / 31)) for i in range(32)]
    return tuple((sizes[13 * i % 32],) for i in range(32))


SMALL = Workload("small", "20 × 64×64", ((64, 64),) * 20)
TINY = Workload("tiny", "1000 × 100", ((100,),) * 1000)
RAGGED = Workload("ragged", "ragged, 2.8 M", _ragged())
RESNET50 = Workload("resnet50", "ResNet-50, 25.6 M", _resnet50())
ONE_LEAF = Workload("one_leaf", "one leaf, 30 M", ((30_000_000,),))
GPT2 = Workload("gpt2", "GPT-2, 124 M", _gpt2(), large=True)

MODELS = (SMALL, TINY, RAGGED, RESNET50, ONE_LEAF, GPT2)
PER_LEAF = (SMALL, TINY, RAGGED, RESNET50)
FEW_LEAVES = (SMALL, RAGGED, RESNET50)
"""Where a compiler is among the contenders: it takes minutes for 1000 leaves one by one."""
COUNTS = tuple(Workload(f"{n}", f"{n}", ((1,),) * n) for n in (1, 10, 100, 1000))
"""Leaves of one entry each: all that such a call costs is Python."""
SIZES = tuple(Workload(f"1e{n}", f"1e{n}", ((10**n,),)) for n in range(2, 8))
"""One leaf, from what costs a call to what costs memory."""
