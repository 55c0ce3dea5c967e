"""PyTorch: its adapter, and what it is made of."""

from agclip_backends.torch.adapter import backend

__all__ = ["backend"]
