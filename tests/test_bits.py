"""The same bits from every library, order, split, chunking and thread count: `reproducible=True`."""

import contextlib
import functools
import math
import subprocess
import sys
import warnings

import numpy as np
import pytest

import agclip
import arrays
from agclip import _exact, _registry
from reference_exact import exact_norm

TREES = {
    "float16": ("float16", "float16"),
    "bfloat16": ("bfloat16", "bfloat16"),
    "float32": ("float32", "float32"),
    "complex64": ("complex64", "complex64"),
    "float64": ("float64", "float64"),
    "narrow": ("float16", "bfloat16", "float32", "complex64"),
    "mixed": ("float32", "float64", "float16"),
}
SHAPES = ((6, 8), (6, 5), (6, 3), (6, 4))
SCALED = 3.0
"""A loss scale that is no power of two: division by it has to be rounded."""


def l2(leaf):
    return global_size([leaf])


def global_size(leaves):
    """Return the exact norm of leaves of NumPy."""
    wide = any(leaf.dtype.name in ("float64", "complex128") for leaf in leaves)
    kinds = ["complex128" if leaf.dtype.kind == "c" else "float64" for leaf in leaves]
    entries = [x for a, kind in zip(leaves, kinds, strict=True) for x in a.astype(kind).ravel()]
    return exact_norm([x.item() for x in entries], wide, 2).value


def largest(leaf):
    return float(np.abs(leaf).astype("float64").max())


def total(leaves):
    return float(sum(np.abs(leaf).astype("float64").sum() for leaf in leaves))


def globally(**options):
    return lambda g, _, c: agclip.clip_by_global_norm(g, c, reproducible=True, **options)


def per_leaf(**options):
    return lambda g, _, c: agclip.clip_by_norm(g, c, reproducible=True, **options)


def rms(**options):
    return lambda g, _, c: agclip.clip_by_rms(g, c, reproducible=True, **options)


def average(**options):
    return lambda g, _, c: agclip.clip_by_average_norm(g, c, reproducible=True, **options)


def adaptive(**options):
    options = {"unit_axes": "out_in", "eps": 1e-3, **options}
    return lambda g, p, c: agclip.adaptive_grad_clip(g, p, c, reproducible=True, **options)


def per_example(**options):
    return lambda g, _, c: agclip.clip_per_example(g, c, reproducible=True, **options)


def norm(order, **options):
    return lambda g, _, __: agclip.global_norm(g, order, reproducible=True, **options)


# Every call of (grads, params, bound), and what its bound is measured by.
CALLS = {
    "global": (globally(), lambda g, _: global_size(g)),
    "global, strict": (globally(strict=True), lambda g, _: global_size(g)),
    "global, scaled": (globally(loss_scale=SCALED), lambda g, _: global_size(g) / SCALED),
    "global, ord 1": (globally(ord=1, strict=True), lambda g, _: total(g)),
    "global, ord inf": (globally(ord=math.inf), lambda g, _: max(map(largest, g))),
    "leaf": (per_leaf(), lambda g, _: l2(g[0])),
    "leaf, strict, scaled": (
        per_leaf(strict=True, loss_scale=SCALED),
        lambda g, _: l2(g[0]) / SCALED,
    ),
    "axes": (per_leaf(axes=1), lambda g, _: l2(g[0][0])),
    "axes, strict, scaled": (
        per_leaf(axes=0, strict=True, loss_scale=SCALED),
        lambda g, _: l2(g[0][:, 0]) / SCALED,
    ),
    "axes, ord 1": (per_leaf(axes=-1, ord=1), lambda g, _: total([g[0][0]])),
    "axes, ord inf": (per_leaf(axes=1, ord=math.inf), lambda g, _: largest(g[0][0])),
    "rms": (rms(), lambda g, _: l2(g[0]) / math.sqrt(g[0].size)),
    "rms, strict, scaled": (
        rms(strict=True, loss_scale=SCALED),
        lambda g, _: l2(g[0]) / math.sqrt(g[0].size) / SCALED,
    ),
    "average": (average(strict=True), lambda g, _: l2(g[0]) / g[0].size),
    "adaptive": (adaptive(), lambda g, p: l2(g[0][0]) / l2(p[0][0])),
    "adaptive, strict, scaled": (
        adaptive(strict=True, loss_scale=SCALED),
        lambda g, p: l2(g[0][0]) / l2(p[0][0]) / SCALED,
    ),
    "per example": (per_example(), lambda g, _: global_size([leaf[0] for leaf in g])),
    "per example, strict, scaled": (
        per_example(strict=True, loss_scale=SCALED),
        lambda g, _: global_size([leaf[0] for leaf in g]) / SCALED,
    ),
    "norm": (norm(2), lambda *_: 1.0),
    "norm, scaled": (norm(2, loss_scale=SCALED), lambda *_: 1.0),
    "norm, ord 1": (norm(1), lambda *_: 1.0),
    "norm, ord inf": (norm(math.inf), lambda *_: 1.0),
}
CHIEF = (
    "global, scaled",
    "global, ord 1",
    "leaf, strict, scaled",
    "axes, strict, scaled",
    "axes, ord inf",
    "rms, strict, scaled",
    "adaptive, strict, scaled",
    "per example",
)
"""What is compiled, which takes long."""


