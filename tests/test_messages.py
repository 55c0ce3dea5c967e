"""The text of every error, warning and reason; and that there is no other."""

import ast
import dataclasses
import functools
import importlib
import os
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import array_api_compat.numpy as xnp
import numpy as np
import pytest

import agclip
import agclip_backends
import arrays
from agclip._backends import entry_points
from agclip._trees import default_backend
from agclip_backends._cuda import driver, kept
from agclip_backends._host import threads

CORE = Path(agclip.__file__).parent
ADAPTERS = Path(agclip_backends.__file__).parent
# The command line, the conformance suite, the rules and the settings have test files of their own.
ROOMS = ("_backends", "_trees", "_numerics", "_clipping", "functions")
SOURCES = sorted(
    [*(path for room in ROOMS for path in CORE.glob(f"{room}/*.py")), *ADAPTERS.rglob("*.py")]
)

NAN, INF = float("nan"), float("inf")
X = np.asarray([3.0, 4.0], dtype=np.float32)
X.setflags(write=False)
M = np.ones((2, 3), dtype=np.float32)
M.setflags(write=False)
INTEGERS = np.asarray([3, 4])


class Case(NamedTuple):
    """A call that fails, its error and the full text.

    The call takes an `arrays.Registry` and the modules named in `needs`.
    """

    error: type[BaseException]
    text: str
    call: Callable[..., Any]
    needs: tuple[str, ...] = ()


@dataclasses.dataclass
class Layer:
    w: Any
    b: Any


def in_itself():
    tree = []
    tree.append(tree)
    return tree


# --- trees and their leaves --------------------------------------------------------------------

TREES = {
    "a leaf that is no array": Case(
        TypeError,
        "`t` must be an array, a list of numbers, or a list, tuple, dict or registered container "
        "of them; got str at t['w'][1]. Take it out, or see agclip.register_container.",
        lambda _: agclip.clip_by_norm({"w": [X, "abc"]}, 1),
    ),
    "a set": Case(
        TypeError,
        "`grads` must be an array, a list of numbers, or a list, tuple, dict or registered "
        "container of them; got set at grads. Take it out, or see agclip.register_container.",
        lambda _: agclip.clip_per_example({1.0}, 1),
    ),
    "integers": Case(
        TypeError,
        "`t_list` must hold real or complex floating-point arrays; got int64 at t_list[0]. "
        "Convert it with astype, or take it out of the tree.",
        lambda _: agclip.global_norm([INTEGERS.astype("int64")]),
    ),
    "complex numbers in a value clip": Case(
        TypeError,
        "`t` must hold real floating-point or integer arrays; got complex64 at t. "
        "Convert it with astype, or take it out of the tree.",
        lambda _: agclip.clip_by_value(X.astype("complex64"), 0, 1),
    ),
    "two libraries": Case(
        TypeError,
        "the arrays of one call must come from one library; got numpy at t['a'] and torch at "
        "t['b'][0]. Convert one of them first.",
        lambda _, torch: agclip.clip_by_norm({"a": X, "b": [torch.ones(2)]}, 1),
        ("torch",),
    ),
    "a ragged list": Case(
        ValueError,
        "a nested list of numbers must be rectangular; got shapes (2,) at t[0] and (1,) at t[1]. "
        "Pass arrays to make a list of tensors.",
        lambda _: agclip.clip_by_norm([[1.0, 2.0], [3.0]], 1),
    ),
    "a number beyond float32": Case(
        ValueError,
        "numbers at t must fit float32; got 1e+39. Pass an array instead.",
        lambda _: agclip.clip_by_norm([1.0, 1e39], 1),
    ),
    "a number beyond 32 bits": Case(
        ValueError,
        "numbers at t['n'] must fit a 32-bit integer; got 2147483648. Pass an array instead.",
        lambda _: agclip.clip_by_value({"n": [1, 2**31]}, 0, 1),
    ),
    "a class in the place of a leaf": Case(
        TypeError,
        "`t` must be an array, a list of numbers, or a list, tuple, dict or registered container "
        "of them; got the class float32 at t[1]. Take it out, or see agclip.register_container.",
        lambda _: agclip.clip_by_norm([X, np.float32], 1),
    ),
    "an object with fields": Case(
        TypeError,
        "`t` must be an array, a list of numbers, or a list, tuple, dict or registered container "
        "of them; got Layer at t[0]. Say which fields hold arrays: agclip.register_container("
        "Layer, lambda x: ((x.w, x.b), None), lambda _, new: Layer(*new)).",
        lambda _: agclip.clip_by_norm([Layer(X, X)], 1),
    ),
    "a list in itself": Case(
        ValueError,
        "`t` must not hold itself, nor be nested more deeply than Python's recursion limit of "
        f"{sys.getrecursionlimit()} allows; got a tree that is. Pass a flat list of its arrays.",
        lambda _: agclip.clip_by_norm(in_itself(), 1),
    ),
    "numbers in more lists than arrays have axes": Case(
        ValueError,
        "a nested list of numbers must have at most 64 axes; got 65 at t. Take out the lists that "
        "hold a single one.",
        lambda _: agclip.clip_by_norm(functools.reduce(lambda x, _: [x], range(65), 3.0), 1),
    ),
    "a part of another leaf's memory": Case(
        TypeError,
        "`t` must hold arrays that can be written in place; got two that share a part of their "
        "memory, at t[0] and t[1]. Use the function without the underscore, which returns new "
        "arrays.",
        lambda _: agclip.clip_by_norm_([y := X.copy(), y[:1]], 1),
    ),
    "a shard": Case(
        ValueError,
        "`t` must hold whole arrays where norms are taken; got one that is a shard (inside of "
        "shard_map or pmap, along 'x') at t. Call agclip outside of it, or give "
        "clip_by_global_norm the norm of all shards as `use_norm`.",
        lambda _, jax: jax.pmap(lambda t: agclip.clip_by_norm(t, 1), axis_name="x")(
            jax.numpy.ones((1, 2))
        ),
        ("jax",),
    ),
    "an array of an unknown library": Case(
        TypeError,
        "`grads` must hold arrays of a library that agclip knows; got abacus.rows.Row at "
        "grads[0]. A library that follows the Python Array API standard needs no more; for "
        "another one see agclip.register_backend.",
        lambda _: agclip.clip_per_example([look_alike("abacus.rows", "Row")], 1),
    ),
    "something that does not hold arrays": Case(
        TypeError,
        "`cls` must be a class; got an instance of dict.",
        lambda _: agclip.register_container({}, tuple, tuple),
    ),
    "a flatten that cannot be called": Case(
        TypeError,
        "`flatten` must be callable; got str.",
        lambda _: agclip.register_container(set, "tuple", tuple),
    ),
    "an unflatten that cannot be called": Case(
        TypeError,
        "`unflatten` must be callable; got NoneType.",
        lambda _: agclip.register_container(set, tuple, None),
    ),
}

