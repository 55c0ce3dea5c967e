"""What ranks tell each other besides sums and maxima: the head of a vector, and how it is judged.

Every vector is float64. A head that is added up has 5 numbers, digits to the base 2**17, exact for
up to 131071 ranks; one of which the maximum is taken has 4.

    sum   members + 2¹⁷·failures + 2³⁴·(float64 held)
          (half held) + 2¹⁷·(bfloat16 held) + 2³⁴·(float32 held)
          d + 2³⁴·(untested)    of a digest d of the call; who cannot take the rounding test
          d²                    Σ1·Σd² = (Σd)² only if all are equal
          silent                only before peaks: how many ranks do not tell theirs
          Σ h / replicas        whole if `replicas` says who holds what
    max   float64 held; the coarsest other dtype; d; -d; and after the peaks
          trouble: 1 for a NaN, 2 for a failure
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from agclip._backends.dtypes import Kind, kind_named
from agclip.distributed import _peaks
from agclip.distributed._ranks import Op
from agclip.distributed._replicas import hashed

_DIGIT = 1 << 17
_NAMES = ("float64", "float32", "float16", "bfloat16")
"""The kinds of dtype that are told apart, the finest first: as others they decide nothing."""
_SMALL = 2.0**-20
"""What rounding may do to a whole number: it is 2**-36 for 131071 ranks."""

A_FAILURE = float(_DIGIT)
"""What a rank adds to the first number of a sum's head if it fails before the reduction."""
FAILED = 2.0
"""The trouble of such a rank, of which the maximum is taken."""


def digest(*facts: object) -> int:
    """Return 17 bits of what must be the same on every rank."""
    return hashed(repr(facts)) % _DIGIT


def _present(kinds: frozenset[Kind]) -> list[float]:
    """Tell which of the kinds of dtype are held. A float8 counts as what is next to it."""
    precisions = [kind.precision for kind in kinds]
    classes = [53 if p == 53 else 24 if p == 24 else 11 if p == 11 else 8 for p in precisions]
    return [float(bits in classes) for bits in (53, 24, 11, 8)]


def sum_head(
    kinds: frozenset[Kind],
    digest: int,
    held: float,
    *,
    tested: bool = False,
    silent: bool | None = None,
) -> list[float]:
    """Return the head of a vector that is going to be added up.

    `silent` is for one that has peaks behind it: whether this rank does not tell its own.
    """
    double, single, half, coarse = _present(kinds)
    d = float(digest)
    packed = [1.0 + _DIGIT**2 * double, half + _DIGIT * coarse + _DIGIT**2 * single]
    more = [] if silent is None else [float(silent)]
    return [*packed, d if tested else d + _DIGIT**2, d * d, *more, held]


def max_head(kinds: frozenset[Kind], digest: int) -> list[float]:
    """Return the head of a vector of which the maximum is going to be taken."""
    double, *others = _present(kinds)
    coarsest = max([0, *(k for k, held in enumerate(others, start=1) if held)])
    return [double, float(coarsest), float(digest), -float(digest)]


def judged_sum(head: Sequence[float]) -> frozenset[Kind]:
    """Return the kinds of dtype that are held on any rank.

    Raises:
        RuntimeError: If a rank has failed, makes another call, or `replicas` is wrong.
    """
    if math.isnan(head[0]):
        raise RuntimeError(_failed())
    members, failed, double = _digits(head[0])
    if failed:
        raise RuntimeError(_failed())
    if members * int(head[3]) != (int(head[2]) % _DIGIT**2) ** 2:
        raise RuntimeError(_same())
    if not whole(head[-1]):
        raise RuntimeError(_held())
    half, coarse, single = _digits(head[1])
    return _kinds([double, single, half, coarse])


def testers(head: Sequence[float]) -> int:
    """Return the number of ranks if all of them can take the rounding test, else 0."""
    return 0 if int(head[2]) // _DIGIT**2 else _digits(head[0])[0]


def silent(head: Sequence[float]) -> bool:
    """Tell whether a rank has not told its peak, in a vector that has peaks."""
    return head[4] > 0


def judged_max(trouble: float, head: Sequence[float]) -> frozenset[Kind]:
    """Return the same from maxima."""
    if trouble >= FAILED:
        raise RuntimeError(_failed())
    double, coarsest, largest, least = head
    if largest != -least:
        raise RuntimeError(_same())
    return _kinds([double, *(float(coarsest == k) for k in (1, 2, 3))])


def whole(x: float) -> bool:
    """Tell whether a sum of fractions is a whole number."""
    return math.isfinite(x) and abs(x - round(x)) <= _SMALL


def require_whole(left: float, *, closely: bool = True) -> None:
    """Raise a RuntimeError if a sum that replicas have divided is not there, or not whole."""
    if math.isnan(left):
        raise RuntimeError(_failed())
    if closely and not whole(left):
        raise RuntimeError(_held())


def require_told(sums: Sequence[float], peaks: Sequence[float]) -> None:
    """Raise a RuntimeError if a sum is NaN although no element is: a rank has failed meanwhile."""
    if any(x != x and math.isfinite(peak) for x, peak in zip(sums, peaks, strict=True)):
        raise RuntimeError(_failed())


def _digits(x: float) -> tuple[int, int, int]:
    number = int(x)
    return number % _DIGIT, number // _DIGIT % _DIGIT, number // _DIGIT**2


def _kinds(held: Sequence[float]) -> frozenset[Kind]:
    return frozenset(kind_named(name) for name, one in zip(_NAMES, held, strict=True) if one)


def failure(order: float, *, exact: bool, probing: bool) -> tuple[list[float], Op]:
    """Return the first vector of a call of a rank that does not know yet what its leaves are."""
    if order in (1, 2) and (probing or not exact):
        more = 1 + _peaks.COUNT if probing else 0
        return [1.0 + A_FAILURE, *[0.0] * (7 + more)], "sum"
    return [*[0.0] * (6 if order == math.inf else 5), FAILED], "max"


def listed(vector: Any) -> Sequence[float]:
    """Return the numbers in a vector."""
    found: Sequence[float] = vector.tolist() if hasattr(vector, "tolist") else list(vector)
    return found


def _same() -> str:
    return (
        "every rank must make the same call; got another bound, order, policy, flag or loss scale "
        "on another rank, or another function or rule. Pass the same everywhere."
    )


def _failed() -> str:
    return (
        "every rank must get as far as the reduction; got an error before it on another rank, "
        "which is raised there."
    )


def _held() -> str:
    return (
        "`replicas` must say on how many ranks each leaf is held; got numbers that do not agree "
        "with who holds what. Give each leaf the number of ranks of `comm` that hold the same part "
        "of it: agclip.distributed.inspect lists them."
    )
