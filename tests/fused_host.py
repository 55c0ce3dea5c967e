"""The fused CUDA source compiled as C++ for the host, and run on NumPy's memory.

A block's threads are coroutines that give way at each barrier, of the block or of a warp, so index
arithmetic, vector access, barriers and rounding are those of the source. Blocks run one after the
other in an order that is given: which of them is the last to be done depends on it.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np

import coroutines
from agclip_backends._cuda import described, table
from agclip_backends._cuda.fused_source import KERNELS, SOURCE
from agclip_backends._cuda.source import KINDS

COMPILER = shutil.which("g++") or shutil.which("clang++")

_BEFORE = """
#include <cmath>
#include <cstdio>

#define AGCLIP_HOST
#define __global__
#define __device__
#define __shared__ static
#define __grid_constant__
#define __launch_bounds__(...)

using std::fma;
using std::fabs;

static void wait(int kind);
static void __syncthreads() { wait(1); }
static void fence() {}

static unsigned int atomicAdd(unsigned int *at, unsigned int value) {
    unsigned int before = *at;
    *at += value;
    return before;
}

static double lanes[1024];
static double from_above(double value, int distance) {
    unsigned t = threadIdx.x;
    lanes[t] = value;
    wait(2);
    value = lanes[t % 32 + distance < 32 ? t + distance : t];
    wait(2);
    return value;
}

struct alignas(16) Words { unsigned int x, y, z, w; };
static Words load(const void *from) {
    if ((size_t)from % 16) __builtin_trap();
    return *(const Words *)from;
}
static void save(void *to, Words v) {
    if ((size_t)to % 16) __builtin_trap();
    *(Words *)to = v;
}
template <bool once> static void load_if(Words &v, const void *from, bool there) {
    if (there) v = load(from);
}
// Blocks run one after the other: each has its share, as if they took turns.
static unsigned int take(unsigned int *, unsigned int index) { return index + gridDim.x; }
static int count_of(bool holds) {
    static bool held[1024];
    unsigned t = threadIdx.x;
    held[t] = holds;
    wait(2);
    int count = 0;
    for (unsigned i = t - t % 32, end = i + 32; i < end; i++) count += held[i];
    wait(2);
    return count;
}
static void let_the_next_begin() {}
static void wait_for_the_last() {}
static double load_shared(const double *from) { return *from; }
static double widen(float x) { return x; }
static float narrow(double x) { return (float)x; }
static float times(float x, float y) { return x * y; }
static double root_of(double x) { return std::sqrt(x); }
static float at_most(float x, float high) { return x <= high || x != x ? x : high; }
static float at_least(float x, float low) { return x >= low || x != x ? x : low; }
static float from_half(unsigned short bits) {
    _Float16 value;
    memcpy(&value, &bits, 2);
    return value;
}
static unsigned short to_half(float value) {
    _Float16 half = value;
    unsigned short bits;
    memcpy(&bits, &half, 2);
    return bits;
}
static unsigned short to_brain(float value) {
    unsigned int bits;
    memcpy(&bits, &value, 4);
    unsigned int rounded = bits + 0x7fff + (bits >> 16 & 1);
    return (unsigned short)((value != value ? bits | 0x400000 : rounded) >> 16);
}
"""

_AFTER = """
enum { READY = 0, AT_BLOCK = 1, AT_WARP = 2, DONE = 3 };
static int state[THREADS];
static void (*kernel)(const Args);
static const Args *given;

static void wait(int kind) {
    state[threadIdx.x] = kind;
    give_way();
}

static void thread() {
    kernel(*given);
    state[threadIdx.x] = DONE;
}

// Run every thread up to its next barrier, until all are done; false if some wait for ever.
static bool run_block(bool backward) {
    for (int t = 0; t < THREADS; t++) state[t] = READY;
    for (;;) {
        for (int k = 0; k < THREADS; k++) {
            unsigned t = backward ? THREADS - 1 - k : k;
            if (state[t] != READY) continue;
            go_on(t);
        }
        bool moved = false;
        int count[4] = {0, 0, 0, 0};
        for (int w = 0; w < THREADS; w += 32) {
            int here = 0;
            for (int t = w; t < w + 32; t++) here += state[t] == AT_WARP;
            if (here == 32) {
                for (int t = w; t < w + 32; t++) state[t] = READY;
                moved = true;
            } else if (here) return stuck();
        }
        if (moved) continue;
        for (int t = 0; t < THREADS; t++) count[state[t]]++;
        if (count[DONE] == THREADS) return true;
        if (count[AT_BLOCK] != THREADS) return stuck();
        for (int t = 0; t < THREADS; t++) state[t] = READY;
    }
}

extern "C" int size_of_args() { return sizeof(Args); }

