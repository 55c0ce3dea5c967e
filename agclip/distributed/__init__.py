"""Gradients that several processes hold: their norm, from one vector of a few numbers."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agclip.distributed._inspect import Holding, inspect

__all__ = ["Holding", "inspect"]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Return what is public: the core imports what is not, and comes first."""
        if name not in __all__:
            msg = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(msg)
        from agclip.distributed import _inspect

        return getattr(_inspect, name)
