"""A rank that fails before the reduction joins it and says so: the others would wait for ever."""

from __future__ import annotations

from typing import Any

from agclip import _checks, config
from agclip._trees.default_backend import make
from agclip.distributed import _links, _messages
from agclip.distributed._ranks import Link


def failed(comm: Any, order: Any, reproducible: Any) -> None:
    """Say to the ranks of a communicator that this one has failed.

    Which vector they wait for follows from the order and the flag, as far as they can be told here.
    """
    try:
        links = _links.links(comm)
    except TypeError:
        return  # there is nobody to say it to
    if any(not isinstance(link, Link) for link in links):
        return  # one program runs everywhere, and fails everywhere
    try:
        found = _checks.order("ord", order)
    except (TypeError, ValueError):
        found = 2.0
    exact = config.current().reproducible if reproducible is None else reproducible
    probing = _links.probing(links, found, exact)
    values, op = _messages.failure(found, exact=exact is True, probing=probing)
    vector = make(values, "float64")
    for link in links:
        assert isinstance(link, Link), "axes have been left out"
        vector = make(list(_messages.listed(link.all_reduce(link.comm, vector, op))), "float64")
