"""Sums of squares and products by themselves: what clips over ranks and other orders are made of.

The kernels are compiled for the host; its tensors pass for those of a device.
"""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import agclip  # noqa: E402 - PyTorch is optional, here and below
from agclip.adapters import Factor  # noqa: E402
from agclip_backends.torch import cuda  # noqa: E402
from fused_rehearsal import device  # noqa: E402
from fused_seam_cases import leaves_of, same  # noqa: E402

pytest_plugins = ["fused_fixtures"]

DTYPES = ("float16", "bfloat16", "float32", "float64", "complex64", "complex128")
LARGE = (20_000, 0, 300, 1, 16_384)
SHAPES = {
    "vectors": lambda x: x,
    "transposed": lambda x: x[: len(x) // 4 * 4].reshape(-1, 4).T,
    "one off": lambda x: x[1:],
}


def numbers(narrow, wide):
    """Numbers as a factor has them on a device."""
    made = (None if x is None else torch.tensor(x, dtype=torch.float64) for x in (*narrow, *wide))
    a, b, c, d = made
    return Factor((a, b), (c, d))


FACTORS = {
    "one number": ((None, 0.37), (None, 0.37)),
    "two": ((2.0**-64, 0.37), (2.0**-300, 0.37)),
    "one": ((None, 1.0), (None, 1.0)),
    "zero": ((None, 0.0), (None, 0.0)),
    "no number": ((None, math.nan), (None, math.nan)),
}


@pytest.fixture(params=sorted(SHAPES))
def shaped(request):
    return SHAPES[request.param]


@pytest.fixture(params=DTYPES)
def dtype(request):
    return request.param


@pytest.mark.parametrize("sizes", [LARGE, (7,), (3,) * 200], ids=["large", "one", "many"])
def test_sums_are_those_of_exact_arithmetic(seam, seam_host, dtype, shaped, sizes):
    leaves = [shaped(x) for x in leaves_of(dtype, sizes)]
    with device(None, seam):
        found = cuda.sum_squares(None, leaves, torch.float64, 1.0)
    assert seam_host.launches == ["agclip_norm_2"]
    for leaf, sum_ in zip(leaves, found, strict=True):
        parts = torch.view_as_real(leaf) if leaf.is_complex() else leaf
        wanted = math.fsum(x * x for x in parts.double().flatten().tolist())
        assert float(sum_) == pytest.approx(wanted, rel=1e-14, abs=0)
    assert float(cuda.total(None, found)) == pytest.approx(math.fsum(map(float, found)), rel=1e-14)


@pytest.mark.parametrize("factor", sorted(FACTORS))
@pytest.mark.parametrize("inplace", [False, True], ids=["new", "in-place"])
def test_products_are_those_of_the_general_program(seam, seam_host, dtype, shaped, inplace, factor):
    results = []
    for halves in (seam, None):
        leaves = [shaped(x) for x in leaves_of(dtype, LARGE)]
        before = [x.clone() for x in leaves]
        with device(None, halves):
            if inplace:
                cuda.scale_(None, new := leaves, numbers(*FACTORS[factor]))
            else:
                new = cuda.scale(agclip.get_backend("torch").xp, leaves, numbers(*FACTORS[factor]))
                assert all(map(torch.equal, leaves, before))
        results.append(new)
    assert seam_host.launches == ["agclip_product"]
    for x, y in zip(*results, strict=True):
        assert (x.dtype, x.shape, x.stride()) == (y.dtype, y.shape, y.stride())
        if x.is_complex():  # a product with a real number as a complex one has other signs of zero
            torch.testing.assert_close(x, y, rtol=0, atol=0, equal_nan=True)
        else:
            assert same(x.contiguous(), y.contiguous(), dtype)


@pytest.mark.parametrize("inplace", [False, True], ids=["new", "in-place"])
def test_what_autograd_records_is_left_to_it(seam, seam_host, inplace):
    leaves = [x.requires_grad_() for x in leaves_of("float32")]
    factor = numbers(*FACTORS["one number"])
    with device(None, seam):
        sums = cuda.sum_squares(agclip.get_backend("torch").xp, leaves, torch.float64, 1.0)
        given = [x * 1 for x in leaves] if inplace else leaves
        if inplace:
            cuda.scale_(None, new := given, factor)
        else:
            new = cuda.scale(agclip.get_backend("torch").xp, given, factor)
    assert seam_host.launches == []
    assert all(x.requires_grad for x in (*sums, *new))


def alone(vector, op):
    """A communicator of a single rank."""
    assert op in ("sum", "max")
    return vector


OPTIONS = {
    "plain": {},
    "other order": {"ord": 3.0},
    "reproducible": {"reproducible": True},
    "strict": {"strict": True},
    "skip": {"nonfinite": "skip"},
    "zero": {"nonfinite": "zero"},
}


@pytest.mark.parametrize("bad", [None, math.nan, math.inf])
@pytest.mark.parametrize("inplace", [False, True], ids=["new", "in-place"])
@pytest.mark.parametrize("comm", [None, alone], ids=["local", "ranks"])
@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_a_norm_that_the_program_finds_leaves_the_rest_to_the_kernels(
    seam, seam_host, name, comm, inplace, bad
):
    clip = agclip.clip_by_global_norm_ if inplace else agclip.clip_by_global_norm
    results = []
    for halves in (seam, None):
        leaves = [*leaves_of("float32", bad=bad), *leaves_of("bfloat16")]
        with device(halves, halves):
            results.append(clip(leaves, 0.5, comm=comm, **OPTIONS[name]))
    general = comm is not None or name in ("other order", "reproducible")
    assert seam_host.launches[-1] == "agclip_product"
    assert seam_host.launches.count("agclip_given") == general
    (found, norm), (wanted, other) = results
    assert repr(norm) == repr(other)
    for x, y in zip(found, wanted, strict=True):
        assert same(x, y, "float32")


@pytest.mark.parametrize("comm", [None, alone], ids=["local", "ranks"])
def test_a_norm_of_float64_stays_with_the_program(seam, seam_host, comm):
    """It may have no number in float64, as the root of a sum that had to be scaled."""
    leaves = [x * 2.0**1020 for x in leaves_of("float64")]
    with device(seam, seam):
        new, norm = agclip.clip_by_global_norm(leaves, 0.5, ord=3.0, comm=comm)
    assert "agclip_given" not in seam_host.launches
    assert float(norm) == math.inf or float(norm) > 1e300
    assert float(agclip.global_norm(new, 3.0)) == pytest.approx(0.5)


def test_a_total_is_of_all_values_in_order():
    row = torch.arange(5.0, dtype=torch.float64)
    values = row.unbind()
    for chosen in (values, values[::-1], values[:3], (values[0],) * 5, (*values, row.sum())):
        assert float(cuda.total(None, chosen)) == np.sum([float(x) for x in chosen])
    assert cuda._row(values) is row
    assert cuda._row(values[::-1]) is cuda._row(values[:3]) is None
    assert cuda._row((values[0],) * 5) is None
