"""What PyTorch code passes where parameters are expected, and the gradients of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import torch

from agclip._checks import describe, is_number, refuse
from agclip._trees.gather import gather
from agclip._trees.leaves import Leaves, tell_caller
from agclip._typing import Tree

_EXPECTED = {
    "parameters": "a module, an optimizer, a parameter, or an iterable of parameters, of pairs of "
    "a name and a parameter, or of parameter groups",
    "tensors": "a tensor or an iterable of tensors",
}
"""By the argument."""


_TYPES = {torch.nn.Parameter, torch.Tensor}


class Parameters(NamedTuple):
    """Parameters in order."""

    name: str
    """The argument they came in."""
    given: list[torch.Tensor]
    names: list[str] | None
    """Their names, where they came with some."""

    def once(self) -> Parameters:
        """Return the parameters each once: tied ones count once, and are scaled once."""
        if len(set(map(id, self.given))) == len(self.given):
            return self
        places = {p: i for i, p in reversed([*enumerate(self.given)])}
        first = sorted(places.values())
        names = None if self.names is None else [self.names[i] for i in first]
        return Parameters(self.name, [self.given[i] for i in first], names)

    def gradients(self) -> Tree:
        """Return the gradients there are, as a tree whose paths lead to the parameters.

        Raises:
            TypeError: If something without a gradient can be no parameter.
        """
        grads = [p.grad for p in self.given]
        found = [grad for grad in grads if grad is not None]
        if self.names is None and len(found) == len(grads):
            return found
        if len(found) < len(grads):
            self._require_parameters(grads)
        if not found and any(p.requires_grad for p in self.given):
            tell_caller(
                f"`{self.name}` holds parameters of which none has a gradient: nothing is clipped. "
                "Call backward() first, and zero_grad() after the step."
            )
        # Parameters of two modules may have one name.
        keys: Sequence[str | int] = self.names or ()
        if len(set(keys)) < len(grads):
            keys = range(len(grads))
        pairs = zip(keys, grads, strict=True)
        return {key: grad for key, grad in pairs if grad is not None}

    def _require_parameters(self, grads: list[torch.Tensor | None]) -> None:
        """Raise if a gradient, or another tensor, stands in the place of a parameter."""
        for i, (p, grad) in enumerate(zip(self.given, grads, strict=True)):
            if grad is None and not p.requires_grad and not isinstance(p, torch.nn.Parameter):
                key = repr(self.names[i]) if self.names is not None else i
                msg = (
                    f"`{self.name}` must hold parameters, whose `.grad` is clipped; got a tensor "
                    f"that has none and requires none at {self.name}[{key}]. Pass the parameters; "
                    "gradients themselves are clipped by `agclip.clip_by_global_norm_`."
                )
                raise TypeError(msg)


def gradients_of(
    parameters: Parameters, families: tuple[str, str] = ("real", "complex")
) -> Leaves | None:
    """Return the gradients of parameters as leaves to be overwritten; None if there are none."""
    grads = parameters.gradients()
    if not grads:
        return None
    leaves = gather(grads, parameters.name, families=families, listed=True, inplace=True)
    # Where no two gradients share memory, no parameter comes twice: to look costs 40 ns each.
    once = parameters if leaves.distinct else parameters.once()
    if once is parameters:
        return leaves
    return gather(once.gradients(), once.name, families=families, listed=True, inplace=True)


def number(value: Any) -> Any:
    """Return a number where PyTorch would take `float(value)`, without reading a device."""
    if isinstance(value, torch.Tensor):
        return value.reshape(()) if value.numel() == 1 else value
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def order(norm_type: Any) -> float:
    """Return the order of a norm: any number but NaN.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is NaN.
    """
    if type(norm_type) is float and norm_type == norm_type:  # such as the default
        return norm_type
    found = number(norm_type)
    found = found.item() if isinstance(found, torch.Tensor) and found.ndim == 0 else found
    if not is_number(found):
        refuse("norm_type", TypeError, 'a number, or "inf"', found)
    if math.isnan(found):
        refuse("norm_type", ValueError, 'a number, or "inf"', found)
    return float(found)


def parameters_of(given: Any, name: str = "parameters") -> Parameters:
    """Return the parameters in what PyTorch code passes for them.

    Args:
        given: A module, an optimizer, a tensor, a mapping of names to tensors, or an iterable of
            tensors, of pairs of a name and a tensor (`named_parameters()`), or of parameter groups.
        name: The argument it came in.

    Raises:
        TypeError: If it is nothing of the kind, or holds something that is no tensor.
    """
    found = _found(given, name)
    if found.given:
        return found
    used_up = isinstance(given, Iterator)
    if used_up or name != "tensors":
        # PyTorch's words for a generator, by which programs filter them.
        kind = "generator" if used_up else "iterable"
        tell_caller(f"`{name}` is an empty {kind}, no gradient clipping will occur.")
    return found


def _found(given: Any, name: str) -> Parameters:
    if isinstance(given, torch.Tensor):
        return Parameters(name, [given], None)
    if type(given) is list and given and isinstance(given[0], torch.Tensor):
        return _checked(given, None, name)  # what takes the longest to tell otherwise
    if isinstance(given, torch.nn.Module):
        return _named(given.named_parameters(), name)
    if isinstance(given, torch.optim.Optimizer):
        return _of_groups(given.param_groups, name)
    if isinstance(given, Mapping):
        return _of_groups([given], name) if "params" in given else _named(given.items(), name)
    if isinstance(given, str) or not isinstance(given, Iterable):
        _reject(given, name, "")
    found = list(given)
    first = found[0] if found else None
    if isinstance(first, Mapping):
        return _of_groups(found, name)
    if isinstance(first, tuple):
        return _named(found, name)
    return _checked(found, None, name)


def _named(pairs: Iterable[Any], name: str) -> Parameters:
    names, found = [], []
    for i, pair in enumerate(pairs):
        if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str)):
            _reject(pair, name, f" at {name}[{i}]")
        names.append(pair[0])
        found.append(pair[1])
    return _checked(found, names, name)


def _of_groups(groups: Iterable[Any], name: str) -> Parameters:
    found: list[torch.Tensor] = []
    names: list[str] = []
    for i, group in enumerate(groups):
        if not isinstance(group, Mapping) or "params" not in group:
            _reject(group, name, f" at {name}[{i}]")
        of_group = _found(group["params"], f"{name}[{i}]['params']")
        found += of_group.given
        # Optimizers know the names of what `named_parameters()` gave them (PyTorch 2.6).
        names += group.get("param_names") or of_group.names or []
    return _checked(found, names if len(names) == len(found) else None, name)


def _checked(found: list[Any], names: list[str] | None, name: str) -> Parameters:
    types = set(map(type, found))
    if not types <= _TYPES and not all(issubclass(cls, torch.Tensor) for cls in types):
        i, p = next((i, p) for i, p in enumerate(found) if not isinstance(p, torch.Tensor))
        key = repr(names[i]) if names is not None else i
        _reject(p, name, f" at {name}[{key}]")
    return Parameters(name, found, names)


def _reject(given: Any, name: str, where: str) -> NoReturn:
    expected = _EXPECTED[name.partition("[")[0]]
    msg = f"`{name}` must be {expected}; got {describe(given)}{where}."
    raise TypeError(msg)
