"""The exact norm against its definition in fractions, and the rounding test against both."""

import contextlib
import dataclasses
import functools
import math
import zlib

import numpy as np
import pytest

import agclip
import arrays
from agclip._backends import exact_sums, host_scalars, registry, shapes
from agclip._clipping import measure as measure_
from agclip._numerics import exact as _exact
from agclip._numerics import norms as norms_
from agclip._numerics import plain_norms, rounding
from agclip._numerics.ranges import Norm
from oracle.exact import exact_norm
from thinned import thinned

SHAPES = ((37,), (4, 9))
# How to measure: the library, and whether with floats, with arrays, or with arrays when compiled.
WAYS = {
    "numpy, floats": ("numpy", "floats"),
    "numpy, arrays": ("numpy", "arrays"),
    "torch, floats": ("torch", "floats"),
    "torch, arrays": ("torch", "arrays"),
    "jax, jit": ("jax", "jit"),
    "jax, arrays": ("jax", "arrays"),
    "dask, arrays": ("dask", "arrays"),
    "array_api_strict, floats": ("array_api_strict", "floats"),
    "array_api_strict, arrays": ("array_api_strict", "arrays"),
}
ALL = ("float16", "bfloat16", "float32", "float64", "complex64", "complex128")
WIDE = ("float64", "complex128")
HALVES = ("float16", "bfloat16")


def uniform(low, high):
    return lambda rng, shape: rng.uniform(low, high, shape)


def powers(low, high):
    """Numbers of either sign whose logarithms are spread evenly."""
    return lambda rng, shape: rng.choice([-1, 1], shape) * 2.0 ** rng.uniform(low, high, shape)


def whole_powers(rng, shape):
    return 2.0 ** rng.integers(-12, 4, shape)


def crowned(of):
    """As `of`, but the first entry is 1."""

    def made(rng, shape):
        x = np.array(of(rng, shape))
        x.flat[0] = 1.0
        return x

    return made


# Kinds of data: the dtypes they fit, whether JAX on the CPU keeps them, and how they are drawn.
KINDS = {
    "spread": (ALL, True, powers(-12, 1)),
    "far apart": (ALL, True, powers(-50, 0)),
    "equal": (ALL, True, uniform(0.1, 0.1)),
    "whole powers of two": (ALL, True, whole_powers),
    "the largest a power of two": (ALL, True, crowned(uniform(-1, 1))),
    "one large, many tiny": (ALL, True, crowned(powers(-35, -31))),
    "one large, many tinier": (WIDE, True, crowned(powers(-51, -47))),
    "all zero": (ALL, True, uniform(0, 0)),
    "minus zero": (ALL, True, lambda _, shape: np.full(shape, -0.0)),
    "size 1e38": (("bfloat16", "float32", "complex64"), True, uniform(-2e38, 2e38)),
    "size 1e-30": (("bfloat16", "float32", "complex64"), True, uniform(1e-30, 2e-30)),
    "subnormal, single": (("bfloat16", "float32", "complex64"), False, uniform(0, 1e-40)),
    "subnormal, half": (("float16",), True, uniform(0, 6e-5)),
    "size 1e200": (WIDE, True, uniform(-1e200, 1e200)),
    "size 1e308": (WIDE, True, uniform(1e308, 1.7e308)),
    "size 1e-200": (WIDE, True, uniform(-1e-200, 1e-200)),
    "1e300 beside 1e-300": (WIDE, True, powers(-996, 996)),
    "subnormal, double": (WIDE, False, uniform(-1e-310, 1e-310)),
    "the smallest": (WIDE, False, lambda rng, shape: 5e-324 * rng.integers(0, 3, shape)),
    "below 2^480": (WIDE, True, uniform(2.0**479, math.nextafter(2.0**480, 0))),
    "from 2^480": (WIDE, True, uniform(2.0**480, 2.0**481)),
    "below 2^-450": (WIDE, True, uniform(2.0**-451, math.nextafter(2.0**-450, 0))),
    "from 2^-450": (WIDE, True, uniform(2.0**-450, 2.0**-449)),
}
# Where a case takes long: it builds a graph, or compiles every operation by itself.
FEW = {
    "jax, arrays": [("float32", "far apart"), ("float64", "1e300 beside 1e-300")],
    "dask, arrays": [
        ("float16", "spread"),
        ("float32", "far apart"),
        ("float64", "1e300 beside 1e-300"),
        ("complex64", "one large, many tiny"),
    ],
}


def cases_of(way):
    if way in FEW:
        return FEW[way]
    return [
        (dtype, kind)
        for kind, (dtypes, flushed, _) in KINDS.items()
        for dtype in dtypes
        if (flushed or way != "jax, jit")
        and not (way.startswith("array_api_strict") and dtype in HALVES)
    ]


