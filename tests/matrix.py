"""The cells of the matrix: every public clip and rule, and every kind of tree it may be given.

A subject is run for several steps, new or in place, with a state where it has one; its oracle is in
`oracle/subjects.py`. `conformance/test_matrix.py` asserts that no public function or rule is
missing here.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest

import agclip
import arrays
from oracle import rules as reference_rules
from oracle import subjects as oracle
from oracle.subjects import Leaf, Oracle

BASE = (
    Leaf("w", (2, 2), [3.0, 0.5, -0.25, -4.0]),
    Leaf("b", (2,), [0.25, -0.5]),
)
WEIGHTS = {"w": [1.0, 1.0, 2.0, 0.0], "b": [0.5, 0.125], "we": []}
STEPS = (1.0, 8.0, 0.5, 2.0)
"""What the gradients of each step are multiplied by."""


class Subject(NamedTuple):
    """A function with its arguments, or a rule: how to take a run of steps, and its oracle."""

    name: str
    public: str
    oracle: Oracle
    run: Callable[..., tuple[list[Any], list[Any]]]
    """`(trees, params, policy, inplace, read)` → what comes out of each step; and what is
    remembered and recorded, as Python's numbers, unless `read` is false."""
    policies: bool = True
    """Whether it takes `nonfinite`."""
    inplace: bool = True
    make: Callable[..., Any] | None = None
    """`(nonfinite=)` → the rule, if it is one."""


def _of_function(public: str, label: str, wanted: Oracle, *args: Any, **options: Any) -> Subject:
    policies = not public.startswith("clip_by_value")
    with_params = public == "adaptive_grad_clip"

    def run(
        trees: Sequence[Any], params: Any, policy: str, *, inplace: bool, read: bool = True
    ) -> tuple[list[Any], list[Any]]:
        function = getattr(agclip, f"{public}_" if inplace else public)
        chosen = {**options, **({"nonfinite": policy} if policies else {})}
        first = (params,) if with_params else ()
        results = [function(tree, *first, *args, **chosen) for tree in trees]
        if public in ("clip_by_global_norm", "clip_per_example"):
            return [one for one, _ in results], [_host(other) for _, other in results if read]
        return results, []

    has_twin = hasattr(agclip, f"{public}_")
    return Subject(f"{public}{label}", public, wanted, run, policies, has_twin)


def _of_rule(label: str, wanted: Oracle, make: Callable[..., Any]) -> Subject:
    public = type(make(nonfinite="skip")).__name__
    policies = public != "ClipByValue"

    def run(
        trees: Sequence[Any], params: Any, policy: str, *, inplace: bool, read: bool = True
    ) -> tuple[list[Any], list[Any]]:
        rule = make(nonfinite=policy)
        state, results, facts = rule.init(params), [], []
        for tree in trees:
            step = rule.update_ if inplace else rule.update
            new, state, info = step(tree, state, params)
            results.append(new)
            if read:
                facts += [_host(state), info.to_host()]
        return results, facts

    return Subject(f"{public}{label}", public, wanted, run, policies, make=make)


def _host(x: Any) -> Any:
    """Return arrays of any library as Python's numbers."""
    if isinstance(x, dict):
        return {key: _host(value) for key, value in x.items()}
    if isinstance(x, tuple):
        return tuple(map(_host, x))
    computed = x.compute() if hasattr(x, "compute") else x
    return (computed if hasattr(computed, "tolist") else np.asarray(computed)).tolist()


def _schedule(step: Any) -> Any:
    return 2.0 / (1 + step)


def _autoclip(norms: list[float]) -> list[float]:
    return reference_rules.autoclip(norms, 40.0, 3)


def _zclip(target: str, norms: list[float]) -> list[float]:
    found = reference_rules.zclip_bounds(
        norms, z_threshold=0.5, alpha=0.5, warmup=1, max_norm=20.0, target=target
    )
    return [bound for _, bound in found]


def _average_share(size: int) -> float:
    return float(size)


