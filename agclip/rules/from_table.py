"""The names of rules in files, and how a table there becomes a rule."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from agclip._checks import hint
from agclip.rules._rule import Rule
from agclip.rules.adagc import AdaGC
from agclip.rules.adaptive import AdaptiveGradClip
from agclip.rules.autoclip import AutoClip
from agclip.rules.chain import Chain
from agclip.rules.norms import ClipByAverageNorm, ClipByGlobalNorm, ClipByNorm, ClipByRMS
from agclip.rules.per_group import PerGroup
from agclip.rules.quantile import QuantileClip
from agclip.rules.spike import SpikeClip
from agclip.rules.value import ClipByValue
from agclip.rules.zclip import ZClip

RULES: dict[str, type[Any]] = {
    "value": ClipByValue,
    "norm": ClipByNorm,
    "average_norm": ClipByAverageNorm,
    "rms": ClipByRMS,
    "global_norm": ClipByGlobalNorm,
    "adaptive": AdaptiveGradClip,
    "autoclip": AutoClip,
    "zclip": ZClip,
    "adagc": AdaGC,
    "spike": SpikeClip,
    "quantile": QuantileClip,
}
"""The rules that a table can name by its key `rule`; its other keys are the rule's arguments."""

_PER_GROUP = "per_group"
"""The rule whose table holds others, by pattern."""
_OFF = "off"
"""What stands for None, which files do not have."""
_KNOWN = (*RULES, _PER_GROUP)

_ELSEWHERE = {
    "chain": " A chain is an array of tables, [[clip]].",
    "scheduled": (
        " A schedule is a function, which no file can hold: make agclip.Scheduled in the program."
    ),
}
"""What is said of the other rules."""

_IN_PROGRAMS = ("comm", "replicas")
"""Arguments that no file can hold, or that go with one of those."""

_ONE_OF = {"value": ("clip_value_min", "clip_value_max")}
"""Arguments of which one has to be given: None is what a table leaves out."""


def build(tables: Sequence[Mapping[str, Any]], source: str, defaults: Mapping[str, Any]) -> Rule:
    """Return the rule that tables describe: one, or a chain of several.

    Args:
        tables: The tables, at least one.
        source: Where they come from, for error messages.
        defaults: Arguments for the rules that have them and whose table does not say them.

    Raises:
        TypeError: If an argument is of a wrong kind.
        ValueError: If there is no such rule or argument, or an argument is missing or wrong.
    """
    rules = [
        _rule(table, source if len(tables) == 1 else f"{source}, table {i + 1}", defaults)
        for i, table in enumerate(tables)
    ]
    return rules[0] if len(rules) == 1 else Chain(rules)


def _rule(table: Mapping[str, Any], source: str, defaults: Mapping[str, Any]) -> Rule:
    given = dict(table)
    name = given.pop("rule", None)
    if name == _PER_GROUP:
        return _per_group(given, source, defaults)
    if name not in RULES:
        known = ", ".join(_KNOWN)
        advice = _ELSEWHERE.get(str(name)) or hint(name, _KNOWN)
        msg = f"`rule` must be one of {known}; got {name!r} ({source}).{advice}"
        raise ValueError(msg)
    fields = {f.name: f for f in dataclasses.fields(RULES[name]) if f.name not in _IN_PROGRAMS}
    _check_keys(name, given, fields, source)
    for key in _missing(name, given, fields, source):
        given[key] = None
    chosen = {key: value for key, value in defaults.items() if key in fields}
    try:
        made: Rule = RULES[name](**{**chosen, **given})
    except (TypeError, ValueError) as error:
        msg = f"{str(error).removesuffix('.')} ({source})."
        raise type(error)(msg) from None
    return made


def _per_group(given: Mapping[str, Any], source: str, defaults: Mapping[str, Any]) -> Rule:
    _check_keys(_PER_GROUP, given, ["groups"], source)
    groups = given.get("groups")
    if not isinstance(groups, Mapping) or not groups:
        msg = (
            f"`groups` must be a table of at least one pattern; got {groups!r} ({source}). Write "
            f'groups = {{ "*.bias" = "off", "*" = {{ rule = "global_norm", clip_norm = 1.0 }} }}.'
        )
        raise ValueError(msg)
    return PerGroup(
        {
            pattern: _member(group, f"{source}, groups[{pattern!r}]", defaults)
            for pattern, group in groups.items()
        }
    )


def _member(group: Any, source: str, defaults: Mapping[str, Any]) -> Rule | None:
    if group == _OFF:
        return None
    tables = [group] if isinstance(group, Mapping) else group
    if not isinstance(tables, list) or not tables or not all(_is_table(one) for one in tables):
        msg = (
            f'a group must be a table with a `rule`, an array of such tables, or "{_OFF}" to leave '
            f"its leaves as they are; got {group!r} ({source})."
        )
        raise ValueError(msg)
    return build(tables, source, defaults)


def _is_table(table: Any) -> bool:
    return isinstance(table, Mapping) and "rule" in table


def _check_keys(name: str, given: Mapping[str, Any], known: Collection[str], source: str) -> None:
    for key in given:
        if key not in known:
            msg = (
                f"a key of the rule {name!r} must be one of {', '.join(known)}; got {key!r} "
                f"({source}).{hint(key, known)}"
            )
            raise ValueError(msg)


def _missing(
    name: str,
    given: Mapping[str, Any],
    fields: Mapping[str, dataclasses.Field[Any]],
    source: str,
) -> list[str]:
    """Return the arguments that a table may leave out though they have no default."""
    missing = [one.name for one in fields.values() if _required(one) and one.name not in given]
    enough = _ONE_OF.get(name, ())
    if missing and not any(key in given for key in enough):
        keys = " or ".join(enough) or missing[0]
        msg = f"the rule {name!r} must be given {keys}; got none ({source}). Add the key."
        raise ValueError(msg)
    return missing


def _required(one: dataclasses.Field[Any]) -> bool:
    return one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING
