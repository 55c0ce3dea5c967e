"""`.pt`: PyTorch's files, nested dicts and lists of tensors, read without running their code."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from agclip.cli.files.readers._format import FileError, Leaf, MissingError, Source, dtype_of, reason
from agclip.cli.files.readers._pt_tensors import copies, to_numpy
from agclip.cli.files.readers._pt_tree import rebuilt, tensors
from agclip.cli.files.readers._zip import open_archive

_CLAIMS = 64
"""How many times over tensors may show the bytes of their file: tied ones show them twice."""
_ALLOWANCE = 1 << 28
"""Bytes that tensors may claim in any case: one that was expanded is saved as a single entry."""


def open_source(path: Path) -> Source:
    """Open a `.pt` file: it is read at once, tensors of other devices to the CPU."""
    try:
        import torch
    except ImportError as error:
        msg = "PyTorch is needed to read it: pip install torch"
        raise MissingError(msg) from error
    available = _bytes_in(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _Pt(torch.load(path, map_location="cpu", weights_only=True), available)
    except pickle.UnpicklingError as error:
        msg = (
            "PyTorch does not read it with weights_only=True: it is damaged, or holds more than "
            "tensors, numbers, strings and containers, and so could run code"
        )
        raise FileError(msg) from error
    except (FileError, OSError):
        raise
    # PyTorch answers a damaged file with whatever its code runs into.
    except Exception as error:
        words = reason(error).partition(". ")[0]
        msg = f"PyTorch cannot read it ({type(error).__name__}{words and ': '}{words})"
        raise FileError(msg) from error


def _bytes_in(path: Path) -> int:
    """Return how many bytes of numbers a file can hold."""
    if not zipfile.is_zipfile(path):
        return path.stat().st_size  # Of PyTorch before 1.6
    with open_archive(path) as archive:
        members = archive.infolist()
    if any(member.filename.endswith("/constants.pkl") for member in members):
        msg = "it is a program of TorchScript, not a file of tensors"
        raise FileError(msg)
    return sum(member.file_size for member in members)


class _Pt(Source):
    def __init__(self, tree: Any, available: int) -> None:
        self._tree = tree
        found = tensors(tree)
        self._tensors = [tensor for _, tensor in found]
        self.leaves = tuple(_leaf(name, tensor, available) for name, tensor in found)
        claimed = sum(tensor.nbytes for tensor in self._tensors)
        if claimed > _CLAIMS * available + _ALLOWANCE:
            msg = f"its tensors claim {claimed} bytes, and the file holds {available}"
            raise FileError(msg)

    def _read(self, index: int) -> Any:
        return to_numpy(self._tensors[index], dtype_of(self.leaves[index].dtype))

    def write(self, file: IO[bytes], leaf: Callable[[int], Any]) -> None:
        import torch

        names = [one.name for one in self.leaves]
        arrays = [leaf(index) for index in range(len(self.leaves))]
        new = copies(self._tensors, arrays, names)
        try:
            torch.save(rebuilt(self._tree, lambda old: new[id(old)]), file)
        except RuntimeError as error:  # what PyTorch raises where a file cannot be written
            raise OSError(str(error).partition("\n")[0]) from error


def _leaf(name: str, tensor: Any, available: int) -> Leaf:
    import torch

    if tensor.layout is not torch.strided or tensor.is_quantized:
        kind = "quantised" if tensor.is_quantized else f"of the layout {tensor.layout}"
        msg = f"the tensor {name!r} is {kind}, and only dense tensors can be clipped"
        raise FileError(msg)
    if tensor.device.type != "cpu":
        msg = f"the tensor {name!r} is on the device {tensor.device}, and comes without its numbers"
        raise FileError(msg)
    if tensor.untyped_storage().nbytes() > available:
        msg = f"the tensor {name!r} claims more bytes than the file has"
        raise FileError(msg)
    return Leaf(name, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