# --- arrays that cannot be read, or written ----------------------------------------------------

DENSE = "`t` must hold dense arrays; got one that {} at t[1]. Convert it first."
WRITTEN = (
    "`t` must hold arrays that can be written in place; got {} at t[1]. "
    "Use the function without the underscore, which returns new arrays."
)


def dense(reason, make, *needs):
    return Case(
        TypeError,
        DENSE.format(reason),
        lambda _, *libraries: agclip.clip_by_norm(make(*libraries), 1),
        needs,
    )


def written(what, make, *needs):
    return Case(
        TypeError,
        WRITTEN.format(what),
        lambda _, *libraries: agclip.clip_by_norm_(make(*libraries), 1),
        needs,
    )


def as_strided(x, shape, strides):
    return np.lib.stride_tricks.as_strided(x, shape, strides)


def look_alike(module, name="LookAlike"):
    """An object with the attributes of an array, of a class of some module."""
    body = {"__module__": module, "dtype": "float32", "shape": (2,), "__mul__": None}
    return type(name, (), body)()


def matrix():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        return np.matrix([[3.0, 4.0]])


def in_inference_mode(torch):
    with torch.inference_mode():
        return torch.ones(2)


ARRAYS = {
    "a masked array": dense("is masked", lambda: [X, np.ma.masked_array(X)]),
    "a matrix": dense("is a matrix", lambda: [X, matrix()]),
    "an object of NumPy with the attributes of an array": dense(
        "is no numpy.ndarray", lambda: [X, look_alike("numpy.other")]
    ),
    "a tensor of wide unsigned integers": dense(
        "has the dtype torch.uint16, which torch cannot compare",
        lambda torch: [torch.ones(2), torch.ones(2, dtype=torch.uint16)],
        "torch",
    ),
    "a sparse tensor": dense(
        "has the layout torch.sparse_coo",
        lambda torch: [torch.ones(2), torch.eye(2).to_sparse()],
        "torch",
    ),
    "an object of torch with the attributes of a tensor": dense(
        "is no torch.Tensor", lambda torch: [torch.ones(2), look_alike("torch.other")], "torch"
    ),
    "a nested tensor": dense(
        "is nested",
        lambda torch: [torch.ones(2), torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])],
        "torch",
    ),
    "a quantised tensor": dense(
        "is quantised",
        lambda torch: [
            torch.ones(2),
            torch.quantize_per_tensor(torch.ones(2), 0.5, 0, torch.quint8),
        ],
        "torch",
    ),
    "a sparse array of JAX": dense(
        "is no jax.Array",
        lambda jax, sparse: [jax.numpy.ones(2), sparse.BCOO.fromdense(jax.numpy.eye(2))],
        "jax",
        "jax.experimental.sparse",
    ),
    "a delayed call of Dask": dense(
        "is no dask.array.Array",
        lambda dask, da: [da.ones(2), dask.delayed(np.ones)(2)],
        "dask",
        "dask.array",
    ),
    "numbers in place": written("Python numbers", lambda: [X.copy(), [1.0, 2.0]]),
    "a NumPy scalar in place": written(
        "one that is an immutable scalar", lambda: [X.copy(), np.float32(3.0)]
    ),
    "a read-only array in place": written("one that is read-only", lambda: [X.copy(), X]),
    "a stride of 0 in place": written(
        "one that holds several entries in the same memory",
        lambda: [X.copy(), as_strided(np.ones(1), (3,), (0,))],
    ),
    "an expanded tensor in place": written(
        "one that holds several entries in the same memory",
        lambda torch: [torch.ones(2), torch.ones(1).expand(3)],
        "torch",
    ),
    "a recorded leaf in place": written(
        "one that is a leaf that requires grad",
        lambda torch: [torch.ones(2), torch.ones(2, requires_grad=True)],
        "torch",
    ),
    "a parameter": Case(
        TypeError,
        "`t_list` must hold gradients; got a parameter, which requires grad, at t_list[1]. Pass "
        "the gradients, such as `[p.grad for p in model.parameters()]`; where the parameters "
        "themselves are meant, `p.detach()`, or `p.view_as(p)` to record it.",
        lambda _, torch: agclip.global_norm([torch.ones(2), torch.nn.Parameter(torch.ones(2))]),
        ("torch",),
    ),
    "a module": Case(
        TypeError,
        "`t` must hold gradients; got a module (Identity) at t['m']. Pass the gradients, such as "
        "`[p.grad for p in model.parameters()]`.",
        lambda _, torch: agclip.clip_by_norm({"m": torch.nn.Identity()}, 1),
        ("torch",),
    ),
    "a word for a flag": Case(
        TypeError,
        "`strict` must be True, False, or None for what the settings say; got str.",
        lambda _: agclip.clip_by_norm(X, 1, strict="no"),
    ),
    "a sliding window in place": written(
        "one that holds several entries in the same memory",
        lambda: [X.copy(), as_strided(np.ones(4), (3, 2), (8, 8))],
    ),
    "overlapping windows of a tensor in place": written(
        "one that holds several entries in the same memory",
        lambda torch: [torch.ones(2), torch.ones(4).unfold(0, 2, 1)],
        "torch",
    ),
    "a view of a parameter in place": written(
        "one that is a view that autograd keeps track of",
        lambda torch: [torch.ones(2), torch.nn.Parameter(torch.ones(3))[:2]],
        "torch",
    ),
    "an inference tensor in place": written(
        "one that was made in inference mode",
        lambda torch: [torch.ones(2), in_inference_mode(torch)],
        "torch",
    ),
    "an array of JAX in place": written(
        "one that is immutable", lambda _, jnp: [None, jnp.ones(2)], "jax", "jax.numpy"
    ),
    "a lazy array in place": written(
        "one that is lazy (a graph, not memory)",
        lambda _, da: [None, da.ones(2)],
        "dask",
        "dask.array",
    ),
    "an array that says it is read-only": Case(
        TypeError,
        "`t` must hold arrays that can be written in place; got one that is immutable at t. "
        "Use the function without the underscore, which returns new arrays.",
        lambda registry: agclip.clip_by_norm_(toy(registry).read_only(), 1),
    ),
    "an array that refuses an assignment": Case(
        TypeError,
        "`t` must hold arrays that can be written in place; got one that refuses to be written "
        "(rows are frozen) at t. Use the function without the underscore, which returns new "
        "arrays.",
        lambda registry: agclip.clip_by_norm_(toy(registry).frozen(), 1),
    ),
    "an array of an unknown size": Case(
        ValueError,
        "`t` must have a known size; got shape (nan,) at t[0]. Let the library compute the shape "
        "first.",
        lambda _, da: agclip.clip_by_rms([da.ones(3)[da.ones(3) > 0]], 1),
        ("dask.array",),
    ),
}

