"""Which column of a log holds the gradient norms, and which the steps, by their names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

from agclip.cli.logs.readers._history import LogError

NORM = "grad_norm"
NUMBERS = "value"
"""What a list of numbers without a name is called."""

STEPS = (
    "step",
    "steps",
    "globalstep",
    "globalstepmaxsteps",
    "numupdates",
    "iter",
    "iters",
    "iteration",
    "iterations",
    "trainingiteration",
    "trainstep",
    "trainingstep",
    "currentsteps",
    "numsteps",
    "epoch",
)
"""What the number of the step is called, the best first; without case and separators."""

_SMOOTHED = ("__MIN", "__MAX")
"""How the columns of a W&B export end that hold the range of a smoothed curve."""
_PLAIN = {"gnorm", "gradnorm", "gradsnorm", "gradgnorm", "gradientnorm", "gradientsnorm"}
_LIMITS = {"max", "min", "clip", "clipped", "clipping", "threshold", "limit", "bound", "type"}
_STATISTICS = {"var", "std", "cv", "ratio", "share", "param", "params", "weight", "weights"}
_AFTER = {"after", "post", "postclip"}
_BEFORE = {"before", "pre", "preclip", "unclipped"}


def step_rank(name: str) -> int | None:
    """Return how well a name fits the steps, from 0; None if it does not."""
    last = name.rpartition("/")[2] if name.lower() != "global_step/max_steps" else name
    plain = _plain(last)
    return STEPS.index(plain) if plain in STEPS else None


def may_be_norm(name: str) -> bool:
    """Tell whether a name speaks of the norm of gradients."""
    lower = name.lower()
    if "norm" not in lower:
        return False
    words = re.split(r"[^a-z0-9]+", lower)
    named = "grad" in lower and re.search(r"norm(?!al)", lower) is not None
    return named or "gnorm" in words or _plain(name) in ("totalnorm", "globalnorm")


def is_other(name: str) -> bool:
    """Tell whether a name speaks of a bound, a norm after clipping or a statistic."""
    if name.endswith(_SMOOTHED):
        return True
    words = {*re.split(r"[^a-z0-9]+", name.lower())}
    if words & _BEFORE:
        words -= _LIMITS
    # Layers are called weight too: only the norm of the weights themselves is another norm.
    folder, _, last = name.lower().rpartition("/")
    layer = may_be_norm(folder) and not may_be_norm(last)
    return bool(words & (_LIMITS | _AFTER) or (words & _STATISTICS and not layer))


def chosen(counts: Mapping[str, int], column: str | None) -> str:
    """Return the column of the norms.

    Args:
        counts: For each column, how many numbers it holds; columns of steps left out.
        column: What was asked for; None to find it.

    Raises:
        LogError: It is not there, or it is not clear which it is.
    """
    if column is not None:
        return _asked(list(counts), column)
    fitting = [name for name in counts if may_be_norm(name)]
    right = [name for name in fitting if not is_other(name)]
    numeric = [name for name in right if counts[name]] or right
    if not fitting and NUMBERS in map(str.lower, counts):
        return next(name for name in counts if name.lower() == NUMBERS)
    if not numeric:
        raise LogError(_none(list(counts), fitting))
    best = min(map(_rank, numeric))
    found = [name for name in numeric if _rank(name) == best]
    if len(found) > 1:
        msg = f"it has several columns of norms: {listed(found)}; choose one with --column"
        raise LogError(msg)
    return found[0]


def _asked(names: Sequence[str], column: str) -> str:
    if column in names:
        return column
    close = difflib.get_close_matches(column, names[:1000], n=1)
    hint = f"; did you mean {listed(close)}?" if close else f" but {listed(names)}"
    msg = f"it has no column {listed([column])}{hint}"
    raise LogError(msg)


def _none(names: Sequence[str], fitting: Sequence[str]) -> str:
    """Say that no column can be taken."""
    if fitting:
        return (
            f"by its name it has no norms before clipping, but bounds, norms after clipping or "
            f"statistics: {listed(fitting)}; if one of them is right, name it with --column"
        )
    return f"it has no column {NORM!r} but {listed(names)}; name it with --column"


def _rank(name: str) -> tuple[int, int]:
    """Return how well a name fits the global norm; the lowest is the best."""
    depth = name.count("/")
    if name == NORM:
        return 0, 0
    if re.search(r"(?<![a-z])(?:total|global)(?![a-z])", name.lower()):
        return 1, depth
    return (2 if _plain(re.split(r"/| - ", name)[-1]) in _PLAIN else 3), depth


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "", name.lower())


def listed(names: Sequence[str]) -> str:
    """List names, the first eight of them."""
    most = 8
    shown = ", ".join(repr(name if len(name) <= 80 else name[:79] + "…") for name in names[:most])
    return (
        f"{shown or 'none'} and {len(names) - most} more" if len(names) > most else shown or "none"
    )
