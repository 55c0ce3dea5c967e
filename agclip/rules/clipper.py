"""A rule together with its state, for loops that do not thread it through."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from agclip._trees.leaves import Leaves
from agclip._trees.tree import materialised
from agclip._typing import T, Tree
from agclip.config import _checks as settings_checks
from agclip.config import _files, current
from agclip.config._settings import Layer
from agclip.rules import _checks, _paths, from_table
from agclip.rules._arguments import arguments, check_same
from agclip.rules._info import ClipInfo
from agclip.rules._kept import arrays
from agclip.rules._layout import COUNT, layout_of
from agclip.rules._members import taking_part
from agclip.rules._plain import checked, made, paths_in, plain, restored
from agclip.rules._rule import Rule, State, Step, check_rule, decides, resolved, step
from agclip.rules._traced import is_traced, refuse_traced

Source: TypeAlias = str | os.PathLike[str] | Mapping[str, Any] | Sequence[Mapping[str, Any]]

_STATE = "state_dict['state']"
_NEEDED, _FORM = {"rule", "state"}, {"rule", "arguments", "step", "state"}


class Clipper:
    """A rule that keeps its own state.

    >>> clipper = agclip.Clipper(agclip.ZClip())
    >>> for grads in ([np.array([0.3, 0.4])], [np.array([3.0, 4.0])]):
    ...     clipped, info = clipper(grads)
    >>> clipped, clipper.step
    ([array([0.6, 0.8])], 2)
    >>> agclip.Clipper.from_config({"rule": "zclip"}).load_state_dict(clipper.state_dict())
    >>> clipper.reset(), clipper.init(grads), clipper.step
    (None, None, 0)

    What the rule leaves to the settings (`nonfinite`, `reproducible`, `strict`) is looked up once,
    when the clipper is made. It is for plain loops: inside of a function that is compiled, call
    `rule.update` and pass the state through. Only PyTorch's Dynamo follows what a clipper keeps.

    Attributes:
        rule: The rule, with the settings filled in.
        inplace: Whether gradients are overwritten.
        step: The number of steps so far; what is compiled is not counted.
    """

    step: int
    _state: State | None
    _compiled: bool = False
    _saved: Any

    def __init__(self, rule: Rule, *, inplace: bool = False) -> None:
        """Keep a rule.

        Args:
            rule: The rule.
            inplace: Overwrite the gradients, as the functions with an underscore do.

        Raises:
            TypeError: If `rule` is no rule, or `inplace` neither True nor False.
        """
        check_rule("rule", rule)
        _checks.switch("inplace", inplace)
        self.rule = resolved(rule)
        self.inplace = inplace
        self.reset()

    def __repr__(self) -> str:
        inplace = ", inplace=True" if self.inplace else ""
        return f"Clipper({self.rule!r}{inplace}, step={self.step})"

    def __call__(self, grads: T, params: Tree | None = None) -> tuple[T, ClipInfo]:
        """Clip the gradients of one step.

        Args:
            grads: A tree of gradients. The state is made from the first ones that hold an array.
            params: The parameters, for rules that look at them.

        Returns:
            The clipped tree, `grads` itself in place, and a record of what has been done. A
            generator comes back as a list.

        Raises:
            ValueError: If the rule has a memory and the gradients are traced: what a compiled
                function assigns to the clipper would be lost, or leak.
        """
        grads = materialised(grads)
        state = self._begun(grads, "grads") if self._state is None else self._state
        started = state is not None
        if not started:  # no state is made from a step without arrays
            state = self.rule.init(grads)
        ours = decides(self.rule)
        if not ours:
            refuse_traced(grads, arrays(state))
        taken = self._take(grads, state, params)
        info = taken.info
        traced = is_traced(info.norm) if taken.traced is None else taken.traced
        if traced:
            refuse_traced([info.norm], arrays(state))
            self._compiled = True
        taken.write()
        if started:
            self._state, self._saved = taken.state, None
            if self._compiled:  # a compiler would compile anew for every number
                self._state = arrays(taken.state)
        if not traced:  # likewise
            self.step += 1
        return grads if ours and self.inplace else taken.tree, info

    def _take(self, grads: Any, state: State, params: Tree | None) -> Step:
        """Decide on a step of the rule from a state."""
        return step(self.rule, grads, state, params, inplace=self.inplace)

    def init(self, params: Tree) -> None:
        """Begin anew, or with what has been loaded.

        Args:
            params: The parameters, or gradients: a tree of the structure of the gradients.
        """
        state = self._begun(materialised(params), "params")
        if self._saved is None:
            self.reset()
        if state is not None:
            self.state, self._saved = state, None

    def _begun(self, tree: Tree, name: str) -> State | None:
        """Return the state to begin with, as loaded or new; None of a tree without arrays."""
        leaves = taking_part(self.rule, tree, name)
        if not leaves.arrays:
            return None
        state = self.rule.init(tree)
        if self._saved is None:
            return state
        layout = layout_of(self.rule)
        _check_leaves(paths_in(layout, self._saved), leaves)
        return made(layout, self._saved, leaves, state, _STATE)

    @property
    def state(self) -> State | None:
        """The state; None before the first step with gradients, and after loading until then."""
        return arrays(self._state)

    @state.setter
    def state(self, state: State | None) -> None:
        self._state = state

    def reset(self) -> None:
        """Forget the state, and what has been loaded: the next step is the first one."""
        self.state, self.step, self._saved = None, 0, None

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain data: dicts with string keys, lists and numbers.

        It reads all values, so a device is waited for. The data is the same for every library, and
        survives JSON. Before the first step the state in it is empty, and loads as none.

        Returns:
            `rule`, its name; `arguments`, what its memory is formed with; `step`; and `state`.
        """
        saved = self._saved if self.state is None else plain(self.state)
        return {
            "rule": type(self.rule).__name__,
            "arguments": arguments(self.rule),
            "step": self.step,
            "state": copy.deepcopy(saved) or {},
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a saved state, on whatever library the gradients will be of.

        All is checked at once but the shapes of arrays that are as large as leaves; these are
        checked at the next step. The arrays are made then.

        Args:
            state_dict: What `state_dict` returned. `arguments` and `step` may be left out.

        Raises:
            TypeError: If the data, or a part of it, is of a wrong kind.
            ValueError: If it belongs to another rule, or to one with other arguments, or its keys,
                shapes or values are wrong.
        """
        if not isinstance(state_dict, Mapping):
            msg = f"`state_dict` must be a dict; got {type(state_dict).__name__}."
            raise TypeError(msg)
        if not _NEEDED <= set(state_dict) <= _FORM:
            found = ", ".join(map(repr, state_dict)) or "none"
            msg = (
                f"`state_dict` must have the keys 'rule' and 'state', and may have 'arguments' and "
                f"'step'; got {found}."
            )
            raise ValueError(msg)
        own = type(self.rule).__name__
        if state_dict["rule"] != own:
            msg = (
                f"`state_dict` must be that of the rule {own}; got one of {state_dict['rule']}. "
                f"Make the clipper with that rule."
            )
            raise ValueError(msg)
        check_same(arguments(self.rule), state_dict.get("arguments", {}))
        steps = checked(COUNT, state_dict.get("step", 0), "state_dict['step']")
        layout = layout_of(self.rule)
        saved = checked(layout, state_dict["state"], _STATE)
        state = None
        if layout is None and self.state is not None:
            state = restored(self.state, saved, _STATE)
        self.state, self.step, self._saved = state, steps, saved or None

    @classmethod
    def from_config(cls, source: Source | None = None, *, inplace: bool = False) -> Clipper:
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
        return cls(from_table.build(tables, place, defaults), inplace=inplace)


def _check_leaves(saved: Sequence[str], leaves: Leaves) -> None:
    """Refuse a saved state none of whose leaves has a place in the tree.

    Raises:
        ValueError: If it is that of another tree.
    """
    places = [*_paths.paths(leaves), *_paths.absent(leaves)]
    if saved and not set(saved) & set(places):
        msg = (
            f"`{_STATE}` must be of the same leaves as `{leaves.name}`; got {saved[0]!r} there, "
            f"and {places[0]!r} here. Load what state_dict() of the same rule on the same "
            f"parameters returned, or call reset()."
        )
        raise ValueError(msg)


def _layer(source: Any) -> Layer:
    if isinstance(source, (str, os.PathLike)):
        return _files.read(Path(source).expanduser().absolute())
    table = source
    if not isinstance(source, Mapping) or "rule" in source:
        table = {"clip": source}
    return settings_checks.layer_of(table, lambda key: f"the table {key!r} given")
