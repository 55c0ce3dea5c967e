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

from agclip_backends._cuda.source import SOURCE

COMPILER = shutil.which("g++") or shutil.which("clang++")

_BEFORE = """
#include <cmath>
#include <cstring>
#include <functional>
#include <ucontext.h>

#define AGCLIP_HOST
#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(n)

struct alignas(16) uint4 { unsigned int x, y, z, w; };
struct Index { unsigned int x; };
static Index threadIdx, blockIdx;
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
static ucontext_t scheduler, threads[THREADS];
static char stacks[THREADS][1 << 15];
static bool finished[THREADS];
static std::function<void()> body;

void __syncthreads() { swapcontext(&threads[threadIdx.x], &scheduler); }

static void thread() {
    body();
    finished[threadIdx.x] = true;
    swapcontext(&threads[threadIdx.x], &scheduler);
}

// Run every thread up to its next barrier, until all are done; false if only some came to it.
static bool run_block(bool backward) {
    for (int t = 0; t < THREADS; t++) {
        getcontext(&threads[t]);
        threads[t].uc_stack.ss_sp = stacks[t];
        threads[t].uc_stack.ss_size = sizeof stacks[t];
        makecontext(&threads[t], thread, 0);
        finished[t] = false;
    }
    for (int done = 0; done < THREADS;) {
        done = 0;
        for (int t = 0; t < THREADS; t++) {
            threadIdx.x = backward ? THREADS - 1 - t : t;
            swapcontext(&scheduler, &threads[threadIdx.x]);
            done += finished[threadIdx.x];
        }
        if (done > 0 && done < THREADS) return false;
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


def build(folder: Path) -> ctypes.CDLL:
    """Compile the kernels for the host."""
    source, library = folder / "kernels.cpp", folder / "kernels.so"
    source.write_text(_BEFORE + SOURCE + _AFTER)
    flags = ["-std=c++14", "-O2", "-fPIC", "-shared", "-ffp-contract=off", "-Wno-unknown-pragmas"]
    command = [COMPILER, *flags, str(source), "-o", str(library)]
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
