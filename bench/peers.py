"""The peers that need more than the `bench` extra, and agclip without its compiled kernels.

What is not installed or does not run here is left out, and a line of the report says why.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import torch

import agclip
from bench import accelerate, builds
from bench.bounds import Bounds
from bench.builds import Copies, Function
from bench.contests import Build, Clip, Contender
from bench.workloads import Gradients

LEFT_OUT: dict[str, str] = {}
"""Why, by name of the peer."""


def tensorflow(ours: Function) -> tuple[Contender, ...]:
    """Return TensorFlow's clip and Keras', and `ours(leaves, bound)`: eager and in a function."""
    tf, keras = _module("tensorflow"), _module("keras")
    if tf is None:
        return ()

    def copies(gradients: Gradients) -> list[Any]:
        return [tf.constant(leaf) for leaf in gradients]

    def in_function(clip: Function) -> Build:
        def build(gradients: Gradients, bounds: Bounds) -> Clip:
            grads = copies(gradients)
            function = tf.function(lambda leaves: clip(leaves, bounds.first))
            return lambda: function(grads)

        return build

    def theirs(grads: Any, bound: float) -> Any:
        return tf.clip_by_global_norm(grads, bound)[0]

    found = [
        Contender("tf", builds.returning(copies, theirs)),
        Contender("tf-function", in_function(theirs)),
    ]
    if keras is not None:
        found += [
            Contender("keras", _keras(keras, copies, lambda clip: clip)),
            Contender("keras-function", _keras(keras, copies, tf.function)),
        ]
    if _has_backend("tensorflow"):
        found += [
            Contender("agclip-tensorflow", builds.returning(copies, ours), ("tf",)),
            Contender("agclip-tensorflow-function", in_function(ours), ("tf-function",)),
        ]
    return tuple(found)


def mlx(ours: Function) -> tuple[Contender, ...]:
    """Return MLX's own clip, and `ours(leaves, bound)`: lazy both, and waited for."""
    mx, optimizers = _module("mlx.core"), _module("mlx.optimizers")
    if mx is None or optimizers is None:
        return ()

    def copies(gradients: Gradients) -> list[Any]:
        # Not every dtype of a workload is one of MLX's by name.
        grads = [mx.array(leaf, dtype=getattr(mx, leaf.dtype.name)) for leaf in gradients]
        mx.eval(grads)
        return grads

    def computed(clip: Function) -> Build:
        def call(grads: Any, bound: float) -> Any:
            clipped = clip(grads, bound)
            mx.eval(clipped)
            return clipped

        return builds.returning(copies, call)

    def theirs(grads: Any, bound: float) -> Any:
        return optimizers.clip_grad_norm(grads, bound)[0]

    found = (Contender("mlx", computed(theirs)),)
    if _has_backend("mlx"):
        found += (Contender("agclip-mlx", computed(ours), ("mlx",)),)
    return found


def _keras(keras: Any, copies: Copies, wrap: Callable[[Any], Any]) -> Build:
    """Call what `apply_gradients` of an optimiser with `global_clipnorm` calls to clip."""

    def build(gradients: Gradients, bounds: Bounds) -> Clip:
        grads = copies(gradients)
        clip = wrap(keras.optimizers.SGD(global_clipnorm=bounds.first)._clip_gradients)
        return lambda: clip(grads)

    return build


def smartclip_torch() -> tuple[Contender, ...]:
    """Return smartclip on PyTorch's gradients, in place."""
    smartclip = _module("smartclip")
    if smartclip is None:
        return ()
    clipper = _fixed(smartclip)

    def clip(model: Any, bound: float) -> None:
        clipper.bound = bound
        smartclip.apply(model, clipper)

    # It takes models, and one that is iterated over in C would not do.
    build = builds.overwriting_grads(clip, torch.nn.ParameterList)
    return (Contender("smartclip-torch", build),)


def smartclip_functional() -> tuple[Contender, ...]:
    """Return smartclip on the eager arrays of TensorFlow and JAX, where it runs."""
    smartclip, tf = _module("smartclip"), _module("tensorflow")
    if smartclip is None:
        return ()
    clipper = _fixed(smartclip)

    def clipping(backend: Any) -> Function:
        def clip(grads: Any, bound: float) -> Any:
            clipper.bound = bound
            return backend.apply_grads(grads, SimpleNamespace(trainable_variables=[]), clipper)

        return clip

    found = []
    if tf is not None:
        clip = clipping(importlib.import_module("smartclip.backends.tf"))
        build = builds.returning(lambda gradients: [tf.constant(g) for g in gradients], clip)
        found.append(Contender("smartclip-tensorflow", build))
    clip = clipping(importlib.import_module("smartclip.backends.jax"))
    try:
        clip([jnp.ones(1)], 0.5)
    except AttributeError as error:
        LEFT_OUT["smartclip-jax"] = str(error)
    else:
        found.append(Contender("smartclip-jax", builds.returning_jax(clip)))
    return tuple(found)


def _fixed(smartclip: Any) -> Any:
    """Return smartclip's clipper of the global norm, with a threshold of ours for its own."""

    class Fixed(smartclip.AutoClip):
        bound = 1.0

        def can_clip(self) -> bool:
            return True

        def threshold(self, key: Any = None) -> float:
            return self.bound

    return Fixed()


def plain(ours: Contender) -> tuple[Contender, ...]:
    """Return a contender of ours once more, without agclip's compiled kernels."""
    around, reason = accelerate.plain()
    name = f"{ours.name}-plain"
    if around is None:
        LEFT_OUT[name] = reason
        return ()
    return (Contender(name, ours.build, (ours.name,), around),)


def _has_backend(name: str) -> bool:
    try:
        agclip.get_backend(name)
    except (ImportError, RuntimeError, ValueError) as error:
        LEFT_OUT[f"agclip-{name}"] = str(error)
        return False
    return True


def _module(name: str) -> Any:
    """Import a library; None if it is not installed."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with warnings.catch_warnings(action="ignore"):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        LEFT_OUT[name] = str(error)
        return None
