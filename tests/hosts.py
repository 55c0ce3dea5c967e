"""Libraries whose arrays lie in host memory, with and without compiled kernels."""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest

import agclip
import arrays
from agclip._trees.gather import gather
from agclip_backends._host import tables

LIBRARIES = ("numpy", "torch")
MODES = ("off", "numba")
REAL = ("float16", "bfloat16", "float32", "float64")
COMPLEX = ("complex64", "complex128")
DTYPES = (*REAL, *COMPLEX)
NARROW = ("float16", "bfloat16", "float32", "complex64")
BLOCK = 1 << 14
SHARED = 1 << 20
"""Entries from which on threads share the work."""


@contextlib.contextmanager
def accelerated(mode: str) -> Iterator[None]:
    """Work with compiled kernels ("numba") or without ("off"); skip where Numba is missing."""
    if mode == "numba":
        pytest.importorskip("numba", reason="Numba is not installed")
    with agclip.config_context(accelerate=mode):
        yield


class Host(NamedTuple):
    """A library, and whether its arrays are worked on by compiled kernels."""

    library: str
    mode: str

    def array(self, values: Any, dtype: str = "float32") -> Any:
        """Make an array that shares its memory with nothing else."""
        return self.of(np.array(values, dtype=dtype_named(dtype)))

    def of(self, values: np.ndarray) -> Any:
        """Make an array of the same dtype as one of NumPy; it may share its memory."""
        if self.library == "numpy" or values.dtype.name != "bfloat16":
            return arrays.library(self.library).convert(values)
        torch = pytest.importorskip("torch", reason="PyTorch is not installed")
        return torch.from_numpy(values.view(np.int16)).view(torch.bfloat16)

    def copy(self, values: np.ndarray) -> Any:
        """Make an array of the same dtype as one of NumPy, with memory of its own."""
        return self.of(values.copy())

    def entries(self, x: Any) -> np.ndarray:
        """Return an array as one of NumPy, of the same dtype."""
        if self.library == "torch" and str(x.dtype) == "torch.bfloat16":
            torch = pytest.importorskip("torch", reason="PyTorch is not installed")
            return x.detach().view(torch.int16).numpy().view(dtype_named("bfloat16"))
        return arrays.library(self.library).entries(x)


def dtype_named(name: str) -> np.dtype:
    """Return a dtype of NumPy; skip where bfloat16 is missing."""
    if name == "bfloat16":
        reason = "ml_dtypes, for bfloat16 in NumPy, is not installed"
        return np.dtype(pytest.importorskip("ml_dtypes", reason=reason).bfloat16)
    return np.dtype(name)


def compiled(tree: Any, *, inplace: bool = False) -> bool:
    """Tell whether a tree is worked on by compiled kernels."""
    return isinstance(gather(tree, "t", listed=True, inplace=inplace).arrays, tables.Leaves)


@functools.cache
def drawn(dtype: str, size: int, seed: int = 0) -> np.ndarray:
    """Return random numbers of many sizes, read-only."""
    rng = np.random.default_rng([seed, size])

    def draw() -> np.ndarray:
        return rng.standard_normal(size) * 10.0 ** rng.integers(-3, 3, size)

    x = draw() + 1j * draw() if dtype in COMPLEX else draw()
    x = x.astype(dtype_named(dtype))
    x.flags.writeable = False
    return x


def parts(x: np.ndarray) -> np.ndarray:
    """Return the real numbers that an array is made of, one after the other, as float64."""
    flat = np.ravel(x)
    with np.errstate(invalid="ignore"):  # a signalling NaN is no cause for a warning
        return (flat.view(flat.real.dtype) if x.dtype.kind == "c" else flat).astype(np.float64)


def scaled(x: np.ndarray, factor: float) -> np.ndarray:
    """Return x times a factor: formed in float32 for narrow types, and rounded once."""
    wide = x.dtype in (np.float64, np.complex128)
    real = np.float64 if wide else np.float32
    with np.errstate(all="ignore"):
        product = parts(x).astype(real) * real(factor)
        if x.dtype.kind == "c":
            return product.view(x.dtype).reshape(x.shape)
        return product.astype(x.dtype).reshape(x.shape)


def bits(x: np.ndarray) -> bytes:
    """Return the memory of an array, with one pattern for all NaN."""
    flat = np.ravel(x)
    flat = (flat.view(flat.real.dtype) if x.dtype.kind == "c" else flat).copy()
    with np.errstate(invalid="ignore"):
        flat[np.isnan(flat)] = np.nan
    return flat.tobytes()


AT_ONCE = """
from agclip_backends._host import compiler
compiler._PROGRAM = "import os; os.nice = int" + compiler._PROGRAM
"""
"""For programs that wait until another process has compiled: it has no lower priority then."""


def program(
    source: str, mode: str, *, warn: str = "error", **environment: Any
) -> subprocess.CompletedProcess[str]:
    """Run a program, given by its text, in an interpreter of its own."""
    return run(["-W", warn, "-c", source], mode, **environment)


def run(
    arguments: Sequence[Any], mode: str, **environment: Any
) -> subprocess.CompletedProcess[str]:
    """Start an interpreter of its own."""
    variables = {key: str(value) for key, value in environment.items()}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, "AGCLIP_ACCELERATE": mode, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


CLIPS = {
    "norm": (lambda t: agclip.clip_by_norm(t, 0.5), lambda t: agclip.clip_by_norm_(t, 0.5)),
    "value": (
        lambda t: agclip.clip_by_value(t, -0.1, 0.2),
        lambda t: agclip.clip_by_value_(t, -0.1, 0.2),
    ),
}
"""Clips of one array: into new memory, and in place."""


def kebab(name: str) -> str:
    """Return a name as the id of a test."""
    return name.replace(" ", "-")


def one_of(names: Iterable[str]) -> Any:
    """Make a fixture with each of some names."""

    @pytest.fixture(params=names, ids=kebab)
    def name(request: pytest.FixtureRequest) -> Any:
        return request.param

    return name
