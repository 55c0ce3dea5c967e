"""DTensors: what of each is here, over which process groups the rest is, and back again.

All work is done on the local tensors, and nothing is redistributed but sums that have not been
formed yet.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from agclip.adapters import Link, Parts
from agclip_backends.torch.groups import all_reduce


def _class() -> Any:
    """Return the class of DTensors; None where nobody has imported it."""
    # Not by `sys.modules`: Dynamo (PyTorch 2.13) walks all of it, while a thread imports something.
    module: Any = getattr(torch.distributed, "tensor", None)
    return None if module is None else module.DTensor


class _Layout(NamedTuple):
    """What the placements of a DTensor say."""

    cut: tuple[Link, ...]
    """The process groups over which it is cut."""
    unsummed: bool
    """Whether a sum has to be formed for its norm."""
    refused: str | None
    """Why it cannot be clipped by its parts."""


def parts(leaves: Sequence[Any], types: set[type]) -> Parts | None:
    """Return what is here of DTensors; None if there are none. See `Backend.parts`."""
    kind = _class()
    if kind is None or not any(issubclass(one, kind) for one in types):
        return None
    known: dict[Any, _Layout] = {}
    here: list[Any] = []
    cuts: list[tuple[Link | str, ...]] = []
    measured: list[Any] = []
    # Under autograd each local tensor is the result of a function, which takes five times as long.
    recorded = torch.is_grad_enabled() and any(leaf.requires_grad for leaf in leaves)
    with torch.set_grad_enabled(recorded):
        for i, leaf in enumerate(leaves):
            if not isinstance(leaf, kind):
                here.append(leaf)
                measured.append(leaf)
                cuts.append(())
                continue
            key = leaf.device_mesh, leaf.placements
            layout = known.get(key)
            if layout is None:
                layout = known[key] = _layout(*key)
            if layout.refused is not None:
                return Parts(here, cuts, refused=(i, layout.refused))
            here.append(leaf.to_local())
            measured.append(_summed(leaf).to_local() if layout.unsummed else here[-1])
            cuts.append(layout.cut)
    unsummed = any(layout.unsummed for layout in known.values())
    return Parts(here, cuts, measured if unsummed else None, rejoin=rejoin)


def _layout(mesh: Any, placements: Sequence[Any]) -> _Layout:
    cut: list[Link] = []
    unsummed, refused = False, None
    for dim, placement in enumerate(placements):
        if placement.is_partial():
            unsummed = True
            if placement.reduce_op not in ("sum", "avg"):
                refused = f"has the placement {placement}, of which no multiple can be taken here,"
        elif not placement.is_replicate() and mesh.size(dim) > 1:
            cut.append(Link(all_reduce, mesh.get_group(dim)))
    return _Layout(tuple(cut), unsummed, refused)


def _summed(leaf: Any) -> Any:
    """Return a DTensor with its sums formed: the one case in which more than scalars travels."""
    replicate = sys.modules["torch.distributed.tensor"].Replicate
    placements = [replicate() if one.is_partial() else one for one in leaf.placements]
    return leaf.redistribute(placements=placements)


def rejoin(leaf: Any, new: Any) -> Any:
    """Return a new local tensor as the DTensor that a leaf is; other leaves as they are."""
    kind = _class()
    if kind is None or not isinstance(leaf, kind) or isinstance(new, kind):
        return new
    return kind.from_local(
        new,
        leaf.device_mesh,
        leaf.placements,
        run_check=False,
        shape=leaf.shape,
        stride=leaf.stride(),
    )
