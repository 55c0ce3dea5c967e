"""The names of rules in files, and how a table there becomes a rule."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agclip.rules._rule import Rule
from agclip.rules.adagc import AdaGC
from agclip.rules.adaptive import AdaptiveGradClip
from agclip.rules.autoclip import AutoClip
from agclip.rules.average_norm import ClipByAverageNorm
from agclip.rules.chain import Chain
from agclip.rules.global_norm import ClipByGlobalNorm
from agclip.rules.norm import ClipByNorm
from agclip.rules.quantile import QuantileClip
from agclip.rules.rms import ClipByRMS
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
    if name not in RULES:
        known = ", ".join(RULES)
        msg = f"`rule` must be one of {known}; got {name!r} ({source}).{_hint(name, RULES)}"
        raise ValueError(msg)
    fields = {one.name: one for one in dataclasses.fields(RULES[name])}
    for key in given:
        if key not in fields:
            known = ", ".join(fields)
            msg = (
                f"a key of the rule {name!r} must be one of {known}; got {key!r} ({source})."
                f"{_hint(key, fields)}"
            )
            raise ValueError(msg)
    missing = [one.name for one in fields.values() if _required(one) and one.name not in given]
    if missing:
        msg = f"the rule {name!r} must be given {missing[0]}; got none ({source}). Add the key."
        raise ValueError(msg)
    chosen = {key: value for key, value in defaults.items() if key in fields}
    try:
        made: Rule = RULES[name](**{**chosen, **given})
    except (TypeError, ValueError) as error:
        msg = f"{str(error).removesuffix('.')} ({source})."
        raise type(error)(msg) from None
    return made


def _required(one: dataclasses.Field[Any]) -> bool:
    return one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING


def _hint(word: Any, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(word), list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
