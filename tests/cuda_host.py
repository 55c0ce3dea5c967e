"""The CUDA kernels on the host: their source compiled as C++, and run on NumPy's memory.

A block's threads are coroutines that give way at each barrier, so index arithmetic, vector access,
barriers and rounding are those of the source. Threads and blocks run in ascending or descending
order: a missing barrier, or blocks that write to the same place, make the two differ.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np

import coroutines
from agclip._backends.dtypes import kind_of
from agclip_backends._cuda import arithmetic, halves
from agclip_backends._cuda.source import KINDS, SOURCE

COMPILER = shutil.which("g++") or shutil.which("clang++")

_BEFORE = """
#include <cmath>
#include <functional>

#define AGCLIP_HOST
#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(...)

struct alignas(16) uint4 { unsigned int x, y, z, w; };
using std::fma;

void __syncthreads();

inline float from_half(unsigned short bits) {
    _Float16 value;
    memcpy(&value, &bits, 2);
    return value;
}

inline unsigned short to_half(float value) {
    _Float16 half = value;
    unsigned short bits;
    memcpy(&bits, &half, 2);
    return bits;
}
"""

_AFTER = """
static bool finished[THREADS];
static std::function<void()> body;

void __syncthreads() { give_way(); }

static void thread() {
    body();
    finished[threadIdx.x] = true;
}

// Run every thread up to its next barrier, until all are done; false if only some came to it.
static bool run_block(bool backward) {
    for (int t = 0; t < THREADS; t++) finished[t] = false;
    for (int done = 0; done < THREADS;) {
        done = 0;
        for (int t = 0; t < THREADS; t++) {
            go_on(backward ? THREADS - 1 - t : t);
            done += finished[threadIdx.x];
        }
        if (done > 0 && done < THREADS) return stuck();
    }
    return true;
}

extern "C" int run(const char *name, long long blocks, const long long *w, int backward) {
    const Leaf *leaves = (const Leaf *)w[0];
    if (!strcmp(name, "agclip_sum_chunks"))
        body = [=] { agclip_sum_chunks(leaves, w[1], (double *)w[2], (double *)w[3]); };
    else if (!strcmp(name, "agclip_sum_leaves"))
        body = [=] { agclip_sum_leaves(leaves, (double *)w[1], (double *)w[2]); };
    else if (!strcmp(name, "agclip_scale"))
        body = [=] {
            agclip_scale(leaves, w[1], (double *)w[2], (double *)w[3], (double *)w[4],
                         (double *)w[5]);
        };
    else
        return 1;
    for (long long b = 0; b < blocks; b++) {
        blockIdx.x = backward ? blocks - 1 - b : b;
        if (!run_block(backward)) return 2;
    }
    return 0;
}
"""


OPERATIONS = {
    "widen": arithmetic.WIDEN,
    "narrow": arithmetic.NARROW,
    "less_equal": arithmetic.LESS_EQUAL,
    "factors": arithmetic.FACTORS,
    **{f"multiply_{kind}": operation for kind, operation in arithmetic.MULTIPLY.items()},
}
"""What is done entry by entry, by name."""

TYPES = {"uint16": "unsigned short", "float32": "float", "float64": "double", "bool": "bool"}


def parameters(operation) -> str:
    """Return the parameters of a function that does an operation to arrays."""
    pairs = [part.split() for part in f"{operation.inputs}, {operation.output}".split(", ")]
    return ", ".join(f"{TYPES[kind]} *raw_{name}" for kind, name in pairs)


def statements(operation) -> str:
    """Return the statements that do an operation to entry i, its variables named as CuPy does."""
    pairs = [part.split() for part in operation.inputs.split(", ")]
    reads = [f"const {TYPES[kind]} {name} = raw_{name}[i];" for kind, name in pairs]
    pairs = [part.split() for part in operation.output.split(", ")]
    writes = [f"{TYPES[kind]} &{name} = raw_{name}[i];" for kind, name in pairs]
    return " ".join([*reads, *writes, f"{operation.body};"])


_ENTRIES = "".join(
    f'extern "C" void entries_{name}(long long n, {parameters(operation)}) {{'
    f" for (long long i = 0; i < n; i++) {{ {statements(operation)} }} }}\n"
    for name, operation in OPERATIONS.items()
)


def build(folder: Path) -> ctypes.CDLL:
    """Compile the kernels for the host."""
    source, library = folder / "kernels.cpp", folder / "kernels.so"
    after = coroutines.AFTER + _AFTER + _ENTRIES
    source.write_text(coroutines.BEFORE + _BEFORE + SOURCE + after)
    flags = ["-std=c++14", "-O2", "-fPIC", "-shared", "-ffp-contract=off", "-Wno-unknown-pragmas"]
    command = [COMPILER, *flags, *coroutines.FLAGS, str(source), "-o", str(library)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(done.stderr)
    return ctypes.CDLL(str(library))


class HostDriver:
    """What `_cuda.calls.Driver` asks for, on NumPy arrays."""

    def __init__(self, library, *, backward=False):
        self._library = library
        self._backward = backward
        self.launches = []
        self._scalars = []

    def address(self, x):
        if isinstance(x, np.generic):  # what NumPy makes of an array without axes
            x = np.asarray(x)
            self._scalars.append(x)
        return x.ctypes.data

    def dense(self, x):
        return x.flags.forc

    def upload(self, words):
        return words.copy()

    def doubles(self, count):
        return np.full(count, np.nan)

    def launch(self, name, blocks, *words):
        self.launches.append(name)
        packed = (ctypes.c_longlong * len(words))(*words)
        error = self._library.run(name.encode(), ctypes.c_longlong(blocks), packed, self._backward)
        assert error == 0, "threads of a block came to different barriers"


class HostEntries:
    """What `cupy.elementwise` does, on NumPy arrays."""

    def __init__(self, library):
        self._library = library

    def _applied(self, name, *arrays):
        operation = OPERATIONS[name]
        kinds = [part.split()[0] for part in operation.inputs.split(", ")]
        whole = np.broadcast_arrays(*arrays)
        inputs = [np.array(x, kind, order="C") for x, kind in zip(whole, kinds, strict=True)]
        outputs = [part.split()[0] for part in operation.output.split(", ")]
        made = [np.empty(whole[0].shape, kind) for kind in outputs]
        addresses = [ctypes.c_void_p(x.ctypes.data) for x in (*inputs, *made)]
        getattr(self._library, f"entries_{name}")(ctypes.c_longlong(made[0].size), *addresses)
        return made if made[1:] else made[0]

    def widen(self, x):
        return self._applied("widen", x)

    def narrow(self, x):
        return self._applied("narrow", x)

    def less_equal(self, a, b):
        return self._applied("less_equal", a, b)

    def multiply(self, source, target, pre, rest):
        kind = kind_of(source.dtype)
        if kind.half:
            source, target = source.view(np.uint16), target.view(np.uint16)
        target[...] = self._applied(f"multiply_{KINDS[kind.name]}", source, pre, rest)

    def write_factors(self, records, parts):
        columns = [records[:, i] for i in range(-5, 0)]
        shaped = np.broadcast_to(parts[0], columns[0].shape)
        made = self._applied("factors", shaped, *parts[1:], halves.STATE)
        for column, values in zip(columns, made, strict=True):
            column[...] = values
