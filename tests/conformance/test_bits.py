"""`reproducible=True`: the same bits from every library, order, chunking and thread count."""

import functools
import importlib
import itertools
import math
import os
import subprocess
import sys

import numpy as np
import pytest

import agclip
import arrays
from agclip._backends import registry
from agclip._numerics import exact as _exact
from oracle.exact import exact_norm
from thinned import thinned

TREES = {
    "float16": ("float16", "float16"),
    "bfloat16": ("bfloat16", "bfloat16"),
    "float32": ("float32", "float32"),
    "complex64": ("complex64", "complex64"),
    "float64": ("float64", "float64"),
    "narrow": ("float16", "bfloat16", "float32"),
    "mixed": ("float32", "float64", "float16"),
}
SHAPES = ((6, 8), (6, 5), (6, 3), (6, 4))
ORDERS = (1, 2, math.inf)
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
EXAMPLES = tuple(name for name in CALLS if name.startswith("per example"))
CHIEF = (
    "global, scaled",
    "global, ord 1",
    "leaf, strict, scaled",
    "axes, strict, scaled",
    "axes, ord inf",
    "rms, strict, scaled",
    "adaptive, strict, scaled",
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
    """Return the bytes of every array of a result; in complex ones the sign of a zero is free."""
    if isinstance(result, (list, tuple)):
        return [piece for part in result for piece in bits(part, name)]
    if str(result.dtype) == "torch.bfloat16":
        result = result.float()  # exact, as the widening below
    x = arrays.library(name).entries(result)
    x = x.astype("float32") if x.dtype.name == "bfloat16" else x
    if x.dtype.kind == "c":
        x = np.stack([x.real, x.imag]) + 0.0
    return [x.tobytes()]


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


def calls(names, trees=None, keep=lambda *_: True):
    """Parametrise by calls, or by calls and those of the trees that they take.

    `keep` tells of a call, or of a call and a tree, whether `make test` runs it.
    """
    if trees is None:
        return pytest.mark.parametrize("call", thinned(names, keep, ids=dashed))
    pairs = [
        (call, tree)
        for call in names
        for tree in trees
        if not (", ord" in call and tree == "complex64")  # refused
    ]
    cells = thinned(
        pairs, lambda pair: keep(*pair), ids=lambda pair: dashed(", ".join(pair)), tuples=True
    )
    return pytest.mark.parametrize(("call", "tree"), cells)


@pytest.fixture(
    params=thinned([range(9), range(9, 30)], keep=[range(9)], ids="{0.start}-{0.stop}".format)
)
def seeds(request):
    """Numbers to draw by; with every third one the bound is the norm."""
    return request.param


def is_chief(call, tree="narrow"):
    """Tell whether `make test` compiles a call: complex leaves are of one path in all of them."""
    return call in CHIEF and (tree != "complex64" or call.startswith(("global", "axes")))


WHOLE = tuple(name for name in CALLS if not name.startswith("per example"))
SINGLE = ("float16", "bfloat16", "float32", "complex64", "narrow")


@calls(WHOLE, TREES)
def test_torch_gives_the_bits_of_numpy(call, tree, seeds):
    assert differing("torch", call, tree, seeds) == []


@calls(WHOLE, TREES)
def test_tensors_that_require_grad_give_the_bits_of_numpy(call, tree, seeds):
    found = differing("torch", call, tree, seeds, change=lambda x: x.requires_grad_())
    assert found == []


@calls(WHOLE, ("float32", "complex64", "float64"))
def test_array_api_strict_gives_the_bits_of_numpy(call, tree):
    assert differing("array_api_strict", call, tree, range(9)) == []


@calls(WHOLE, ("float64",), keep=is_chief)
def test_jax_gives_the_bits_of_numpy(call, tree):
    assert differing("jax", call, tree, range(9)) == []


NARROW = {
    ("global, scaled", "complex64"),
    ("leaf, strict, scaled", "narrow"),
    ("axes, strict, scaled", "narrow"),
    ("adaptive, strict, scaled", "narrow"),
}


@calls(CHIEF, ("narrow", "complex64"), keep=lambda *cell: cell in NARROW)
def test_jax_gives_the_bits_of_numpy_for_narrow_leaves(call, tree):
    assert differing("jax", call, tree, range(9)) == []


@calls(
    WHOLE,
    ("float64", "complex64", "narrow"),
    keep=lambda call, tree: (
        is_chief(call, tree) and (tree == "narrow" or call.startswith(("global, s", "axes, s")))
    ),
)
def test_tensorflow_gives_the_bits_of_numpy(call, tree):
    assert differing("tensorflow", call, tree, range(9)) == []


@pytest.mark.parametrize(
    ("call", "jit_compile"),
    thinned(
        itertools.product(
            ("global, scaled", "axes, strict, scaled", "adaptive, strict, scaled"), (False, True)
        ),
        lambda cell: cell == ("global, scaled", False),  # a program takes XLA seconds
        ids=lambda cell: f"{cell[0].replace(', ', '-')}-{'XLA' if cell[1] else 'function'}",
        tuples=True,
    ),
)
def test_tensorflow_gives_the_same_inside_a_function(call, jit_compile):
    arrays.library("tensorflow")
    tf = importlib.import_module("tensorflow")
    function = tf.function(CALLS[call][0], autograph=False, jit_compile=jit_compile)
    for tree in ("float64", "narrow"):
        assert differing("tensorflow", call, tree, range(3), function=function) == []


@calls(EXAMPLES, SINGLE)
def test_torch_sums_examples_to_the_bits_of_numpy(call, tree, seeds):
    assert differing("torch", call, tree, seeds) == []


@calls(EXAMPLES, ("narrow", "complex64"))
def test_jax_sums_examples_to_the_bits_of_numpy(call, tree):
    assert differing("jax", call, tree, range(9)) == []


@calls(("global", "rms"))
def test_jax_gives_the_same_with_its_64_bit_flag_on(call):
    with pytest.importorskip("jax", reason="JAX is not installed").enable_x64(True):
        assert differing("jax", call, "narrow", range(9)) == []


@calls(("global, scaled", "axes, strict, scaled", "adaptive, strict, scaled"))
def test_jax_gives_the_same_inside_jit(call):
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    with jax.enable_x64(True):
        found = differing("jax", call, "float64", range(9), function=jax.jit(CALLS[call][0]))
    assert found == []


@calls(CHIEF, keep=lambda call: call.startswith(("global, s", "adaptive")))
def test_jax_gives_the_same_inside_jit_where_the_bound_is_a_constant(call):
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    bound = bound_of(call, "float64", 1)
    compiled = jax.jit(lambda g, p: CALLS[call][0](g, p, bound))
    with jax.enable_x64(True):
        found = differing(
            "jax",
            call,
            "float64",
            range(9),
            function=lambda g, p, _: compiled(g, p),
            rounded=lambda _: bound,
        )
    assert found == []


@calls(("global, strict", "rms, strict, scaled"))
def test_jax_gives_the_same_inside_jit_with_its_64_bit_flag_off(call):
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    assert not jax.config.jax_enable_x64
    function = jax.jit(CALLS[call][0])
    assert differing("jax", call, "narrow", range(9), function=function, rounded=single) == []


def single(bound):
    """Return what jit makes of a number without 64 bits."""
    return float(np.float32(bound))


PROGRAM = """
import agclip, jax, numpy
x = numpy.random.default_rng(3).standard_normal(99)
for dtype in ("float32", "float64"):
    leaf = jax.numpy.asarray(x, dtype=dtype)
    (clipped,), norm = agclip.clip_by_global_norm([leaf], 1.5, reproducible=True, strict=True)
    print(norm.dtype, *(numpy.asarray(x).tobytes().hex() for x in (norm, clipped)))
"""


def test_jax_gives_the_same_in_a_process_with_its_64_bit_flag_on():
    arrays.library("jax")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "JAX_ENABLE_X64": "1", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=True,
    )
    x = np.random.default_rng(3).standard_normal(99)
    assert done.stdout.split() == [
        word
        for dtype in ("float32", "float64")
        for word in (dtype, *hexes(globally(strict=True)([x.astype(dtype)], None, 1.5)))
    ]


