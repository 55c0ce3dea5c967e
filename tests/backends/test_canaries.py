"""What other libraries do to IEEE arithmetic, and how agclip gets around it.

Each way around is written for a measured fault. A test that fails here says either that a way
around has stopped working, or that a fault is gone and what may now be simpler.
"""

import functools
import math

import numpy as np
import pytest

from agclip._backends import powers as _powers
from agclip._numerics import exact

COUNT = 100_000
SINGLE = ("float32", "float64")


@pytest.fixture
def jax():
    """JAX, with 64-bit numbers."""
    library = pytest.importorskip("jax", reason="JAX is not installed")
    with library.enable_x64(True):
        yield library


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed")


@pytest.fixture
def mended():
    """The square root of agclip's adapter of PyTorch."""
    pytest.importorskip("torch", reason="PyTorch is not installed")
    adapter = pytest.importorskip("agclip_backends.torch")
    return functools.partial(adapter.backend.sqrt, adapter.backend.xp)


def before(library, *release):
    """Tell whether a library is older than the release that has mended a fault."""
    return tuple(map(int, library.__version__.split(".")[: len(release)])) < release


@functools.cache
def normal(dtype="float64", seed=0):
    return np.random.default_rng(seed).standard_normal(COUNT).astype(dtype)


def share(got, wanted):
    """Return the share of entries that differ."""
    return float(np.mean(np.asarray(got) != np.asarray(wanted)))


# Splitting a number at a bit: (x + c) - c.


def test_jit_folds_x_plus_c_minus_c_for_a_constant_before_jax_0_12(jax):
    c = 1.5 * 2.0**30
    given = jax.jit(lambda x: (x + c) - c)(normal())
    folded, kept = normal(), (normal() + c) - c
    wanted, other = (folded, kept) if before(jax, 0, 12) else (kept, folded)
    assert (share(given, wanted), share(given, other)) == (0, 1), (
        "XLA folds (x + c) - c for constants in other releases than was known: when none that "
        "agclip supports does, agclip._backends.exact_sums.cut needs no run-time anchors"
    )


def test_jit_keeps_x_plus_c_minus_c_for_a_run_time_number(jax):
    c = 1.5 * 2.0**30
    kept = jax.jit(lambda x, c: (x + c) - c)(normal(), c)
    assert share(kept, (normal() + c) - c) == 0, (
        "XLA folds (x + c) - c for run-time c: agclip._backends.exact_sums.cut gives "
        "wrong norms under jit"
    )


def test_jit_keeps_the_next_power_of_two(jax):
    powers = 2.0 ** np.arange(-454.0, 480.0)
    x = np.concatenate([powers, np.nextafter(powers, 0), np.nextafter(powers, math.inf)])
    wanted = np.concatenate([powers, powers, 2 * powers])
    given = jax.jit(functools.partial(_powers.next_power, jax.numpy, precision=53))(x)
    assert share(given, wanted) == 0, (
        "XLA simplifies (q + x) - q: agclip._backends.powers.next_power is wrong under jit"
    )


# A product and a sum with one rounding instead of two.


def test_jit_contracts_a_product_and_a_sum(jax):
    x, y = normal(), normal(seed=1)
    assert share(jax.jit(lambda x, y: x * x + y)(x, y), x * x + y) > 0, (
        "XLA no longer contracts x * x + y, or this machine has no fused multiply-add: if it is "
        "the former, the fence of agclip._numerics.exact may go"
    )


def test_jit_does_not_contract_over_the_fence(jax):
    x, y = normal(), normal(seed=1)
    fenced = jax.jit(lambda x, y, f: jax.numpy.maximum(x * x, f) + y)(x, y, exact._FENCE)
    constant = jax.jit(lambda x, y: jax.numpy.maximum(x * x, exact._FENCE) + y)(x, y)
    assert share(fenced, x * x + y) == share(constant, x * x + y) == 0, (
        "XLA contracts max(x * x, tiny) + y: sums of float64 squares in agclip._numerics.exact are "
        "no longer those of other libraries"
    )


# Division and products of scalars.


@pytest.mark.parametrize("dtype", SINGLE)
def test_jax_divides_an_array_by_a_scalar_by_its_reciprocal(jax, dtype):
    x, d = normal(dtype), np.asarray(3.7, dtype)
    assert share(jax.numpy.asarray(x) / jax.numpy.asarray(d), x / d) > 0, (
        "JAX divides arrays by scalars as IEEE 754 says: agclip may divide a leaf by a norm"
    )


@pytest.mark.parametrize("dtype", SINGLE)
def test_jax_divides_an_array_by_an_array_and_a_scalar_by_a_scalar(jax, dtype):
    x, d = normal(dtype), np.full(COUNT, 3.7, dtype)
    divide = jax.jit(lambda x, d: x / d)
    scalars = [float(divide(v, 3.7)) for v in x[:500].tolist()]
    assert share(divide(x, d), x / d) == share(scalars, x[:500].astype("float64") / 3.7) == 0, (
        "JAX no longer divides arrays by arrays, or run-time scalars, as IEEE 754 says: the "
        "coefficient of agclip._numerics.coefficient is no longer that of other libraries"
    )


def test_jit_divides_by_a_constant_by_its_reciprocal(jax):
    x = normal()[:500].tolist()
    divide = jax.jit(lambda x: x / 3.0)
    assert share([float(divide(v)) for v in x], [v / 3.0 for v in x]) > 0, (
        "XLA divides by constants as IEEE 754 says: agclip._clipping.decide may divide by "
        "a loss scale"
    )


