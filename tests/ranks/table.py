"""The whole table of cases: those of `cases`, with one more rank, placements, and others' bugs."""

from __future__ import annotations

import math
import random

import agclip
from ranks import cases
from ranks.cases import Case, Rank, normed, plain
from ranks.placing import placed

TURNS = 8
OPTIONS = {
    "plainly": {},
    "reproducible": {"reproducible": True},
    "order 1": {"ord": 1},
    "order 3": {"ord": 3},
    "order inf": {"ord": "inf"},
    "strict": {"strict": True},
}


class Idle(Rank):
    """A rank that holds nothing."""

    def arrays(self, *lists, dtype="float32"):
        return []


def with_one_more(case):
    """Return a case of two ranks on three, of which the last holds nothing."""

    def program(r):
        return case.program(Idle(*r) if r.rank == case.size else r)

    expected = case.expected
    if isinstance(expected, list):
        expected = [*expected, ([], expected[0][1])]
    return Case(case.size + 1, program, expected)


def _of_lists(case):
    return case.size == 2 and case.program.__qualname__.startswith(("clipped", "normed"))


def placements(options):
    """Return a program that places leaves at random, and compares with one process."""
    exact = options.get("reproducible")

    def program(r):
        draw, wrong = random.Random(f"{options} {r.size}"), []
        for turn in range(TURNS):
            found = placed(draw, r.size)
            tree = _made(r, found.trees[r.rank])
            whole = list(_made(r, dict(enumerate(found.leaves))).values())
            wanted = agclip.global_norm(whole, options.get("ord", 2), reproducible=exact)
            _, norm = agclip.clip_by_global_norm(
                tree,
                0.37,
                comm=r.comm,
                replicas=lambda path, _, f=found: f.replicas[path],
                **options,
            )
            rel = 0.0 if exact else 4e-7
            # A rank that holds nothing has NumPy's dtypes. It goes on: the others wait for it.
            alike = _name(norm) == _name(wanted)
            if not alike or not math.isclose(norm, wanted, rel_tol=rel):
                wrong.append((turn, plain(norm), _name(norm), plain(wanted), _name(wanted)))
        return wrong or "the same"

    return program


def narrow(dtypes):
    """Return a program of leaves that nobody shares, of which some ranks may hold none."""
    calls = {
        "clip": lambda t, **o: agclip.clip_by_global_norm(t, 0.37, **o)[::-1],
        "strict": lambda t, **o: agclip.clip_by_global_norm(t, 0.37, strict=True, **o)[::-1],
        "scaled": lambda t, **o: agclip.clip_by_global_norm_(t, 0.37, loss_scale=0.3, **o)[::-1],
        "norm": lambda t, **o: (agclip.global_norm(t, **o), []),
        "order 1": lambda t, **o: (agclip.global_norm(t, 1, **o), []),
        "rule": _by_rule,
    }

    def program(r):
        draw, wrong = random.Random(f"{dtypes} {r.size}"), []
        for turn in range(TURNS):
            count = draw.choice([1, r.size - 1, 2 * r.size + 1])
            numbers = [[draw.gauss(0, 3) for _ in range(draw.randint(0, 90))] for _ in range(count)]
            for name, call in calls.items():
                whole = [r.make(x, dtypes[k % len(dtypes)]) for k, x in enumerate(numbers)]
                mine = whole[r.rank :: r.size]
                mine = [x.clone() if hasattr(x, "clone") else x.copy() for x in mine]
                wanted, new = call(whole, reproducible=True)
                norm, got = call(mine, comm=r.comm, reproducible=True)
                same = plain(got) == plain(list(new)[r.rank :: r.size])
                if plain(norm) != plain(wanted) or not same:
                    wrong.append((turn, name, plain(norm), plain(wanted)))
        return wrong or "the same"

    return program


def _by_rule(tree, **options):
    rule = agclip.ClipByGlobalNorm(0.37, **options)
    new, _, info = rule.update(tree, rule.init(tree))
    return info.norm, new


def _name(x):
    return str(x.dtype).rpartition(".")[2]


def _made(r, leaves):
    return {name: r.make(x.tolist(), x.dtype.name) for name, x in leaves.items()}


def beside_experts(r):
    """A dense layer that both ranks hold beside an expert of each (DeepSpeed issue 8475)."""
    tree = {"dense": r.make([2.0, 4.0], "float32")}
    tree[f"expert{r.rank}"] = r.make([[1.0, 7.0], [5.0, 5.0]][r.rank], "float32")
    return float(agclip.global_norm(tree, comm=r.comm, replicas={"dense": 2}))


CASES = {
    **cases.CASES,
    **{
        f"{name}, and a rank that holds nothing": with_one_more(case)
        for name, case in cases.CASES.items()
        if _of_lists(case)
    },
    **{
        f"placements, {name}, {size} ranks": Case(size, placements(options), "the same")
        for name, options in OPTIONS.items()
        for size in (2, 3)
    },
    **{
        f"bits of one process, {' and '.join(dtypes)}, {size} ranks": Case(
            size, narrow(dtypes), "the same"
        )
        for dtypes in (("float16",), ("bfloat16",), ("float32",), ("float16", "float64"))
        for size in (2, 3)
    },
    # What other clippers have got wrong.
    "norms are not averaged": normed([[6.0], [8.0]], 10.0),
    "experts beside a dense layer": Case(2, beside_experts, math.sqrt(120)),
    "powers of order 3 are not squares": normed([[3.0], [4.0]], 91 ** (1 / 3), ord=3),
    "stages without leaves of a kind": normed([[], [2.0], []], 2.0),
}
