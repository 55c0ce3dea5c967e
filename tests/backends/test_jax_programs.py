"""What JAX compiles clips to: how many loops, what they read, and what is written over."""

import math
import re

import numpy as np
import pytest

import agclip

jax = pytest.importorskip("jax", reason="JAX is not installed")
jnp = jax.numpy


@pytest.fixture(autouse=True)
def _on_one_cpu():
    if jax.device_count("cpu") != 1 or jax.default_backend() != "cpu":
        pytest.skip("programs are made for one CPU alone")


def leaves(count, *shape):
    rng = np.random.default_rng(count)
    return [jnp.asarray(rng.standard_normal(shape, dtype=np.float32)) for _ in range(count)]


def entry(function, *arguments, **options):
    """Return the operations of a compiled program, one a line, and what comes before them."""
    compiled = jax.jit(function, **options).lower(*arguments).compile().as_text()
    head, _, operations = compiled.partition("\nENTRY ")
    return operations, head


def clipped(grads):
    return agclip.clip_by_global_norm(grads, 1.0)[0]


TREES = {"100 of one element": (100, 1), "20 of 64×64": (20, 64, 64), "6 of 300×100": (6, 300, 100)}


@pytest.mark.parametrize("shape", TREES.values(), ids=TREES)
def test_leaves_of_one_size_are_summed_in_one_loop_and_not_copied(shape):
    operations, _ = entry(clipped, leaves(*shape))
    assert not re.search(r" (concatenate|copy|conditional|while)\(", operations)
    # Two for the sum of all, two for the coefficient, and one to multiply each leaf.
    assert operations.count(" fusion(") <= shape[0] + 4


@pytest.mark.parametrize("size", [4096, 10_000, 100_000, 1_000_003])
def test_one_leaf_takes_few_loops(size):
    # It is folded, reduced in one to three, decided upon, and multiplied.
    operations, _ = entry(clipped, leaves(1, size))
    assert operations.count(" fusion(") <= 6


@pytest.mark.parametrize("function", [agclip.clip_by_norm, agclip.clip_by_rms])
def test_so_does_each_leaf_that_is_clipped_by_itself(function):
    operations, _ = entry(lambda grads: function(grads, 0.5), leaves(20, 64, 64))
    assert operations.count(" fusion(") <= 20 * 5


def test_many_tiny_leaves_are_stacked_for_a_loop_over_each_takes_long_to_compile():
    operations, _ = entry(agclip.global_norm, leaves(130, 7))
    assert operations.count(" concatenate(") == 1


@pytest.mark.parametrize("dtypes", [("float64",), ("float32", "float64"), ("complex64", "float16")])
@pytest.mark.parametrize("bound", [1e-3, 1e3, 1e-44])
def test_the_condition_goes_with_the_coefficient_of_any_dtype(dtypes, bound):
    rng = np.random.default_rng(3)
    plain = [rng.standard_normal((70, 3)).astype(dtype) for dtype in dtypes]
    with jax.enable_x64(True):
        found = jax.jit(lambda grads: agclip.clip_by_global_norm(grads, bound)[0])(
            [jnp.asarray(leaf) for leaf in plain]
        )
        expected, _ = agclip.clip_by_global_norm(plain, bound)
        for new, wanted in zip(found, expected, strict=True):
            room = 0.0 if bound == 1e3 else np.finfo(wanted.dtype).eps
            assert np.allclose(new, wanted, rtol=room, atol=1e-37)


def test_donated_leaves_are_overwritten_and_none_is_copied():
    grads = leaves(5, 64, 64) + leaves(3, 100_003)
    operations, head = entry(clipped, grads, donate_argnums=0)
    assert head.count("may-alias") == len(grads)
    assert " copy(" not in operations


def uses(operations, shape):
    """Return how often each parameter of a shape is read."""
    names = re.findall(rf"(%\S+) = f32\[{shape}\]\S* parameter\(", operations)
    return [len(re.findall(rf"{re.escape(name)}[,)]", operations)) for name in names]


def test_leaves_whose_norms_are_wanted_each_are_read_once_for_all_of_them():
    rule = agclip.ClipByGlobalNorm(1.0)

    def step(grads):
        new, _, info = rule.update(grads, rule.init(grads))
        return new, info.norm, list(info.leaf_norms.values())

    operations, _ = entry(step, leaves(4, 64, 64))
    found = uses(operations, "64,64")
    assert len(found) == 4
    assert max(found) <= 2  # to be measured, and to be multiplied


