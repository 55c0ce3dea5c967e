"""Trees that are nested too deeply to be followed, or that hold themselves."""

import functools
import re
import sys

import numpy as np
import pytest

import agclip

CLIPS = {
    "clip_by_norm": ("t", lambda t: agclip.clip_by_norm(t, 1.0)),
    "clip_by_value": ("t", lambda t: agclip.clip_by_value(t, -1.0, 1.0)),
    "clip_by_norm_": ("t", lambda t: agclip.clip_by_norm_(t, 1.0)),
    "clip_by_global_norm": ("t_list", lambda t: agclip.clip_by_global_norm(t, 1.0)),
    "global_norm": ("t_list", agclip.global_norm),
    "rule": ("grads", lambda t: agclip.ClipByNorm(1.0).update(t, ())),
    "clip_per_example": ("grads", lambda t: agclip.clip_per_example(t, 1.0)),
}


def deep(wrap, leaf):
    return functools.reduce(lambda tree, _: wrap(tree), range(5000), leaf)


def cycle_of_lists():
    tree = [np.ones(2)]
    tree.append(tree)
    return tree


def cycle_of_dicts():
    tree = {"w": np.ones(2)}
    tree["self"] = {"again": tree}
    return tree


def cycle_without_arrays():
    tree = []
    tree.append(tree)
    return tree


TREES = {
    "lists": lambda: deep(lambda tree: [tree], np.ones(2)),
    "dicts": lambda: deep(lambda tree: {"k": tree}, np.ones(2)),
    "tuples": lambda: deep(lambda tree: (tree, None), np.ones(2)),
    "numbers": lambda: deep(lambda tree: [tree], 3.0),
    "nothing": lambda: deep(lambda tree: [tree], None),
    "a list in itself": cycle_of_lists,
    "a dict in itself": cycle_of_dicts,
    "an empty list in itself": cycle_without_arrays,
}


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("clip", CLIPS)
def test_a_tree_that_cannot_be_followed_is_named(clip, tree):
    name, call = CLIPS[clip]
    text = (
        f"`{name}` must not hold itself, nor be nested more deeply than Python's recursion limit "
        f"of {sys.getrecursionlimit()} allows; got a tree that is. Pass a flat list of its arrays."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        call(TREES[tree]())


def test_nothing_is_written_of_a_tree_that_holds_itself():
    tree = cycle_of_lists()
    with pytest.raises(ValueError, match="must not hold itself"):
        agclip.clip_by_norm_(tree, 1.0)
    assert tree[0].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("depth", range(200, 1000, 40))
def test_a_tree_of_any_depth_comes_back_or_is_named(depth):
    tree = functools.reduce(lambda tree, _: [tree], range(depth), np.asarray([3.0, 4.0]))
    try:
        clipped = agclip.clip_by_norm(tree, 1.0)
    except ValueError as error:
        clipped = str(error)
    for _ in range(depth if isinstance(clipped, list) else 0):
        (clipped,) = clipped
    named = isinstance(clipped, str) and "must not hold itself" in clipped
    assert named or clipped.tolist() == pytest.approx([0.6, 0.8])


def test_a_nested_list_of_numbers_has_no_more_axes_than_an_array_may_have():
    nested = functools.reduce(lambda tree, _: [tree], range(65), 3.0)
    text = (
        "a nested list of numbers must have at most 64 axes; got 65 at t. Take out the lists that "
        "hold a single one."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        agclip.clip_by_norm(nested, 1.0)
    assert agclip.clip_by_norm(nested[0], 1.0).ndim == 64