CASES = {
    ", ".join((way, dtype, kind)): (way, dtype, kind)
    for way in WAYS
    for dtype, kind in cases_of(way)
}
SPECIAL = {
    "NaN": [[1.0, math.nan], [2.0]],
    "inf": [[1.0, math.inf], [2.0]],
    "minus inf": [[1.0], [-math.inf, 2.0]],
    "NaN and inf": [[math.nan, 1.0], [math.inf]],
    "inf and NaN": [[math.inf, 1.0], [math.nan]],
    "empty leaves": [[], [3.0, 4.0], []],
    "only empty leaves": [[], []],
    "no number but zero": [[0.0, -0.0], []],
    "one number": [[-0.3], []],
}


@functools.cache
def drawn(dtype, kind):
    """Return two leaves of NumPy."""
    rng = np.random.default_rng(zlib.crc32(f"{dtype}, {kind}".encode()))
    return tuple(typed(KINDS[kind][2], rng, shape, dtype) for shape in SHAPES)


def typed(draw, rng, shape, dtype):
    if dtype.startswith("complex"):
        return (draw(rng, shape) + 1j * draw(rng, shape)).astype(dtype)
    return draw(rng, shape).astype(numpy_dtype(dtype))


def numpy_dtype(name):
    if name != "bfloat16":
        return np.dtype(name)
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes, for bfloat16, is not installed")
    return np.dtype(ml_dtypes.bfloat16)


def converted(name, leaf):
    """Return a leaf of NumPy as an array of a library, of the same dtype."""
    if name == "torch" and leaf.dtype.name == "bfloat16":
        torch = pytest.importorskip("torch", reason="PyTorch is not installed")
        return torch.from_numpy(leaf.view(np.int16).copy()).view(torch.bfloat16)
    return arrays.library(name).convert(leaf.copy())


def floats(leaves):
    """Return all entries as Python numbers."""
    wide = ("complex128" if leaf.dtype.kind == "c" else "float64" for leaf in leaves)
    return [x for leaf, w in zip(leaves, wide, strict=True) for x in leaf.astype(w).ravel()]


def is_wide(leaves):
    return any(leaf.dtype.name in WIDE for leaf in leaves)


def defined(leaves, order):
    exact = exact_norm([x.item() for x in floats(leaves)], is_wide(leaves), order)
    return exact.root.hex(), exact.scale.hex()


def measured(way, leaves, order):
    """Return root and scale of the norm of leaves of NumPy, measured in a library."""
    name, style = WAYS[way]
    here = [converted(name, leaf) for leaf in leaves]
    with quiet(name):
        if style == "jit":
            return pair(*_jitted()(here, order), name)
        backend = registry.resolve(here[0])
        m = host_scalars if style == "floats" else backend.xp
        norm = _exact.exact_norm(backend, m, here, None, order)
        return pair(norm.root, norm.scale, name)