# --- thresholds and options --------------------------------------------------------------------


def single(strict):
    """An array on a device without float64."""
    return strict.ones(2, dtype=strict.float32, device=strict.Device("no_x64"))


OPTIONS = {
    "a negative bound": Case(
        ValueError,
        "`clip_norm` must be a number >= 0, or None for no clipping; got -1.0.",
        lambda _: agclip.clip_by_norm(X, -1),
    ),
    "a bound that is NaN": Case(
        ValueError,
        "`clip_rms` must be a number >= 0, or None for no clipping; got nan.",
        lambda _: agclip.clip_by_rms(X, NAN),
    ),
    "a negative ratio": Case(
        ValueError,
        "`clipping` must be a number >= 0, or None for no clipping; got -0.5.",
        lambda _: agclip.adaptive_grad_clip(X, X, -0.5, unit_axes="out_in"),
    ),
    "a list as a bound": Case(
        ValueError,
        "`clip_norm` must be a scalar; got a list.",
        lambda _: agclip.clip_by_norm(X, [1.0]),
    ),
    "a vector as a bound": Case(
        ValueError,
        "`clip_norm` must be a scalar; got an array of shape (2,).",
        lambda _: agclip.clip_by_norm(X, X),
    ),
    "a word as a bound": Case(
        TypeError,
        "`clip_norm` must be a real number or a 0-d array; got str.",
        lambda _: agclip.clip_by_norm(X, "1"),
    ),
    "a complex bound": Case(
        TypeError,
        "`clip_norm` must be a real number or a 0-d array; got an array of complex128.",
        lambda _: agclip.clip_by_norm(X, np.asarray(1j)),
    ),
    "a class as a bound": Case(
        TypeError,
        "`clip_norm` must be a real number or a 0-d array; got the class float.",
        lambda _: agclip.clip_by_norm(X, float),
    ),
    "a tensor of wide unsigned integers as a bound": Case(
        TypeError,
        "`clip_norm` must be a real number or a 0-d array; got Tensor.",
        lambda _, torch: agclip.clip_by_norm(torch.ones(2), torch.ones((), dtype=torch.uint64)),
        ("torch",),
    ),
    "a negative lower limit": Case(
        ValueError,
        "`eps` must be a number >= 0, or None for no lower limit; got -1.0.",
        lambda _: agclip.adaptive_grad_clip(X, X, eps=-1, unit_axes="out_in"),
    ),
    "a bound of another library": Case(
        TypeError,
        "`clip_norm` must be a number or a 0-d array of numpy, as the leaves are; got one of "
        "jax. Convert it first.",
        lambda _, jax, jnp: agclip.clip_by_norm(X, jnp.asarray(1.0)),
        ("jax", "jax.numpy"),
    ),
    "a loss scale of zero": Case(
        ValueError,
        "`loss_scale` must be a finite number > 0, or None; got 0.0.",
        lambda _: agclip.global_norm(X, loss_scale=0),
    ),
    "a negative norm": Case(
        ValueError,
        "`use_norm` must be a norm, which is >= 0; got -5.0.",
        lambda _: agclip.clip_by_global_norm(X, 1, -5),
    ),
    "a word as an order": Case(
        TypeError,
        "`ord` must be a number > 0, such as 1, 2 or inf; got str.",
        lambda _: agclip.global_norm(X, "fro"),
    ),
    "an order of zero": Case(
        ValueError,
        "`ord` must be a number > 0, such as 1, 2 or inf; got 0.",
        lambda _: agclip.clip_by_norm(X, 1, ord=0),
    ),
    "a reproducible norm of another order": Case(
        ValueError,
        "`ord` must be 1, 2 or inf with `reproducible`; got 3.0. No library rounds other powers "
        "correctly.",
        lambda _: agclip.global_norm(X, 3, reproducible=True),
    ),
    "a reproducible norm of order 1 of complex leaves": Case(
        ValueError,
        "`ord` must be 2 with `reproducible` for complex leaves; got 1.0 for t_list[0]. Libraries "
        "differ in the last bit of |z|.",
        lambda _: agclip.global_norm([X * 1j], 1, reproducible=True),
    ),
    "a reproducible norm without float64": Case(
        NotImplementedError,
        "`reproducible` must be False on devices without float64; got an array on such a device "
        "at t[1]. Move the arrays to the CPU, or leave it out.",
        lambda _, strict: agclip.clip_by_norm([None, single(strict)] * 2, 1, reproducible=True),
        ("array_api_strict",),
    ),
    "an unknown policy": Case(
        ValueError,
        "`nonfinite` must be one of 'propagate', 'error', 'zero', 'skip'; got 'ignore'.",
        lambda _: agclip.clip_by_norm(X, 1, nonfinite="ignore"),
    ),
    "axes that are no integers": Case(
        TypeError,
        "`axes` must be an integer or a sequence of integers; got 0.5.",
        lambda _: agclip.clip_by_norm(M, 1, 0.5),
    ),
    "an axis that is not there": Case(
        ValueError,
        "`axes` must name axes of the 2-d array at t[0]; got 2.",
        lambda _: agclip.clip_by_norm([M], 1, 2),
    ),
    "an axis named twice": Case(
        ValueError,
        "`axes` must name every axis once; got (0, -2).",
        lambda _: agclip.clip_by_norm(M, 1, (0, -2)),
    ),
    "an unknown layout": Case(
        ValueError,
        '`unit_axes` must be "out_in", "in_out", axes, or a function of (path, leaf) that returns '
        "one of these; got 'hwio'.",
        lambda _: agclip.adaptive_grad_clip(M, M, unit_axes="hwio"),
    ),
    "NaN in the gradients": Case(
        FloatingPointError,
        "`t` must be finite; got NaN at t[1], an infinity at t[1]. Skip the step, or choose "
        "another policy for `nonfinite`.",
        lambda _: agclip.clip_by_norm([X, np.asarray([NAN, INF])], 1, nonfinite="error"),
    ),
    "a given norm that is not finite": Case(
        FloatingPointError,
        '`use_norm` must be finite with `nonfinite="error"`; got one that is not. Skip the step, '
        "or choose another policy for `nonfinite`.",
        lambda _: agclip.clip_by_global_norm(X, 1, NAN, nonfinite="error"),
    ),
    "values that a trace cannot read": Case(
        ValueError,
        '`nonfinite` must not be "error" for traced arrays, whose values cannot be read; got '
        "traced arrays of jax in `t`. Use another policy, and test the norm outside of the "
        "compiled function.",
        lambda _, jax, jnp: jax.jit(lambda x: agclip.clip_by_norm(x, 1, nonfinite="error"))(
            jnp.ones(2)
        ),
        ("jax", "jax.numpy"),
    ),
}