@pytest.mark.parametrize("count", [64, 256, 512])
def test_no_program_holds_examples_in_float64(count):
    operations, _ = entry(lambda g: agclip.clip_per_example(g, 1.0), leaves(1, count, 40, 32))
    assert f"f64[{count},40,32]" not in operations


@pytest.mark.parametrize("axes", [0, 1])
def test_nor_leaves_that_are_clipped_along_an_axis(axes):
    operations, _ = entry(lambda g: agclip.clip_by_norm(g, 1.0, axes=axes), leaves(1, 512, 256))
    assert "f64[512,256]" not in operations


MANY = {
    "tiny, few": [(3,)] * 100,
    "tiny, many": [(3,)] * 300,
    "one element": [(1,), (1, 1), ()] * 9,
    "small": [(60, 60)] * 3,
    "alike": [(64, 65), (65, 64)] * 3,
    "wide": [(1 << 16,)] * 5 + [((1 << 16) + 1,)] * 2,
    "mixed": [(0,), (0, 3), (5,), (5,), (5000,), (50, 100), (5000, 1), (100, 50), (7, 1000)],
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64", "complex64"])
@pytest.mark.parametrize("shapes", MANY.values(), ids=MANY)
def test_norms_of_leaves_of_one_size_are_right(shapes, dtype):
    rng = np.random.default_rng(1)
    with jax.enable_x64(True):
        grads = [jnp.asarray(rng.standard_normal(shape) * 9, dtype=dtype) for shape in shapes]
        wide = [np.asarray(g).astype("complex128" if dtype[0] == "c" else float) for g in grads]
        exact = math.sqrt(math.fsum(x * x for g in wide for x in np.abs(g).ravel().tolist()))
        found = float(jax.jit(agclip.global_norm)(grads))
    assert found == pytest.approx(exact, rel=2.0**-50 if dtype == "float64" else 2.0**-24)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_one_entry_that_is_not_finite_is_found_among_leaves_of_one_size(value):
    grads = leaves(6, 64, 64)
    grads[3] = grads[3].at[63, 63].set(value)
    assert float(jax.jit(agclip.global_norm)(grads)) == pytest.approx(value, nan_ok=True)


SHAPES = [(257, 131), (512, 100), (100, 512), (6, 70, 90), (7, 49, 121), (40_000, 1), (2, 20_000)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sums_along_axes_are_those_of_the_slices(shape):
    x = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    for axis in range(len(shape)):
        clipped = jax.jit(lambda g, axis=axis: agclip.clip_by_norm(g, 0.5, axes=axis))(x)
        norms = np.linalg.norm(x.astype(float), axis=axis, keepdims=True)
        expected = x * np.minimum(1.0, 0.5 / norms)
        assert np.allclose(clipped, expected, rtol=2.0**-22, atol=0.0)


SUBNORMAL = [1e-40, -1e-40, 0.0, -0.0, math.nan, 3e-39, 2.0, -2.0, math.inf, -math.inf, 0.5, -0.5]
BOUNDS = [(-0.5, 0.5), (None, 0.5), (-0.5, None), (-3.0, 0.0), (0.0, 3.0), (None,) * 2]


@pytest.mark.parametrize("jitted", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
def test_what_a_clip_by_value_leaves_keeps_its_bits(bounds, dtype, jitted):
    low, high = (
        end if bound is None else bound
        for bound, end in zip(bounds, (-math.inf, math.inf), strict=True)
    )
    x = jnp.asarray(SUBNORMAL * 5, dtype)

    def clip(leaf):
        return agclip.clip_by_value(leaf, *bounds)

    found = np.asarray((jax.jit(clip) if jitted else clip)(x))
    wide = np.asarray(x).astype(float)
    within = np.isnan(wide) | ((wide >= low) & (wide <= high))
    assert found[within].tobytes() == np.asarray(x)[within].tobytes()
    beyond = ~within & (np.abs(wide) > 1e-3)
    assert found[beyond].astype(float).tolist() == np.clip(wide[beyond], low, high).tolist()
