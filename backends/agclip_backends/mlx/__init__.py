"""MLX: its adapter, and what it is made of."""

from agclip_backends.mlx.adapter import backend

__all__ = ["backend"]
