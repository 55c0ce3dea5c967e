"""The CUDA kernels: sums of squares of a whole list of leaves, and their multiplication.

One launch serves leaves of any number, shapes and dtypes. A leaf is cut into chunks of a fixed
number of entries, a block of threads takes a chunk, and every entry has its thread, its place in
that thread's sum and its place in the tree of sums: so a leaf's sum has the same bits whatever the
device, the launch and the other leaves are. Nothing is added atomically.

The source needs no header, and little enough of CUDA to be compiled as C++ for the host as well.
"""

from __future__ import annotations

from typing import NamedTuple

THREADS = 256
"""Threads in a block."""

CHUNK = 1 << 14
"""Entries in a chunk: enough chunks to fill a device evenly, few enough to cost little themselves.

A thread adds at most CHUNK / (2·THREADS) squares one to the other; its sums meet in trees."""

KINDS = {
    "float16": 0,
    "bfloat16": 1,
    "float32": 2,
    "complex64": 2,
    "float64": 3,
    "complex128": 3,
}
"""Names of dtypes → the number by which the kernels know them; a complex entry is two real ones."""

OPTIONS = ("--std=c++14", "--fmad=false")
"""What the compiler is told: what is added to what, and rounded when, is as the source has it."""

ARITHMETIC = """
struct Half { unsigned short bits; };
struct Brain { unsigned short bits; };

union Bits { float value; unsigned int bits; };

// CuPy (14.2) ends the compiler's options with -ftz=true, which makes an operator on float32, and a
// cast from or to it, take subnormal numbers for zero. PTX that does not say .ftz keeps them.
#ifdef AGCLIP_HOST
inline double widened(float x) { return x; }
inline float narrowed(double x) { return (float)x; }
inline float product(float a, float b) { return a * b; }
#else
__device__ inline double widened(float x) {
    double y;
    asm("cvt.f64.f32 %0, %1;" : "=d"(y) : "f"(x));
    return y;
}

__device__ inline float narrowed(double x) {
    float y;
    asm("cvt.rn.f32.f64 %0, %1;" : "=f"(y) : "d"(x));
    return y;
}

__device__ inline float product(float a, float b) {
    float y;
    asm("mul.rn.f32 %0, %1, %2;" : "=f"(y) : "f"(a), "f"(b));
    return y;
}

__device__ inline float from_half(unsigned short bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}

__device__ inline unsigned short to_half(float value) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}
#endif

__device__ inline double product(double a, double b) { return a * b; }

__device__ inline float product(float x, double pre, double rest) {
    return product(product(x, narrowed(pre)), narrowed(rest));
}

__device__ inline double product(double x, double pre, double rest) { return x * pre * rest; }

__device__ inline float real(Half x) { return from_half(x.bits); }
__device__ inline float real(float x) { return x; }
__device__ inline double real(double x) { return x; }
__device__ inline float real(Brain x) {
    Bits y;
    y.bits = (unsigned int)x.bits << 16;
    return y.value;
}

__device__ inline double widened(double x) { return x; }

__device__ inline void convert(float &x, double value) { x = narrowed(value); }
__device__ inline void convert(double &x, double value) { x = value; }

__device__ inline void store(Half &x, float value) { x.bits = to_half(value); }
__device__ inline void store(float &x, float value) { x = value; }
__device__ inline void store(double &x, double value) { x = value; }
__device__ inline void store(Brain &x, float value) {
    Bits y;
    y.value = value;
    // To nearest, ties to even; a NaN must not be carried into infinity.
    unsigned int rounded = y.bits + 0x7fff + (y.bits >> 16 & 1);
    bool missing = (y.bits & 0x7fffffff) > 0x7f800000;
    x.bits = (unsigned short)((missing ? y.bits | 0x400000 : rounded) >> 16);
}
"""
"""How entries are read, multiplied and rounded: no subnormal number is flushed to zero."""


class Operation(NamedTuple):
    """What is done to each entry of arrays of any layout, which broadcast."""

    inputs: str
    """Types and names of the entries that are read."""
    output: str
    """Type and name of the entry that is written."""
    body: str
    """Statements, with `ARITHMETIC` before them."""