# --- value bounds ------------------------------------------------------------------------------

BOUNDS = {
    "a bound that is NaN": Case(
        ValueError,
        "`clip_value_max` must be a number, or None for no bound; got nan.",
        lambda _: agclip.clip_by_value(X, 0, NAN),
    ),
    "bounds that cross": Case(
        ValueError,
        "`clip_value_min` must be <= `clip_value_max`; got 2 and 1. Swap them?",
        lambda _: agclip.clip_by_value(X, 2, 1),
    ),
    "arrays of bounds that cross": Case(
        ValueError,
        "`clip_value_min` must be <= `clip_value_max`; got arrays that cross. Swap them?",
        lambda _: agclip.clip_by_value(X, X, X - 1),
    ),
    "NaN in an array of bounds": Case(
        ValueError,
        "`clip_value_min` must not hold NaN; got an array that does.",
        lambda _: agclip.clip_by_value(X, X * NAN, 5),
    ),
    "a word as a bound": Case(
        TypeError,
        "`clip_value_min` must be a real number, an array of them, or None; got str.",
        lambda _: agclip.clip_by_value(X, "0", 1),
    ),
    "an array of complex bounds": Case(
        TypeError,
        "`clip_value_max` must be a real number, an array of them, or None; got an array of "
        "complex128.",
        lambda _: agclip.clip_by_value(X, 0, np.ones(2, dtype=complex)),
    ),
    "a tensor of wide unsigned integers as a bound": Case(
        TypeError,
        "`clip_value_max` must be a real number, an array of them, or None; got Tensor.",
        lambda _, torch: agclip.clip_by_value(torch.ones(2), 0, torch.ones(2, dtype=torch.uint32)),
        ("torch",),
    ),
    "bounds of another library": Case(
        TypeError,
        "`clip_value_min` must be a number or an array of numpy, as the leaves are; got one of "
        "torch. Convert it first.",
        lambda _, torch: agclip.clip_by_value(X, torch.zeros(2), 1),
        ("torch",),
    ),
    "a bound that would enlarge": Case(
        ValueError,
        "`clip_value_max` must broadcast to every leaf; got shape (2, 3) for (2,) at t[1]. "
        "A bound never enlarges a leaf.",
        lambda _: agclip.clip_by_value([M, X], 0, M),
    ),
    "a float for integers": Case(
        TypeError,
        "`clip_value_max` must be an integer for int32 at t; got a float. Round it, convert "
        "the leaf, or pass None for no bound.",
        lambda _: agclip.clip_by_value(INTEGERS.astype("int32"), 0, 1.5),
    ),
    "an array of floats for integers": Case(
        TypeError,
        "`clip_value_min` must be an integer for int32 at t; got an array of float32. Round "
        "it, convert the leaf, or pass None for no bound.",
        lambda _: agclip.clip_by_value(INTEGERS.astype("int32"), X, None),
    ),
    "a loss scale for integers": Case(
        TypeError,
        "`loss_scale` must be None for integer arrays; got one for int32 at t[0]. Convert the "
        "leaf, or divide it yourself.",
        lambda _: agclip.clip_by_value([INTEGERS.astype("int32")], 0, 1, loss_scale=2),
    ),
}

# --- two trees, and the axis of the examples ---------------------------------------------------


def against(params, grads):
    return lambda _, *libraries: agclip.adaptive_grad_clip(grads, params, unit_axes="out_in")


PAIRS = {
    "no parameter": Case(
        ValueError,
        "`params` must hold an array wherever `grads` does; got None at params['w'].",
        against({"w": None}, {"w": X}),
    ),
    "other keys": Case(
        ValueError,
        "`params` must have the structure of `grads`; got ['w'], ['b'] at params where `grads` "
        "has ['w'].",
        against({"w": X, "b": X}, {"w": X}),
    ),
    "another length": Case(
        ValueError,
        "`params` must have the structure of `grads`; got a container of 1 at params['w'] "
        "where `grads` has a container of 2.",
        against({"w": [X]}, {"w": [X, X]}),
    ),
    "an array for a container": Case(
        ValueError,
        "`params` must have the structure of `grads`; got ndarray at params where `grads` has "
        "['w'].",
        against(X, {"w": X}),
    ),
    "an empty container": Case(
        ValueError,
        "`params` must have the structure of `grads`; got nothing at params where `grads` has "
        "['w'].",
        against({}, {"w": X}),
    ),
    "a parameter that is no array": Case(
        TypeError,
        "`params` must hold arrays wherever `grads` does; got str at params['w'].",
        against({"w": "abc"}, {"w": X}),
    ),
    "another shape": Case(
        ValueError,
        "`params` must have the shapes of `grads`; got (2, 3) at params[1] and (2,) at grads[1]. "
        "Pass the parameters that these are the gradients of.",
        against([M, M], [M, X]),
    ),
    "parameters of another library": Case(
        TypeError,
        "`params` must hold arrays of the library of `grads`; got torch and numpy. Convert one of "
        "them first.",
        lambda _, torch: agclip.adaptive_grad_clip(X, torch.ones(2), unit_axes="out_in"),
        ("torch",),
    ),
    "no axis of examples": Case(
        ValueError,
        "`grads` must have one leading axis, the example, of the same length in every leaf; got "
        "shape () at grads['b'].",
        lambda _: agclip.clip_per_example({"b": np.ones(())}, 1),
    ),
    "another number of examples": Case(
        ValueError,
        "`grads` must have one leading axis, the example, of the same length in every leaf; got "
        "shape (3, 2) at grads[1] beside (2, 3) at grads[0].",
        lambda _: agclip.clip_per_example([M, M.T], 1),
    ),
}

