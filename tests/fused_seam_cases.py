"""Cases of the seam between the pipeline and the fused kernels, and what makes two results one."""

from __future__ import annotations

import math

import pytest
import torch

import agclip
import fused_rehearsal

SIZES = (5, 0, 300, 1, 70)
FACTS = ("threshold", "clipped", "nonfinite", "skip")

RULES = {
    "ClipByNorm": lambda **o: agclip.ClipByNorm(0.5, **o),
    "ClipByNorm-1": lambda **o: agclip.ClipByNorm(0.5, ord=1, **o),
    "ClipByNorm-inf": lambda **o: agclip.ClipByNorm(0.5, ord=math.inf, **o),
    "ClipByAverageNorm": lambda **o: agclip.ClipByAverageNorm(0.01, **o),
    "ClipByRMS": lambda **o: agclip.ClipByRMS(0.25, **o),
    "ClipByGlobalNorm": lambda **o: agclip.ClipByGlobalNorm(0.5, **o),
    "ClipByGlobalNorm-1": lambda **o: agclip.ClipByGlobalNorm(0.5, ord=1, **o),
    "ClipByGlobalNorm-inf": lambda **o: agclip.ClipByGlobalNorm(0.5, ord=math.inf, **o),
    "ClipByGlobalNorm-idle": lambda **o: agclip.ClipByGlobalNorm(1e30, **o),
}


def leaves_of(dtype, sizes=SIZES, power=0, bad=None):
    generator = torch.Generator().manual_seed(0)
    kind = getattr(torch, dtype)
    base = torch.complex64 if kind.is_complex else torch.float64
    made = [torch.randn(n, generator=generator, dtype=base) * 2.0**power for n in sizes]
    leaves = [x.to(kind) for x in made]
    if bad is not None:
        leaves[2][7] = bad
    return leaves


def stepped(rule, leaves, seam, *, inplace):
    with fused_rehearsal.device(seam):
        step = rule.update_ if inplace else rule.update
        new, _, info = step(leaves, rule.init(leaves))
        return new, info, info.to_host()


def same(one, other, dtype):
    if dtype in ("float64", "complex128"):
        return torch.allclose(one, other, rtol=1e-14, atol=0, equal_nan=True)
    return one.dtype == other.dtype and torch.equal(_bits(one), _bits(other))


def _bits(x):
    """Return the numbers of a tensor as integers: zeros have a sign, and all NaN are one."""
    wide = (torch.view_as_real(x) if x.is_complex() else x).double()
    return wide.where(~wide.isnan(), math.nan).view(torch.int64)


def alike(found, wanted):
    """Records agree: to a few units of float64 in what is one, which sums in other orders are."""
    for name in FACTS:
        assert repr(getattr(found, name)) == repr(getattr(wanted, name))
    assert found.norm == pytest.approx(wanted.norm, rel=1e-14, nan_ok=True)
    assert found.scale == pytest.approx(wanted.scale, rel=1e-14, nan_ok=True)
    assert found.leaf_norms == pytest.approx(wanted.leaf_norms, rel=1e-14, nan_ok=True)
