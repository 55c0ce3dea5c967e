"""agclip's compiled kernels, on and off: the one place that knows how they are switched."""

from __future__ import annotations

import os
from collections.abc import Callable, MutableMapping
from contextlib import AbstractContextManager
from functools import partial
from importlib.util import find_spec
from typing import Any

import agclip

Around = Callable[[], AbstractContextManager[Any]]


def use(environment: MutableMapping[str, str] = os.environ) -> None:
    """Have the kernels from the first call on: by default a thread compiles them meanwhile."""
    if find_spec("numba"):
        environment.setdefault("AGCLIP_ACCELERATE", "numba")


def plain() -> tuple[Around | None, str]:
    """Return what switches the kernels off for a while, or None and why there are none on."""
    if find_spec("numba") is None:
        return None, "Numba is not installed, so there are no compiled kernels to switch off"
    if os.environ.get("AGCLIP_ACCELERATE") == "off":
        return None, "AGCLIP_ACCELERATE is off"
    return partial(agclip.config_context, accelerate="off"), ""
