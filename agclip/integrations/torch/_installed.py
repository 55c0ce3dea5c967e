"""agclip's functions in the place of PyTorch's own, for code that cannot be changed."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import torch
from torch.nn.utils import clip_grad as _torch_clip_grad

from agclip.integrations.torch import clip_grad

P = ParamSpec("P")
R = TypeVar("R")

_NOTE = (
    "This is agclip's function, which agclip.integrations.torch has put in the place of PyTorch's. "
    "Where it must be PyTorch's, call agclip.integrations.torch.uninstall()."
)


def _explained(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function say in its errors why it is called where PyTorch's function was meant."""

    @functools.wraps(function)
    def stand_in(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            error.add_note(_NOTE)
            raise

    # Pickle finds a function by these.
    stand_in.__module__ = __name__
    return stand_in


clip_grad_norm_ = _explained(clip_grad.clip_grad_norm_)
clip_grad_value_ = _explained(clip_grad.clip_grad_value_)
clip_grads_with_norm_ = _explained(clip_grad.clip_grads_with_norm_)
get_total_norm = _explained(clip_grad.get_total_norm)

# The halves came with PyTorch 2.6. The module knows them by private names, under which its own
# `clip_grad_norm_` looks them up: a name that was bound before, by `from torch.nn.utils import
# clip_grad_norm_`, clips by these too.
_STAND_INS: tuple[tuple[Any, str, Any], ...] = (
    (torch.nn.utils, "clip_grad_norm_", clip_grad_norm_),
    (torch.nn.utils, "clip_grad_value_", clip_grad_value_),
    (torch.nn.utils, "clip_grads_with_norm_", clip_grads_with_norm_),
    (torch.nn.utils, "get_total_norm", get_total_norm),
    (_torch_clip_grad, "clip_grad_norm_", clip_grad_norm_),
    (_torch_clip_grad, "clip_grad_value_", clip_grad_value_),
    (_torch_clip_grad, "_clip_grads_with_norm_", clip_grads_with_norm_),
    (_torch_clip_grad, "_get_total_norm", get_total_norm),
)
_PLACES = tuple(place for place in _STAND_INS if hasattr(place[0], place[1]))


class _Installation:
    """Who wants the functions in place, and what stood there before."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.kept = False
        self.contexts = 0
        self.before: list[Any] = []

    def settle(self) -> None:
        """Put the functions in place, or take them back, as is wanted now."""
        wanted = self.kept or self.contexts > 0
        if wanted and not self.before:
            self.before = [getattr(module, name) for module, name, _ in _PLACES]
            for module, name, stand_in in _PLACES:
                setattr(module, name, stand_in)
        elif self.before and not wanted:
            _require_untouched()
            for (module, name, _), function in zip(_PLACES, self.before, strict=True):
                setattr(module, name, function)
            self.before = []


def _require_untouched() -> None:
    for module, name, stand_in in _PLACES:
        found = getattr(module, name, None)
        if found is not stand_in:
            msg = (
                f"`{module.__name__}.{name}` must be what agclip has put there, to be taken back; "
                f"got {getattr(found, '__qualname__', type(found).__name__)} of "
                f"{getattr(found, '__module__', None)}. Nothing has been taken back: undo that "
                f"replacement first, and call agclip.integrations.torch.uninstall() then."
            )
            raise RuntimeError(msg)


_installation = _Installation()


def install() -> None:
    """Put agclip's functions in the place of PyTorch's, in the whole process.

    After it `torch.nn.utils.clip_grad_norm_`, `clip_grad_value_`, `clip_grads_with_norm_` and
    `get_total_norm` are those of this package, also under the names that the module
    `torch.nn.utils.clip_grad` has for them. Code that looks them up there when it clips, as
    Lightning, Fabric, Accelerate, Transformers and timm do, needs no change. What is compiled by
    `torch.compile` is compiled anew. A method of another name, such as that of FSDP, stays what it
    is. Calling it twice does no more than calling it once.

    A name that a module took over before, by `from torch.nn.utils import clip_grad_norm_`, calls
    PyTorch's function, but from PyTorch 2.6 on that one measures and clips by agclip's halves.

    Example:
        >>> import torch
        >>> from agclip.integrations.torch import install, uninstall
        >>> install()
        >>> p = torch.nn.Parameter(torch.zeros(2))
        >>> p.grad = torch.tensor([3e30, 4e30])  # PyTorch: inf, and a gradient of zeros
        >>> torch.nn.utils.clip_grad_norm_([p], 1.0)
        tensor(5.0000e+30)
        >>> p.grad
        tensor([0.6000, 0.8000])
        >>> uninstall()
    """
    with _installation.lock:
        _installation.kept = True
        _installation.settle()


def uninstall() -> None:
    """Put back what stood in the places before `install()`.

    Within `installed()` the functions stay until the outermost context ends. Where nothing was
    installed nothing happens.

    Raises:
        RuntimeError: If something else has been put there since; nothing is put back then.

    Example:
        >>> from agclip.integrations.torch import install, is_installed, uninstall
        >>> install()
        >>> uninstall()
        >>> is_installed()
        False
    """
    with _installation.lock:
        _installation.kept = False
        _installation.settle()


@contextmanager
def installed() -> Iterator[None]:
    """Put agclip's functions in the place of PyTorch's for a while: a context, or a decorator.

    As `install()` does, and for all threads, until the last of the contexts ends.

    Raises:
        RuntimeError: At the end, if something else has been put there since.

    Example:
        >>> import torch
        >>> from agclip.integrations.torch import installed
        >>> @installed()
        ... def train(p):
        ...     return torch.nn.utils.clip_grad_norm_(p, 1.0)
        >>> p = torch.nn.Parameter(torch.zeros(2))
        >>> p.grad = torch.tensor([3e30, 4e30])
        >>> train(p)
        tensor(5.0000e+30)
    """
    with _installation.lock:
        _installation.contexts += 1
        _installation.settle()
    try:
        yield
    finally:
        with _installation.lock:
            _installation.contexts -= 1
            _installation.settle()


def is_installed() -> bool:
    """Tell whether agclip's functions stand in the place of PyTorch's now.

    Example:
        >>> from agclip.integrations.torch import installed, is_installed
        >>> with installed():
        ...     is_installed()
        True
    """
    return bool(_installation.before)
