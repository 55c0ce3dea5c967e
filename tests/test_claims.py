"""The README's table of wrong results, asked of the libraries, and its speeds, of the benchmark."""

import ast
import importlib
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

import agclip

README = Path(__file__).parents[1] / "README.md"
HEAD = ["gradient, bound", "PyTorch", "optax", "TensorFlow", "MLX", "agclip"]
TENTHS = "norm of 1e8 float32 values 0.1"


def rows():
    lines = README.read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| gradient, bound |"))
    cells = [[cell.strip() for cell in lines[start].strip("|").split("|")]]
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            return cells
        cells.append([cell.strip() for cell in line.strip("|").split("|")])
    return cells


TABLE = rows()
CELLS = [
    pytest.param(row[0], name, cell, id=f"{row[0]}-{name}")
    for row in TABLE[1:]
    if row[0] != TENTHS
    for name, cell in zip(TABLE[0][1:6], row[1:6], strict=True)
]


def by_torch(values, bound):
    torch = pytest.importorskip("torch")
    parameter = torch.nn.Parameter(
        torch.zeros(len(values), dtype=getattr(torch, values.dtype.name))
    )
    parameter.grad = torch.from_numpy(values.copy())
    torch.nn.utils.clip_grad_norm_([parameter], bound)
    return parameter.grad.tolist()


def by_optax(values, bound):
    optax = pytest.importorskip("optax")
    clip = optax.clip_by_global_norm(bound)
    jnp = importlib.import_module("jax.numpy")
    return clip.update(jnp.asarray(values), optax.EmptyState())[0].tolist()


def by_tensorflow(values, bound):
    tf = pytest.importorskip("tensorflow")
    (clipped,), _ = tf.clip_by_global_norm([tf.constant(values)], bound)
    return clipped.numpy().tolist()


def by_mlx(values, bound):
    mx = pytest.importorskip("mlx.core")
    optimizers = importlib.import_module("mlx.optimizers")
    (clipped,), _ = optimizers.clip_grad_norm([mx.array(values)], bound)
    return clipped.tolist()


def by_agclip(values, bound):
    (clipped,), _ = agclip.clip_by_global_norm([values], bound)
    return clipped.tolist()


CLIPPERS = {
    "PyTorch": by_torch,
    "optax": by_optax,
    "TensorFlow": by_tensorflow,
    "MLX": by_mlx,
    "agclip": by_agclip,
}


def asked(text):
    """Return the gradient and the bound that a cell of the first column names."""
    dtype = "float16" if "float16" in text else "float32"
    values, bound = re.fullmatch(r".*`\[(.*)\]`, (.*)", text).groups()
    entries = [float(value) for value in values.split(",")]
    return np.asarray(entries, dtype=dtype), float(bound.replace("−", "-"))


def told(cell):
    """Return the entries that a cell tells, and the half unit of the last digit shown."""
    written = re.match(r"`\[(.*?)\]`", cell)[1].split(", ")
    digits = max(len(text.partition(".")[2]) for text in written)
    named = {"nan": math.nan, "inf": math.inf}
    return [named[x] if x in named else ast.literal_eval(x) for x in written], 0.5 * 10.0**-digits


def test_the_table_has_the_columns_that_are_asked():
    assert TABLE[0][:6] == HEAD
    assert len(TABLE) > 8


@pytest.mark.filterwarnings("ignore:.*(overflow|invalid|divide).*:RuntimeWarning")
@pytest.mark.parametrize(("gradient", "name", "cell"), CELLS)
def test_a_clipper_returns_what_the_table_says(gradient, name, cell):
    values, bound = asked(gradient)
    if cell == "`ValueError`":
        with pytest.raises(ValueError, match="norm"):
            CLIPPERS[name](values, bound)
        return
    expected, half = told(cell)
    # A row that tells whole numbers means them.
    tolerance = 0.0 if half == 0.5 else half
    np.testing.assert_allclose(CLIPPERS[name](values, bound), expected, rtol=0, atol=tolerance)


@pytest.mark.whole
def test_the_norms_of_a_hundred_million_tenths_are_what_the_table_says():
    torch = pytest.importorskip("torch")
    optax = pytest.importorskip("optax")
    tf = pytest.importorskip("tensorflow")
    mx = pytest.importorskip("mlx.core")
    optimizers = importlib.import_module("mlx.optimizers")
    jnp = importlib.import_module("jax.numpy")
    (row,) = [row for row in TABLE if row[0] == TENTHS]
    tenths = np.full(10**8, 0.1, dtype=np.float32)
    norms = {
        "PyTorch": torch.nn.utils.get_total_norm([torch.from_numpy(tenths)]),
        "optax": optax.tree.norm(jnp.asarray(tenths)),
        "TensorFlow": tf.linalg.global_norm([tf.constant(tenths)]),
        "MLX": optimizers.clip_grad_norm([mx.array(tenths)], 1.0)[1].item(),
        "agclip": agclip.global_norm(tenths),
    }
    for name, norm in norms.items():
        cell = row[TABLE[0].index(name)]
        digits = len(cell.partition(".")[2])
        assert float(norm) == pytest.approx(float(cell), abs=0.6 * 10.0**-digits), name


def speeds(contest, *names):
    """Return the smallest and the largest published ratio of some contenders."""
    path = README.parent / "bench" / "results" / "last.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    family = [c for c in document["contests"] if c["family"] == "global_norm"]
    (ratios,) = (c["ratios"] for c in family if c["title"] == contest)
    found = [row[name] for row in ratios.values() for name in names]
    return min(found), max(found)


BEYOND = "clip_by_global_norm_, norm beyond the bound"
WITHIN = "clip_by_global_norm_, norm within the bound"


def test_the_speeds_that_are_told_are_those_of_the_last_published_benchmark():
    plain = [
        speeds(title, "agclip-torch-plain", "agclip-numpy-plain") for title in (BEYOND, WITHIN)
    ]
    least, most = min(low for low, _ in plain), max(high for _, high in plain)
    told = README.read_text(encoding="utf-8")
    words = f"Without Numba agclip takes {least:.1f} to {most:.1f} times as long as PyTorch."
    assert words in told
    landing = (README.parent / "docs" / "index.md").read_text(encoding="utf-8")
    words = "agclip takes {:.1f} to {:.1f} times as long as PyTorch's clip where the norm is above"
    assert words.format(*speeds(BEYOND, "agclip-torch", "agclip-numpy")) in landing
    assert (
        "and {:.1f} to {:.1f} within it".format(*speeds(WITHIN, "agclip-torch", "agclip-numpy"))
        in landing
    )
