"""JAX: jit, grad, vmap and scan through every clip; float64 inside whatever the flag says."""

import math

import numpy as np
import pytest

import agclip
from thinned import thinned

jax = pytest.importorskip("jax", reason="JAX is not installed")
jnp = jax.numpy

FUNCTIONS = {
    "norm": lambda v: agclip.clip_by_norm(v, 1.0),
    "norm of order 1": lambda v: agclip.clip_by_norm(v, 1.0, ord=1),
    "norm of order 0.5": lambda v: agclip.clip_by_norm(v, 1.0, ord=0.5),
    "norm of order 3": lambda v: agclip.clip_by_norm(v, 1.0, ord=3),
    "largest entry": lambda v: agclip.clip_by_norm(v, 1.0, ord=math.inf),
    "norm along axes": lambda v: agclip.clip_by_norm(v, 1.0, axes=0),
    "average norm": lambda v: agclip.clip_by_average_norm(v, 0.5),
    "rms": lambda v: agclip.clip_by_rms(v, 0.5),
    "global norm": lambda v: agclip.clip_by_global_norm([v], 1.0)[0][0],
    "adaptive": lambda v: agclip.adaptive_grad_clip(v, v * 0 + 1, 0.5, unit_axes="out_in"),
    "per example": lambda v: agclip.clip_per_example(v, 1.0)[0],
    "value": lambda v: agclip.clip_by_value(v, -1.0, 1.0),
}


OFTEN = ("norm", "norm of order 3", "largest entry", "norm along axes", "adaptive", "value")
"""What `make test` has compiled for transforms of transforms."""


def dashed(name):
    return name.replace(" ", "-")


@pytest.fixture(params=FUNCTIONS, ids=dashed)
def clip(request):
    return FUNCTIONS[request.param]


def test_jit_gives_what_an_eager_call_gives(clip):
    x = jnp.asarray([3.0, -4.0, 0.5])
    assert jax.jit(clip)(x).tolist() == clip(x).tolist()


@pytest.mark.parametrize(
    "name", thinned(FUNCTIONS, lambda name: name == "norm" or name not in OFTEN, ids=dashed)
)
def test_the_derivative_at_zero_is_the_identity(name):
    clip = FUNCTIONS[name]
    gradient = jax.grad(lambda v: clip(v).sum())(jnp.zeros(3))
    assert gradient.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("name", thinned(FUNCTIONS, OFTEN, ids=dashed))
def test_the_derivative_at_zero_is_the_identity_under_vmap_too(name):
    clip = FUNCTIONS[name]
    gradient = jax.vmap(jax.grad(lambda v: clip(v).sum()))(jnp.zeros((2, 3)))
    assert gradient.tolist() == [[1.0, 1.0, 1.0]] * 2


def test_vmap_clips_every_row_by_itself(clip):
    rows = jnp.asarray([[3.0, -4.0, 0.5], [0.1, 0.2, 0.0]])
    expected = jnp.stack([clip(row) for row in rows])
    assert jnp.allclose(jax.vmap(clip)(rows), expected, rtol=1e-6)


def test_the_derivative_of_a_clipped_norm_is_the_formula():
    # d(c x / |x|) v = c (v - x (x·v) / |x|²) / |x|, here with v = (1, 1).
    gradient = jax.grad(lambda v: agclip.clip_by_norm(v, 1.0).sum())(jnp.asarray([3.0, 4.0]))
    assert gradient.tolist() == pytest.approx([0.032, -0.024], abs=1e-7)


def test_one_trace_serves_all_steps_and_thresholds():
    traces = []

    @jax.jit
    def step(grads, bound):
        traces.append(1)
        return agclip.clip_by_global_norm(grads, bound)

    for k in range(5):
        step({"w": jnp.ones(3) * k, "b": jnp.zeros(2)}, 0.5 * k)
    assert len(traces) == 1


def test_eager_calls_share_one_compiled_program():
    from agclip_backends.jax import adapter

    agclip.clip_by_norm(jnp.ones(7), 1.0)
    before = adapter._compiled._cache_size()
    for k in range(1, 4):
        agclip.clip_by_norm(jnp.ones(7) * k, 0.5 * k)
    assert adapter._compiled._cache_size() == before


