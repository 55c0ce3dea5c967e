"""The rules that `agclip clip` applies to a file one array at a time.

The global norm is the only thing an array must know of the others: it is measured before.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import agclip
from agclip._typing import Array
from agclip.cli.command import USAGE, CommandError
from agclip.cli.command.arguments import one_of

MEMORY = ("adagc", "autoclip", "quantile", "spike", "zclip")
"""Rules that learn from the steps before: a file is a single one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What a rule is told besides the array.

    Attributes:
        args: The arguments of the command line.
        norm: The global norm of the file, of order `args.ord`; NaN if that is not finite. None if
            all arrays are given at once.
        beside: Arrays without elements in each dtype of the file: how far a strict bound shrinks
            depends on the dtypes of all.
        param: The array of `--params` of the same name, where the rule asks for it.
    """

    args: argparse.Namespace
    norm: float | None
    beside: Sequence[Array]
    param: Array | None

    @property
    def options(self) -> dict[str, Any]:
        """The options of every rule by a norm."""
        # Without --strict the settings decide.
        return {"nonfinite": self.args.nonfinite, "strict": self.args.strict or None}


@dataclass(frozen=True, slots=True)
class FileRule:
    """A rule that clips one array of a file.

    Attributes:
        required: Its options that have no default.
        optional: Its other options.
        clip: Takes an array and the call; returns the clipped array.
    """

    required: tuple[str, ...]
    optional: tuple[str, ...]
    clip: Callable[[Array, Call], Array]


def _value(leaf: Array, call: Call) -> Array:
    return agclip.clip_by_value(leaf, call.args.clip_value_min, call.args.clip_value_max)


def _norm(leaf: Array, call: Call) -> Array:
    return agclip.clip_by_norm(leaf, call.args.clip_norm, ord=call.args.ord, **call.options)


def _average_norm(leaf: Array, call: Call) -> Array:
    return agclip.clip_by_average_norm(leaf, call.args.clip_norm, **call.options)


def _rms(leaf: Array, call: Call) -> Array:
    return agclip.clip_by_rms(leaf, call.args.clip_rms, **call.options)


def _global_norm(leaf: Array, call: Call) -> Array:
    return together([leaf], call)[0]


def together(leaves: Sequence[Array], call: Call) -> list[Array]:
    """Clip some arrays of a file by the global norm, or all of them if that is not known."""
    args = call.args
    clipped: tuple[list[Array], Array] = agclip.clip_by_global_norm(
        [*leaves, *call.beside], args.clip_norm, call.norm, ord=args.ord, **call.options
    )
    return clipped[0][: len(leaves)]


def _adaptive(leaf: Array, call: Call) -> Array:
    args = call.args
    return agclip.adaptive_grad_clip(
        leaf, call.param, args.clipping, args.eps, unit_axes=args.unit_axes, **call.options
    )


DEFAULT_RULE = "global_norm"
_BOUNDS = ("clip_value_min", "clip_value_max")
FILE_RULES = {
    "value": FileRule((), _BOUNDS, _value),
    "norm": FileRule(("clip_norm",), ("ord", "strict"), _norm),
    "average_norm": FileRule(("clip_norm",), ("strict",), _average_norm),
    "rms": FileRule(("clip_rms",), ("strict",), _rms),
    "global_norm": FileRule(("clip_norm",), ("ord", "strict"), _global_norm),
    "adaptive": FileRule(("params", "unit_axes"), ("clipping", "eps", "strict"), _adaptive),
}
DEFAULTS = {"ord": 2.0, "clipping": 0.01, "eps": 1e-3}
OPTIONS = tuple(
    dict.fromkeys(name for rule in FILE_RULES.values() for name in (*rule.required, *rule.optional))
)


def rule_name(text: str) -> str:
    """Read the name of a rule that can clip a file."""
    if text in MEMORY:
        msg = (
            f"must be a rule without memory: {', '.join(FILE_RULES)}; got {text!r}, which learns "
            f"from past steps, and a file is a single one"
        )
        raise argparse.ArgumentTypeError(msg)
    return one_of(FILE_RULES)(text)


def check_options(args: argparse.Namespace) -> FileRule:
    """Return the rule, its options checked; the defaults of those left out are filled in.

    Raises:
        CommandError: An option is missing, or belongs to another rule.
    """
    name = args.rule or DEFAULT_RULE
    rule = FILE_RULES[name]
    for option in OPTIONS:
        given = getattr(args, option) is not None
        if given and option not in (*rule.required, *rule.optional):
            msg = (
                f"`{_shown(option)}` must be left out with --rule {name}; got both. {_takes(rule)}"
            )
            raise CommandError(msg, USAGE)
        if not given and option in rule.required:
            msg = f"`{_shown(option)}` must be given with --rule {name}; got none. {_takes(rule)}"
            raise CommandError(msg, USAGE)
        if not given:
            setattr(args, option, DEFAULTS.get(option))
    if name == "value":
        _check_bounds(args.clip_value_min, args.clip_value_max)
    return rule


def _check_bounds(low: float | None, high: float | None) -> None:
    if low is None and high is None:
        msg = (
            "`--clip-value-min` or `--clip-value-max` must be given with --rule value; got "
            "neither. One of them is enough."
        )
        raise CommandError(msg, USAGE)
    if low is not None and high is not None and low > high:
        msg = (
            f"`--clip-value-min` must be at most --clip-value-max; got {low:g} and {high:g}. "
            f"Swap them."
        )
        raise CommandError(msg, USAGE)


def _takes(rule: FileRule) -> str:
    return f"The rule takes {', '.join(map(_shown, (*rule.required, *rule.optional)))}."


def _shown(option: str) -> str:
    return "--" + option.replace("_", "-")
