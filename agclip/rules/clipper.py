"""A rule together with its state, for loops that do not thread it through."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from agclip._typing import T, Tree
from agclip.config import _checks as settings_checks
from agclip.config import _files, current
from agclip.config._settings import Layer
from agclip.rules import names
from agclip.rules._info import ClipInfo
from agclip.rules._plain import plain, restored
from agclip.rules._rule import Rule, State, check_rule, resolved, step

Source: TypeAlias = str | os.PathLike[str] | Mapping[str, Any] | Sequence[Mapping[str, Any]]

_FORM = ("rule", "state")


class Clipper:
    """A rule that keeps its own state.

    ```python
    clipper = agclip.Clipper(agclip.ZClip())
    for batch in batches:
        clipped, info = clipper(grads, params)
    ```

    What the rule leaves to the settings (`nonfinite`, `reproducible`, `strict`) is looked up once,
    when the clipper is made. It is for plain loops: inside of a function that is compiled, call
    `rule.update` and pass the state through.

    Attributes:
        rule: The rule, with the settings filled in.
        inplace: Whether gradients are overwritten.
        state: The state; None before the first call.
    """

    def __init__(self, rule: Rule, *, inplace: bool = False) -> None:
        """Keep a rule.

        Args:
            rule: The rule.
            inplace: Overwrite the gradients, as the functions with an underscore do.

        Raises:
            TypeError: If `rule` is no rule.
        """
        check_rule("rule", rule)
        self.rule = resolved(rule)
        self.inplace = inplace
        self.state: State | None = None
        self._saved: Any = None

    def __repr__(self) -> str:
        return f"Clipper({self.rule!r}{', inplace=True' if self.inplace else ''})"

    def __call__(self, grads: T, params: Tree | None = None) -> tuple[T, ClipInfo]:
        """Clip the gradients of one step.

        Args:
            grads: A tree of gradients. In the first call the state is made from it.
            params: The parameters, for rules that look at them.

        Returns:
            The clipped tree, `grads` itself in place, and a record of what has been done.
        """
        if self.state is None:
            self.init(grads)
        clipped, self.state, info = step(self.rule, grads, self.state, params, inplace=self.inplace)
        return clipped, info

    def init(self, params: Tree) -> None:
        """Begin anew, or with what has been loaded.

        Args:
            params: The parameters, or gradients: a tree of the structure of the gradients.
        """
        state = self.rule.init(params)
        if self._saved is not None:
            state = restored(state, self._saved, "state_dict['state']")
        self.state, self._saved = state, None

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain data: dicts with string keys, lists and numbers.

        It reads all values, so a device is waited for. The data is the same for every library, and
        survives JSON.

        Raises:
            ValueError: If there is no state yet.
        """
        if self.state is None and self._saved is None:
            msg = (
                "the clipper must have a state to save; got none yet. Call it on gradients first, "
                "or init(params)."
            )
            raise ValueError(msg)
        saved = self._saved if self.state is None else plain(self.state)
        return {"rule": type(self.rule).__name__, "state": saved}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a saved state, on whatever library the gradients will be of.

        Before the first call the data is kept, and checked against the gradients of that call.

        Args:
            state_dict: What `state_dict` returned.

        Raises:
            TypeError: If the data, or a part of it, is of a wrong kind.
            ValueError: If it belongs to another rule, or its keys or shapes differ.
        """
        if not isinstance(state_dict, Mapping):
            msg = f"`state_dict` must be a dict; got {type(state_dict).__name__}."
            raise TypeError(msg)
        if set(state_dict) != set(_FORM):
            found = ", ".join(map(repr, state_dict)) or "none"
            msg = f"`state_dict` must have the keys 'rule', 'state'; got {found}."
            raise ValueError(msg)
        own = type(self.rule).__name__
        if state_dict["rule"] != own:
            msg = (
                f"`state_dict` must be that of the rule {own}; got one of {state_dict['rule']}. "
                f"Make the clipper with that rule."
            )
            raise ValueError(msg)
        saved = state_dict["state"]
        if self.state is None:
            self._saved = saved
        else:
            self.state = restored(self.state, saved, "state_dict['state']")

    @classmethod
    def from_config(
        cls,
        source: Source | None = None,
        *,
        inplace: bool = False,
    ) -> Clipper:
        """Make the clipper that a file or a table describes.

        ```toml
        [clip]                  # or [[clip]], several times: one rule after the other
        rule = "global_norm"
        clip_norm = 1.0
        ```

        `rule` is one of value, norm, average_norm, rms, global_norm, adaptive, autoclip, zclip,
        adagc, spike and quantile; the other keys are the arguments of the rule's class. The rule
        per_group has the key `groups`: a table of tables by pattern, with "off" for None.

        Args:
            source: A file; or a table, a list of tables, or a mapping with the key "clip"; None
                for the settings in force. What a file says of `nonfinite`, `reproducible` and
                `strict` counts more than the settings in force, and less than the table.
            inplace: As for the class.

        Raises:
            OSError: If the file cannot be read.
            TypeError: If a value is of a wrong kind.
            ValueError: If there is no table, no such rule or key, or a value is wrong.
        """
        if source is None:
            settings = current()
            tables, place, defaults = settings.clip, settings.source("clip"), {}
        else:
            layer = _layer(source)
            found = layer.get("clip")
            tables, place = (found.value, found.source) if found else ((), str(source))
            options = ("nonfinite", "reproducible", "strict")
            defaults = {key: layer[key].value for key in options if key in layer}
        if not tables:
            msg = (
                f"the settings must have a table [clip] to make a clipper of; got none ({place}). "
                f'Add one, such as: [clip] rule = "global_norm", clip_norm = 1.0.'
            )
            raise ValueError(msg)
        return cls(names.build(tables, place, defaults), inplace=inplace)


def _layer(source: Any) -> Layer:
    if isinstance(source, (str, os.PathLike)):
        return _files.read(Path(source).expanduser().absolute())
    table = source
    if not isinstance(source, Mapping) or "rule" in source:
        table = {"clip": source}
    return settings_checks.layer_of(table, lambda key: f"the table {key!r} given")