# --- backends ----------------------------------------------------------------------------------

TOY = """\
import array_api_compat.numpy as xp


class Array(xp.ndarray):
    pass


class Frozen(Array):
    def __setitem__(self, key, value):
        raise TypeError("rows are frozen")


def read_only():
    x = xp.ones(2).view(Array)
    x.setflags(write=False)
    return x


def frozen():
    return xp.ones(2).view(Frozen)
"""
TOY_ADAPTER = """\
import array_api_compat.numpy as xp

from agclip import Backend

backend = Backend(name="toylib", xp=xp)
"""


def toy(registry):
    """A library whose adapter replaces no kernel."""
    modules = {"toylib": TOY, "toy_adapter": TOY_ADAPTER}
    registry.install("agclip-toy", {"toylib": "toy_adapter:backend"}, modules)
    return importlib.import_module("toylib")


def get_installed(registry, modules, *, extras=(), value="toy_adapter:backend"):
    registry.install("agclip-toy", {"toylib": value}, modules, extras=extras)
    return agclip.get_backend("toylib")


def get_unlisted(registry, modules):
    registry.install("agclip-toy", {}, modules)
    return agclip.get_backend("toylib")


def clip_incompletely(_):
    lacking = ("isfinite", "where")
    names = [name for name in dir(xnp) if name not in lacking]
    xp = SimpleNamespace(**{name: getattr(xnp, name) for name in names})
    agclip.register_backend(agclip.Backend(name="numpy", xp=xp))
    return agclip.clip_by_norm(X, 1)


def fork_in_a_clip(_):
    """Do to the helpers what a fork does to them in the child."""
    crew = threads._crew
    threads.work_off(threads.Shares(lambda *_: crew.forget(), 2, 1, None), 2)


def get_doubled(registry):
    registry.install("agclip-toy", {"toylib": "toy_adapter:backend"}, {})
    registry.install("other-toy", {"toylib": "other:backend"}, {})
    return agclip.get_backend("toylib")


def get_unusable(_):
    agclip.register_backend(
        agclip.Backend(name="toylib", xp=np, usable=lambda: "no device is plugged in")
    )
    return agclip.get_backend("toylib")


BACKENDS = {
    "no record": Case(
        TypeError,
        "`backend` must be an agclip.Backend; got str.",
        lambda _: agclip.register_backend("torch"),
    ),
    "a name that is no string": Case(
        TypeError,
        "`name` must be the name of a backend; got module.",
        lambda _: agclip.get_backend(np),
    ),
    "a name misspelt": Case(
        ValueError,
        "`name` must be one of cupy, dask, jax, numpy, torch; got 'tocrh'. Did you mean 'torch'?",
        lambda _: agclip.get_backend("tocrh"),
    ),
    "an unknown name": Case(
        ValueError,
        "`name` must be one of cupy, dask, jax, numpy, torch; got 'abacus'. agclip.backends() "
        "lists them.",
        lambda _: agclip.get_backend("abacus"),
    ),
    "a library that is not installed": Case(
        ModuleNotFoundError,
        "the backend 'toylib' must be installed; got: toylib is not installed. Run: pip install "
        "toylib",
        lambda registry: get_installed(registry, {}),
    ),
    "a library that an extra installs": Case(
        ModuleNotFoundError,
        "the backend 'toylib' must be installed; got: toylib is not installed. Run: pip install "
        '"agclip-toy[toylib]"',
        lambda registry: get_installed(registry, {}, extras=["toylib", "docs"]),
    ),
    "a library with several builds": Case(
        ModuleNotFoundError,
        "the backend 'toylib' must be installed; got: toylib is not installed. Run: pip install "
        '"agclip-toy[toylib-gpu1]" or "agclip-toy[toylib-gpu2]"',
        lambda registry: get_installed(registry, {}, extras=["toylib-gpu1", "toylib-gpu2"]),
    ),
    "a library that cannot be used": Case(
        RuntimeError,
        "the backend 'toylib' must be usable here; got: no device is plugged in",
        get_unusable,
    ),
    "a fork in the midst of a clip": Case(
        RuntimeError,
        "a process must not be forked in the midst of a clip; got a fork by a signal handler. Fork "
        "between clips.",
        fork_in_a_clip,
    ),
    "two distributions for one name": Case(
        ImportError,
        "the name 'toylib' in the entry-point group 'agclip.backends' must belong to one "
        "distribution; got other-toy (other:backend) and agclip-toy (toy_adapter:backend). "
        "Uninstall one of them.",
        get_doubled,
    ),
    "an adapter that breaks": Case(
        ImportError,
        "the backend 'toylib' of agclip-toy must load; got ZeroDivisionError: division by zero. "
        "Update or uninstall that distribution.",
        lambda registry: get_installed(registry, {"toylib": "", "toy_adapter": "1 / 0"}),
    ),
    "an adapter that is no record": Case(
        ImportError,
        "the entry point 'toylib' of agclip-toy must name an agclip.Backend; got dict from "
        "toy_adapter:backend.",
        lambda registry: get_installed(registry, {"toylib": "", "toy_adapter": "backend = {}"}),
    ),
    "an adapter called otherwise": Case(
        ImportError,
        "the entry point 'toylib' of agclip-toy must name a backend of that name; got one called "
        "'other' from toy_adapter:backend. Both are the top-level package that defines the array's "
        "class.",
        lambda registry: get_installed(
            registry, {"toylib": "", "toy_adapter": TOY_ADAPTER.replace("toylib", "other")}
        ),
    ),
    "a namespace without some functions": Case(
        NotImplementedError,
        "the namespace of the backend 'numpy' must have the functions of the Python Array API "
        "standard; got none called isfinite, where. Add them to its `xp`.",
        clip_incompletely,
    ),
    "a library that breaks": Case(
        ImportError,
        "the library 'toylib' must load; got ZeroDivisionError: division by zero. Mend it first.",
        lambda registry: get_unlisted(registry, {"toylib": "1 / 0"}),
    ),
    "an attribute that is no adapter": Case(
        AttributeError,
        "module 'agclip._backends.entry_points' has no attribute 'torch'",
        lambda _: entry_points.torch,
    ),
}

