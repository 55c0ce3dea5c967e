"""Functions that MLX compiles once for arrays of every shape."""

import math

import numpy as np
import pytest

import agclip

mx = pytest.importorskip("mlx.core", reason="MLX is not installed")

CALLS = {
    "value": lambda x: agclip.clip_by_value(x, -1.0, 0.5),
    "norm": lambda x: agclip.clip_by_norm(x, 1.0),
    "norm, order 1": lambda x: agclip.clip_by_norm(x, 1.0, ord=1),
    "norm, order inf": lambda x: agclip.clip_by_norm(x, 1.0, ord=math.inf),
    "norm, reproducible": lambda x: agclip.clip_by_norm(x, 1.0, reproducible=True),
    "norm along rows": lambda x: agclip.clip_by_norm(x, 1.0, axes=1),
    "global norm": lambda x: agclip.clip_by_global_norm([x, mx.sum(x, axis=0)], 1.0)[0][1],
    "adaptive": lambda x: agclip.adaptive_grad_clip(x, x + 1, unit_axes="out_in"),
    "per example": lambda x: agclip.clip_per_example(x, 1.0)[0],
    "rule": lambda x: agclip.ClipByGlobalNorm(1.0).update([x], ())[0][0],
}


@pytest.mark.parametrize("name", CALLS)
def test_a_function_compiled_for_every_shape_follows_the_arrays(name):
    compiled = mx.compile(CALLS[name], shapeless=True)
    for shape in ((2, 3), (40, 300), (3, 2)):
        x = mx.array(np.random.default_rng(1).normal(size=shape).astype(np.float32))
        got, wanted = (np.asarray(f(x)) for f in (compiled, CALLS[name]))
        np.testing.assert_allclose(got, wanted, rtol=3e-7)
