"""Programs of JAX exported for arrays of any shape: sizes are symbols while they are traced."""

import functools
import math

import numpy as np
import pytest

import agclip

jax = pytest.importorskip("jax", reason="JAX is not installed")
jnp = pytest.importorskip("jax.numpy", reason="JAX is not installed")
export = pytest.importorskip("jax.export", reason="JAX is not installed")

KNOWN = jnp.asarray([3.0, 4.0])
CALLS = {
    "value": lambda x: agclip.clip_by_value(x, -1.0, 0.5),
    "norm": lambda x: agclip.clip_by_norm(x, 1.0),
    "norm, order 1": lambda x: agclip.clip_by_norm(x, 1.0, ord=1),
    "norm, order 3": lambda x: agclip.clip_by_norm(x, 1.0, ord=3),
    "norm, order inf": lambda x: agclip.clip_by_norm(x, 1.0, ord=math.inf),
    "norm, zero": lambda x: agclip.clip_by_norm(x, 1.0, nonfinite="zero"),
    "norm, strict": lambda x: agclip.clip_by_norm(x, 1.0, strict=True),
    "norm, reproducible": lambda x: agclip.clip_by_norm(x, 1.0, reproducible=True),
    "norm along rows": lambda x: agclip.clip_by_norm(x, 1.0, axes=1),
    "norm along columns": lambda x: agclip.clip_by_norm(x, 1.0, axes=0),
    "norm along both": lambda x: agclip.clip_by_norm(x, 1.0, axes=(0, 1), reproducible=True),
    "average norm": lambda x: agclip.clip_by_average_norm(x, 0.01),
    "rms": lambda x: agclip.clip_by_rms(x, 0.5),
    "global norm": lambda x: agclip.clip_by_global_norm({"a": x, "b": [x.T, x[0]]}, 1.0),
    "global norm alone": lambda x: agclip.global_norm([x, x * 2]),
    "adaptive": lambda x: agclip.adaptive_grad_clip(x, x + 1, unit_axes="out_in"),
    "per example": lambda x: agclip.clip_per_example({"a": x, "b": x[:, 0]}, 1.0),
    "average norm, beside a known one": lambda x: agclip.clip_by_average_norm([KNOWN, x], 0.01),
    "rms, beside a known one": lambda x: agclip.clip_by_rms({"a": KNOWN, "b": [x]}, 0.5),
    "bfloat16": lambda x: agclip.clip_by_global_norm([x.astype(jnp.bfloat16)], 1.0),
    "complex": lambda x: agclip.clip_by_global_norm([x.astype(jnp.complex64) * (1 + 2j)], 1.0),
}
RULES = {
    "ClipByAverageNorm": lambda: agclip.ClipByAverageNorm(0.01),
    "ClipByRMS": lambda: agclip.ClipByRMS(0.5),
    "ClipByGlobalNorm": lambda: agclip.ClipByGlobalNorm(1.0),
    "ClipByNorm": lambda: agclip.ClipByNorm(1.0),
    "ClipByValue": lambda: agclip.ClipByValue(-1.0, 0.5),
    "AdaptiveGradClip": lambda: agclip.AdaptiveGradClip(unit_axes="out_in"),
    "AdaGC": agclip.AdaGC,
    "AutoClip": lambda: agclip.AutoClip(window=4),
    "QuantileClip": lambda: agclip.QuantileClip(1.0),
    "SpikeClip": agclip.SpikeClip,
    "ZClip": lambda: agclip.ZClip(max_norm=1.0),
    "Chain": lambda: agclip.Chain(agclip.ClipByValue(-1.0, 0.5), agclip.ClipByGlobalNorm(1.0)),
    "PerGroup": lambda: agclip.PerGroup({"w": agclip.AdaGC(), "*": None}),
}


def stepped(make, x):
    rule = make()
    return rule.update({"w": x}, rule.init({"w": x}), params={"w": x + 1})[0]


PROGRAMS = {**CALLS, **{name: functools.partial(stepped, make) for name, make in RULES.items()}}


@functools.cache
def exported(name):
    shape = export.symbolic_shape("rows, columns")
    return export.export(jax.jit(PROGRAMS[name]))(jax.ShapeDtypeStruct(shape, jnp.float32))


@pytest.mark.parametrize("shape", [(2, 3), (70, 1000)])
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_for_any_shape_does_what_one_for_its_shape_does(name, shape):
    x = np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)
    got = jax.tree.leaves(exported(name).call(x))
    wanted = jax.tree.leaves(PROGRAMS[name](jnp.asarray(x)))
    for one, other in zip(got, wanted, strict=True):
        assert one.dtype == other.dtype
        rtol = 0 if "reproducible" in name else 0.01 if other.dtype == jnp.bfloat16 else 3e-7
        np.testing.assert_allclose(
            np.asarray(one, complex), np.asarray(other, complex), rtol=rtol, atol=0
        )
