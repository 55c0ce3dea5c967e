"""Every rule of a global norm x in place or not x options x where leaves are: cases on two ranks.

Each rank takes the steps of one process too, with all leaves and no communicator, and compares.
"""

from __future__ import annotations

import itertools
import math

import agclip
from ranks.cases import Case, plain

STEPS = 8
NAMES = "abc"

RULES = {
    "ClipByGlobalNorm": lambda **o: agclip.ClipByGlobalNorm(1.0, **o),
    "ClipByGlobalNorm, order 1": lambda **o: agclip.ClipByGlobalNorm(1.0, ord=1, **o),
    "ClipByGlobalNorm, order 3": lambda **o: agclip.ClipByGlobalNorm(1.0, ord=3, **o),
    "ClipByGlobalNorm, order inf": lambda **o: agclip.ClipByGlobalNorm(1.0, ord="inf", **o),
    "AutoClip": lambda **o: agclip.AutoClip(40.0, warmup=1, **o),
    "AutoClip with a window": lambda **o: agclip.AutoClip(40.0, 3, **o),
    "ZClip": lambda **o: agclip.ZClip(0.5, 0.5, 2, 20.0, **o),
    "ZClip, mean": lambda **o: agclip.ZClip(0.5, 0.5, 2, 20.0, "mean", **o),
    "QuantileClip": agclip.QuantileClip,
    "Scheduled": lambda **o: agclip.Scheduled(agclip.ClipByGlobalNorm, lambda t: 2 / (1 + t), **o),
    "Chain": lambda **o: agclip.Chain(
        agclip.QuantileClip(**o), agclip.ClipByGlobalNorm(0.5, **o), agclip.ClipByValue(-0.2, 0.2)
    ),
    "PerGroup": lambda **o: agclip.PerGroup(
        {"a": agclip.AutoClip(40.0, 3, **o), "b": None, "*": agclip.ClipByGlobalNorm(0.25, **o)}
    ),
}
OPTIONS = {
    "": {},
    "reproducible": {"reproducible": True},
    "strict": {"strict": True},
    "zero": {"nonfinite": "zero"},
    "skip": {"nonfinite": "skip"},
    "error": {"nonfinite": "error"},
    "loss scale": {"loss_scale": 4.0},
}
HELD = {"cut": ["ac", "b"], "one holds all": ["abc", ""], "held twice": ["ab", "ac"]}
"""Which leaves each rank holds, with `replicas` that say so."""


def gradients(r, t, names, options):
    """Return leaves of a step: now and then a spike, and a NaN unless it is an error."""
    made = {}
    for k, name in enumerate(NAMES):
        size = (12.0 if t % 5 == 4 else 1.0) * options.get("loss_scale", 1.0)
        values = [size * math.sin(1.0 + 7 * t + 3 * k + i) for i in range(5)]
        if t == 6 and name == "c" and options.get("nonfinite") != "error":
            values[1] = math.nan
        made[name] = r.make(values, "float32")
    return {name: made[name] for name in names}


def taken(r, rule, names, options, *, inplace):
    """Return what is held after each step, with what is told of it; and the last state."""
    state, steps = None, []
    for t in range(STEPS):
        grads = gradients(r, t, names, options)
        state = rule.init(grads) if state is None else state
        step = rule.update_ if inplace else rule.update
        new, state, info = step(grads, state)
        told = info.to_host()
        facts = [told.threshold, told.norm, told.clipped, told.nonfinite, told.skip]
        steps.append((plain(new), plain(facts)))
    return steps, plain(state)


def same(got, wanted, rel):
    """Tell whether plain data is the same, numbers but for a relative difference."""
    if isinstance(wanted, dict):
        return set(got) <= set(wanted) and all(same(got[k], wanted[k], rel) for k in got)
    if isinstance(wanted, (list, tuple)):
        pairs = zip(got, wanted, strict=True)
        return len(got) == len(wanted) and all(same(a, b, rel) for a, b in pairs)
    if isinstance(wanted, float) and not math.isnan(wanted):
        return math.isclose(got, wanted, rel_tol=rel)
    return str(got) == str(wanted)


def program(name, options, held, *, inplace):
    def run(r):
        often = {x: sum(x in names for names in HELD[held]) for x in NAMES}
        # A number or a function is asked of ranks that hold nothing too.
        replicas = 1 if held == "one holds all" else lambda path, _: often[path]
        rule = RULES[name](comm=r.comm, replicas=replicas, **options)
        got, state = taken(r, rule, HELD[held][r.rank], options, inplace=inplace)
        wanted, alone = taken(r, RULES[name](**options), NAMES, options, inplace=inplace)
        rel = 0.0 if options.get("reproducible") else 1e-6
        if not same(state, alone, rel):
            return f"states: {state}, {alone}"
        for t, (mine, whole) in enumerate(zip(got, wanted, strict=True)):
            # The last rule of a chain looks at single elements, and tells of those that are here.
            facts = 1 if name == "Chain" else 2
            if not same(mine[:facts], whole[:facts], rel):
                return f"step {t}: {mine}, {whole}"
        return "the same"

    return run


CELLS = {
    f"rule {name}, {options or 'plainly'}, {held}, {'in place' if inplace else 'new'}": (
        name,
        options,
        held,
        inplace,
    )
    for name, options, held, inplace in itertools.product(RULES, OPTIONS, HELD, (False, True))
    if (name, options) != ("ClipByGlobalNorm, order 3", "reproducible")  # which is refused
}
RULE_CASES = {
    cell: Case(2, program(name, OPTIONS[options], held, inplace=inplace), "the same")
    for cell, (name, options, held, inplace) in CELLS.items()
}


def kept(cell):
    """Tell whether `make test` runs a cell: every rule and every option, new and in place."""
    name, options, held, inplace = CELLS[cell]
    place = list(RULES).index(name) + list(OPTIONS).index(options)
    return list(HELD)[place % 3] == held and (options == "" or (place % 4 == 0) == inplace)
