"""Sparse arrays of every library for tests that hold for all of them.

@pytest.fixture(params=sparse_formats.FORMATS)
def sparse(request):
    return sparse_formats.get(request.param)
"""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest

import arrays


class Entries(NamedTuple):
    """Entries of an array, several of which may be of one place."""

    shape: tuple[int, ...]
    places: Sequence[tuple[int, ...]]
    values: Sequence[Any]
    dtype: str = "float32"

    def dense(self, dtype: str = "float64") -> np.ndarray:
        """Return the array they stand for, added up in a wide dtype."""
        wide = np.zeros(self.shape, dtype)
        for place, value in zip(self.places, self.values, strict=True):
            wide[place] += value
        return wide


class Format(NamedTuple):
    """A way to store a matrix sparsely."""

    name: str
    library: arrays.Library
    make: Callable[[Entries], Any]
    dense: Callable[[Any], np.ndarray]
    values: Callable[[Any], np.ndarray]
    """What it stores."""
    indices: Callable[[Any], list[Any]]
    """Where that belongs."""
    repeats: bool = True
    """Whether several entries may be of one place."""
    writable: bool = False
    fills: bool = False
    """Whether a clip by value leaves alone what is not stored, even if zero is out of bounds."""


def split(values: np.ndarray, dtype: str = "float32") -> Entries:
    """Return a matrix as entries, each element in two parts that add up to it exactly."""
    places = [tuple(map(int, place)) for place in np.argwhere(values != 0)]
    parts = [[values[place] * 0.25, values[place] * 0.75] for place in places]
    twice = [place for place in places for _ in range(2)]
    return Entries(values.shape, twice, [x for pair in parts for x in pair], dtype)


def joined(values: np.ndarray, dtype: str = "float32") -> Entries:
    """Return a matrix as entries, one for each element that is not zero."""
    places = [tuple(map(int, place)) for place in np.argwhere(values != 0)]
    return Entries(values.shape, places, [values[place] for place in places], dtype)


def _rows(entries: Entries) -> tuple[list[int], np.ndarray]:
    """Return the row of each entry, and rows that hold that entry alone."""
    rows = np.zeros((len(entries.places), *entries.shape[1:]), entries.dtype)
    for row, place, value in zip(rows, entries.places, entries.values, strict=True):
        row[place[1:]] = value
    return [place[0] for place in entries.places], rows


def _coords(entries: Entries) -> np.ndarray:
    return np.array(entries.places, np.int64).reshape(-1, len(entries.shape)).T


def _sorted(entries: Entries) -> Entries:
    order = sorted(range(len(entries.places)), key=lambda i: entries.places[i])
    return entries._replace(
        places=[entries.places[i] for i in order], values=[entries.values[i] for i in order]
    )


# --- PyTorch -----------------------------------------------------------------------------------


def _torch_coo(entries: Entries) -> Any:
    torch = importlib.import_module("torch")
    values = torch.from_numpy(np.array(entries.values, entries.dtype))
    return torch.sparse_coo_tensor(
        torch.from_numpy(_coords(entries)), values, entries.shape, check_invariants=True
    )


def _torch_rows(entries: Entries) -> Any:
    torch = importlib.import_module("torch")
    rows, values = _rows(entries)
    return torch.sparse_coo_tensor(
        torch.tensor([rows]), torch.from_numpy(values), entries.shape, check_invariants=True
    )