def dashed(name):
    return name.replace(", ", "-").replace(" ", "-")


@functools.cache
def drawn(tree, seed):
    """Return grads and params of NumPy, and how large the bound is in units of the norm."""
    rng = np.random.default_rng([seed, *tree.encode()])
    names = TREES[tree]
    grads, params = ([random(rng, n, s) for n, s in zip(names, SHAPES, strict=False)] for _ in "gp")
    return grads, params, 1.0 if seed % 3 == 0 else rng.uniform(0.01, 1.2)


def random(rng, dtype, shape):
    """Return normal numbers of many sizes."""

    def draw():
        return rng.standard_normal(shape) * np.exp(rng.uniform(-8, 1, shape))

    if dtype.startswith("complex"):
        return (draw() + 1j * draw()).astype(dtype)
    return draw().astype(bfloat16() if dtype == "bfloat16" else dtype)


def bfloat16():
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes, for bfloat16, is not installed")
    return ml_dtypes.bfloat16


def bound_of(call, tree, seed):
    grads, params, fraction = drawn(tree, seed)
    return CALLS[call][1](grads, params) * fraction


def converted(name, leaf):
    """Return a leaf of NumPy as an array of a library, of the same dtype."""
    if name == "torch" and leaf.dtype.name == "bfloat16":
        torch = pytest.importorskip("torch", reason="PyTorch is not installed")
        return torch.from_numpy(leaf.view(np.int16).copy()).view(torch.bfloat16)
    return arrays.library(name).convert(leaf.copy())


def bits(result, name):
    """Return the bytes of every array of a result; a complex -0 counts as 0, all NaN as one."""
    if isinstance(result, (list, tuple)):
        return [piece for part in result for piece in bits(part, name)]
    if str(result.dtype) == "torch.bfloat16":
        result = result.float()  # exact, as the widening below
    x = arrays.library(name).entries(result)
    x = x.astype("float32") if x.dtype.name == "bfloat16" else x
    if x.dtype.kind == "c":
        x = np.stack([x.real, x.imag]) + 0.0
    return [np.where(np.isnan(x), np.asarray(math.nan, x.dtype), x).tobytes()]


@functools.cache
def expected(call, tree, bound, seed):
    """Return the bits that NumPy gives."""
    grads, params, _ = drawn(tree, seed)
    return bits(CALLS[call][0](grads, params, bound), "numpy")


def differing(name, call, tree, seeds, *, function=None, change=lambda x: x, rounded=float):
    """Return the seeds whose result differs from NumPy's."""
    function = function or CALLS[call][0]
    found = []
    for seed in seeds:
        grads, params, _ = drawn(tree, seed)
        bound = rounded(bound_of(call, tree, seed))
        g, p = ([change(converted(name, leaf)) for leaf in t] for t in (grads, params))
        if bits(function(g, p, bound), name) != expected(call, tree, bound, seed):
            found.append(seed)
    return found


def calls(names=tuple(CALLS)):
    return pytest.mark.parametrize("call", names, ids=dashed)


def trees(*names):
    return pytest.mark.parametrize("tree", names or tuple(TREES))


@calls()
@trees()
def test_numpy_gives_the_same_twice(call, tree):
    # The results are kept: what is compared with them below must not have changed them.
    assert differing("numpy", call, tree, range(9)) == []


@calls()
@trees()
def test_torch_gives_the_bits_of_numpy(call, tree):
    assert differing("torch", call, tree, range(30)) == []


@calls()
@trees()
def test_tensors_that_require_grad_give_the_bits_of_numpy(call, tree):
    found = differing("torch", call, tree, range(30), change=lambda x: x.requires_grad_())
    assert found == []


@calls()
@trees("float32", "complex64", "float64")
def test_array_api_strict_gives_the_bits_of_numpy(call, tree):
    assert differing("array_api_strict", call, tree, range(9)) == []


@calls()
@trees("narrow", "float64")
def test_jax_gives_the_bits_of_numpy(call, tree):
    assert differing("jax", call, tree, range(9)) == []


@calls(("global", "rms"))
def test_jax_gives_the_same_with_its_64_bit_flag_on(call):
    with pytest.importorskip("jax", reason="JAX is not installed").enable_x64(True):
        assert differing("jax", call, "narrow", range(9)) == []


@calls(CHIEF)
@trees("float64")
def test_jax_gives_the_same_inside_jit(call, tree):
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    with jax.enable_x64(True):
        assert differing("jax", call, tree, range(9), function=jax.jit(CALLS[call][0])) == []


@calls(("global, strict", "rms, strict, scaled"))
@trees("narrow")
def test_jax_gives_the_same_inside_jit_with_its_64_bit_flag_off(call, tree):
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    assert not jax.config.jax_enable_x64
    function = jax.jit(CALLS[call][0])
    single = lambda bound: float(np.float32(bound))  # noqa: E731 - what jit makes of an argument
    assert differing("jax", call, tree, range(9), function=function, rounded=single) == []