def test_jit_multiplies_constants_with_each_other_first_before_jax_0_12(jax):
    x = normal()[:500].tolist()
    one, other = 3.3, 1 - 2.0**-49
    multiply = jax.jit(lambda x: (x * one) * other)
    differ = share([float(multiply(v)) for v in x], [(v * one) * other for v in x]) > 0
    assert differ == before(jax, 0, 12), (
        "XLA turns (x * a) * b into x * (a * b) in other releases than was known: when none that "
        "agclip supports does, a weight and the factor of strict= may be multiplied in turn"
    )


# Square roots.


@functools.cache
def rooted():
    """Return positive numbers over the range of sums of squares, and their square roots."""
    rng = np.random.default_rng(2)
    x = np.ldexp(rng.uniform(1, 4, COUNT), 2 * rng.integers(-454, 480, COUNT))
    return x, np.asarray([math.sqrt(v) for v in x.tolist()])


def test_the_square_root_of_torch_is_not_correctly_rounded(torch):
    x, wanted = rooted()
    assert share(torch.sqrt(torch.from_numpy(x)), wanted) > 0, (
        "torch.sqrt is correctly rounded here (a release or build without MKL's): where that holds "
        "everywhere, _sqrt of the adapter may go"
    )


def test_the_mended_square_root_is(torch, mended):
    x, wanted = rooted()
    assert share(mended(torch.from_numpy(x)), wanted) == 0, (
        "the mended square root of agclip's adapter of PyTorch is not correctly rounded"
    )
    one_by_one = [float(mended(torch.tensor(v, dtype=torch.float64))) for v in x[:2000].tolist()]
    assert share(one_by_one, wanted[:2000]) == 0, "the same for 0-d tensors"


def test_the_square_roots_of_numpy_and_jax_are(jax):
    x, wanted = rooted()
    roots = (np.sqrt(x), jax.numpy.sqrt(x), jax.jit(jax.numpy.sqrt)(x))
    assert [share(root, wanted) for root in roots] == [0, 0, 0], (
        "a square root of NumPy or JAX is not correctly rounded: mend it as PyTorch's is"
    )


def test_the_absolute_values_of_complex_numbers_are_not_the_same(torch):
    z = normal() + 1j * normal(seed=1)
    assert share(torch.from_numpy(z).abs(), np.abs(z)) > 0, (
        "|z| is the same in NumPy and PyTorch: norms of complex leaves may be formed from it"
    )


# Half types.


def halves(name):
    if name == "float16":
        return np.dtype(name)
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes, for bfloat16, is not installed")
    return np.dtype(ml_dtypes.bfloat16)


def test_half_times_a_python_number_means_several_things(torch):
    x, c = normal("float16"), 0.1234567
    assert share(torch.from_numpy(x) * c, x * c) > 0, (
        "float16 times a Python number is the same in NumPy and PyTorch: agclip's kernels may "
        "multiply halves by floats"
    )


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_half_times_single_rounded_once_means_one_thing(torch, jax, name):
    half, c = halves(name), np.float32(0.1234567)
    x = normal("float32").astype(half)
    wanted = (x.astype("float32") * c).astype(half).astype("float32")
    tensor = torch.from_numpy(x.astype("float32"))
    from_torch = (tensor * torch.tensor(c)).to(getattr(torch, name)).float()
    from_jax = jax.jit(lambda x, c: (x.astype("float32") * c).astype(x.dtype))(x, c)
    assert share(from_torch, wanted) == share(from_jax.astype("float32"), wanted) == 0, (
        "half(single(x) * c) differs between libraries: clipped halves are not reproducible"
    )


def test_torch_and_jax_round_double_to_float16_twice(torch, jax):
    rng = np.random.default_rng(3)
    ties = 1 + (2 * rng.integers(0, 512, COUNT) + 1) * 2.0**-11
    x = ties * (1 + rng.choice([-1, 1], COUNT) * 2.0**-40)
    once = x.astype("float16")
    twice = x.astype("float32").astype("float16")
    assert share(once, twice) > 0
    given = (torch.from_numpy(x).half(), jax.numpy.asarray(x).astype("float16"))
    assert [share(v, twice) for v in given] == [0, 0], (
        "PyTorch or JAX rounds float64 to float16 once: where all do, halves may be multiplied in "
        "float64"
    )


# JAX's 64-bit flag, and subnormal numbers.


def test_64_bits_can_be_had_inside_jit_although_the_flag_is_off():
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    assert not jax.config.jax_enable_x64

    @jax.jit
    def total(x):
        with jax.enable_x64(True):
            return jax.numpy.sum(x.astype("float64") ** 2)

    x = jax.numpy.asarray([2.0**30, 1.0, 1.0])
    assert (str(total(x).dtype), float(total(x))) == ("float64", 2.0**60 + 2), (
        "jax.enable_x64 no longer works inside jit: norms under a user's jit are float32"
    )


SUBNORMAL = np.asarray([1e-40, -3e-42, 2.0], dtype="float32")


def test_xla_flushes_subnormal_numbers(jax):
    doubled = np.asarray(jax.jit(lambda x: x * 2)(SUBNORMAL))
    assert doubled.tolist() == [0.0, 0.0, 4.0], (
        "XLA keeps subnormal numbers on the CPU: lift the limit that the documentation states"
    )


def test_where_passes_the_bits_of_subnormal_numbers(jax):
    chosen = jax.jit(lambda p, x: jax.numpy.where(p, x * 2, x))(False, SUBNORMAL)
    assert np.asarray(chosen).tobytes() == SUBNORMAL.tobytes(), (
        "where() flushes subnormal numbers: leaves within their bound change under jit"
    )
