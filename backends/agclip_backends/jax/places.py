"""Where JAX's arrays may be."""

from __future__ import annotations

import jax


def whole() -> bool:
    """Tell whether an array on the CPU is on one device: reshaping might move what is on several.

    The devices of other platforms do not count: nothing is reshaped there.
    """
    try:
        return jax.device_count("cpu") == 1
    except RuntimeError:  # JAX_PLATFORMS leaves the CPU out
        return False
