"""What is known of JAX's arrays: where they may be, and their sizes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax


def sized(leaves: Iterable[Any]) -> bool:
    """Tell whether sizes are numbers: a program exported for any shape has symbols for them."""
    return all(isinstance(leaf.size, int) for leaf in leaves)


def whole(leaves: Iterable[Any]) -> bool:
    """Tell whether arrays on the CPU are on one device: reshaping might move what is on several.

    The devices of other platforms do not count: nothing is reshaped there. Nor are arrays whose
    sizes are not known yet.
    """
    if not sized(leaves):
        return False
    try:
        return jax.device_count("cpu") == 1
    except RuntimeError:  # JAX_PLATFORMS leaves the CPU out
        return False
