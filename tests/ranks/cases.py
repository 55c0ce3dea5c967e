"""Calls on several ranks and what every rank must get: the same table for every engine.

A case is a program of a `Rank`. What it returns is plain data, so that it comes back from a process
of another engine; an error is its text.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import agclip

NAN, INF = float("nan"), float("inf")


class Rank(NamedTuple):
    """One rank of a group: where it stands, and what arrays are made with."""

    rank: int
    size: int
    comm: Any
    make: Any
    """`(numbers, dtype)` → an array."""
    pairs: Any = None
    """With four ranks: a communicator of each row, and of each column, of two by two."""

    def arrays(self, *lists, dtype="float32"):
        """Return the tree of this rank from one list of leaves a rank."""
        held = lists[self.rank]
        if isinstance(held, dict):
            return {key: self.make([value], dtype) for key, value in held.items()}
        return [self.make([value], dtype) for value in held]


def plain(x):
    """Return a result as lists of floats."""
    if isinstance(x, dict):
        return {key: plain(value) for key, value in x.items()}
    if isinstance(x, (list, tuple)):
        return [plain(value) for value in x]
    if hasattr(x, "dtype"):
        return x.tolist()
    return x


def outcome(program, rank):
    """Return what a program returns as plain data, or the text of its error."""
    try:
        return plain(program(rank))
    except Exception as error:  # noqa: BLE001 - it is what is looked at
        return f"{type(error).__name__}: {error}"


class Case(NamedTuple):
    """A program on so many ranks, and what each of them must get."""

    size: int
    program: Any
    expected: Any
    """A list, one a rank; or what all must get."""

    def of(self, rank):
        return self.expected[rank] if isinstance(self.expected, list) else self.expected


def clipped(lists, bound, wanted, norm, **options):
    """Return the case of a clip: the clipped numbers of each rank, and the norm on all."""

    def program(r):
        tree = r.arrays(*lists, dtype=options.get("dtype", "float32"))
        rest = {key: value for key, value in options.items() if key != "dtype"}
        new, value = agclip.clip_by_global_norm(tree, bound, comm=r.comm, **rest)
        again, _ = agclip.clip_by_global_norm_(tree, bound, comm=r.comm, **rest)
        assert str(plain(again)) == str(plain(new))
        return [leaf for [leaf] in plain(new)], float(value)

    return Case(len(lists), program, [(numbers, norm) for numbers in wanted])


def normed(lists, norm, dtype="float64", **options):
    """Return the case of a norm, the same on all ranks."""

    def program(r):
        tree = r.arrays(*lists, dtype=dtype)
        return float(agclip.global_norm(tree, comm=r.comm, **options))

    return Case(len(lists), program, norm)


def dtypes(r):
    tree = [r.make([3.0], "bfloat16" if r.rank == 0 else "float64") for _ in range(1)]
    tree = [r.make([4.0], "float64")] if r.rank else tree
    norm = agclip.global_norm(tree, comm=r.comm)
    return float(norm), str(norm.dtype).rpartition(".")[2]


def complex_here(r):
    tree = [r.make([3 + 4j], "complex128")] if r.rank else [r.make([2.0], "float32")]
    return [float(agclip.global_norm(tree, ord=p, comm=r.comm)) for p in (1, 2, 3, "inf")]


def strict_of_halves(r):
    """Ranks with and without a half type shrink alike: the quotients are those of one process."""
    name = "bfloat16" if r.rank else "float32"
    tree = [r.make([3.0 + r.rank], name), r.make([1.0], "float32")]
    new, _ = agclip.clip_by_global_norm(tree, 1.0, strict=True, comm=r.comm)
    return new[1]


def in_turn(r):
    tree = [r.make([1.0 + r.rank], "float32")]
    norms = [agclip.global_norm(tree, p, comm=list(r.pairs)) for p in (2, "inf", 3)]
    return [float(norm) for norm in norms]


def replicated(replicas, **options):
    def program(r):
        trees = [{"a": 1.0, "R": 2.0}, {"b": 2.0, "R": 2.0}, {"c": 4.0, "R": 2.0}]
        tree = r.arrays(*trees)
        return float(agclip.global_norm(tree, comm=r.comm, replicas=replicas(r), **options))

    return program


def failing(call, **options):
    """Return the program of a call in which rank 1 does something else than the others."""

    def program(r):
        tree = r.arrays([3.0], [4.0], [5.0])
        return call(r, tree, r.rank == 1, comm=r.comm, **options)

    return program


def clip(tree, bound, **options):
    new, norm = agclip.clip_by_global_norm(tree, bound, **options)
    return new, norm


ELSEWHERE = (
    "RuntimeError: every rank must get as far as the reduction; got an error before it on another "
    "rank, which is raised there."
)
OTHER_CALL = (
    "RuntimeError: every rank must make the same call; got another bound, order, policy, flag or "
    "loss scale on another rank, or another function or rule. Pass the same everywhere."
)
NO_REPLICAS = (
    "RuntimeError: `replicas` must say on how many ranks each leaf is held; got numbers that do "
    "not agree with who holds what. Give each leaf the number of ranks of `comm` that hold the "
    "same part of it: agclip.distributed.inspect lists them."
)
NO_LEAF = (
    "ValueError: `replicas` must have patterns that fit a leaf; got 'Q', which fits none. A path "
    "here is 'b'."
)
NO_ARRAY = (
    "TypeError: `t_list` must be an array, a list of numbers, or a list, tuple, dict or registered "
    "container of them; got str at t_list[0]. Take it out, or see agclip.register_container."
)
NEGATIVE = "ValueError: `clip_norm` must be a number >= 0, or None for no clipping; got -1.0."
NOT_FINITE = (
    "FloatingPointError: `t_list` must be finite; got {}. Skip the step, or choose another policy "
    "for `nonfinite`."
)

CASES = {
    "two numbers": clipped([[3.0], [4.0]], 1.0, [[0.6], [0.8]], 5.0, dtype="float64"),
    "two numbers, within": clipped([[3.0], [4.0]], 6.0, [[3.0], [4.0]], 5.0),
    "three ranks": normed([[1.0], [2.0], [2.0]], 3.0, "float32"),
    "two larger numbers": clipped([[6.0], [8.0]], 5.0, [[3.0], [4.0]], 10.0),
    "a loss scale": clipped(
        [[6.0], [8.0]], 1.0, [[0.6], [0.8]], 5.0, loss_scale=2, dtype="float64"
    ),
    "a rank without leaves": clipped([[3.0, 4.0], []], 1.0, [[0.6, 0.8], []], 5.0, dtype="float64"),
    "the first rank without leaves": clipped([[], [3.0, 4.0]], 2.5, [[], [1.5, 2.0]], 5.0),
    "no rank with leaves": normed([[], []], 0.0),
    "order 1": normed([[1.0, -2.0], [2.0]], 5.0, ord=1),
    "order 3": normed([[1.0, -2.0], [2.0]], 2.571281590658235, ord=3),
    "order inf": normed([[1.0, -2.0], [2.0]], 2.0, ord="inf"),
    "beyond the square root": normed([[1e300], [1e300]], 1.4142135623730952e300),
    "beyond the range": clipped(
        [[1.7e308], [1.7e308]], 1.0, [[0.7071067811865475]] * 2, INF, dtype="float64"
    ),
    "subnormal": normed([[1e-320], [3e-320]], 3.162e-320),
    "large and small": normed([[1e300], [1e-320]], 1e300),
    "ordinary and large": normed([[3.0], [1e300]], 1e300),
    "subnormal, order 1": normed([[1e-320], [3e-320]], 4e-320, ord=1),
    "beyond the range, order 1": normed([[1.7e308], [1.7e308]], INF, ord=1),
    "subnormal, reproducible": normed([[1e-320], [3e-320]], 3.162e-320, reproducible=True),
    "large, reproducible": normed([[1e300], [1e300]], 1.4142135623730952e300, reproducible=True),
    "an infinity and a NaN, propagate": clipped([[INF], [NAN]], 1.0, [[NAN], [NAN]], NAN),
    "an infinity and a number": clipped([[INF], [2.0]], 1.0, [[NAN], [NAN]], INF),
    "a NaN, zero": clipped([[1.0], [NAN]], 1.0, [[0.0], [0.0]], NAN, nonfinite="zero"),
    "a NaN, skip": clipped([[3.0], [NAN]], 1.0, [[3.0], [NAN]], NAN, nonfinite="skip"),
    "a NaN, error": Case(
        2,
        lambda r: clip(r.arrays([1.0], [NAN]), 1.0, nonfinite="error", comm=r.comm),
        [
            NOT_FINITE.format("a NaN or an infinity on another rank"),
            NOT_FINITE.format("NaN at t_list[0]"),
        ],
    ),
    **{
        f"an infinity and a NaN, order {p}, reproducible={exact}": normed(
            [[INF], [NAN]], NAN, ord=p, reproducible=exact
        )
        for p, exact in [(1, False), (3, False), ("inf", False), (1, True), (2, True)]
    },
    **{
        f"an infinity and a number, order {p}": normed([[INF], [1.0]], INF, ord=p)
        for p in (1, 3, "inf")
    },
    "dtypes": Case(2, dtypes, (5.0, "float64")),
    "a complex leaf on one rank": Case(
        2, complex_here, (7.0, math.sqrt(29), 5.104468722001463, 5.0)
    ),
    "groups in turn": Case(4, in_turn, (5.477225575051661, 4.0, 4.641588833612779)),
    "held by three": Case(3, replicated(lambda _: {"R": 3}), 5.0),
    "held by three, reproducible": Case(3, replicated(lambda _: {"R": 3}, reproducible=True), 5.0),
    "held by three, the first counts": Case(
        3, replicated(lambda r: {"R": 0 if r.rank else 1}), 5.0
    ),
    "held by three, said by a function": Case(
        3, replicated(lambda _: lambda path, _: 3 if path == "R" else 1), 5.0
    ),
    "held by three, not said": Case(3, replicated(lambda _: None), math.sqrt(33)),
    "held by three, order inf": Case(3, replicated(lambda _: {"R": 3}, ord="inf"), 4.0),
    "held by three, order 3": Case(3, replicated(lambda _: {"R": 3}, ord=3), 81 ** (1 / 3)),
    "held by three, wrong": Case(3, replicated(lambda _: {"R": 2}), NO_REPLICAS),
    "replicas that differ": Case(
        3,
        lambda r: float(
            agclip.global_norm(
                [r.make([1.0 + (r.rank == 0) * 2.0**-11], "float32")],
                comm=r.comm,
                replicas=3,
                reproducible=True,
            )
        ),
        NO_REPLICAS,
    ),
    "a pattern that fits no leaf": Case(
        3,
        replicated(lambda r: {"Q": 3} if r.rank == 1 else {"R": 3}),
        [
            ELSEWHERE,
            NO_LEAF,
            ELSEWHERE,
        ],
    ),
    "a pattern where no leaf is held": Case(
        2,
        lambda r: float(
            agclip.global_norm(
                {} if r.rank else {"a": r.make([3.0], "float32")}, comm=r.comm, replicas={"a": 1}
            )
        ),
        3.0,
    ),
}

_CALLS = {
    "bound": lambda r, tree, odd, **o: clip(tree, 1.0 + odd, **o),
    "order": lambda r, tree, odd, **o: clip(tree, 1.0, ord=1 + odd, **o),
    "a higher order": lambda r, tree, odd, **o: clip(tree, 1.0, ord=3 + odd, **o),
    "policy": lambda r, tree, odd, **o: clip(tree, 1.0, nonfinite="skip" if odd else "zero", **o),
    "strict": lambda r, tree, odd, **o: clip(tree, 1.0, strict=odd, **o),
    "loss scale": lambda r, tree, odd, **o: clip(tree, 1.0, loss_scale=1.0 + odd, **o),
}
CASES |= {f"another {name}": Case(3, failing(call), OTHER_CALL) for name, call in _CALLS.items()}
_FAILURES = {"": {}, ", order 3": {"ord": 3}, ", order inf": {"ord": "inf"}}
_FAILURES[", reproducible"] = {"reproducible": True}
CASES |= {
    f"a bad {name}{more}": Case(3, failing(call, **options), [ELSEWHERE, own, ELSEWHERE])
    for more, options in _FAILURES.items()
    for name, call, own in [
        ("bound", lambda r, tree, odd, **o: clip(tree, -1.0 if odd else 1.0, **o), NEGATIVE),
        (
            "leaf",
            lambda r, tree, odd, **o: clip(["a"] if odd else tree, 1.0, **o),
            NO_ARRAY,
        ),
    ]
}
_SHRINK = 1 - 2.25 * 2**-24 - 2**-8 * (1 + 2**-9)  # of a tree with float32 and bfloat16
CASES["strict of all dtypes"] = Case(2, strict_of_halves, (_SHRINK / math.sqrt(27),))
