"""The error of a gradient that is not finite, in the kind that PyTorch's functions raise."""


class NonFiniteError(FloatingPointError, RuntimeError):
    """A gradient holds a NaN or an infinity: agclip's kind of error, and PyTorch's."""
