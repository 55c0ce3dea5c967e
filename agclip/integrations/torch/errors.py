"""The error of a gradient that is not finite, in the kind that PyTorch's functions raise."""


class NonFiniteError(FloatingPointError, RuntimeError):
    """A gradient holds a NaN or an infinity: agclip's kind of error, and PyTorch's.

    Example:
        >>> import torch
        >>> from agclip.integrations.torch import NonFiniteError, clip_grad_norm_
        >>> p = torch.nn.Parameter(torch.zeros(2))
        >>> p.grad = torch.tensor([3.0, float("nan")])
        >>> try:
        ...     clip_grad_norm_([p], 1.0, error_if_nonfinite=True)
        ... except NonFiniteError as error:
        ...     isinstance(error, RuntimeError), isinstance(error, FloatingPointError)
        (True, True)
    """
