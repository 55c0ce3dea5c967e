"""JAX: its adapter, and what it is made of."""

from agclip_backends.jax.adapter import backend

__all__ = ["backend"]
