"""The gradients of an optimizer as a tree, whose paths are the names of its parameters."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch

from agclip._checks import describe
from agclip._typing import Tree
from agclip.integrations.torch._named import unlike

Optimizer = torch.optim.Optimizer


class Gradients(NamedTuple):
    """The gradients of one step."""

    given: list[torch.Tensor]
    """The parameters, in order."""
    grads: Tree
    """Their gradients by path, None for those that have none."""
    params: Tree
    """The parameters that have one, likewise."""

    def assign(self, clipped: Any) -> None:
        """Put other gradients in the places of these."""
        for p, grad in zip(self.given, _flat(clipped), strict=True):
            if grad is not None:
                p.grad = grad


class Places:
    """The paths of an optimizer's parameters, which stay the same from step to step.

    Names come from a module, or from the optimizer if it was made of `named_parameters()`; without
    either, paths are positions. A parameter that comes later and has no name is known by its
    position.
    """

    def __init__(
        self, optimizer: Optimizer, model: torch.nn.Module | None, *, grouped: bool
    ) -> None:
        """Find names.

        Args:
            optimizer: The optimizer.
            model: The module whose parameters it has; None for names that the optimizer knows.
            grouped: Whether paths begin with the position of the group.

        Raises:
            TypeError: If `model` is no module.
            ValueError: If it does not hold a parameter of the optimizer.
        """
        if model is not None and not isinstance(model, torch.nn.Module):
            msg = f"`model` must be a torch.nn.Module, or None; got {describe(model)}."
            raise TypeError(msg)
        self.grouped = grouped
        self._model = None if model is None else weakref.ref(model)
        self._paths: list[list[str]] = []
        self._extend(optimizer)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_model": None}

    def of(self, optimizer: Optimizer) -> Gradients | None:
        """Return the gradients of an optimizer; None if there are none."""
        groups = optimizer.param_groups
        if len(groups) != len(self._paths):
            if self.grouped:
                require_one_each(len(self._paths), len(groups))
            self._extend(optimizer)
        given: list[torch.Tensor] = []
        grads, params, some = [], [], False
        for paths, group in zip(self._paths, groups, strict=True):
            mine = group["params"]
            given += mine
            here = [p.grad for p in mine]
            absent = [grad is None for grad in here]
            some = some or not all(absent)
            grads.append(dict(zip(paths, here, strict=True)))
            if any(absent):
                mine = [None if none else p for p, none in zip(mine, absent, strict=True)]
            params.append(dict(zip(paths, mine, strict=True)))
        return Gradients(given, self._joined(grads), self._joined(params)) if some else None

    def _joined(self, groups: list[dict[str, Any]]) -> Tree:
        if self.grouped:
            return {str(i): group for i, group in enumerate(groups)}
        if len(groups) == 1:
            return groups[0]
        return {path: one for group in groups for path, one in group.items()}

    def _extend(self, optimizer: Optimizer) -> None:
        """Name the parameters of groups that are new."""
        model = None if self._model is None else self._model()
        names = {} if model is None else {id(p): name for name, p in model.named_parameters()}
        taken = {path for paths in self._paths for path in paths}
        first = 0
        for i, group in enumerate(optimizer.param_groups):
            mine = group["params"]
            if i >= len(self._paths):
                found: list[str]
                found = [*_named(mine, names, i)] if names else list(group.get("param_names") or ())
                if len({*found} - taken) < len(mine):
                    found = [unlike(str(j), taken) for j in range(first, first + len(mine))]
                self._paths.append(found)
                taken.update(() if self.grouped else found)
            first += 0 if self.grouped else len(mine)


def require_one_each(rules: int, groups: int) -> None:
    """Raise unless there is one rule for each group.

    Raises:
        ValueError: If there is not.
    """
    if rules != groups:
        msg = (
            "`rule` must be a rule, or a list of one for each parameter group; got a list of "
            f"{rules} for {groups}. Put None for a group that is left alone."
        )
        raise ValueError(msg)


def _named(params: Sequence[torch.Tensor], names: dict[int, str], group: int) -> Iterator[str]:
    for i, p in enumerate(params):
        if id(p) not in names:
            msg = (
                "`model` must hold all parameters of the optimizer; got one that does not hold "
                f"optimizer.param_groups[{group}]['params'][{i}]. Pass the module that the "
                "optimizer was made for."
            )
            raise ValueError(msg)
        yield names[id(p)]


def _flat(tree: Any) -> Iterator[Any]:
    for value in tree.values():
        if isinstance(value, dict):
            yield from _flat(value)
        else:
            yield value