def test_scan_carries_a_clipped_value():
    last, _ = jax.lax.scan(
        lambda carry, _: (agclip.clip_by_norm(carry * 2, 1.0), None),
        jnp.asarray([3.0, 4.0]),
        None,
        3,
    )
    assert last.tolist() == pytest.approx([0.6, 0.8], abs=1e-7)


def test_sums_are_formed_in_float64_although_the_flag_is_off():
    assert not jax.config.jax_enable_x64
    assert float(agclip.global_norm([jnp.full(100, 1e20)])) == pytest.approx(1e21, rel=1e-7)
    assert agclip.global_norm([jnp.ones(2)]).dtype == jnp.float32


def test_float64_leaves_keep_their_dtype_inside_the_context():
    with jax.enable_x64(True):
        clipped, norm = agclip.clip_by_global_norm([jnp.asarray([3e200, 4e200])], 1.0)
        assert (clipped[0].dtype, norm.dtype) == (jnp.float64, jnp.float64)
        assert float(norm) == pytest.approx(5e200, rel=1e-15)


def test_a_traced_negative_bound_counts_as_zero():
    assert jax.jit(agclip.clip_by_norm)(jnp.asarray([3.0, -4.0]), -1.0).tolist() == [0.0, -0.0]


def test_a_traced_nan_bound_comes_out_as_nan():
    assert jnp.isnan(jax.jit(agclip.clip_by_norm)(jnp.asarray([3.0, 4.0]), math.nan)).all()


def test_a_concrete_array_bound_on_the_cpu_is_checked():
    with pytest.raises(ValueError, match="must be a number >= 0"):
        agclip.clip_by_norm(jnp.ones(2), jnp.asarray(-1.0))


def test_traced_bounds_that_cross_let_the_lower_one_win():
    crossed = jax.jit(lambda t: agclip.clip_by_value(t, jnp.float32(3) + 0 * t[0], 1 + 0 * t[0]))
    assert crossed(jnp.asarray([0.0, 2.0, 5.0])).tolist() == [3.0, 3.0, 3.0]


def test_subnormal_leaves_within_the_bound_keep_their_bits():
    x = jnp.asarray([1e-40, -0.0, 3e-42])
    kept = jax.jit(lambda v: agclip.clip_by_norm(v, 1.0))(x)
    assert kept.view(jnp.int32).tolist() == x.view(jnp.int32).tolist()


def test_an_error_policy_cannot_be_traced():
    with pytest.raises(ValueError, match='must not be "error" for traced arrays'):
        jax.jit(lambda v: agclip.clip_by_norm(v, 1.0, nonfinite="error"))(jnp.ones(2))


SIZES = (0, 0, 1, 100, 1024, 1025, 4095, 4096, 4097, 4351, 33001, 65536, 131_072, 131_073)
"""On both sides of where leaves are stacked, and folded, with and without a rest."""


DTYPES = thinned(["float16", "bfloat16", "float32", "complex64"], keep=["float32", "complex64"])


@pytest.fixture(params=DTYPES)
def drawn(request):
    """Leaves of one dtype and many sizes, several of the small ones."""
    rng = np.random.default_rng(0)
    shapes = [(n,) for n in SIZES] + [(100,), (10, 10), (256, 128, 1, 1)]
    leaves = [rng.standard_normal(shape) * 10 for shape in shapes]
    if request.param == "complex64":
        leaves = [leaf + 1j * rng.standard_normal(leaf.shape) for leaf in leaves]
    return [jnp.asarray(leaf, dtype=request.param) for leaf in leaves]


@pytest.fixture(scope="module", params=[True, False], ids=["one-device", "several-devices"])
def _whole(request):
    from agclip_backends.jax import places

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(places, "whole", lambda _: request.param)
        jax.clear_caches()  # what is traced for one device would serve several
        yield
    jax.clear_caches()


def widened(leaf):
    return np.asarray(leaf).astype("complex128" if leaf.dtype == "complex64" else "float64")


