"""`.pt`: PyTorch's files, nested dicts and lists of tensors, read without running their code."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from agclip_backends.files._format import FileError, Leaf, Source, dtype_of


def open_source(path: Path) -> Source:
    """Open a `.pt` file: it is read at once, tensors of other devices to the CPU."""
    try:
        import torch
    except ImportError as error:
        msg = "PyTorch is needed to read it: pip install torch"
        raise FileError(msg) from error
    try:
        return _Pt(torch.load(path, map_location="cpu", weights_only=True))
    except pickle.UnpicklingError as error:
        msg = (
            "PyTorch does not read it with weights_only=True: it is damaged, or holds more than "
            "tensors, numbers, strings and containers, and so could run code"
        )
        raise FileError(msg) from error
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).partition("\n")[0].partition(". ")[0].rstrip(".")
        msg = f"PyTorch cannot read it ({type(error).__name__}{reason and ': '}{reason})"
        raise FileError(msg) from error


class _Pt(Source):
    def __init__(self, tree: Any) -> None:
        self._tree = tree
        found = list(_tensors(tree, ""))
        self._tensors = [tensor for _, tensor in found]
        self.leaves = tuple(_leaf(name, tensor) for name, tensor in found)

    def read(self, index: int) -> Any:
        dtype = dtype_of(self.leaves[index].dtype)
        tensor = self._tensors[index].detach().resolve_conj().resolve_neg().contiguous()
        if dtype.isbuiltin == 1:
            return tensor.numpy()
        return tensor.view(_carrier(dtype)).numpy().view(dtype)

    def write(self, path: Path, leaf: Callable[[int], Any]) -> None:
        import torch

        new = iter([self._like(index, leaf(index)) for index in range(len(self.leaves))])
        try:
            # Through a file object, or the name of the file would be written into it.
            with path.open("wb") as file:
                torch.save(_rebuild(self._tree, new), file)
        except RuntimeError as error:  # what PyTorch raises where a file cannot be written
            raise OSError(str(error).partition("\n")[0]) from error

    def _like(self, index: int, array: Any) -> Any:
        """Return a tensor of the numbers of an array, of the class and strides of a leaf."""
        import torch

        old = self._tensors[index]
        array = np.require(array, requirements=["C", "W"])
        if array.dtype.isbuiltin == 1:
            tensor = torch.from_numpy(array)
        else:
            carried = torch.from_numpy(array.view(f"i{array.itemsize}"))
            tensor = carried.view(old.dtype)
        made = torch.empty_like(old, requires_grad=False).copy_(tensor.reshape(old.shape))
        if isinstance(old, torch.nn.Parameter):
            return torch.nn.Parameter(made, requires_grad=old.requires_grad)
        return made.requires_grad_(old.requires_grad)


def _carrier(dtype: Any) -> Any:
    """Return the integer dtype in which the bits of a dtype that NumPy lacks travel."""
    import torch

    return torch.int16 if dtype.itemsize == 2 else torch.int8


def _leaf(name: str, tensor: Any) -> Leaf:
    import torch

    if tensor.layout is not torch.strided or tensor.is_quantized:
        kind = "quantised" if tensor.is_quantized else f"of the layout {tensor.layout}"
        msg = f"the tensor {name!r} is {kind}, and only dense tensors can be clipped"
        raise FileError(msg)
    return Leaf(name, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))


def _tensors(node: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Find the tensors of a tree: dicts and lists in their order, names joined by dots."""
    import torch

    if isinstance(node, torch.Tensor):
        yield name or "tensor", node
    elif isinstance(node, (dict, list, tuple)):
        items = node.items() if isinstance(node, dict) else enumerate(node)
        for key, child in items:
            yield from _tensors(child, f"{name}.{key}" if name else str(key))


def _rebuild(node: Any, new: Iterator[Any]) -> Any:
    """Return the tree with other tensors; what is none of its tensors stays."""
    import torch

    if isinstance(node, torch.Tensor):
        return next(new)
    if isinstance(node, dict):
        # A copy keeps the class and its attributes: a state dict has its `_metadata`.
        made = copy.copy(node)
        made.update((key, _rebuild(child, new)) for key, child in node.items())
        return made
    if isinstance(node, list):
        return [_rebuild(child, new) for child in node]
    if isinstance(node, tuple):
        children = [_rebuild(child, new) for child in node]
        return type(node)(*children) if hasattr(node, "_fields") else tuple(children)
    return node
