"""Other rules for other leaves, by their paths."""

from __future__ import annotations

import difflib
import fnmatch
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agclip._backends import devices
from agclip._backends.backend import Backend
from agclip._clipping.record import of_values
from agclip._trees.distinct import same_memory
from agclip._trees.gather import gather, gather_like
from agclip._trees.leaves import Leaves
from agclip._trees.stand_in import nothing
from agclip._typing import Array, Tree
from agclip.rules import _members, _paths
from agclip.rules._info import ClipInfo, empty_info
from agclip.rules._layout import Layout, layout_of
from agclip.rules._rule import Rule, State, Step, Steps, check_rule, joins, resolved


@dataclass(frozen=True, repr=False)
class PerGroup(Steps):
    """Clip groups of leaves by rules of their own.

    A path is made of the keys, positions and fields that lead to a leaf, joined by dots, such as
    "layers.0.bias"; `ClipInfo.leaf_norms` is keyed by it. Patterns are those of the shell: `*` for
    any characters, dots included, `?` for one, `[seq]` for one of a set. The first pattern that
    fits a leaf decides; it is the group of the leaves that it decides on. The rule of a group sees
    a flat dict of its leaves by path. None for a rule leaves its group as it is, unmeasured.

    In place all groups are decided on before any is written. A place that holds None in a step fits
    its pattern and is left out; the state of a group is made at the first step in which it has
    gradients.

    In the record `norm` is the L2 norm of the norms of the groups, `scale` and `threshold` are the
    smallest of the groups, and the rest is that of any group.

    Attributes:
        groups: The rule, or None, of each pattern: a dict, or pairs.

    Example:
        >>> rule = agclip.PerGroup({"*.bias": None, "*": agclip.ClipByGlobalNorm(1.0)})
        >>> grads = {"a": {"weight": np.array([3.0, 4.0]), "bias": np.array([9.0])}}
        >>> agclip.Clipper(rule)(grads)[0]
        {'a': {'weight': array([0.6, 0.8]), 'bias': array([9.])}}
    """

    groups: Mapping[str, Rule | None] | tuple[tuple[str, Rule | None], ...]
    _patterns: tuple[re.Pattern[str], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check patterns and rules."""
        given: Any = self.groups
        pairs = tuple(given.items()) if isinstance(given, Mapping) else given
        if not isinstance(pairs, tuple) or not pairs:
            msg = f"`groups` must be a dict of at least one pattern; got {given!r}."
            raise TypeError(msg)
        for pattern, rule in pairs:
            if not isinstance(pattern, str):
                msg = f"`groups` must have strings for keys; got {pattern!r}."
                raise TypeError(msg)
            if rule is not None:
                check_rule(f"groups[{pattern!r}]", rule)
        object.__setattr__(self, "groups", pairs)
        patterns = tuple(re.compile(fnmatch.translate(pattern)) for pattern, _ in pairs)
        object.__setattr__(self, "_patterns", patterns)

    @property
    def _pairs(self) -> tuple[tuple[str, Rule | None], ...]:
        assert isinstance(self.groups, tuple), "made one when the rule was"
        return self.groups

    def __repr__(self) -> str:
        return f"PerGroup({dict(self._pairs)!r})"

    def _resolved(self) -> PerGroup:
        """Return the rule with the settings in the place of None."""
        pairs = self._pairs
        return PerGroup({pattern: rule and resolved(rule) for pattern, rule in pairs})

    def init(self, params: Tree) -> State:
        """Return the state of each group, by pattern."""
        leaves = gather(params, "params", listed=True)
        groups = self._assigned(_paths.paths(leaves), _paths.absent(leaves), "params")
        arrays = dict(zip(_paths.paths(leaves), leaves.objects().held, strict=True))
        like = leaves.arrays[0] if leaves.arrays else None
        return {
            pattern: rule.init({path: arrays[path] for path in group} or nothing(like))
            if rule and (group or joins(rule))
            else ()
            for (pattern, rule), group in zip(self._pairs, groups, strict=True)
        }

    def _members(self) -> Sequence[Any]:
        return [rule for _, rule in self._pairs]

    def _layout(self) -> Layout:
        return {pattern: layout_of(rule) for pattern, rule in self._pairs}

    def _assigned(self, paths: Sequence[str], absent: Sequence[str], name: str) -> list[list[str]]:
        """Return the paths of each group; those of places that hold None are in no group.

        Raises:
            ValueError: If a leaf fits no pattern, or a pattern no leaf.
        """
        groups: list[list[str]] = [[] for _ in self._pairs]
        idle = dict(enumerate(self._patterns))
        for path in paths:
            fits = [i for i, known in enumerate(self._patterns) if known.match(path)]
            if not fits:
                msg = (
                    f"`groups` must have a pattern for every leaf of `{name}`; got none for "
                    f'{path!r}. Add the pattern "*", with None to leave the rest as it is.'
                )
                raise ValueError(msg)
            groups[fits[0]].append(path)
            for i in fits:
                idle.pop(i, None)
        idle = {i: one for i, one in idle.items() if not any(map(one.match, absent))}
        # Over ranks, the leaves that a pattern is for may all be elsewhere.
        if idle and paths and not self._joins():
            pattern = self._pairs[min(idle)][0]
            close = difflib.get_close_matches(pattern, (*paths, *absent), n=1, cutoff=0.0)
            msg = (
                f"`groups` must have patterns that fit a leaf of `{name}`; got {pattern!r}, which "
                f"fits none. A path there is {close[0]!r}."
            )
            raise ValueError(msg)
        return groups

    def _run(self, leaves: Leaves, state: State, params: Tree | None, *, inplace: bool) -> Step:
        # What came from another library is clipped in the configured one, and written back.
        here = inplace and leaves.originals is None
        try:
            tasks, arrays, states = self._tasks(leaves, state, params, inplace=here)
        except Exception:
            self._fail()
            raise
        infos, writes = [], []
        for pattern, rule, mine, theirs in tasks:
            held = states.get(pattern, ())
            taken = _members.decided(rule, mine, held, theirs, inplace=here)
            states[pattern] = taken.state
            infos.append(taken.info)
            writes.append(taken.write)
            arrays.update(taken.tree or {})
        info, new = _joined(leaves, infos), list(arrays.values())
        if not inplace:
            return Step(leaves.objects().rebuild(new), states, info)
        if not here:
            writes = [functools.partial(leaves.overwrite, new)]
        return Step(None, states, info, lambda: _in_turn(writes))

    def _tasks(
        self, leaves: Leaves, state: State, params: Tree | None, *, inplace: bool
    ) -> tuple[list[tuple[str, Rule, Any, Any]], dict[str, Any], dict[str, State]]:
        """Return the rules that act, their leaves and parameters; all leaves; and all states."""
        paths = _paths.paths(leaves)
        arrays = {} if leaves.stand_in else dict(zip(paths, leaves.objects().held, strict=True))
        weights = None
        if params is not None and not leaves.stand_in:
            weights = dict(zip(paths, gather_like(leaves, params, "params").held, strict=True))
        states = dict(_members.states(state, [pattern for pattern, _ in self._pairs]))
        groups = self._assigned(paths, _paths.absent(leaves), "grads")
        if inplace and not leaves.stand_in:
            _refuse_shared(leaves, paths, groups)
        tasks = []
        for (pattern, rule), group in zip(self._pairs, groups, strict=True):
            if rule is None or not (group or joins(rule)):
                continue
            mine: Any = {path: arrays[path] for path in group} or nothing(leaves.arrays[0])
            theirs = None if weights is None else {path: weights[path] for path in group}
            tasks.append((pattern, rule, mine, theirs))
        return tasks, arrays, states


def _in_turn(writes: Sequence[Callable[[], None]]) -> None:
    for write in writes:
        write()


def _refuse_shared(leaves: Leaves, paths: Sequence[str], groups: Sequence[Sequence[str]]) -> None:
    """Refuse memory that two groups would overwrite, each in its own way.

    Raises:
        TypeError: If leaves of different groups share memory.
    """
    group_of = {path: i for i, group in enumerate(groups) for path in group}
    for i, first in enumerate(same_memory(leaves.backend, leaves.arrays)):
        if group_of[paths[i]] != group_of[paths[first]]:
            msg = (
                f"`grads` must have leaves that share memory in one group to be clipped in place; "
                f"got {paths[first]!r} and {paths[i]!r} in two. Name both in one pattern, or clip "
                f"without `inplace`."
            )
            raise TypeError(msg)


def _joined(leaves: Leaves, infos: Sequence[ClipInfo]) -> ClipInfo:
    if not infos:
        with leaves.backend.context():
            return empty_info(leaves, None)  # No rule has looked at any leaf.
    norm, scale, threshold, *facts = leaves.backend.run(
        _combined,
        (leaves.backend,),
        (
            [(info.norm, info.scale, info.threshold) for info in infos],
            [(info.clipped, info.nonfinite, info.skip) for info in infos],
        ),
    )
    norms = {path: norm for info in infos for path, norm in info.leaf_norms.items()}
    return ClipInfo(norm, scale, threshold, facts[0], facts[1], norms, facts[2])


def _combined(
    backend: Backend, numbers: Sequence[Sequence[Array]], facts: Sequence[Sequence[Array]]
) -> list[Array]:
    xp = backend.xp
    norms, scales, thresholds = (list(column) for column in zip(*numbers, strict=True))
    norm = of_values(backend, norms, 2.0)
    return [
        xp.astype(norm.root / norm.scale, norms[0].dtype),
        devices.reduce(backend, scales, xp.minimum),
        devices.reduce(backend, thresholds, xp.minimum),
        *(devices.anywhere(backend, fact) for fact in zip(*facts, strict=True)),
    ]