@contextlib.contextmanager
def quiet(name):
    """A library as its adapter runs it; no warning of an infinity, and Dask in this thread."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(np.errstate(all="ignore"))
        if name == "jax":
            jax = pytest.importorskip("jax", reason="JAX is not installed")
            stack.enter_context(jax.enable_x64(True))
        if name == "dask":
            dask = pytest.importorskip("dask", reason="Dask is not installed")
            stack.enter_context(dask.config.set(scheduler="synchronous"))
        yield


@functools.cache
def _jitted():
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    backend = agclip.get_backend("jax")

    def program(leaves, order):
        norm = _exact.exact_norm(backend, backend.xp, leaves, None, order)
        return norm.root, norm.scale

    return jax.jit(program, static_argnums=1)


def pair(root, scale, name):
    (root,), (scale,) = (entries(x, name) for x in (root, scale))
    return root.hex(), scale.hex()


def entries(x, name):
    """Return the entries of an array as floats, and a float as one."""
    if isinstance(x, float):
        return [x]
    return arrays.library(name).entries(x).ravel().tolist()


def dashed(name):
    return name.replace(", ", "-").replace(" ", "-")


def is_quick(name):
    """Tell whether `make test` measures: XLA compiles a program for each dtype."""
    way, dtype, _ = CASES[name]
    return way != "jax, jit" or dtype not in ("float16", "complex128")


@pytest.fixture(params=thinned(CASES, is_quick, ids=dashed))
def case(request):
    """A way to measure, and leaves of NumPy."""
    way, dtype, kind = CASES[request.param]
    arrays.library(WAYS[way][0])
    return way, drawn(dtype, kind)


@pytest.fixture(params=WAYS, ids=dashed)
def way(request):
    arrays.library(WAYS[request.param][0])
    return request.param


@pytest.fixture(params=[1, 2], ids=lambda order: f"order-{order}")
def order(request):
    return request.param


def test_the_norm_is_the_defined_number(case, order):
    way, leaves = case
    assert measured(way, leaves, order) == defined(leaves, order)


@pytest.mark.parametrize("way", [way for way in WAYS if way not in FEW])
@pytest.mark.parametrize("values", SPECIAL.values(), ids=map(dashed, SPECIAL))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_numbers_zeros_and_what_is_not_finite(way, values, dtype, order):
    leaves = [np.asarray(leaf, dtype=dtype) for leaf in values]
    arrays.library(WAYS[way][0])
    assert measured(way, leaves, order) == defined(leaves, order)


def test_a_float64_leaf_makes_the_whole_group_wide(way, order):
    leaves = [*drawn("float32", "far apart"), *drawn("float64", "far apart")]
    assert measured(way, leaves, order) == defined(leaves, order)


@pytest.fixture(params=[1, 5, 36], ids=lambda size: f"blocks-of-{size}")
def small_blocks(request, monkeypatch):
    """Blocks so small that a leaf has many."""
    monkeypatch.setattr(exact_sums, "BLOCK", request.param)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("dtype", ALL)
def test_blocks_do_not_change_the_norm(library, dtype, order):
    leaves = drawn(dtype, "far apart")
    assert measured(f"{library}, floats", leaves, order) == defined(leaves, order)


@pytest.mark.parametrize("way", [way for way in WAYS if way.startswith(("numpy", "torch"))])
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
def test_the_norm_of_many_entries(way, dtype, order):
    leaves = [typed(uniform(0.5, 1), np.random.default_rng(5), 6000, dtype)]
    assert measured(way, leaves, order) == defined(leaves, order)


@pytest.mark.parametrize("way", ["numpy, floats", "numpy, arrays", "torch, arrays", "jax, jit"])
def test_the_sum_is_rounded_twice_by_definition(way):
    # 2^105 + 2^52 + 1 units. The first rounding, without the last unit, is a tie and goes down.
    leaves = [np.asarray([1.0] * 512 + [2.0**-44, 2.0**-96])]
    assert exact_norm(leaves[0].tolist(), True, 1).integer == 2**105 + 2**52 + 1
    assert measured(way, leaves, 1) == defined(leaves, 1) == ((512.0).hex(), (1.0).hex())


AXES = {"none": (), "last": (1,), "first": (0,), "all": (0, 1)}


@pytest.fixture(params=["numpy", "torch", "jax", "dask", "array_api_strict"])
def library(request):
    return arrays.library(request.param).name


@pytest.mark.parametrize("axes", AXES.values(), ids=AXES)
@pytest.mark.parametrize(
    ("dtype", "kind"), [("float32", "far apart"), ("complex128", "size 1e200")]
)
def test_along_axes_every_slice_has_the_defined_norm(library, dtype, kind, axes, order):
    leaf = drawn(dtype, kind)[1]
    slices = np.moveaxis(leaf, axes, range(-len(axes), 0)).reshape(
        -1, math.prod(leaf.shape[axis] for axis in axes)
    )
    assert along_axes(library, [leaf], [axes], order) == [defined([s], order) for s in slices]


def along_axes(name, leaves, axes, order, **changes):
    here = [converted(name, leaf) for leaf in leaves]
    backend = dataclasses.replace(registry.resolve(here[0]), **changes)
    with quiet(name):
        norm = _exact.exact_norm(backend, backend.xp, here, axes, order)
        roots, scales = entries(norm.root, name), entries(norm.scale, name)
    scales = scales * len(roots) if isinstance(norm.scale, float) else scales
    return [(r.hex(), s.hex()) for r, s in zip(roots, scales, strict=True)]


def test_along_axes_several_leaves_share_the_norms_of_their_rows(library, order):
    one, other = rows()
    norms = along_axes(library, [one, other], [(1,), (1, 2)], order)
    assert norms == [defined([a, b], order) for a, b in zip(one, other, strict=True)]


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("block", [1, 12, 18])
def test_along_axes_blocks_do_not_change_the_norms(library, block, order):
    one, other = rows()
    norms = along_axes(library, [one, other], [(1,), (1, 2)], order, block=block)
    assert norms == [defined([a, b], order) for a, b in zip(one, other, strict=True)]


def rows():
    wide = drawn("float64", "far apart")[1]
    return drawn("float32", "far apart")[1], wide[:, :8].reshape(4, 2, 4)


# The rounding test: where the plain sum proves what the exact norm would give, it answers.

TESTED = ("float16", "float32", "complex64")


@pytest.fixture(params=["numpy", "torch"])
def eager(request):
    arrays.library(request.param)
    return request.param


@pytest.fixture
def tally(monkeypatch):
    counts = rounding.Tally()
    monkeypatch.setattr(rounding, "tally", counts)
    return counts


def clipped(name, leaves, bound):
    """Return the bytes of clipped leaves and of their norm."""
    out, norm = agclip.clip_by_global_norm([converted(name, leaf) for leaf in leaves], bound)
    lib = arrays.library(name)
    return [lib.entries(x).tobytes() for x in (*out, norm)]


def random_call(seed, nearness):
    """Return leaves, and a bound about as near to their norm as asked for."""
    rng = np.random.default_rng([seed, 7])
    dtype = TESTED[seed % len(TESTED)]
    sizes = rng.integers(1, 40, 2) if nearness else (rng.integers(1, 3000), 5)
    leaves = [typed(powers(-9, 2), rng, n, dtype) for n in sizes]
    exact = exact_norm([x.item() for x in floats(leaves)], False, 2).value if nearness else 1.0
    return leaves, exact * (1 + nearness * rng.uniform(-1, 1)) if nearness else 10 * rng.uniform()


@functools.cache
def random_calls(nearness, count):
    return [random_call(seed, nearness) for seed in range(count)]


# A multiple of 2^-52 is equal to the norm, or a neighbour of it.
NEARNESS = {"a few units": 2.0**-52, "1e-14": 1e-14, "1e-9": 1e-9, "1e-6": 1e-6, "any": 1.0}


@pytest.fixture(params=NEARNESS, ids=lambda name: name.replace(" ", "-"))
def near_calls(request):
    return random_calls(NEARNESS[request.param], 400)


@pytest.mark.parametrize(
    ("values", "bound"), [([3.0, 4.0], 5.0), ([1.0] * 4, 2.0), ([5.0, -12.0], 13.0), ([0.5], 0.5)]
)
def test_a_bound_that_is_the_norm_is_always_left_to_the_exact_norm(eager, values, bound, tally):
    x = converted(eager, np.asarray(values, dtype="float32"))
    assert agclip.clip_by_norm(x, bound) is x
    assert (tally.tests, tally.fallbacks) == (1, 1)


def test_the_rounding_test_rarely_fails(eager, tally):
    results = [clipped(eager, *call) for call in random_calls(0, 2000)]
    assert tally.tests == len(results) == 2000
    assert tally.fallbacks < 2, "more than one call in a thousand needed the exact norm"


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_what_the_test_does_not_serve_is_not_tested(eager, dtype, tally):
    clipped(eager, drawn(dtype, "spread"), 0.1)
    assert tally.tests == 0


def test_the_plain_sum_gives_the_answer_of_the_exact_norm(eager, near_calls, monkeypatch):
    plain = [clipped(eager, *call) for call in near_calls]
    monkeypatch.setattr(plain_norms, "error_of", lambda *_: 0.5)  # nothing can be decided
    counts = rounding.Tally()
    monkeypatch.setattr(rounding, "tally", counts)
    exact = [clipped(eager, *call) for call in near_calls]
    assert counts.fallbacks == counts.tests == len(near_calls)
    assert plain == exact


def displaced(monkeypatch, leaves, shift):
    """Let the plain sum be off by a multiple of what the error bound allows."""

    def norms(backend, here, groups, sums, *, others):
        error = rounding.relative_error(backend, here)
        root = exact_norm([x.item() for x in floats(leaves)], False, 2).root
        return [Norm(root * (1 + shift * error), 1.0, True, error) for _ in groups]

    monkeypatch.setattr(measure_, "plain_norms", norms)


@pytest.mark.parametrize("shift", [-0.8, 0.8])
def test_an_error_within_the_bound_changes_nothing(eager, near_calls, shift, monkeypatch):
    before = [clipped(eager, *call) for call in near_calls]
    after = []
    for leaves, bound in near_calls:
        displaced(monkeypatch, leaves, shift)
        after.append(clipped(eager, leaves, bound))
    assert after == before


@pytest.mark.parametrize(("shift", "bound"), [(-3.0, math.nextafter(5.0, 0)), (3.0, 5.0)])
def test_an_error_beyond_the_bound_would_be_seen(eager, shift, bound, monkeypatch, tally):
    leaf = np.asarray([3.0, 4.0], dtype="float32")
    displaced(monkeypatch, [leaf], shift)
    x = converted(eager, leaf)
    clips = agclip.clip_by_norm(x, bound) is not x
    assert tally.fallbacks == 0
    assert clips != (bound < 5.0), "a sum beyond its bound gave the right answer: a test is blind"


LAYOUTS = {
    "one block": lambda: np.full(30_000, 0.1, dtype="float32"),
    "many blocks": lambda: np.full(300_000, 0.1, dtype="float32"),
    "complex": lambda: np.full(30_000, 0.1 + 0.3j, dtype="complex64"),
    "many complex": lambda: np.full(300_000, 0.1 + 0.3j, dtype="complex64"),
    "transposed": lambda: np.full((500, 300), 0.1, dtype="float32").T,
    "rows just longer than a block": lambda: np.full((32_769, 20), 0.1, dtype="float32").T,
}


@pytest.fixture(params=LAYOUTS, ids=lambda name: name.replace(" ", "-"))
def layout(request):
    return LAYOUTS[request.param]()


def test_a_plain_norm_is_within_its_bound(eager, layout):
    backend = agclip.get_backend(eager)
    x = arrays.library(eager).convert(layout)
    sums = backend.sum_squares(backend.xp, [x], backend.xp.float64, 1.0)
    (norm,) = plain_norms.plain_norms(backend, [x], [[0]], sums, others=False)
    exact = _exact.exact_norm(backend, host_scalars, [x], None, 2)
    assert norm.error > 0
    assert abs(norm.root / exact.root - 1) <= norm.error


def test_the_bound_covers_every_addition_that_torch_may_make(layout):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    backend = agclip.get_backend("torch")
    x = torch.from_numpy(layout)
    real = torch.view_as_real(x) if x.is_complex() else x
    real = real.view(-1) if real.is_contiguous() else real
    sizes = [piece.numel() for piece in shapes.pieces(real, backend.block)]
    additions = max(sizes) - 1 + len(sizes) - 1
    # Each addition contributes 2^-53 to the sum, half of that to its root.
    assert rounding.relative_error(backend, [x]) >= additions * 2.0**-54


# Along axes a reproducible clip is tested slice by slice, and read once.


def along(name, leaf, bound, axes, **options):
    """Return the bytes of a leaf whose slices have been clipped, reproducibly."""
    x = converted(name, leaf)
    out = agclip.clip_by_norm(x, bound, axes=axes, reproducible=True, **options)
    return arrays.library(name).entries(out).tobytes()


@pytest.fixture(params=TESTED)
def table(request):
    rng = np.random.default_rng(17)
    return typed(powers(-9, 2), rng, (60, 35), request.param)


@pytest.mark.parametrize("options", [{}, {"strict": True}, {"loss_scale": 3.0}], ids=str)
@pytest.mark.parametrize("axes", [0, 1])
def test_along_axes_the_plain_sums_give_the_answer_of_the_exact_ones(
    eager, table, axes, options, tally, monkeypatch
):
    norms = np.sqrt((np.abs(table.astype("complex128")) ** 2).sum(axis=axes))
    bounds = [0.0, 1e-3, *(1.01 * np.quantile(norms, [0.1, 0.5, 0.9])).tolist(), math.inf]
    plain = [along(eager, table, bound, axes, **options) for bound in bounds]
    assert tally.tests == len(bounds)
    assert tally.fallbacks == 0
    monkeypatch.setattr(norms_, "error_along", lambda *_: 0.5)  # next to nothing is sure
    assert [along(eager, table, bound, axes, **options) for bound in bounds] == plain
    assert tally.fallbacks >= 1


def test_a_slice_on_its_bound_is_left_to_the_exact_norms(eager, tally):
    leaf = np.asarray([[3.0, 4.0], [1.0, 0.0], [6.0, 8.0]], dtype="float32")
    expected = np.asarray([[3.0, 4.0], [1.0, 0.0], [3.0, 4.0]], dtype="float32")
    assert along(eager, leaf, 5.0, 1) == expected.tobytes()
    assert (tally.tests, tally.fallbacks) == (1, 1)


def test_slices_that_are_not_finite_need_no_exact_norms(eager, tally):
    leaf = np.asarray([[3.0, 4.0], [math.nan, 0.0], [math.inf, 8.0], [0.0, 0.0]], dtype="float32")
    out = agclip.clip_by_norm(converted(eager, leaf), 1.0, axes=1, reproducible=True)
    found = arrays.library(eager).entries(out)
    assert found[0].tolist() == pytest.approx([0.6, 0.8])
    assert np.isnan(found[1:3]).all()
    assert found[3].tolist() == [0.0, 0.0]
    assert (tally.tests, tally.fallbacks) == (1, 0)