# --- what is configured ------------------------------------------------------------------------


def configured(call, **settings):
    """A call with settings of its own, on a machine whose only library is NumPy."""

    def wrapped(registry, *libraries):
        blocked = {"AGCLIP_BLOCK": "" if libraries else "cupy,dask,jax,torch"}
        with mock.patch.dict(os.environ, blocked), agclip.config_context(**settings):
            return call(registry, *libraries)

    return wrapped


def converted(backend, call):
    return configured(call, backend=backend, on_foreign="convert")


def without_numba(_):
    missing = mock.patch("agclip_backends._host.loader._installed", return_value=False)
    with missing, agclip.config_context(accelerate="numba"):
        return agclip.clip_by_norm(X, 1)


def clip_blocked(registry):
    modules = {"toylib": "class Rows:\n dtype = shape = __mul__ = None"}
    registry.install("agclip-toy", {"toylib": "toylib:backend"}, modules)
    with mock.patch.dict(os.environ, {"AGCLIP_BLOCK": "toylib"}):
        return agclip.clip_by_norm(importlib.import_module("toylib").Rows(), 1)


CONFIGURED = {
    "compiled kernels without Numba": Case(
        ModuleNotFoundError,
        '`accelerate` must not be "numba" without Numba; got it (config_context). Run: pip install '
        '"agclip[fast]"',
        without_numba,
    ),
    "arrays of another library": Case(
        TypeError,
        "`t` must hold arrays of torch, as `backend` says (config_context); got one of numpy at "
        "t['w']. Convert it first, or set `on_foreign` to \"convert\".",
        configured(lambda _, torch: agclip.clip_by_norm({"w": X}, 1), backend="torch"),
        ("torch",),
    ),
    "a traced array that is to be converted": Case(
        TypeError,
        "`t` must hold values to be converted to numpy; got a traced array of jax at t. Convert "
        "before the compiled function, not inside of it.",
        converted(
            "numpy",
            lambda _, jax, jnp: jax.jit(lambda x: agclip.clip_by_norm(x, 1))(jnp.ones(2)),
        ),
        ("jax", "jax.numpy"),
    ),
    "a parameter that is to be converted": Case(
        TypeError,
        "`t` must hold arrays that can be converted to numpy; got one of torch at t[0], which "
        "refuses (BufferError: Can't export tensors that require gradient, use tensor.detach()). "
        "Convert it yourself.",
        converted(
            "numpy",
            lambda _, torch: agclip.clip_by_norm([torch.ones(2, requires_grad=True)], 1),
        ),
        ("torch",),
    ),
    "no backend that can be used": Case(
        RuntimeError,
        "`backend` must name a backend that can be used here; got 'torch' (config_context). torch: "
        "AGCLIP_BLOCK names it. Take it out of that variable to use it. Usable: numpy.",
        configured(lambda _: agclip.clip_by_norm([3.0], 1), backend="torch"),
    ),
    "a device that is not there": Case(
        ValueError,
        "`device` must name one that numpy has here; got 'cuda:0' (config_context).",
        configured(lambda _: agclip.asarray(X), device="cuda:0"),
    ),
    "a dtype that is not there": Case(
        ValueError,
        "`dtype` must be a dtype of numpy, or the name of one; got 'float31'.",
        lambda _: agclip.asarray([1.0], "float31"),
    ),
    "an array of a blocked backend": Case(
        RuntimeError,
        "arrays of toylib must have a backend; got Rows, but AGCLIP_BLOCK names it. Take it out of "
        "that variable to use it.",
        clip_blocked,
    ),
    "a strict bound on a dtype that the library lacks": Case(
        ValueError,
        "`strict` must be False where numpy lacks the dtype of a leaf (config_context); got "
        "bfloat16 at t. Convert it to float32, or leave it out.",
        configured(
            lambda _, torch: agclip.clip_by_norm(torch.ones(2).bfloat16(), 1),
            backend="numpy",
            on_foreign="convert",
            strict=True,
        ),
        ("torch",),
    ),
    "an attribute that is not the home": Case(
        AttributeError,
        "module 'agclip._trees.default_backend' has no attribute 'house'",
        lambda _: default_backend.house,
    ),
}


def no_compiler(*_):
    raise OSError("no compiler")  # noqa: EM101, TRY003 - the text is what is looked for


def compiler_that_refuses():
    """An NVRTC whose programs all have an error in line 1."""
    log = b"line 1: no\n"

    def tell_size(_, size):
        size._obj.value = len(log) + 1

    def tell(_, room):
        room.value = log

    def name(_):
        return b"NVRTC_ERROR_COMPILATION"

    return SimpleNamespace(
        nvrtcGetErrorString=name, nvrtcGetProgramLogSize=tell_size, nvrtcGetProgramLog=tell
    )