@pytest.mark.usefixtures("_whole")
def test_norms_of_any_size_are_right(drawn):
    norms = [np.linalg.norm(widened(leaf).ravel()) for leaf in drawn]
    total = jax.jit(agclip.global_norm)(drawn)
    assert float(total) == pytest.approx(math.hypot(*norms), rel=2.0**-24)
    each = jax.jit(lambda grads: [agclip.global_norm([leaf]) for leaf in grads])(drawn)
    assert list(map(float, each)) == pytest.approx(norms, rel=2.0**-24)


@pytest.mark.usefixtures("_whole")
def test_every_leaf_is_clipped_by_its_own_norm(drawn):
    clipped = jax.jit(lambda grads: agclip.clip_by_norm(grads, 1.0))(drawn)
    norms = [np.linalg.norm(widened(leaf).ravel()) for leaf in clipped]
    assert norms == pytest.approx([min(1.0, leaf.size) for leaf in drawn], rel=2.0**-8)


@pytest.mark.usefixtures("_whole")
def test_the_largest_entry_of_any_size_is_found(drawn):
    if drawn[0].dtype == jnp.complex64:
        pytest.skip("the largest |z| is not that of the parts")
    largest = [np.abs(widened(leaf)).max(initial=0.0) for leaf in drawn]
    each = jax.jit(lambda grads: [agclip.global_norm([x], math.inf) for x in grads])(drawn)
    assert list(map(float, each)) == largest


NORMS = {
    "2": lambda x: agclip.global_norm([x]),
    "inf": lambda x: agclip.global_norm([x], math.inf),
    "3": lambda x: agclip.global_norm([x], 3),
    "reproducible": lambda x: agclip.global_norm([x], reproducible=True),
    "reproducible 1": lambda x: agclip.global_norm([x], 1, reproducible=True),
}


@pytest.mark.parametrize("size", [100, 10_000, 100_003])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_one_entry_that_is_not_finite_is_found(size, norm, value):
    leaves = [jnp.ones(size).at[place].set(value) for place in (0, size // 2, size - 1)]
    found = [float(NORMS[norm](leaf)) for leaf in leaves]
    assert found == pytest.approx([abs(value)] * 3, nan_ok=True)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("options", [{"ord": math.inf}, {"reproducible": True}])
def test_a_nan_spreads_over_its_slice_alone(axis, options):
    x = jnp.ones((200, 300)).at[7, 7].set(math.nan)
    lost = jnp.isnan(agclip.clip_by_norm(x, 0.5, axes=axis, **options))
    assert int(lost.sum()) == x.shape[axis] == int(lost.take(7, 1 - axis).sum())


def test_jax_loses_nan_from_a_maximum():
    x = jnp.ones(10_000).at[-1].set(math.nan)
    assert not jnp.isnan(jnp.max(x)), (
        "jax.numpy.max keeps NaN: agclip_backends.jax.namespace may go"
    )


def compiled(leaves):
    """Return the program that a clip of equal leaves is compiled to."""
    program = jax.jit(lambda grads: agclip.clip_by_global_norm(grads, 1.0))
    return program.lower([jnp.ones((300, 300))] * leaves).compile().as_text()


def test_a_clip_neither_copies_leaves_nor_computes_the_coefficient_for_each():
    few, many = compiled(2), compiled(12)
    assert not any(word in many for word in (" copy(", " conditional("))
    assert few.count(" divide(") == many.count(" divide(") > 0
    assert few.count(" sqrt(") == many.count(" sqrt(") > 0


@pytest.mark.parametrize("jitted", [False, True], ids=["eager", "jit"])
def test_both_parts_of_complex_entries_are_multiplied(jitted):
    signs = np.array([1 - 0j, complex(-0.0, 1.0), complex(-0.0, -0.0), -1j], dtype=np.complex64)
    clip = jax.jit(agclip.clip_by_norm) if jitted else agclip.clip_by_norm
    clipped = np.asarray(clip(jnp.asarray(signs), 0.5))
    halves = np.asarray(agclip.clip_by_norm(signs, 0.5))
    assert clipped.tobytes() == halves.tobytes()