def _compressed(entries: Entries, layout: str) -> Any:
    torch = importlib.import_module("torch")
    across = layout in ("csc", "bsc")
    width = 2 if layout in ("bsr", "bsc") else 1
    places = [(p[1], p[0]) if across else (p[0], p[1]) for p in entries.places]
    order = sorted(range(len(places)), key=lambda i: places[i])
    lengths = entries.shape[::-1] if across else entries.shape
    ends = [0, *(sum(p[0] <= i for p in places) for i in range(lengths[0]))]
    values = np.array([entries.values[i] for i in order], entries.dtype)
    plain = [places[i][1] for i in order]
    if width > 1:
        # Blocks of one row and two columns, or the other way round; each holds one entry.
        blocks = np.zeros((len(order), *((2, 1) if across else (1, 2))), entries.dtype)
        for block, place, value in zip(blocks, plain, values, strict=True):
            block.reshape(-1)[place % 2] = value
        values, plain = blocks, [place // 2 for place in plain]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse \\w+ tensor support")
        return torch.sparse_compressed_tensor(
            torch.tensor(ends),
            torch.tensor(plain, dtype=torch.int64),
            torch.from_numpy(values),
            entries.shape,
            layout=getattr(torch, f"sparse_{layout}"),
            check_invariants=False,
        )


def _torch_values(x: Any) -> np.ndarray:
    coo = x.layout is importlib.import_module("torch").sparse_coo
    return (x._values() if coo else x.values()).detach().numpy()


def _torch_indices(x: Any) -> list[Any]:
    layout = str(x.layout).removeprefix("torch.sparse_")
    if layout == "coo":
        return [x._indices().tolist(), tuple(x.shape), x.sparse_dim()]
    rows = layout in ("csr", "bsr")
    ends = x.crow_indices() if rows else x.ccol_indices()
    plain = x.col_indices() if rows else x.row_indices()
    return [ends.tolist(), plain.tolist(), tuple(x.shape), layout]


def _torch_dense(x: Any) -> np.ndarray:
    torch = importlib.import_module("torch")
    values = _torch_values(x)
    if x.layout is torch.sparse_coo:
        return x.detach().to_dense().numpy()
    # `to_dense` keeps one of several entries of one place in some layouts (torch 2.13).
    ends, plain, shape, layout = _torch_indices(x)
    new = np.zeros(shape, values.dtype)
    for i in range(len(ends) - 1):
        for k in range(ends[i], ends[i + 1]):
            if layout in ("csr", "csc"):
                new[(i, plain[k]) if layout == "csr" else (plain[k], i)] += values[k]
            elif layout == "bsr":
                new[i : i + 1, 2 * plain[k] : 2 * plain[k] + 2] += values[k]
            else:
                new[2 * plain[k] : 2 * plain[k] + 2, i : i + 1] += values[k]
    return new


def _torch(name: str, make: Callable[[Entries], Any]) -> Format:
    lib = arrays.library("torch")
    return Format(name, lib, make, _torch_dense, _torch_values, _torch_indices, writable=True)


# --- JAX ---------------------------------------------------------------------------------------


def _jax() -> tuple[Any, Any]:
    arrays.library("jax")
    return importlib.import_module("jax.numpy"), importlib.import_module("jax.experimental.sparse")


def _large(dtype: str) -> float:
    """Return a number that is seen in a sum if it counts."""
    limits: Any = np.iinfo(dtype) if np.dtype(dtype).kind in "iu" else np.finfo(dtype)
    return min(1e9, float(limits.max))


def _bcoo(entries: Entries, padding: int = 0) -> Any:
    jnp, sparse = _jax()
    outside = [list(entries.shape)] * padding
    places = np.array([*map(list, entries.places), *outside], np.int32)
    # What has no place counts nothing, whatever it is.
    values = np.array([*entries.values, *[_large(entries.dtype)] * padding], entries.dtype)
    pair = (
        arrays.library("jax").convert(values),
        jnp.asarray(places.reshape(len(values), len(entries.shape))),
    )
    return sparse.BCOO(pair, shape=entries.shape)


def _bcoo_rows(entries: Entries) -> Any:
    jnp, sparse = _jax()
    rows, values = _rows(entries)
    where = jnp.asarray(np.array(rows, np.int32)[:, None])
    return sparse.BCOO((arrays.library("jax").convert(values), where), shape=entries.shape)


def _bcoo_batch(entries: Entries) -> Any:
    """Return a matrix each row of which has as many entries, padded out of its length."""
    jnp, sparse = _jax()
    of_row: list[list[Any]] = [[] for _ in range(entries.shape[0])]
    for place, value in zip(entries.places, entries.values, strict=True):
        of_row[place[0]].append((place[1], value))
    count = max(map(len, of_row))
    padded = [row + [(entries.shape[1], 0.0)] * (count - len(row)) for row in of_row]
    values = np.array([[v for _, v in row] for row in padded], entries.dtype)
    where = np.array([[[c] for c, _ in row] for row in padded], np.int32)
    where = where.reshape(len(padded), count, 1)
    pair = (arrays.library("jax").convert(values), jnp.asarray(where))
    return sparse.BCOO(pair, shape=entries.shape)


def _bcsr(entries: Entries) -> Any:
    jnp, sparse = _jax()
    entries = _sorted(entries)
    ends = [0, *(sum(p[0] <= i for p in entries.places) for i in range(entries.shape[0]))]
    values = np.array(
        [*entries.values, _large(entries.dtype)], entries.dtype
    )  # one more than the rows reach
    columns = np.array([*(p[1] for p in entries.places), 0], np.int32)
    parts = (arrays.library("jax").convert(values), jnp.asarray(columns), jnp.asarray(ends))
    return sparse.BCSR(parts, shape=entries.shape)


def _bcoo_dense(x: Any) -> np.ndarray:
    """Return the dense array by NumPy: JAX has no float64 outside of its context."""
    new = np.zeros(x.shape, x.data.dtype)
    where, values = np.asarray(x.indices), np.asarray(x.data)
    for slot in np.ndindex(where.shape[:-1]):
        place = (*slot[: x.n_batch], *where[slot].tolist())
        if all(p < n for p, n in zip(place, x.shape, strict=False)):
            new[place] += values[slot]
    return new


def _bcsr_dense(x: Any) -> np.ndarray:
    new = np.zeros(x.shape, x.data.dtype)
    ends, columns, values = (np.asarray(a) for a in (x.indptr, x.indices, x.data))
    for row in range(len(ends) - 1):
        for k in range(ends[row], ends[row + 1]):
            new[row, columns[k]] += values[k]
    return new


def _jax_format(name: str, make: Callable[[Entries], Any]) -> Format:
    by_row = name.startswith("jax-bcsr")

    def indices(x: Any) -> list[Any]:
        ends = np.asarray(x.indptr).tolist() if by_row else None
        return [np.asarray(x.indices).tolist(), ends, x.shape]

    def dense(x: Any) -> np.ndarray:
        return _bcsr_dense(x) if by_row else _bcoo_dense(x)

    lib = arrays.library("jax")
    return Format(name, lib, make, dense, lambda x: np.asarray(x.data), indices)


# --- TensorFlow and pydata/sparse --------------------------------------------------------------


def _slices(entries: Entries) -> Any:
    tf = importlib.import_module("tensorflow")
    rows, values = _rows(entries)
    shape = tf.constant(entries.shape, tf.int64)
    return tf.IndexedSlices(tf.constant(values), tf.constant(rows, tf.int64), shape)


def _slices_dense(x: Any) -> np.ndarray:
    new = np.zeros(x.dense_shape.numpy(), x.values.dtype.as_numpy_dtype)
    np.add.at(new, x.indices.numpy(), x.values.numpy())
    return new


def _tensorflow(name: str) -> Format:
    lib = arrays.library("tensorflow")

    def indices(x: Any) -> list[Any]:
        return [x.indices.numpy().tolist(), x.dense_shape.numpy().tolist()]

    def values(x: Any) -> np.ndarray:
        return np.asarray(x.values.numpy())

    return Format(name, lib, _slices, _slices_dense, values, indices, fills=True)


def _pydata(name: str) -> Format:
    library = pytest.importorskip("sparse", reason="sparse is not installed")
    by_row = name == "sparse-gcxs"

    def make(entries: Entries) -> Any:
        values = np.array(entries.values, entries.dtype)
        made = library.COO(_coords(entries), values, shape=entries.shape)
        return library.GCXS.from_coo(made, compressed_axes=(0,)) if by_row else made

    def indices(x: Any) -> list[Any]:
        where = [x.indices, x.indptr] if isinstance(x, library.GCXS) else [x.coords]
        return [type(x).__name__, x.shape, *(a.tolist() for a in where)]

    lib = arrays.library("numpy")
    return Format(name, lib, make, lambda x: x.todense(), lambda x: x.data, indices, repeats=False)


_MAKERS: dict[str, Callable[[str], Format]] = {
    "torch-coo": lambda name: _torch(name, _torch_coo),
    "torch-coo-rows": lambda name: _torch(name, _torch_rows),
    **{
        f"torch-{layout}": lambda name, layout=layout: _torch(
            name, lambda entries: _compressed(entries, layout)
        )
        for layout in ("csr", "csc", "bsr", "bsc")
    },
    "jax-bcoo": lambda name: _jax_format(name, _bcoo),
    "jax-bcoo-padded": lambda name: _jax_format(name, lambda entries: _bcoo(entries, 2)),
    "jax-bcoo-rows": lambda name: _jax_format(name, _bcoo_rows),
    "jax-bcoo-batch": lambda name: _jax_format(name, _bcoo_batch),
    "jax-bcsr": lambda name: _jax_format(name, _bcsr),
    "tensorflow-slices": _tensorflow,
    "sparse-coo": _pydata,
    "sparse-gcxs": _pydata,
}
FORMATS = tuple(_MAKERS)


def get(name: str) -> Format:
    """Return a format by its name; skip the test where its library is not installed."""
    return _MAKERS[name](name)


def norm(x: np.ndarray, order: float = 2.0) -> float:
    """Return the norm of an array of ordinary size."""
    if order == math.inf:
        return float(np.abs(x).max(initial=0.0))
    return float((np.abs(x).astype(np.float64) ** order).sum() ** (1 / order))