WIDEN = Operation("float32 x", "float64 y", "y = widened(x)")
NARROW = Operation("float64 x", "float32 y", "y = narrowed(x)")
LESS_EQUAL = Operation("float32 a, float32 b", "bool y", "y = widened(a) <= widened(b)")
MULTIPLY = {
    0: Operation(
        "uint16 x, float64 pre, float64 rest",
        "uint16 y",
        "Half from, to; from.bits = x; store(to, product(real(from), pre, rest)); y = to.bits",
    ),
    1: Operation(
        "uint16 x, float64 pre, float64 rest",
        "uint16 y",
        "Brain from, to; from.bits = x; store(to, product(real(from), pre, rest)); y = to.bits",
    ),
    2: Operation("float32 x, float64 pre, float64 rest", "float32 y", "y = product(x, pre, rest)"),
    3: Operation("float64 x, float64 pre, float64 rest", "float64 y", "y = product(x, pre, rest)"),
}
"""By the number of a kind: (x * pre) * rest, formed in float32 or float64 and rounded once."""

_KERNELS = """
#define THREADS %(threads)d
#define CHUNK %(chunk)d
#define BATCH 4  // packs that a thread has under way at a time

struct Leaf {
    const void *source;
    void *target;
    long long count;  // of real entries
    long long first;  // chunk
    long long kind;
};

// Sixteen bytes: what a thread reads and writes at once where the address allows.
template <class T> struct Pack {
    static const int size = 16 / sizeof(T);
    union { uint4 words; T entries[size]; };
    __device__ Pack() {}

    __device__ void read(const T *from) { words = *(const uint4 *)from; }
    __device__ void write(T *to) const { *(uint4 *)to = words; }

    __device__ void read_some(const T *from, int count) {
        words.x = words.y = words.z = words.w = 0;
        for (int k = 0; k < size; k++)
            if (k < count) entries[k] = from[k];
    }

    __device__ void write_some(T *to, int count) const {
        for (int k = 0; k < size; k++)
            if (k < count) to[k] = entries[k];
    }
};

__device__ inline bool is_aligned(const void *address) { return (size_t)address %% 16 == 0; }

// The last leaf that begins at this chunk or before it: empty ones share theirs with the next.
__device__ inline const Leaf &leaf_of(const Leaf *leaves, long long count, long long chunk) {
    long long low = 0, high = count - 1;
    while (low < high) {
        long long middle = (low + high + 1) / 2;
        if (leaves[middle].first <= chunk) low = middle; else high = middle - 1;
    }
    return leaves[low];
}

__device__ inline double sum_of_block(double value) {
    __shared__ double sums[THREADS];
    sums[threadIdx.x] = value;
    __syncthreads();
    for (int width = THREADS / 2; width > 0; width /= 2) {
        if (threadIdx.x < width) sums[threadIdx.x] += sums[threadIdx.x + width];
        __syncthreads();
    }
    return sums[0];
}

template <class T, bool scaled>
__device__ inline void add_squares(double *sums, const Pack<T> &pack, double scale) {
    for (int k = 0; k < Pack<T>::size; k++) {
        double x = widened(real(pack.entries[k]));
        if (scaled) x *= scale;
        sums[k] = fma(x, x, sums[k]);
    }
}

template <class T, bool scaled>
__device__ double sum_of_thread(const T *entries, int count, double scale) {
    const int size = Pack<T>::size, step = THREADS * size;
    double sums[size];
    for (int k = 0; k < size; k++) sums[k] = 0;
    int i = threadIdx.x * size, batched = is_aligned(entries) ? count / (BATCH * step) : 0;
    Pack<T> packs[BATCH];
    for (; batched > 0; batched--, i += BATCH * step) {
        for (int j = 0; j < BATCH; j++) packs[j].read(entries + i + j * step);
        for (int j = 0; j < BATCH; j++) add_squares<T, scaled>(sums, packs[j], scale);
    }
    for (; i < count; i += step) {
        packs[0].read_some(entries + i, count - i);
        add_squares<T, scaled>(sums, packs[0], scale);
    }
    for (int width = size / 2; width > 0; width /= 2)
        for (int k = 0; k < width; k++) sums[k] += sums[k + width];
    return sums[0];
}

template <class T>
__device__ double sum_of_chunk(const Leaf &leaf, long long start, int count, const double *scale) {
    const T *entries = (const T *)leaf.source + start;
    double factor = scale ? *scale : 1.0;
    return factor == 1.0 ? sum_of_thread<T, false>(entries, count, factor)
                         : sum_of_thread<T, true>(entries, count, factor);
}

template <class T, class R>
__device__ inline void multiply(Pack<T> &pack, R pre, R rest) {
    for (int k = 0; k < Pack<T>::size; k++)
        store(pack.entries[k], product(product(real(pack.entries[k]), pre), rest));
}

// The product (x * pre) * rest, formed in R and rounded to T once. A factor of one changes no bit,
// so in place there is nothing to read or to write then.
template <class T, class R>
__device__ void scale_chunk(
    const Leaf &leaf, long long start, int count, const double *first, const double *second
) {
    const T *source = (const T *)leaf.source + start;
    T *target = (T *)leaf.target + start;
    R pre, rest;
    convert(pre, first ? *first : 1.0);
    convert(rest, *second);
    if (source == target && widened(pre) == 1.0 && widened(rest) == 1.0) return;
    const int size = Pack<T>::size, step = THREADS * size;
    bool aligned = is_aligned(source) && is_aligned(target);
    int i = threadIdx.x * size, batched = aligned ? count / (BATCH * step) : 0;
    Pack<T> packs[BATCH];
    for (; batched > 0; batched--, i += BATCH * step) {
        for (int j = 0; j < BATCH; j++) packs[j].read(source + i + j * step);
        for (int j = 0; j < BATCH; j++) {
            multiply<T, R>(packs[j], pre, rest);
            packs[j].write(target + i + j * step);
        }
    }
    for (; i < count; i += step) {
        packs[0].read_some(source + i, count - i);
        multiply<T, R>(packs[0], pre, rest);
        packs[0].write_some(target + i, count - i);
    }
}

__device__ inline int entries_in_chunk(const Leaf &leaf, long long start) {
    return leaf.count - start < CHUNK ? (int)(leaf.count - start) : CHUNK;
}

extern "C" __global__ void __launch_bounds__(THREADS) agclip_sum_chunks(
    const Leaf *leaves, long long number, const double *scale, double *partial
) {
    const Leaf &leaf = leaf_of(leaves, number, blockIdx.x);
    long long start = (blockIdx.x - leaf.first) * CHUNK;
    int count = entries_in_chunk(leaf, start);
    double sum = leaf.kind == 0   ? sum_of_chunk<Half>(leaf, start, count, scale)
                 : leaf.kind == 1 ? sum_of_chunk<Brain>(leaf, start, count, scale)
                 : leaf.kind == 2 ? sum_of_chunk<float>(leaf, start, count, scale)
                                  : sum_of_chunk<double>(leaf, start, count, scale);
    sum = sum_of_block(sum);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

extern "C" __global__ void __launch_bounds__(THREADS) agclip_sum_leaves(
    const Leaf *leaves, const double *partial, double *sums
) {
    const Leaf &leaf = leaves[blockIdx.x];
    long long chunks = (leaf.count + CHUNK - 1) / CHUNK;
    double sum = 0;
    for (long long i = threadIdx.x; i < chunks; i += THREADS) sum += partial[leaf.first + i];
    sum = sum_of_block(sum);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// Four blocks on a multiprocessor are enough: for six NVRTC 13.5 spills registers on Blackwell.
extern "C" __global__ void __launch_bounds__(THREADS, 4) agclip_scale(
    const Leaf *leaves, long long number,
    const double *narrow_pre, const double *narrow, const double *wide_pre, const double *wide
) {
    const Leaf &leaf = leaf_of(leaves, number, blockIdx.x);
    long long start = (blockIdx.x - leaf.first) * CHUNK;
    int count = entries_in_chunk(leaf, start);
    if (leaf.kind == 0) scale_chunk<Half, float>(leaf, start, count, narrow_pre, narrow);
    else if (leaf.kind == 1) scale_chunk<Brain, float>(leaf, start, count, narrow_pre, narrow);
    else if (leaf.kind == 2) scale_chunk<float, float>(leaf, start, count, narrow_pre, narrow);
    else scale_chunk<double, double>(leaf, start, count, wide_pre, wide);
}
""" % {"threads": THREADS, "chunk": CHUNK}  # noqa: UP031 - braces are C's

SOURCE = ARITHMETIC + _KERNELS
