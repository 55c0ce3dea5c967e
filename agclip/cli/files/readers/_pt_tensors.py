"""Tensors of a `.pt` file as NumPy arrays, and tensors of other numbers in their place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from agclip.cli.files.readers._format import FileError


def to_numpy(tensor: Any, dtype: Any) -> Any:
    """Return a tensor as an array of a dtype, which has its name."""
    tensor = tensor.detach().resolve_conj().resolve_neg().contiguous()
    if dtype.isbuiltin == 1:
        return tensor.numpy()
    return tensor.view(_carrier(dtype)).numpy().view(dtype)


def _carrier(dtype: Any) -> Any:
    """Return the integer dtype in which the bits of a dtype that NumPy lacks travel."""
    import torch

    return torch.int16 if dtype.itemsize == 2 else torch.int8


def _from_numpy(array: Any, like: Any) -> Any:
    """Return an array as a tensor of the dtype and shape of another."""
    import torch

    array = np.require(array, requirements=["C", "W"])
    if array.dtype.isbuiltin == 1:
        return torch.from_numpy(array).reshape(like.shape)
    return torch.from_numpy(array.view(f"i{array.itemsize}")).view(like.dtype).reshape(like.shape)


def copies(tensors: Sequence[Any], arrays: Sequence[Any], names: Sequence[str]) -> dict[int, Any]:
    """Return tensors of other numbers, of the classes and strides of the old ones.

    Tensors that share memory go on sharing it.

    Args:
        tensors: The old tensors. One that is held at several places stands here as often.
        arrays: The new numbers of each; None leaves a tensor as it is.
        names: What the tensors are called.

    Returns:
        The new tensors by the `id` of the old ones.

    Raises:
        FileError: If tensors that share memory would need to differ there.
    """
    import torch

    new: dict[int, Any] = {}
    for places in _by_memory(tensors):
        old, array = tensors[places[0]], arrays[places[0]]
        if all(arrays[place] is None for place in places):
            new |= {id(tensors[place]): tensors[place] for place in places}
        elif len(places) == 1 and 0 not in old.stride():
            made = torch.empty_like(old, requires_grad=False).copy_(_from_numpy(array, old))
            new[id(old)] = _of_class(made, old)
        else:
            new |= _tied([(tensors[place], arrays[place], names[place]) for place in places])
    return new


def _by_memory(tensors: Sequence[Any]) -> Iterable[list[int]]:
    """Return the places of tensors, those that share memory together."""
    groups: dict[int, list[int]] = {}
    for place, tensor in enumerate(tensors):
        storage = tensor.untyped_storage().data_ptr()
        # An empty tensor has no memory, and a conjugate none that is its own.
        alone = not storage or tensor.is_conj() or tensor.is_neg()
        groups.setdefault(-1 - place if alone else storage, []).append(place)
    return groups.values()


def _tied(members: Sequence[tuple[Any, Any, str]]) -> dict[int, Any]:
    """Return tensors that share a copy of the memory that the old ones share."""
    import torch

    storage = members[0][0].untyped_storage().clone()
    new: dict[int, Any] = {}
    for old, array, _ in members:
        place = (old.storage_offset(), old.size(), old.stride())
        view = new.setdefault(id(old), torch.empty(0, dtype=old.dtype).set_(storage, *place))
        if array is not None:
            _write(view, _from_numpy(array, old))
    for old, array, name in members:
        wanted = old.detach() if array is None else _from_numpy(array, old)
        if not torch.equal(_bits(new[id(old)]), _bits(wanted)):
            other = next((other for _, _, other in members if other != name), name)
            msg = (
                f"the tensors {name!r} and {other!r} share memory, and would differ there: save "
                f"them apart, as clones"
            )
            raise FileError(msg)
    return {id(old): _of_class(new[id(old)], old) for old, _, _ in members}


def _write(view: Any, numbers: Any) -> None:
    """Write into a tensor; one that was expanded has a single entry for many."""
    for dim, stride in enumerate(view.stride()):
        if stride == 0 and view.shape[dim] > 1:
            view, numbers = view.narrow(dim, 0, 1), numbers.narrow(dim, 0, 1)
    view.copy_(numbers)


def _bits(tensor: Any) -> Any:
    import torch

    return tensor.contiguous().reshape(-1).view(torch.uint8)


def _of_class(made: Any, old: Any) -> Any:
    """Return a tensor as a parameter if the old one is, and recorded if that is."""
    import torch

    if isinstance(old, torch.nn.Parameter):
        return torch.nn.Parameter(made, requires_grad=old.requires_grad)
    return made.requires_grad_(old.requires_grad)
