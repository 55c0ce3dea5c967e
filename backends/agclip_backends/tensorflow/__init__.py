"""TensorFlow: its adapter, and what it is made of."""

from agclip_backends.tensorflow.adapter import backend

__all__ = ["backend"]