def hexes(result):
    (leaf,), norm_ = result
    return norm_.tobytes().hex(), leaf.tobytes().hex()


@pytest.mark.parametrize("chunks", thinned([4, (1, 3)], keep=[(1, 3)], ids=repr))
@pytest.mark.parametrize(
    ("call", "tree"),
    thinned(
        [
            ("global, strict", "float64"),
            ("leaf", "float32"),
            ("axes", "float32"),
            ("per example", "complex64"),
            ("norm, ord 1", "float64"),
        ],
        lambda cell: cell[0] in ("global, strict", "axes", "per example"),
        ids=lambda cell: dashed(", ".join(cell)),
        tuples=True,
    ),
)
def test_dask_gives_the_bits_of_numpy_whatever_the_chunks(call, tree, chunks):
    dask = pytest.importorskip("dask", reason="Dask is not installed")
    with dask.config.set(scheduler="synchronous"):
        found = differing("dask", call, tree, range(2), change=lambda x: x.rechunk(chunks))
    assert found == []


@pytest.fixture(params=[1, 2], ids=lambda n: f"{n}-threads")
def torch_threads(request):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield torch
    torch.set_num_threads(before)


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_threads_do_not_change_a_bit(torch_threads, dtype, requires_grad):
    x = random(np.random.default_rng(4), dtype, 300_001)
    here = torch_threads.from_numpy(x.copy()).requires_grad_(requires_grad)
    wanted = globally()([x], None, 1.5)
    assert bits(globally()([here], None, 1.5), "torch") == bits(wanted, "numpy")


