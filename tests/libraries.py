"""The libraries that the conformance suite is run on here, each set up and put away again."""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import mlx_devices
from agclip._backends import entry_points, registry
from agclip.testing import Library
from agclip.testing.harness.check import Check

THIRD_PARTY = Path(__file__).parent / "third_party"


def bfloat16() -> dict[str, Any]:
    """Return NumPy's bfloat16 by name, if ml_dtypes is installed."""
    with contextlib.suppress(ImportError):
        return {"bfloat16": importlib.import_module("ml_dtypes").bfloat16}
    return {}


@contextlib.contextmanager
def _numpy() -> Iterator[Library]:
    yield Library("numpy", dtypes=bfloat16())


@contextlib.contextmanager
def _numpy_read_only() -> Iterator[Library]:
    def read_only(nested: Any, dtype: Any) -> Any:
        made = np.asarray(nested, dtype=dtype)
        made.flags.writeable = False
        return made

    yield Library("numpy", "numpy, read-only", dtypes=bfloat16(), asarray=read_only)


@contextlib.contextmanager
def _torch() -> Iterator[Library]:
    yield Library("torch")


@contextlib.contextmanager
def _torch_requires_grad() -> Iterator[Library]:
    torch = importlib.import_module("torch")

    def parameter(nested: Any, dtype: Any) -> Any:
        made = torch.tensor(nested, dtype=dtype)
        return made.requires_grad_(dtype.is_floating_point or dtype.is_complex)

    yield Library("torch", "torch, requires_grad", asarray=parameter)


@contextlib.contextmanager
def _torch_compiled() -> Iterator[Library]:
    torch = importlib.import_module("torch")

    def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
        torch._dynamo.reset()
        return torch.compile(function, backend="eager", fullgraph=True)

    # A property calls one function with trees of more kinds than the eight a program may have.
    with torch._dynamo.config.patch(recompile_limit=64):
        yield Library("torch", "torch, compiled", wrap=compiled, traced=True)
        torch._dynamo.reset()


@contextlib.contextmanager
def _jax() -> Iterator[Library]:
    jax = importlib.import_module("jax")

    def with_64_bits(nested: Any, dtype: Any) -> Any:
        with jax.enable_x64(True):
            return jax.numpy.asarray(nested, dtype=dtype)

    yield Library("jax", asarray=with_64_bits)


@contextlib.contextmanager
def _jax_jitted() -> Iterator[Library]:
    jax = importlib.import_module("jax")

    def jitted(function: Callable[..., Any]) -> Callable[..., Any]:
        def inner(*trees: Any) -> Any:
            return _with(OrderedDict, function(*(_with(dict, tree) for tree in trees)))

        compiled = jax.jit(inner)
        return lambda *trees: _with(dict, compiled(*(_with(OrderedDict, tree) for tree in trees)))

    yield Library("jax", "jax, jit", wrap=jitted, traced=True)


def _with(mapping: type, tree: Any) -> Any:
    """Make all dicts of one kind: JAX sorts the keys of a dict, but not those of an OrderedDict."""
    if isinstance(tree, dict):
        return mapping((key, _with(mapping, child)) for key, child in tree.items())
    if isinstance(tree, (list, tuple)):
        children = [_with(mapping, child) for child in tree]
        return type(tree)(*children) if hasattr(tree, "_fields") else type(tree)(children)
    return tree


@contextlib.contextmanager
def _tensorflow() -> Iterator[Library]:
    yield Library("tensorflow")


@contextlib.contextmanager
def _tensorflow_function(name: str, *, jit_compile: bool) -> Iterator[Library]:
    tf = importlib.import_module("tensorflow")

    def traced(function: Callable[..., Any]) -> Callable[..., Any]:
        return tf.function(function, autograph=False, jit_compile=jit_compile)

    yield Library("tensorflow", f"tensorflow, {name}", wrap=traced, traced=True)


@contextlib.contextmanager
def _mlx() -> Iterator[Library]:
    yield Library("mlx")


@contextlib.contextmanager
def _mlx_on_gpu() -> Iterator[Library]:
    with mlx_devices.without_float64():
        yield Library("mlx", "mlx, no float64")


