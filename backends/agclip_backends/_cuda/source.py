"""The CUDA kernels: sums of squares of a whole list of leaves, and their multiplication.

One launch serves leaves of any number, shapes and dtypes. A leaf is cut into chunks of a fixed
number of elements, a block of threads takes a chunk, and every element has its thread, its place in
that thread's sum and its place in the tree of sums: so a leaf's sum has the same bits whatever the
device, the launch and the other leaves are. Nothing is added atomically.

The source needs no header, and little enough of CUDA to be compiled as C++ for the host as well.
"""

from __future__ import annotations

from agclip_backends._cuda.arithmetic import ARITHMETIC

THREADS = 256
"""Threads in a block."""

CHUNK = 1 << 14
"""Elements in a chunk: enough chunks to fill a device evenly, few enough to cost little themselves.

A thread adds at most CHUNK / (2·THREADS) squares one to the other; its sums meet in trees."""

KINDS = {
    "float16": 0,
    "bfloat16": 1,
    "float32": 2,
    "complex64": 2,
    "float64": 3,
    "complex128": 3,
}
"""Names of dtypes → the number that the kernels know them by; a complex element is two reals."""

_KERNELS = """
#define THREADS %(threads)d
#define CHUNK %(chunk)d
#define BATCH 4  // packs that a thread has under way at a time

struct Leaf {
    const void *source;
    void *target;
    long long count;  // of real elements
    long long first;  // chunk
    long long kind;
};

// Sixteen bytes: what a thread reads and writes at once where the address allows.
template <class T> struct Pack {
    static const int size = 16 / sizeof(T);
    union { uint4 words; T elements[size]; };
    __device__ Pack() {}

    __device__ void read(const T *from) { words = *(const uint4 *)from; }
    __device__ void write(T *to) const { *(uint4 *)to = words; }

    __device__ void read_some(const T *from, int count) {
        words.x = words.y = words.z = words.w = 0;
        for (int k = 0; k < size; k++)
            if (k < count) elements[k] = from[k];
    }

    __device__ void write_some(T *to, int count) const {
        for (int k = 0; k < size; k++)
            if (k < count) to[k] = elements[k];
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
        double x = widened(real(pack.elements[k]));
        if (scaled) x *= scale;
        sums[k] = fma(x, x, sums[k]);
    }
}

template <class T, bool scaled>
__device__ double sum_of_thread(const T *elements, int count, double scale) {
    const int size = Pack<T>::size, step = THREADS * size;
    double sums[size];
    for (int k = 0; k < size; k++) sums[k] = 0;
    int i = threadIdx.x * size, batched = is_aligned(elements) ? count / (BATCH * step) : 0;
    Pack<T> packs[BATCH];
    for (; batched > 0; batched--, i += BATCH * step) {
        for (int j = 0; j < BATCH; j++) packs[j].read(elements + i + j * step);
        for (int j = 0; j < BATCH; j++) add_squares<T, scaled>(sums, packs[j], scale);
    }
    for (; i < count; i += step) {
        packs[0].read_some(elements + i, count - i);
        add_squares<T, scaled>(sums, packs[0], scale);
    }
    for (int width = size / 2; width > 0; width /= 2)
        for (int k = 0; k < width; k++) sums[k] += sums[k + width];
    return sums[0];
}

template <class T>
__device__ double sum_of_chunk(const Leaf &leaf, long long start, int count, const double *scale) {
    const T *elements = (const T *)leaf.source + start;
    double factor = scale ? *scale : 1.0;
    return factor == 1.0 ? sum_of_thread<T, false>(elements, count, factor)
                         : sum_of_thread<T, true>(elements, count, factor);
}

template <class T, class R>
__device__ inline void multiply(Pack<T> &pack, R pre, R rest) {
    for (int k = 0; k < Pack<T>::size; k++)
        store(pack.elements[k], product(product(real(pack.elements[k]), pre), rest));
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