extern "C" int run(const char *name, unsigned int grid, const void *args, const unsigned int *order,
                   int backward) {
    static const struct { const char *name; void (*kernel)(const Args); } known[] = {@KNOWN@};
    kernel = nullptr;
    for (auto &k : known) if (!strcmp(name, k.name)) kernel = k.kernel;
    if (!kernel) return 1;
    given = (const Args *)args;
    gridDim.x = grid;
    for (unsigned b = 0; b < grid; b++) {
        blockIdx.x = order[b];
        if (!run_block(backward)) return 2;
    }
    return 0;
}
"""


def build(folder: Path, *flags: str) -> ctypes.CDLL:
    """Compile the kernels for the host."""
    source, library = folder / "fused.cpp", folder / "fused.so"
    known = ", ".join(f'{{"{name}", {name}}}' for name in KERNELS)
    after = coroutines.AFTER + _AFTER.replace("@KNOWN@", known)
    source.write_text(coroutines.BEFORE + _BEFORE + SOURCE + after)
    options = ["-std=c++17", "-O1", "-fPIC", "-shared", "-ffp-contract=off", "-Wno-unknown-pragmas"]
    command = [COMPILER, *options, *coroutines.FLAGS, *flags, str(source), "-o", str(library)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(done.stderr)
    return ctypes.CDLL(str(library))


class HandedOn:
    """What a library of arrays on the host hands on to `self.host`, a `HostLibrary`."""

    def upload(self, place, data):
        return self.host.upload(place, data)

    def processors(self, place):
        return 3

    def function(self, place, name, kinds):
        return name

    def launch(self, place, function, grid, parameters, *, follows):
        self.host.launch(place, function, grid, parameters, follows=follows)


class Idle:
    """A device that does nothing: `zeros(count)` returns memory of words, and its address."""

    capturing = False

    def __init__(self, zeros):
        self._zeros = zeros
        self.launched = []

    def launch(self, place, function, grid, parameters, *, follows):
        self.launched.append(function)

    def upload(self, place, data):
        return self._zeros(len(data) // 8)


class HostLibrary:
    """What `_cuda.fused.Library` asks for, on NumPy arrays: all memory is the device's."""

    pools_captures = False

    def __init__(self, library, *, seed=0, backward=False, processors=3, capturing=False):
        assert library.size_of_args() == table.SIZE
        self._library = library
        self._random = np.random.default_rng(seed)
        self._backward = backward
        self._processors = processors
        self.capturing = capturing
        self.stream = 7
        self.launches = []
        self.recorded = []
        self.uploads = 0

    def describe(self, leaves):
        addresses, counts, kinds = [], [], []
        for x in leaves:
            if x.dtype.name not in KINDS or not x.flags.forc:
                return None
            addresses.append(x.ctypes.data)
            counts.append(x.size * (2 if x.dtype.kind == "c" else 1))
            kinds.append(KINDS[x.dtype.name])
        return described.Described(tuple(addresses), tuple(counts), tuple(kinds))

    def as_stored(self, leaves):
        return True

    def in_order(self, leaves):
        return all(x.flags.c_contiguous for x in leaves)

    def place(self, leaves):
        return table.Place(0, self.stream, self.capturing)

    def together(self, place, leaves):
        return True

    def scalar(self, place, x):
        return None if x.ndim else (x.ctypes.data, KINDS[x.dtype.name])

    def doubles(self, place, count):
        made = np.full(count, np.nan)
        return made, made.ctypes.data

    def zeros(self, place, count):
        made = np.zeros(count)
        return made, made.ctypes.data

    def copied(self, memory, begin, count):
        return memory[begin : begin + count].copy()

    def number(self, place, kind):
        made = np.full((), np.nan, np.float64 if kind == 3 else np.float32)
        return made, made.ctypes.data

    def upload(self, place, data):
        self.uploads += 1
        made = np.frombuffer(bytes(data), np.int64)
        return made, made.ctypes.data

    def processors(self, place):
        return self._processors

    def function(self, place, name, kinds):
        return name

    def launch(self, place, function, grid, parameters, *, follows):
        self.launches.append(function)
        blob = ctypes.string_at(parameters[0], table.SIZE)
        step = ("run", function, grid, blob)
        self.recorded.append(step)
        if not self.capturing:
            self._perform(step)

    def written(self, leaves):
        self.overwritten = [id(leaf) for leaf in leaves]

    def replay(self):
        for step in self.recorded:
            self._perform(step)

    def _perform(self, step):
        _, name, grid, blob = step
        order = self._random.permutation(grid).astype(np.uint32)
        error = self._library.run(
            name.encode(),
            ctypes.c_uint(grid),
            blob,
            ctypes.c_void_p(order.ctypes.data),
            self._backward,
        )
        assert error == 0, "threads of a block came to different barriers"