DRIVER = {
    "a library that is not there": Case(
        driver.DriverError,
        "NVIDIA's driver was not found; looked for libnone.so.1, libnone.so",
        lambda _: driver._first("NVIDIA's driver", ("libnone.so.1", "libnone.so")),
    ),
    "a launch that fails": Case(
        driver.DriverError,
        "a launch failed: unknown error (CUDA error 1)",
        lambda _: driver._check(1, "a launch", SimpleNamespace(cuGetErrorString=lambda *_: None)),
    ),
    "a kernel that cannot be loaded": Case(
        kept.UnavailableError,
        "agclip_report cannot be made: OSError: no compiler",
        lambda _: kept.Kept(SimpleNamespace(function=no_compiler))._function(
            SimpleNamespace(device=0), "agclip_report", 15
        ),
    ),
    "a source that does not compile": Case(
        driver.DriverError,
        "NVRTC failed: NVRTC_ERROR_COMPILATION; line 1: no",
        lambda _: driver._check_nvrtc(compiler_that_refuses(), 6, None),
    ),
}
CASES = {
    f"{group}: {name}": case
    for group, cases in {
        "trees": TREES,
        "arrays": ARRAYS,
        "options": OPTIONS,
        "bounds": BOUNDS,
        "pairs": PAIRS,
        "backends": BACKENDS,
        "configured": CONFIGURED,
        "driver": DRIVER,
    }.items()
    for name, case in cases.items()
}

CLIPPED = "nothing is clipped"
WITH_NORM = "nothing is clipped, and the norm is 0"
WARNINGS = {
    "clip_by_value": ("t", CLIPPED, lambda f: f([], 0, 1)),
    "clip_by_norm": ("t", CLIPPED, lambda f: f([], 1)),
    "clip_by_average_norm": ("t", CLIPPED, lambda f: f([], 1)),
    "clip_by_rms": ("t", CLIPPED, lambda f: f([], 1)),
    "clip_by_global_norm": ("t_list", WITH_NORM, lambda f: f([], 1)),
    "clip_by_global_norm with a norm": ("t_list", WITH_NORM, lambda f: f([], 1, 5.0)),
    "adaptive_grad_clip": ("grads", CLIPPED, lambda f: f([], [], unit_axes="out_in")),
    "clip_per_example": ("grads", CLIPPED, lambda f: f([], 1)),
    "global_norm": ("t_list", "the norm is 0", lambda f: f([])),
}
WITHOUT_TWIN = {"clip_per_example", "global_norm"}
WARNING_CASES = [(name, "") for name in WARNINGS] + [
    (name, "_") for name in WARNINGS if name not in WITHOUT_TWIN
]


@pytest.fixture
def registry(tmp_path):
    with arrays.registry(tmp_path) as lent:
        yield lent


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def test_an_error_has_its_type_and_its_text(case, registry):
    libraries = [pytest.importorskip(n, reason=f"{n} is not installed") for n in case.needs]
    with warnings.catch_warnings():
        # PyTorch announces that quantised tensors will go.
        warnings.filterwarnings("ignore", message="torch.quantize_per_tensor", category=UserWarning)
        warnings.filterwarnings("ignore", message="The PyTorch API of nested", category=UserWarning)
        with pytest.raises(case.error) as caught:
            case.call(registry, *libraries)
    assert (type(caught.value), str(caught.value)) == (case.error, case.text)


@pytest.mark.parametrize(("name", "twin"), WARNING_CASES)
def test_the_warning_has_its_text(name, twin):
    argument, consequence, call = WARNINGS[name]
    text = f"`{argument}` holds no array: {consequence}. Was an iterator used up?"
    with pytest.warns(UserWarning, match=f"^{re.escape(text)}$") as caught:
        call(getattr(agclip, name.partition(" ")[0] + twin))
    assert [type(warning.message) for warning in caught] == [UserWarning]


# --- why a backend cannot be used --------------------------------------------------------------


def fail(message):
    def ones(*_, **__):
        raise RuntimeError(message)

    return ones


class Probe(NamedTuple):
    """What a library answers when it is tried, and the reason that follows."""

    text: str | None
    library: str
    ones: Callable[[int], Any]


class ZeroTensor:
    def sum(self):
        return self

    def item(self):
        return 0.0

    def __float__(self):
        return 0.0


PROBES = {
    "torch miscounts": Probe(
        "the sum of two ones is not two", "torch", lambda *_, **__: ZeroTensor()
    ),
    "torch fails": Probe("no kernel image", "torch", fail("no kernel image")),
    "jax fails": Probe("no TPU", "jax", fail("no TPU")),
    "cupy miscounts": Probe("the sum of two ones is not two", "cupy", lambda _: ZeroTensor()),
    "cupy fails": Probe("RuntimeError: no driver", "cupy", fail("no driver")),
    "cupy works": Probe(None, "cupy", np.ones),
}


@pytest.mark.parametrize("probe", PROBES.values(), ids=PROBES)
def test_the_reason_why_a_library_cannot_be_used(probe, monkeypatch):
    pytest.importorskip(probe.library, reason=f"{probe.library} is not installed")
    adapter = importlib.import_module(f"agclip_backends.{probe.library}.adapter")
    name = "jnp" if probe.library == "jax" else probe.library
    monkeypatch.setattr(adapter, name, SimpleNamespace(ones=probe.ones))
    assert adapter.backend.usable.__wrapped__() == probe.text


OVERLAPS = "holds several entries in the same memory"


@pytest.mark.parametrize(
    ("shape", "strides", "reason"),
    [((1, 3), (0, 0), OVERLAPS), ((3, 2), (4, 4), OVERLAPS), ((1, 3), (0, 4), None)],
)
def test_a_device_array_that_overlaps_itself_cannot_be_written(shape, strides, reason):
    pytest.importorskip("cupy", reason="CuPy is not installed")
    adapter = importlib.import_module("agclip_backends.cupy.adapter")
    view = SimpleNamespace(shape=shape, strides=strides, itemsize=4)
    assert adapter.backend.unwritable(view) == reason


# --- no message without a test -----------------------------------------------------------------

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
# An attribute that is missing is a question asked by getattr, and a leaf that is no array a signal
# that is turned into a message where the argument's name is known. Neither reaches a user.
# What another thread has raised has its text from there.
SILENT = {
    ("AttributeError", "attribute"),
    ("NotATreeError", "x"),
    ("error.with_traceback", "None"),
}


