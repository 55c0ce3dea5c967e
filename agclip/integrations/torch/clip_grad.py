"""`torch.nn.utils`' four functions that clip gradients, with norms that are right."""

from __future__ import annotations

from typing import Any

import torch

from agclip._checks import flag
from agclip._clipping import arguments, by_value
from agclip.integrations.torch import _total_norm
from agclip.integrations.torch._parameters import gradients_of, number, order, parameters_of


def clip_grad_norm_(
    parameters: Any,
    max_norm: Any,
    norm_type: Any = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> torch.Tensor:
    """Clip the gradients of parameters by their total norm, in place.

    ```
    n = (Σ over all elements of all gradients |g|^p)^(1/p)
    g ← g · min(max_norm / (n + 1e-6), 1)
    ```

    The function of `torch.nn.utils` with the same signature, but for its sums: the norm neither
    overflows nor underflows, is right at any size, and comes as float32 or float64, however narrow
    the gradients are.

    Args:
        parameters: A module, an optimizer, a parameter, or an iterable of parameters, of pairs of a
            name and a parameter, or of parameter groups. Parameters without a gradient are left
            out; one that comes twice counts once.
        max_norm: The bound: a number >= 0, infinity or None for none; a tensor of one element, or
            the text of a number.
        norm_type: The order p of the norm: a number > 0, or "inf" for the largest absolute value. A
            number <= 0, which makes no norm, is left to PyTorch.
        error_if_nonfinite: Raise if a gradient holds a NaN or an infinity; this reads the norm.
        foreach: Accepted for the sake of the signature.

    Returns:
        The total norm before clipping, a new 0-d tensor on the device of the first gradient; 0 if
        there is no gradient.

    Raises:
        TypeError: If `parameters` holds something else, or gradients in their place, or a number
            is none.
        ValueError: If `max_norm` is negative or NaN, or `norm_type` NaN.
        RuntimeError: If a gradient is not finite and `error_if_nonfinite`.

    Example:
        >>> import torch
        >>> from agclip.integrations.torch import clip_grad_norm_
        >>> p = torch.nn.Parameter(torch.zeros(2))
        >>> p.grad = torch.tensor([3.0, 4.0])
        >>> clip_grad_norm_([p], max_norm=1.0)
        tensor(5.)
        >>> p.grad
        tensor([0.6000, 0.8000])

    Source: PyTorch's `torch.nn.utils.clip_grad_norm_`; R. Pascanu, T. Mikolov, Y. Bengio, "On the
    difficulty of training recurrent neural networks", 2013, arXiv:1211.5063.
    """
    p = order(norm_type)
    flag("error_if_nonfinite", error_if_nonfinite)
    norm = _total_norm.clip(
        parameters_of(parameters), number(max_norm), p, error=error_if_nonfinite
    )
    return torch.tensor(0.0) if norm is None else norm


def clip_grads_with_norm_(
    parameters: Any, max_norm: Any, total_norm: Any, foreach: bool | None = None
) -> None:
    """Clip the gradients of parameters by a total norm that is known already, in place.

    ```
    g ← g · min(max_norm / (total_norm + 1e-6), 1)
    ```

    The function of `torch.nn.utils` with the same signature.

    Args:
        parameters: As `clip_grad_norm_` takes them.
        max_norm: The bound, likewise.
        total_norm: The total norm: a number >= 0, or a tensor of one element. One that is not
            finite makes every element NaN.
        foreach: Accepted for the sake of the signature.

    Raises:
        TypeError: If `parameters` holds something else, or a number is none.
        ValueError: If `max_norm` is negative or NaN, or `total_norm` negative.

    Example:
        >>> import torch
        >>> from agclip.integrations.torch import clip_grads_with_norm_, get_total_norm
        >>> p = torch.nn.Parameter(torch.zeros(2))
        >>> p.grad = torch.tensor([3.0, 4.0])
        >>> clip_grads_with_norm_([p], 1.0, get_total_norm([p.grad]))
        >>> p.grad
        tensor([0.6000, 0.8000])

    Source: PyTorch's `torch.nn.utils.clip_grads_with_norm_`.
    """
    _total_norm.clip(parameters_of(parameters), number(max_norm), given=number(total_norm))


def get_total_norm(
    tensors: Any,
    norm_type: Any = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> torch.Tensor:
    """Return the norm of all elements of all tensors.

    ```
    n = (Σ over all elements of all tensors |t|^p)^(1/p)
    ```

    The function of `torch.nn.utils` with the same signature, but for its sums: see
    `clip_grad_norm_`.

    Args:
        tensors: A tensor or an iterable of tensors: gradients themselves, not parameters.
        norm_type: The order p of the norm: a number > 0, or "inf" for the largest absolute value. A
            number <= 0, which makes no norm, is left to PyTorch.
        error_if_nonfinite: Raise if a tensor holds a NaN or an infinity; this reads the norm.
        foreach: Accepted for the sake of the signature.

    Returns:
        The norm, a new 0-d tensor on the device of the first tensor; 0 if there is none.

    Raises:
        TypeError: If `tensors` holds something else.
        ValueError: If `norm_type` is NaN.
        RuntimeError: If a tensor is not finite and `error_if_nonfinite`.

    Example:
        >>> import torch
        >>> from agclip.integrations.torch import get_total_norm
        >>> get_total_norm([torch.tensor([3.0]), torch.tensor([4.0])])
        tensor(5.)

    Source: PyTorch's `torch.nn.utils.get_total_norm`.
    """
    p = order(norm_type)
    flag("error_if_nonfinite", error_if_nonfinite)
    found = parameters_of(tensors, "tensors").once().given
    return _total_norm.measure(found, p, error=error_if_nonfinite) if found else torch.tensor(0.0)


def clip_grad_value_(parameters: Any, clip_value: Any, foreach: bool | None = None) -> None:
    """Clip every element of the gradients of parameters into [-clip_value, clip_value], in place.

    The function of `torch.nn.utils` with the same signature.

    Args:
        parameters: As `clip_grad_norm_` takes them.
        clip_value: The bound: a number >= 0, infinity or None for none; a tensor of one element, or
            the text of a number.
        foreach: Accepted for the sake of the signature.

    Raises:
        TypeError: If `parameters` holds something else, a gradient is complex, or `clip_value` is
            no number.
        ValueError: If `clip_value` is negative or NaN.

    Example:
        >>> import torch
        >>> from agclip.integrations.torch import clip_grad_value_
        >>> p = torch.nn.Parameter(torch.zeros(3))
        >>> p.grad = torch.tensor([-3.0, 0.5, 4.0])
        >>> clip_grad_value_([p], 1.0)
        >>> p.grad
        tensor([-1.0000,  0.5000,  1.0000])

    Source: PyTorch's `torch.nn.utils.clip_grad_value_`.
    """
    with torch.no_grad():
        leaves = gradients_of(parameters_of(parameters), ("real", "integer"))
        if leaves is None:
            return
        bound = arguments.threshold("clip_value", number(clip_value), leaves)
        by_value.clip(leaves, None if bound is None else -bound, bound, None, inplace=True)
