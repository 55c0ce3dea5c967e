"""agclip where Keras 3 clips: any rule in an optimizer, on TensorFlow, JAX and PyTorch."""

from agclip.integrations.keras._clipping import Clipping
from agclip.integrations.keras.logger import ClipLogger
from agclip.integrations.keras.optimizer import ClippedOptimizer, with_clipping

__all__ = ["ClipLogger", "ClippedOptimizer", "Clipping", "with_clipping"]