@contextlib.contextmanager
def _mlx_vmapped() -> Iterator[Library]:
    yield Library("mlx", "mlx, vmap", wrap=mlx_devices.vmapped, traced=True)


@contextlib.contextmanager
def _dask() -> Iterator[Library]:
    dask = importlib.import_module("dask")
    array = importlib.import_module("dask.array")

    def in_chunks(nested: Any, dtype: Any) -> Any:
        made = np.asarray(nested, dtype=dtype)
        return array.from_array(made, chunks=tuple(-(-n // 2) or 1 for n in made.shape))

    # Threads cost more than they gain on arrays of a few entries.
    with dask.config.set(scheduler="synchronous"):
        yield Library("dask", asarray=in_chunks)


@contextlib.contextmanager
def _strict(device: str) -> Iterator[Library]:
    strict = importlib.import_module("array_api_strict")
    yield Library(
        "array_api_strict",
        f"array_api_strict, {device}",
        xp=strict,
        device=strict.Device(device),
        # It computes with NumPy, which warns of overflow, underflow and NaN.
        ignored_warnings=(RuntimeWarning,),
    )


@contextlib.contextmanager
def _cupy() -> Iterator[Library]:
    yield Library("cupy", dtypes=bfloat16())


@contextlib.contextmanager
def third_party() -> Iterator[Library]:
    """Install a distribution that brings a library and its backend, until the end of the block."""
    sys.path.insert(0, str(THIRD_PARTY))
    try:
        _look_again()
        yield Library("toyarray")
    finally:
        sys.path.remove(str(THIRD_PARTY))
        for module in ("toyarray", "agclip_toy"):
            sys.modules.pop(module, None)
        _look_again()


def _look_again() -> None:
    importlib.invalidate_caches()
    entry_points.forget()
    registry.BY_TYPE.clear()


Opener = Callable[[], contextlib.AbstractContextManager[Library]]

LIBRARIES: dict[str, tuple[str, Opener]] = {
    "numpy": ("numpy", _numpy),
    "numpy-read-only": ("numpy", _numpy_read_only),
    "torch": ("torch", _torch),
    "torch-requires-grad": ("torch", _torch_requires_grad),
    "cupy": ("cupy", _cupy),
    "tensorflow": ("tensorflow", _tensorflow),
    "mlx": ("mlx", _mlx),
    "mlx-no-float64": ("mlx", _mlx_on_gpu),
    "strict": ("array_api_strict", functools.partial(_strict, "CPU_DEVICE")),
    "strict-device2": ("array_api_strict", functools.partial(_strict, "device2")),
    "strict-no-float64": ("array_api_strict", functools.partial(_strict, "no_float64")),
    "strict-no-x64": ("array_api_strict", functools.partial(_strict, "no_x64")),
    "third-party": ("toyarray", third_party),
}
"""What takes milliseconds a check: the library that must be usable, and how to set it up."""

GRAPHS: dict[str, tuple[str, Opener]] = {"jax": ("jax", _jax), "dask": ("dask", _dask)}
"""What takes some tenths of a second a check: a program is compiled, or a graph is built."""

COMPILED: dict[str, tuple[str, Opener]] = {
    "jax-jit": ("jax", _jax_jitted),
    "torch-compile": ("torch", _torch_compiled),
    "mlx-vmap": ("mlx", _mlx_vmapped),
    "tensorflow-function": (
        "tensorflow",
        functools.partial(_tensorflow_function, "function", jit_compile=False),
    ),
    "tensorflow-xla": (
        "tensorflow",
        functools.partial(_tensorflow_function, "XLA", jit_compile=True),
    ),
}
"""What takes up to a second a check: a function is traced and compiled for each."""


def one_of_each(checks: Sequence[Check]) -> list[Check]:
    """Return the first check of every promise, and the first one of every function."""
    promises: set[str] = set()
    firsts, chosen = first_of_functions(checks), []
    for check in checks:
        if check in firsts or check.about not in promises:
            chosen.append(check)
        promises.add(check.about)
    return chosen


def first_of_functions(checks: Sequence[Check]) -> list[Check]:
    """Return the first check of every function."""
    found: dict[str, Check] = {}
    for check in checks:
        found.setdefault(check.name.partition(":")[0].partition(" [")[0], check)
    return list(found.values())
