"""What differs from `mlx.optimizers.clip_grad_norm`: the rows of docs/mlx.md, as they are now."""

import math
from pathlib import Path

import pytest

import agclip

mx = pytest.importorskip("mlx.core", reason="MLX is not installed")
optimizers = pytest.importorskip("mlx.optimizers", reason="MLX is not installed")

PAGE = Path(__file__).parents[2] / "docs" / "mlx.md"


def halves():
    return mx.full((2**18,), 0.3, dtype=mx.bfloat16)


CASES = {
    "`[3, 4]`, 5": (lambda: [mx.array([3.0, 4.0])], 5.0, "leaves"),
    "`[3, 4]`, 1: the norm of the result": (lambda: [mx.array([3.0, 4.0])], 1.0, "size"),
    "`[1e20, 1e20]`, 1": (lambda: [mx.array([1e20, 1e20])], 1.0, "leaves"),
    "`[3e-30, 4e-30]`, 1e-30": (lambda: [mx.array([3e-30, 4e-30])], 1e-30, "leaves"),
    "2²⁵ × 0.1: the norm": (lambda: [mx.full((2**25,), 0.1)], 1.0, "norm"),
    "bfloat16, 2¹⁸ × 0.3: the norm": (lambda: [halves()], 1.0, "norm"),
    "`[1, inf]`, 1": (lambda: [mx.array([1.0, math.inf])], 1.0, "leaves"),
    "`[3j, 4]`, 1: the norm": (lambda: [mx.array([3j, 4.0])], 1.0, "norm"),
    "`[3, 4]` of int32, 1": (lambda: [mx.array([3, 4])], 1.0, "leaves"),
    "`[3, 4]` and `None`, 1": (lambda: [mx.array([3.0, 4.0]), None], 1.0, "leaves"),
    "`[3, 4]`, NaN": (lambda: [mx.array([3.0, 4.0])], math.nan, "leaves"),
    "a bound that is an array, in `mx.compile`": (
        lambda: [mx.array([3.0, 4.0])],
        mx.array(1.0),
        "compiled",
    ),
}


def shown(x):
    return f"{x:.8g}" if not isinstance(x, complex) else f"{x:.3g}"


def answer(clip, make, bound, ask):
    """What a function answers, as it reads in the table."""
    try:
        if ask == "compiled":
            mx.compile(lambda tree, limit: clip(tree, limit)[0])(make(), bound)
            return "clipped"
        clipped, norm = clip(make(), bound)
    except (AttributeError, TypeError, ValueError) as error:
        return f"`{type(error).__name__}`"
    entries = clipped[0].tolist()
    if ask == "norm":
        return shown(norm.item())
    if ask == "size":
        return shown(math.hypot(*entries))
    return f"`[{', '.join(map(shown, entries))}]`"


@pytest.mark.parametrize("case", CASES)
def test_the_page_says_what_both_answer(case):
    theirs = answer(optimizers.clip_grad_norm, *CASES[case])
    ours = answer(agclip.clip_by_global_norm, *CASES[case])
    assert f"| {case} | {theirs} | {ours} |" in PAGE.read_text(encoding="utf-8").splitlines()


def test_every_row_of_the_page_is_tested():
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    start = lines.index("| case | `clip_grad_norm` | `clip_by_global_norm` |")
    rows = [line for line in lines[start + 2 : start + 2 + len(CASES) + 1] if line.startswith("|")]
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == list(CASES)