_FUNCTIONS = (
    _of_function("clip_by_value", "", oracle.by_value(-1.0, 0.5), -1.0, 0.5),
    _of_function("clip_by_norm", "", oracle.by_norm(1.0), 1.0),
    _of_function("clip_by_norm", "-axes", oracle.by_entry(1.0), 1.0, ()),
    _of_function("clip_by_norm", "-ord-3", oracle.by_norm(1.0, 3.0), 1.0, ord=3),
    _of_function(
        "clip_by_average_norm", "", oracle.by_norm(0.25, share=_average_share), 0.25
    ),
    _of_function("clip_by_rms", "", oracle.by_norm(0.5, share=math.sqrt), 0.5),
    _of_function("clip_by_global_norm", "", oracle.by_global_norm(1.0), 1.0),
    _of_function(
        "clip_by_global_norm", "-ord-inf", oracle.by_global_norm(1.0, math.inf), 1.0, ord=math.inf
    ),
    _of_function(
        "clip_by_global_norm", "-reproducible", oracle.by_global_norm(1.0), 1.0, reproducible=True
    ),
    _of_function(
        "adaptive_grad_clip", "", oracle.adaptive(0.5, WEIGHTS), 0.5, unit_axes="out_in"
    ),
    _of_function("clip_per_example", "", oracle.per_example(1.0), 1.0),
)  # fmt: skip

_RULES = (
    _of_rule("", oracle.by_value(-1.0, 0.5), lambda **_: agclip.ClipByValue(-1.0, 0.5)),
    _of_rule("", oracle.by_norm(1.0), functools.partial(agclip.ClipByNorm, 1.0)),
    _of_rule("-axes", oracle.by_entry(1.0), functools.partial(agclip.ClipByNorm, 1.0, ())),
    _of_rule(
        "",
        oracle.by_norm(0.25, share=_average_share),
        functools.partial(agclip.ClipByAverageNorm, 0.25),
    ),
    _of_rule("", oracle.by_norm(0.5, share=math.sqrt), functools.partial(agclip.ClipByRMS, 0.5)),
    _of_rule("", oracle.by_global_norm(1.0), functools.partial(agclip.ClipByGlobalNorm, 1.0)),
    _of_rule(
        "",
        oracle.adaptive(0.5, WEIGHTS),
        functools.partial(agclip.AdaptiveGradClip, 0.5, unit_axes="out_in"),
    ),
    _of_rule("", oracle.by_bounds(_autoclip), functools.partial(agclip.AutoClip, 40.0, 3)),
    _of_rule(
        "",
        oracle.by_bounds(functools.partial(_zclip, "reciprocal")),
        functools.partial(agclip.ZClip, 0.5, 0.5, 1, 20.0),
    ),
    _of_rule(
        "-mean",
        oracle.by_bounds(functools.partial(_zclip, "mean")),
        functools.partial(agclip.ZClip, 0.5, 0.5, 1, 20.0, "mean"),
    ),
    _of_rule("", oracle.by_bounds(reference_rules.quantile), agclip.QuantileClip),
    _of_rule(
        "",
        oracle.adagc(1.05, 1.0, 0.5, 2),
        functools.partial(agclip.AdaGC, 1.05, 1.0, 0.5, 2),
    ),
    _of_rule("", oracle.spike(4.0, 0.5, 1), functools.partial(agclip.SpikeClip, 4.0, 0.5, 1)),
    _of_rule(
        "",
        oracle.by_schedule(_schedule),
        functools.partial(agclip.Scheduled, agclip.ClipByGlobalNorm, _schedule),
    ),
    _of_rule(
        "",
        oracle.chain(oracle.by_bounds(reference_rules.quantile), oracle.by_norm(0.05)),
        lambda **options: agclip.Chain(
            agclip.QuantileClip(**options), agclip.ClipByNorm(0.05, **options)
        ),
    ),
    _of_rule(
        "",
        oracle.per_group({"w": oracle.by_bounds(_autoclip), "b": oracle.by_norm(0.25)}),
        lambda **options: agclip.PerGroup(
            {"*w*": agclip.AutoClip(40.0, 3, **options), "*": agclip.ClipByNorm(0.25, **options)}
        ),
    ),
    _of_rule(
        "-none",
        oracle.per_group({"w": None, "b": oracle.by_global_norm(0.25)}),
        lambda **options: agclip.PerGroup(
            {"*w*": None, "*": agclip.ClipByGlobalNorm(0.25, **options)}
        ),
    ),
)  # fmt: skip

SUBJECTS = {one.name: one for one in (*_FUNCTIONS, *_RULES)}


# --- kinds of trees ----------------------------------------------------------------------------


class Kind(NamedTuple):
    """A kind of tree: its leaves, what holds them, and what is wrong with one step."""

    build: Callable[[dict[str, Any]], Any]
    """Named arrays → a tree, in which an array may stand more than once."""
    leaves: Callable[[Sequence[Leaf]], list[Leaf]] = list
    """The leaves of a step in the order of the tree."""
    policy: str = "propagate"
    bad: float | None = None
    """What the first entry of the second step is, if it is not finite."""
    foreign: bool = False


