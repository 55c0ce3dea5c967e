"""Engines by the top-level package of what they call a communicator.

They are attributes of this module, `engine_<name>`, loaded at first access: see
`_backends.entry_points`, which does the same for the same reason.
"""

from __future__ import annotations

from agclip._backends import entry_points
from agclip.distributed._ranks import Engine

_PREFIX = "engine_"


def __getattr__(attribute: str) -> Engine:
    entry = None
    if attribute.startswith(_PREFIX):
        entry = entry_points.advertised(entry_points.COMMUNICATORS).get(
            attribute.removeprefix(_PREFIX)
        )
    if entry is None:
        raise AttributeError(attribute)
    found = entry_points.loaded(entry, "engine")
    if not isinstance(found, Engine):
        msg = (
            f"the entry point {entry.name!r} of {entry_points.source(entry)} must name an "
            f"agclip.adapters.Engine; got {type(found).__name__} from {entry.value}."
        )
        raise ImportError(msg)
    globals()[attribute] = found
    return found