def static_text(node, names):
    """A regular expression for what an expression of a message gives; None if it says nothing."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.escape(node.value)
    if isinstance(node, ast.JoinedStr):
        parts = [static_text(part, names) for part in node.values]
        said = any(part and re.search(r"\w{2}", part) for part in parts)
        return "".join(part or ".*" for part in parts) if said else None
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return names.get(node.func.id)
    return names.get(node.id) if isinstance(node, ast.Name) else None


def helpers(tree):
    """The functions of a module that only make a text, and that text."""
    return {
        f.name: static_text(f.body[-1].value, {})
        for f in tree.body
        if isinstance(f, ast.FunctionDef)
        and isinstance(f.body[-1], ast.Return)
        and f.body[-1].value
    }


def raised(source):
    """Each raise of a module: its line, the name of the error, and its text as an expression."""
    tree = ast.parse(source)
    made = helpers(tree)
    for scope in [tree, *(node for node in ast.walk(tree) if isinstance(node, FUNCTIONS))]:
        own = list(statements(scope))
        for node in own:
            if not isinstance(node, ast.Raise) or node.exc is None:
                continue
            assert isinstance(node.exc, ast.Call), ast.unparse(node)
            (message,) = node.exc.args or [ast.Constant("")]
            name = ast.unparse(node.exc.func)
            for said in assigned(own, message, node.lineno) or [message]:
                if (name, ast.unparse(said)) not in SILENT:
                    yield node.lineno, name, static_text(said, made)


def assigned(own, message, line):
    """What a message may have been assigned since the raise before: one value for each branch."""
    before = max((n.lineno for n in own if isinstance(n, ast.Raise) and n.lineno < line), default=0)
    return [
        a.value
        for a in sorted((a for a in own if isinstance(a, ast.Assign)), key=lambda a: a.lineno)
        if ast.unparse(a.targets[0]) == ast.unparse(message) and before < a.lineno < line
    ]


def statements(scope):
    """The statements of a module or function, without those of functions in it."""
    waiting = list(scope.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, FUNCTIONS):
            waiting.extend(ast.iter_child_nodes(node))


def untested(source, cases):
    """The messages of a module that no case expects."""
    found = []
    for line, error, text in raised(source):
        expected = [case.text for case in cases if case.error.__name__ == error]
        if text is None or not any(re.fullmatch(text, e, re.DOTALL) for e in expected):
            found.append(f"line {line}: {error}: {text}")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_error_that_is_raised_has_a_case(path):
    assert untested(path.read_text(encoding="utf-8"), CASES.values()) == []


def test_the_errors_are_found_at_all():
    sources = [path.read_text(encoding="utf-8") for path in SOURCES]
    assert sum(len(list(raised(source))) for source in sources) > 40


KNOWN = [
    Case(ValueError, "`a` must be b; got c.", print),
    Case(TypeError, "`a` must be d; got c.", print),
]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("msg = '`a` must be b; got c.'\n raise ValueError(msg)", []),
        ("msg = f'`{x}` must be b; got {y}.'\n raise ValueError(msg) from None", []),
        ("raise ValueError(said(x))", []),
        ("raise", []),
        ("msg = '`a` must be b; got'\n raise ValueError(msg)", ["line 4: ValueError: `a`"]),
        (
            "msg = f'`{x}` must be d; got {y}.'\n raise ValueError(msg)",
            ["line 4: ValueError: `.*`"],
        ),
        ("raise KeyError('`a` must be b; got c.')", ["line 3: KeyError: `a`"]),
        ("msg = f'{x}: {y}'\n raise ValueError(msg)", ["line 4: ValueError: None"]),
        ("raise ValueError(str(x))", ["line 3: ValueError: None"]),
        (
            "if x:\n  msg = 'one'\n else:\n  msg = '`a` must be b; got c.'\n raise ValueError(msg)",
            ["line 7: ValueError: one"],
        ),
        (
            "if x:\n  msg = 'one'\n else:\n  msg = 'two'\n raise ValueError(msg)",
            ["line 7: ValueError: one", "line 7: ValueError: two"],
        ),
        (
            "msg = '`a` must be b; got c.'\n msg = 'other'\n raise ValueError(msg)",
            ["line 5: ValueError: other"],
        ),
    ],
)
def test_the_search_for_untested_errors_can_fail(code, expected):
    source = f"def said(x): return f'`{{x}}` must be b; got c.'\ndef f(x, y):\n {code}\n"
    found = untested(source, KNOWN)
    assert [text[: len(e)] for text, e in zip(found, expected, strict=True)] == expected


@pytest.mark.parametrize(
    "code", ["class A:\n if 1:\n  raise ValueError('new')", "raise OSError('e')"]
)
def test_the_search_for_untested_errors_looks_outside_of_functions_too(code):
    assert len(untested(code, KNOWN)) == 1


def test_the_search_for_untested_errors_demands_a_text():
    with pytest.raises(AssertionError, match="raise ValueError"):
        untested("def f():\n raise ValueError", KNOWN)


# --- no reason and no warning without a test ---------------------------------------------------

ASKED = {"refuse", "unwritable", "usable"}


def reasons(source):
    """The texts that a module's answers to `refuse`, `unwritable` and `usable` may give."""
    answers = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and node.name.lstrip("_") in ASKED:
            answers += [s.value for s in ast.walk(node) if isinstance(s, ast.Return)]
        if isinstance(node, ast.keyword) and node.arg in ASKED:
            answers += [node.value.body] if isinstance(node.value, ast.Lambda) else []
    texts = [static_text(part, {}) for answer in answers for part in branches(answer)]
    return [text for text in texts if text]


def branches(node):
    if isinstance(node, ast.IfExp):
        return [*branches(node.body), *branches(node.orelse)]
    return [node]


def test_every_reason_has_a_case():
    found = [text for path in SOURCES for text in reasons(path.read_text(encoding="utf-8"))]
    stated = [probe.text for probe in PROBES.values() if probe.text]
    stated += [case.text for case in ARRAYS.values()]
    assert [text for text in found if not any(re.search(text, s) for s in stated)] == []
    assert len(found) > 12


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("def _refuse(x):\n return None if x else 'is odd'", [r"is\ odd"]),
        ("def usable():\n if 1:\n  return 'no ' 'device'", [r"no\ device"]),
        ("Backend(unwritable=lambda _: f'has {x}')", [r"has\ .*"]),
        ("def access(x):\n return 'free'", []),
    ],
)
def test_the_search_for_reasons_finds_them(code, found):
    assert reasons(code) == found


def test_there_are_two_warnings():
    calls = [
        path.name
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("warn")
    ]
    assert sorted(calls) == ["leaves.py", "seam.py"], "a new warning needs a test of its text"
