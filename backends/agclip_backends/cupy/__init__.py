"""CuPy: its adapter, and what it is made of."""

from agclip_backends.cupy.adapter import backend

__all__ = ["backend"]
