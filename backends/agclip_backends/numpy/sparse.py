"""Sparse arrays that are made of NumPy's: those of pydata/sparse, whose values are an `ndarray`."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from agclip.adapters import Merged, Sparse

_LIBRARY = "sparse"


def stored(objects: Sequence[Any], types: set[type]) -> list[Sparse | None] | None:
    """Return what sparse arrays among the objects store."""
    library: Any = sys.modules.get(_LIBRARY)
    if library is None or types <= {np.ndarray}:
        return None
    found = [_stored(library, x) for x in objects]
    return None if all(part is None for part in found) else found


def refuse(x: Any) -> str | None:
    """Return why a sparse array is not taken; None if it is no sparse array."""
    library: Any = sys.modules.get(_LIBRARY)
    if library is None or not isinstance(x, library.SparseArray):
        return None
    name = f"a sparse.{type(x).__name__}"
    if not isinstance(x, (library.COO, library.GCXS)):
        return f"is {name}, and only COO and GCXS are known,"
    return f"is {name}" if x.fill_value == 0 else f"is {name} with the fill value {x.fill_value}"


def _stored(library: Any, x: Any) -> Sparse | None:
    if not isinstance(x, (library.COO, library.GCXS)) or x.fill_value != 0:
        return None

    def rebuild(new: Any) -> Any:
        if isinstance(x, library.COO):
            return library.COO(x.coords, new, shape=x.shape, has_duplicates=False, sorted=True)
        parts = (new, x.indices, x.indptr)
        return library.GCXS(parts, shape=x.shape, compressed_axes=x.compressed_axes)

    # The library adds entries of one place up as it makes an array.
    size = float(max(math.prod(x.shape), 1))
    return Sparse(x, x.data, size, lambda _: Merged(x.data, None), rebuild, unwritable="is sparse")