def _nested(x: dict[str, Any]) -> Any:
    return {"layers": [{"w": x["w"]}, ()], "head": ({"b": x["b"]},)}


def _with_none(x: dict[str, Any]) -> Any:
    return {"frozen": None, "w": x["w"], "rest": [None, {"b": x["b"]}]}


def _with_empty(x: dict[str, Any]) -> Any:
    return {"w": x["w"], "we": x["w"][:, :0], "b": x["b"]}


def _and_empty(leaves: Sequence[Leaf]) -> list[Leaf]:
    return [leaves[0], Leaf("we", (2, 0), []), leaves[1]]


def _twice(x: dict[str, Any]) -> Any:
    return {"w": x["w"], "again": {"w": x["w"]}, "b": x["b"]}


def _views(x: dict[str, Any]) -> Any:
    return {"w": x["w"], "again": {"w": x["w"][:, :]}, "b": x["b"], "be": [x["b"][:]]}


def _also_both(leaves: Sequence[Leaf]) -> list[Leaf]:
    return [leaves[0], leaves[0], leaves[1], leaves[1]]


def _also(leaves: Sequence[Leaf]) -> list[Leaf]:
    return [leaves[0], leaves[0], leaves[1]]


KINDS = {
    "plain": Kind(dict),
    "nested": Kind(_nested),
    "foreign": Kind(_nested, foreign=True),
    "an empty leaf": Kind(_with_empty, _and_empty),
    "none": Kind(_with_none),
    "nan, propagate": Kind(dict, bad=math.nan),
    "nan, zero": Kind(_nested, policy="zero", bad=math.nan),
    "inf, skip": Kind(dict, policy="skip", bad=-math.inf),
    "shared memory": Kind(_twice, _also),
    "views of one memory": Kind(_views, _also_both),
}


def run_of(kind: Kind) -> list[list[Leaf]]:
    """Return the leaves of every step, as the oracle takes them."""
    steps = []
    for number, scale in enumerate(STEPS):
        leaves = [leaf._replace(entries=[x * scale for x in leaf.entries]) for leaf in BASE]
        if number == 1 and kind.bad is not None:
            leaves[0].entries[0] = kind.bad
        steps.append(kind.leaves(leaves))
    return steps


def trees_of(kind: Kind, lib: arrays.Library) -> tuple[list[Any], Any]:
    """Return new trees of every step, and one of parameters."""

    def tree(entries: dict[str, tuple[tuple[int, ...], list[float]]]) -> Any:
        made = {name: lib.array(_shaped(*one)) for name, one in entries.items()}
        return kind.build(made)

    plain = Kind(dict, policy=kind.policy, bad=kind.bad)
    steps = [{leaf.name: leaf[1:] for leaf in leaves} for leaves in run_of(plain)]
    params = {leaf.name: (leaf.shape, WEIGHTS[leaf.name]) for leaf in BASE}
    return [*map(tree, steps)], tree(params)


def _shaped(shape: tuple[int, ...], entries: list[float]) -> Any:
    rows = iter(entries)
    return (
        [[next(rows) for _ in range(shape[1])] for _ in range(shape[0])] if shape[1:] else entries
    )


def leaves_of(tree: Any) -> list[Any]:
    """Return the arrays of a tree in order."""
    if tree is None:
        return []
    if isinstance(tree, dict):
        return [leaf for child in tree.values() for leaf in leaves_of(child)]
    if isinstance(tree, (list, tuple)):
        return [leaf for child in tree for leaf in leaves_of(child)]
    return [tree]


def entries(lib: arrays.Library, tree: Any) -> list[list[float]]:
    """Return the entries of every leaf."""
    return [lib.entries(leaf).ravel().tolist() for leaf in leaves_of(tree)]


def require_nothing_written(twin: Subject, lib: arrays.Library, wrong: Any) -> None:
    """Fail unless a tree whose last leaf is wrong is refused, and kept."""
    trees, params = trees_of(KINDS["plain"], lib)
    before = entries(lib, trees[0])
    pair = {**params, "z": lib.array([1.0, 1.0])}
    with pytest.raises(TypeError):
        twin.run([{**trees[0], "z": wrong}], pair, "propagate", inplace=True)
    assert entries(lib, trees[0]) == before


@contextlib.contextmanager
def setting(kind: Kind, lib: arrays.Library) -> Iterator[None]:
    """Configure what a kind of tree needs: arrays of another library are clipped in another."""
    if not kind.foreign:
        yield
        return
    other = arrays.library("torch" if lib.name == "numpy" else "numpy")
    with agclip.config_context(backend=other.name, on_foreign="convert"):
        yield
