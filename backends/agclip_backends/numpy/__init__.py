"""NumPy: its adapter, and what it is made of."""

from agclip_backends.numpy.adapter import backend

__all__ = ["backend"]
