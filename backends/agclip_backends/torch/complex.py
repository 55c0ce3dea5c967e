"""Complex tensors times a real factor, as the real numbers they are made of.

A product of complex numbers would turn -0 to 0, and an infinity beside a 0 to NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from agclip.adapters import Factor


def reals(x: torch.Tensor) -> torch.Tensor:
    """Return a view of the two parts along an axis of their own; a real tensor itself."""
    if not x.is_complex():
        return x
    # A conjugate is a view of the same memory, and no real factor sees the difference.
    return torch.view_as_real(x.conj() if x.is_conj() else x)


def all_reals(leaves: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
    """Return such views of complex leaves, and real ones themselves."""
    return list(map(reals, leaves)) if any(map(torch.is_complex, leaves)) else leaves


def in_parts(
    leaves: Sequence[torch.Tensor], factor: Factor
) -> Iterator[tuple[torch.Tensor, Factor]]:
    """Yield for each leaf what is to be multiplied, and by what."""
    for leaf in leaves:
        yield (reals(leaf), _of_parts(factor)) if leaf.is_complex() else (leaf, factor)


def scale(
    leaves: Sequence[torch.Tensor], factor: Factor, of_reals: Callable[..., Sequence[torch.Tensor]]
) -> list[torch.Tensor]:
    """Return each leaf times the factor, by a function that does it for real ones."""
    new = []
    for leaf in leaves:
        if leaf.is_complex():
            (parts,) = of_reals([torch.view_as_real(leaf.resolve_conj())], _of_parts(factor))
            new.append(torch.view_as_complex(parts))
        else:
            new += of_reals([leaf], factor)
    return new


def _of_parts(factor: Factor) -> Factor:
    """Return a factor that goes for both parts of an element."""

    def widened(part: Any) -> Any:
        return part if part is None or isinstance(part, float) else part[..., None]

    (pre, rest), (wide_pre, wide_rest) = factor
    return Factor((widened(pre), widened(rest)), (widened(wide_pre), widened(wide_rest)))
