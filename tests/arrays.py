"""Arrays of every library for tests that hold for all of them, and distributions that bring more.

@pytest.fixture(params=arrays.LIBRARIES)
def lib(request):
    return arrays.library(request.param)
"""

from __future__ import annotations

import contextlib
import importlib
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from agclip._backends import entry_points as _entry_points
from agclip._backends import registry as _registry
from agclip._trees import tree as trees

LIBRARIES = ("numpy", "torch", "jax", "tensorflow", "mlx", "dask", "array_api_strict")
WRITABLE = ("numpy", "torch", "mlx", "array_api_strict")
SHARING = ("numpy", "torch", "array_api_strict")
"""Those of which two arrays may lie in the same memory, and an array may be read-only."""


class Library(NamedTuple):
    """How to make arrays of a library, and how to look into them."""

    name: str
    convert: Callable[[np.ndarray], Any]
    entries: Callable[[Any], np.ndarray]

    def array(self, values: Any, dtype: str = "float32") -> Any:
        """Make an array that shares its memory with nothing else."""
        return self.convert(np.array(values, dtype=dtype))


def library(name: str) -> Library:
    """Return a library by its name; skip the test where it is not installed."""
    pytest.importorskip(name, reason=f"{name} is not installed")
    return _MAKERS[name]()


def _numpy() -> Library:
    return Library("numpy", lambda values: values, np.asarray)


def _torch() -> Library:
    torch = importlib.import_module("torch")
    return Library("torch", torch.from_numpy, lambda x: x.detach().numpy())


def _jax() -> Library:
    jax = importlib.import_module("jax")

    def convert(values: np.ndarray) -> Any:
        with jax.enable_x64(True):  # keeps 64-bit dtypes, whatever the global flag says
            return jax.numpy.asarray(values)

    return Library("jax", convert, np.asarray)


def _tensorflow() -> Library:
    tf = importlib.import_module("tensorflow")
    return Library("tensorflow", tf.constant, lambda x: np.asarray(x.numpy()))


def _mlx() -> Library:
    mx = importlib.import_module("mlx.core")

    def convert(values: np.ndarray) -> Any:
        double = values.dtype == np.float64  # which MLX would make a float32
        return mx.array(values, dtype=mx.float64) if double else mx.array(values)

    def entries(x: Any) -> np.ndarray:
        return np.array(x.astype(mx.float32) if x.dtype == mx.bfloat16 else x)

    return Library("mlx", convert, entries)


def _dask() -> Library:
    dask_array = pytest.importorskip("dask.array", reason="Dask's arrays are not installed")
    return Library("dask", dask_array.asarray, lambda x: np.asarray(x.compute()))


def _array_api_strict() -> Library:
    strict = importlib.import_module("array_api_strict")
    return Library("array_api_strict", strict.asarray, np.asarray)


_MAKERS = {
    "numpy": _numpy,
    "torch": _torch,
    "jax": _jax,
    "tensorflow": _tensorflow,
    "mlx": _mlx,
    "dask": _dask,
    "array_api_strict": _array_api_strict,
}


def fingerprint(tree: Any) -> Any:
    """Return what a tree holds, to the last bit: the same before and after iff nothing changed."""
    if isinstance(tree, dict):
        return type(tree), [(key, fingerprint(child)) for key, child in tree.items()]
    if isinstance(tree, (list, tuple)):
        return type(tree), [fingerprint(child) for child in tree]
    if isinstance(tree, type) or not hasattr(tree, "dtype") or not hasattr(tree, "shape"):
        return id(tree), repr(tree)
    return id(tree), str(tree.dtype), tuple(tree.shape), _bits(tree)


def _bits(x: Any) -> Any:
    owner = _registry.resolve(x)
    name = "" if owner is None else owner.name
    if name == "torch":
        torch = importlib.import_module("torch")
        ordinary = x.layout is torch.strided and x.device.type == "cpu" and not x.is_quantized
        return x.detach().numpy().tobytes() if ordinary else repr(x)
    if name == "array_api_strict":
        strict = importlib.import_module(name)
        return np.asarray(x.to_device(strict.Device("CPU_DEVICE"))).tobytes()
    if isinstance(x, np.ma.MaskedArray):
        return x.data.tobytes(), np.ma.getmaskarray(x).tobytes()
    if name == "tensorflow":
        return np.asarray(x.numpy()).tobytes()
    if name == "mlx":
        return memoryview(x).tobytes()
    if name in ("jax", "numpy"):
        return np.asarray(x).tobytes()
    return getattr(x, "name", None) or repr(x)  # the name of a Dask array is that of its graph


@contextlib.contextmanager
def unchanged(*trees: Any) -> Iterator[None]:
    """Assert that trees hold the same bits at the end of a block as at its beginning."""
    before = [fingerprint(tree) for tree in trees]
    yield
    assert [fingerprint(tree) for tree in trees] == before, "an input was changed"


class Registry:
    """The registry of agclip in one test, and a folder of distributions to fill it from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._modules: list[str] = []

    def install(
        self,
        distribution: str,
        entry_points: Mapping[str, str],
        modules: Mapping[str, str],
        *,
        extras: Sequence[str] = (),
        group: str = "agclip.backends",
    ) -> None:
        """Put a distribution on `sys.path`, as installed files."""
        site = self.folder / distribution
        info = site / f"{distribution.replace('-', '_')}-0.1.dist-info"
        info.mkdir(parents=True)
        lines = [f"{name} = {value}" for name, value in entry_points.items()]
        info.joinpath("entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
        metadata = ["Metadata-Version: 2.1", f"Name: {distribution}", "Version: 0.1"]
        metadata += [f"Provides-Extra: {extra}" for extra in extras]
        info.joinpath("METADATA").write_text("\n".join([*metadata, ""]))
        for name, source in modules.items():
            site.joinpath(f"{name}.py").write_text(source)
            self._modules.append(name)
        sys.path.insert(0, str(site))
        _look_again()

    def uninstall_all(self) -> None:
        """Take away what this registry has installed."""
        sys.path[:] = [entry for entry in sys.path if not entry.startswith(str(self.folder))]
        for name in self._modules:
            sys.modules.pop(name, None)
        shutil.rmtree(self.folder)
        _look_again()


def _look_again() -> None:
    importlib.invalidate_caches()
    _entry_points.forget()
    _registry.BY_TYPE.clear()


@contextlib.contextmanager
def registry(folder: Path) -> Iterator[Registry]:
    """Lend the registry of backends and containers; afterwards it is as it was before."""
    known = [(kept, dict(kept)) for kept in (_registry._registered, trees._containers)]
    lent = Registry(folder / "distributions")
    lent.folder.mkdir()
    try:
        yield lent
    finally:
        for kept, before in known:
            kept.clear()
            kept.update(before)
        lent.uninstall_all()