@pytest.fixture
def compiler():
    """Compile a call of trees and a bound without a graph break, from a cold start."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")

    def compiled(call, backend):
        function = torch.compile(CALLS[call][0], fullgraph=True, backend=backend)
        return lambda g, p, c: function(g, p, torch.tensor(c, dtype=torch.float64))

    torch._dynamo.reset()
    yield compiled
    torch._dynamo.reset()


@calls(
    ("global, strict", "axes, strict, scaled", "adaptive, strict, scaled", "per example"),
    keep=lambda call: call.startswith("adaptive"),  # `test_inductor.py` has the global norm
)
def test_compiled_torch_gives_the_bits_of_numpy(call, compiler):
    found = differing("torch", call, "narrow", range(9), function=compiler(call, "eager"))
    assert found == []


IN_PLACE = {
    "global": (agclip.clip_by_global_norm, agclip.clip_by_global_norm_),
    "leaf": (agclip.clip_by_norm, agclip.clip_by_norm_),
    "rms": (agclip.clip_by_rms, agclip.clip_by_rms_),
    "average": (agclip.clip_by_average_norm, agclip.clip_by_average_norm_),
    "adaptive": (
        functools.partial(agclip.adaptive_grad_clip, unit_axes="in_out"),
        functools.partial(agclip.adaptive_grad_clip_, unit_axes="in_out"),
    ),
}


@pytest.mark.parametrize("twins", IN_PLACE.values(), ids=IN_PLACE)
@pytest.mark.parametrize("library", arrays.WRITABLE)
@pytest.mark.parametrize("tree", ["float32", "float64"])
def test_in_place_the_bits_are_the_same(twins, library, tree):
    grads, params, _ = drawn(tree, 1)
    g, p = ([converted(library, leaf) for leaf in t] for t in (grads, params))
    rest = (p, 0.07) if "adaptive" in str(twins[0]) else (0.07,)
    new = bits(twins[0](g, *rest, strict=True, reproducible=True), library)
    assert bits(twins[1](g, *rest, strict=True, reproducible=True), library) == new
    assert new[: len(g)] == bits(g, library) != bits(grads, "numpy")


# Ways to lay out the same numbers; what they return is undone by `back`.
ORDER = np.random.default_rng(8).permutation(360)
LAYOUTS = {
    "reversed": (lambda x: [x[::-1].copy()], lambda x: x[::-1]),
    "permuted": (lambda x: [x[ORDER]], lambda x: x[np.argsort(ORDER)]),
    "split": (lambda x: np.array_split(x, 7), lambda x: x),
    "many matrices": (lambda x: list(x.reshape(20, 6, 3)), lambda x: x),
    "leaves reversed": (lambda x: [x[100:], x[:100]], lambda x: np.roll(x, 100)),
    "with empty leaves": (lambda x: [x[:0], x.reshape(9, 40), x[:0]], lambda x: x),
    "one number a leaf": (lambda x: [x[:1], *x[1:3].reshape(2, 1, 1), x[3:]], lambda x: x),
}


@pytest.fixture(params=LAYOUTS, ids=dashed)
def layout(request):
    return LAYOUTS[request.param]


@pytest.mark.parametrize(
    ("dtype", "order"),
    [
        *((dtype, order) for dtype in ("float16", "float32", "float64") for order in ORDERS),
        ("complex64", 2),
    ],
)
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_neither_order_nor_leaves_matter(layout, library, dtype, order):
    assert laid_out(library, layout, dtype, order) == laid_out("numpy", None, dtype, order)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_neither_order_nor_leaves_matter_to_jax(dtype):
    layout = LAYOUTS["many matrices"]
    assert laid_out("jax", layout, dtype, 2) == laid_out("numpy", None, dtype, 2)


def laid_out(library, layout, dtype, order):
    split, back = layout or (lambda x: [x], lambda x: x)
    x = random(np.random.default_rng(9), dtype, 360)
    leaves = [converted(library, leaf) for leaf in split(x)]
    out, norm_ = globally(ord=order)(leaves, None, 0.3)
    entries = arrays.library(library).entries
    joined = back(np.concatenate([entries(leaf).ravel() for leaf in out]))
    return bits(joined, "numpy"), bits(norm_, library)


# Without the keyword, NumPy and PyTorch agree all the same where the rounding test is made.
DEFAULT = {
    "global": agclip.clip_by_global_norm,
    "global, strict, scaled": lambda g, c: agclip.clip_by_global_norm(
        g, c, strict=True, loss_scale=SCALED
    ),
    "leaf": agclip.clip_by_norm,
    "rms": lambda g, c: agclip.clip_by_rms(g, c / math.sqrt(g[0].shape[0])),
    "average": lambda g, c: agclip.clip_by_average_norm(g, c / g[0].shape[0]),
    "norm": lambda g, _: agclip.global_norm(g),
    "norm, scaled": lambda g, _: agclip.global_norm(g, loss_scale=SCALED),
}


@pytest.mark.parametrize("function", DEFAULT.values(), ids=map(dashed, DEFAULT))
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "complex64"])
@pytest.mark.parametrize(
    "seeds",
    thinned([range(9), range(9, 60)], keep=[range(9)], ids="{0.start}-{0.stop}".format),
)
def test_by_default_numpy_and_torch_agree_to_the_bit(function, dtype, seeds):
    found = [seed for seed in seeds if not agree(function, dtype, seed)]
    assert found == []


def agree(function, dtype, seed):
    rng = np.random.default_rng(seed)
    leaves = [random(rng, dtype, size) for size in rng.integers(1, 20_000, 2)]
    size = float(agclip.global_norm(leaves[: 1 + seed % 2]))
    bound = size * (rng.uniform(0.01, 1.2) if seed % 3 else 1 + rng.integers(-1, 2) * 2.0**-24)
    here = [converted("torch", leaf) for leaf in leaves]
    return bits(function(leaves, bound), "numpy") == bits(function(here, bound), "torch")


def flushed(largest):
    """Return the norms that NumPy and JAX give to one number beside many subnormal ones."""
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    x = np.full(2**14, 2.0**-126 - 2.0**-149, dtype="float32")
    x[0] = largest
    here = converted("jax", x)
    backend = registry.resolve(here)
    measure = jax.jit(lambda v: _exact.exact_norm(backend, backend.xp, [v], None, 2).root)
    with jax.enable_x64(True):
        return l2(x), float(measure(here))


@pytest.mark.parametrize("exponent", [-93, -92, -60])
def test_subnormal_numbers_do_not_matter_beside_one_of_2_to_the_minus_93(exponent):
    exact, flushing = flushed(2.0**exponent)
    assert flushing == exact


@pytest.mark.parametrize("exponent", [-94, -95, -120])
def test_below_that_jax_differs_because_it_takes_them_for_zero(exponent):
    exact, flushing = flushed(2.0**exponent)
    assert exact > flushing == 2.0**exponent, (
        "XLA keeps subnormal numbers: lift the documented limit"
    )


def test_down_to_2_to_the_minus_93_jax_gives_the_bits_of_numpy():
    x = np.asarray([2.0**-93, 1e-40, -3e-39, 2.0**-100], dtype="float32")
    wanted, given = (norm(2)([converted(name, x)], None, None) for name in ("numpy", "jax"))
    assert bits(given, "jax") == bits(wanted, "numpy")


@pytest.mark.parametrize(
    ("dtype", "order"),
    [
        *((dtype, order) for dtype in ("float32", "float64") for order in ORDERS),
        ("complex64", 2),
        ("complex128", 2),
    ],
)
def test_it_is_the_same_norm_to_within_its_rounding(dtype, order):
    x = random(np.random.default_rng(2), dtype, 50)
    plain, reproducible = (
        float(agclip.global_norm([x], order, reproducible=chosen)) for chosen in (False, True)
    )
    assert reproducible == pytest.approx(plain, rel=1e-6)


@pytest.mark.parametrize("order", [1, math.inf])
def test_complex_leaves_have_a_reproducible_norm_of_order_2_only(order):
    x = random(np.random.default_rng(2), "complex64", 5)
    with pytest.raises(ValueError, match="must be 2 with `reproducible` for complex leaves"):
        agclip.global_norm([x], order, reproducible=True)


@pytest.mark.parametrize("order", [0.5, 3, 2.5])
@pytest.mark.parametrize(
    "function",
    [
        lambda x, order: agclip.global_norm(x, order, reproducible=True),
        lambda x, order: agclip.clip_by_norm(x, 1.0, ord=order, reproducible=True),
        lambda x, order: agclip.clip_by_norm_(x, 1.0, ord=order, reproducible=True),
        lambda x, order: agclip.clip_by_global_norm(x, 1.0, ord=order, reproducible=True),
    ],
    ids=["global_norm", "clip_by_norm", "clip_by_norm_", "clip_by_global_norm"],
)
def test_other_orders_are_refused(function, order):
    with pytest.raises(ValueError, match="`ord` must be 1, 2 or inf with `reproducible`; got") as e:
        function([np.ones(3)], order)
    assert str(float(order)) in str(e.value)


@pytest.mark.parametrize("call", [*CALLS])
def test_a_device_without_float64_is_refused(call):
    strict = pytest.importorskip("array_api_strict", reason="array_api_strict is not installed")
    device = strict.Device("no_float64")
    tree = [strict.ones((2, 2), dtype=strict.float32, device=device)]
    with pytest.raises(NotImplementedError) as error:
        CALLS[call][0](tree, tree, 1.0)
    assert "`reproducible` must be False on devices without float64" in str(error.value)
    assert "Move the arrays to the CPU" in str(error.value)
