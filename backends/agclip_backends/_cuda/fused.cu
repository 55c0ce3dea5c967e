// Before this stand THREADS, CHUNK, INLINE and RECORD: see _fused_source.py, which says what the
// two launches do.

// Packs of a thread that are under way, and blocks that a multiprocessor has room for at least; of
// the norms and of the products. On an H200 (driver 580.159, CUDA 13.0, torch 2.11, 2026-11-27),
// 10^8 elements of bfloat16 and float32 in us: norms 52.2 and 92.9 for 4 and 4, 53.5 and 94.2 for 8
// and 3, 61.3 and 96.2 for 2 and 5; a clip in place 158.9 and 304.5 for 8 and 2, 160.0 and 304.0
// for 8 and 3, 162.6 and 307.7 for 4 and 4; one that leaves all as it is 53.5 for 8 and 2, 54.0
// for 8 and 3.
#ifndef BATCH
#define BATCH 4
#endif
#ifndef RESIDENT
#define RESIDENT 4
#endif
#ifndef BATCH_SCALE
#define BATCH_SCALE 8
#endif
#ifndef RESIDENT_SCALE
#define RESIDENT_SCALE 2
#endif
#ifndef KINDS  // bits of the kinds of leaves that are compiled for
#define KINDS 15
#endif
#ifndef ONLY  // the place in KERNELS of the one that is compiled; -1 for all
#define ONLY -1
#endif
#define STRIDE (16 * THREADS)  // bytes that a block reads at once

struct Leaf {
    const void *source;
    void *target;
    long long count;  // of real elements
    unsigned int first;  // chunk
    int kind;
    double weight;  // what the bound is multiplied by, where each leaf is a group
};

struct Args {
    const Leaf *table;  // null if the leaves follow below
    double *partial;  // a sum a chunk
    double *sums;  // one a leaf
    unsigned int *counters;  // see below
    double *record;  // RECORD words a group, and one for all; null for the sums alone
    void *norm;  // where the joint norm is written; may be null
    const void *bound_at, *loss_at;  // scalars on the device; null if they follow
    double bound, loss;
    double shrink[4];  // by the kind of the leaf
    double low[4], high[4];  // bounds of elements, by the kind of the leaf
    int number;  // of leaves
    unsigned int chunks;
    int flags;
    int bound_kind, loss_kind, norm_kind;
    Leaf leaves[INLINE];
};

// In a clip by norms `low[EPS]` is what is added to the norm that the bound is divided by, and in
// `low[REBOUND]` is whether only the bound is new: the record holds the norm already.
enum { EPS = 1, REBOUND = 2 };
// The flags of a call, those of a decision, and the words of a record.
enum { JOINT = 1, NARROW = 2, DIVIDED = 4, ZERO = 8, SKIP = 16, STRICT = 32, IN_PLACE = 64 };
enum { FINITE = 1, LIMITED = 2, ACTIVE = 4, ERASED = 8, AGAIN = 16 };
enum { ROOT, SCALE, LIMIT, NARROW_PRE, NARROW_REST, WIDE_PRE, WIDE_REST, STATE };
// What is added up.
enum { SQUARES, MAGNITUDES, PEAK };
// Counters: of blocks that are done, of chunks that blocks have taken, of each leaf's that are done.
enum { BLOCKS, NORMS, PRODUCTS, CHUNKS };

struct Half { unsigned short bits; };
struct Brain { unsigned short bits; };

union Bits { float value; unsigned int bits; };
union Bits64 { double value; long long bits; };

#ifndef AGCLIP_HOST
struct alignas(16) Words { unsigned int x, y, z, w; };

__device__ inline Words load(const void *from) {
    Words v;
    asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
        : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(from) : "memory");
    return v;
}

__device__ inline void save(void *to, Words v) {
    asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};"
        :: "l"(to), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
}

// Likewise, if there is something to be read; else the words stay as they are. Norms leave nothing
// in the first cache, which saves 1.3 us of 54 there (see above); products are slower by it.
template <bool once> __device__ inline void load_if(Words &v, const void *from, bool there) {
#if __CUDA_ARCH__ >= 700
    if (once)
        asm volatile("{.reg .pred p; setp.ne.s32 p, %5, 0;"
            " @p ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];}"
            : "+r"(v.x), "+r"(v.y), "+r"(v.z), "+r"(v.w) : "l"(from), "r"((int)there) : "memory");
    else
#endif
        asm volatile("{.reg .pred p; setp.ne.s32 p, %5, 0;"
            " @p ld.global.v4.u32 {%0, %1, %2, %3}, [%4];}"
            : "+r"(v.x), "+r"(v.y), "+r"(v.z), "+r"(v.w) : "l"(from), "r"((int)there) : "memory");
}

// What was written before is there for whoever sees what is written after.
__device__ inline void fence() {
#if __CUDA_ARCH__ >= 700
    asm volatile("fence.acq_rel.gpu;" ::: "memory");
#else
    __threadfence();
#endif
}

// The index of a block's next piece of work, from a counter that begins at zero.
__device__ inline unsigned int take(unsigned int *counter, unsigned int) {
    return gridDim.x + atomicAdd(counter, 1u);
}

// Of a warp's threads, for how many it holds.
__device__ inline int count_of(bool holds) { return __popc(__ballot_sync(0xffffffffu, holds)); }

// From Hopper on a launch may begin before the one that it follows has ended: when all blocks of
// that one have let it. What that one writes is there only after the wait.
__device__ inline void let_the_next_begin() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

__device__ inline void wait_for_the_last() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// What another block has written: the first cache may be behind.
__device__ inline double load_shared(const double *from) {
    double v;
    asm volatile("ld.global.cg.f64 %0, [%1];" : "=d"(v) : "l"(from) : "memory");
    return v;
}

__device__ inline double from_above(double value, int distance) {
    Bits64 x;
    x.value = value;
    int low = __shfl_down_sync(0xffffffffu, (int)x.bits, distance);
    int high = __shfl_down_sync(0xffffffffu, (int)(x.bits >> 32), distance);
    x.bits = (long long)high << 32 | (unsigned int)low;
    return x.value;
}

__device__ inline double widen(float x) {
    double y;
    asm("cvt.f64.f32 %0, %1;" : "=d"(y) : "f"(x));
    return y;
}

__device__ inline float narrow(double x) {
    float y;
    asm("cvt.rn.f32.f64 %0, %1;" : "=f"(y) : "d"(x));
    return y;
}

__device__ inline float times(float x, float y) {
    float z;
    asm("mul.rn.f32 %0, %1, %2;" : "=f"(z) : "f"(x), "f"(y));
    return z;
}

__device__ inline double root_of(double x) {
    double y;
    asm("sqrt.rn.f64 %0, %1;" : "=d"(y) : "d"(x));
    return y;
}

// A NaN stays as it is; an element that is not ordered with the bound meets a NaN, and becomes it.
__device__ inline float at_most(float x, float high) {
    float y;
    asm("{.reg .pred p, q; setp.le.f32 p, %1, %2; setp.nan.f32 q, %1, %1; or.pred p, p, q;"
        " selp.f32 %0, %1, %2, p;}" : "=f"(y) : "f"(x), "f"(high));
    return y;
}

__device__ inline float at_least(float x, float low) {
    float y;
    asm("{.reg .pred p, q; setp.ge.f32 p, %1, %2; setp.nan.f32 q, %1, %1; or.pred p, p, q;"
        " selp.f32 %0, %1, %2, p;}" : "=f"(y) : "f"(x), "f"(low));
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

__device__ inline unsigned short to_brain(float value) {
#if __CUDA_ARCH__ >= 800
    unsigned short bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
#else
    // To nearest, ties to even; a NaN must not be carried into infinity.
    Bits y;
    y.value = value;
    bool nan = (y.bits & 0x7fffffffu) > 0x7f800000u;
    return (unsigned short)((nan ? y.bits | 0x400000 : y.bits + 0x7fff + (y.bits >> 16 & 1)) >> 16);
#endif
}
#endif

__device__ inline double at_most(double x, double high) { return x <= high || x != x ? x : high; }
__device__ inline double at_least(double x, double low) { return x >= low || x != x ? x : low; }
__device__ inline double times(double x, double y) { return x * y; }

__device__ inline float real(Half x) { return from_half(x.bits); }
__device__ inline float real(float x) { return x; }
__device__ inline double real(double x) { return x; }
__device__ inline float real(Brain x) {
    Bits y;
    y.bits = (unsigned int)x.bits << 16;
    return y.value;
}

__device__ inline double widen(double x) { return x; }
template <class R> __device__ inline R as(double x);
template <> __device__ inline float as<float>(double x) { return narrow(x); }
template <> __device__ inline double as<double>(double x) { return x; }

__device__ inline void store(Half &x, float value) { x.bits = to_half(value); }
__device__ inline void store(Brain &x, float value) { x.bits = to_brain(value); }
__device__ inline void store(float &x, float value) { x = value; }
__device__ inline void store(double &x, double value) { x = value; }

// Sixteen bytes: what a thread reads and writes at once.
template <class T> struct Pack {
    static const int size = 16 / sizeof(T);
    union { Words words; T elements[size]; };
    __device__ Pack() {}

    __device__ void read(const T *from) { words = load(from); }
    __device__ void write(T *to) const { save(to, words); }

    // From an address that is not a multiple of 16: out of the two stretches that hold the elements.
    __device__ void read_across(const T *from) {
        const int off = (int)((size_t)from & 15);
        const char *base = (const char *)from - off;
        Words a = load(base), b = load(base + 16);
        const unsigned int w[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
        const int skip = off >> 2;
        unsigned int v[5];
#pragma unroll
        for (int k = 0; k < 5; k++)
            v[k] = skip == 0 ? w[k] : skip == 1 ? w[k + 1] : skip == 2 ? w[k + 2] : w[k + 3];
        if (off & 2) {
#pragma unroll
            for (int k = 0; k < 4; k++) v[k] = v[k] >> 16 | v[k + 1] << 16;
        }
        words.x = v[0]; words.y = v[1]; words.z = v[2]; words.w = v[3];
    }

    __device__ void read_some(const T *from, int count) {
        words.x = words.y = words.z = words.w = 0;
#pragma unroll
        for (int k = 0; k < size; k++)
            if (k < count) elements[k] = from[k];
    }

    __device__ void write_some(T *to, int count) const {
#pragma unroll
        for (int k = 0; k < size; k++)
            if (k < count) to[k] = elements[k];
    }

    // Read what there is of the pack; `room` elements may be touched from here on.
    template <bool aligned> __device__ void read_end(const T *from, int count, int room) {
        if (aligned && count >= size) read(from);
        else if (!aligned && count >= size && room >= 2 * size) read_across(from);
        else read_some(from, count);
    }
};

__device__ inline bool is_aligned(const void *address) { return ((size_t)address & 15) == 0; }

template <int kind> __device__ inline bool is_kind(const Leaf &leaf) {
    return (KINDS >> kind & 1) && leaf.kind == kind;
}

__device__ inline const Leaf *leaves_of(const Args &args) {
    return args.table ? args.table : args.leaves;
}

// The last leaf from low to high that begins at this chunk or before it: empty ones share theirs
// with the next. The threads of a warp look together, each at one of 32 leaves.
__device__ inline int leaf_of(const Leaf *leaves, int low, int high, unsigned int chunk) {
    while (high - low > 1) {
        const int step = (high - low + 31) / 32;
        const int at = low + ((int)threadIdx.x % 32 + 1) * step;
        low += count_of(at < high && leaves[at].first <= chunk) * step;
        if (low + step < high) high = low + step;
    }
    return low;
}

// The same for a chunk after one of this leaf: most often a leaf nearby has it.
__device__ inline int leaf_after(const Leaf *leaves, int place, int number, unsigned int chunk) {
    if (place + 1 >= number) return place;
    const int at = place + 1 + (int)threadIdx.x % 32;
    const int passed = count_of(at < number && leaves[at].first <= chunk);
    return passed < 32 ? place + passed : leaf_of(leaves, place + 32, number, chunk);
}

// The same for a chunk before one of this leaf.
__device__ inline int leaf_before(const Leaf *leaves, int place, unsigned int chunk) {
    if (place == 0) return place;
    const int at = place - (int)threadIdx.x % 32;
    const int passed = count_of(at >= 0 && leaves[at].first > chunk);
    return passed < 32 ? place - passed : leaf_of(leaves, 0, place - 31, chunk);
}

__device__ inline unsigned int chunks_of(const Leaf &leaf) {
    return (unsigned int)((leaf.count + CHUNK - 1) / CHUNK);
}

template <int what> __device__ inline double join(double a, double b) {
    return what == PEAK ? (a >= b || a != a ? a : b) : a + b;
}

template <int what> __device__ inline double added(double sum, double x) {
    return what == SQUARES ? fma(x, x, sum) : join<what>(sum, fabs(x));
}

// The tree of a block's sums, by its first warp; the first thread has the result.
template <int what> __device__ inline double tree(const double *values) {
    const int t = threadIdx.x;
    double a = join<what>(values[t], values[t + 128]);
    double b = join<what>(values[t + 64], values[t + 192]);
    double c = join<what>(values[t + 32], values[t + 160]);
    double d = join<what>(values[t + 96], values[t + 224]);
    double sum = join<what>(join<what>(a, b), join<what>(c, d));
    for (int width = 16; width > 0; width /= 2) sum = join<what>(sum, from_above(sum, width));
    return sum;
}

// The sum of values in memory: a thread takes every THREADS-th, then the tree.
template <int what, unsigned int ahead>  // loads that are under way at a time
__device__ inline double sum_of_block(const double *values, unsigned int count, double *sums) {
    double sum = 0;
    unsigned int i = threadIdx.x;
    for (; i < count; i += ahead * THREADS) {
        double x[ahead];
#pragma unroll
        for (int k = 0; k < ahead; k++) {
            x[k] = 0;
            if (i + k * THREADS < count) x[k] = load_shared(values + i + k * THREADS);
        }
#pragma unroll
        for (int k = 0; k < ahead; k++)
            if (i + k * THREADS < count) sum = join<what>(sum, x[k]);
    }
    sums[threadIdx.x] = sum;
    __syncthreads();
    return threadIdx.x < 32 ? tree<what>(sums) : 0;
}

// The sum of the leaves' sums, likewise. Empty leaves have a sum of zero, and no chunk whose block
// would have written it.
template <int what>
__device__ double sum_of_leaves(
    const Leaf *leaves, const double *values, int number, double *sums
) {
    double sum = 0;
    for (int i = threadIdx.x; i < number; i += 4 * THREADS) {
        bool full[4];
        double x[4];
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const int at = i + k * THREADS;
            full[k] = at < number && leaves[at].count > 0;
        }
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const int at = i + k * THREADS;
            x[k] = load_shared(values + (at < number ? at : i));
        }
#pragma unroll
        for (int k = 0; k < 4; k++)
            if (full[k]) sum = join<what>(sum, x[k]);
    }
    sums[threadIdx.x] = sum;
    __syncthreads();
    return threadIdx.x < 32 ? tree<what>(sums) : 0;
}

template <class T, int what, bool scaled>
__device__ inline void add_pack(double *sums, const Pack<T> &pack, double scale) {
#pragma unroll
    for (int k = 0; k < Pack<T>::size; k++) {
        double x = widen(real(pack.elements[k]));
        if (scaled) x *= scale;
        sums[k] = added<what>(sums[k], x);
    }
}

// `room` elements of the leaf lie from here on; those of the chunk are the first of them.
template <class T, int what, bool scaled, bool aligned>
__device__ double sum_of_thread(const T *elements, int count, int room, double scale) {
    const int size = Pack<T>::size, step = THREADS * size, slack = aligned ? 1 : 2;
    const int batch = aligned ? BATCH : (BATCH + 1) / 2;  // these are two loads each
    double sums[size];
#pragma unroll
    for (int k = 0; k < size; k++) sums[k] = 0;
    for (int i = threadIdx.x * size; i < count; i += batch * step) {
        Pack<T> packs[batch];
        const int last = i + (batch - 1) * step;
        if (last + size <= count && last + slack * size <= room) {
#pragma unroll
            for (int j = 0; j < batch; j++) {
                if (aligned) packs[j].read(elements + i + j * step);
                else packs[j].read_across(elements + i + j * step);
            }
        } else {
#pragma unroll
            for (int j = 0; j < batch; j++) {
                const int at = i + j * step;
                packs[j].template read_end<aligned>(elements + at, count - at, room - at);
            }
        }
#pragma unroll
        for (int j = 0; j < batch; j++) add_pack<T, what, scaled>(sums, packs[j], scale);
    }
#pragma unroll
    for (int width = size / 2; width > 0; width /= 2)
#pragma unroll
        for (int k = 0; k < width; k++) sums[k] = join<what>(sums[k], sums[k + width]);
    return sums[0];
}

struct Place {  // of a chunk in its leaf
    long long start;
    int count, room;
};

__device__ inline Place place_of(const Leaf &leaf, unsigned int chunk) {
    Place p;
    p.start = (long long)(chunk - leaf.first) * CHUNK;
    const long long left = leaf.count - p.start;
    p.count = left < CHUNK ? (int)left : CHUNK;
    p.room = left < 2 * CHUNK ? (int)left : 2 * CHUNK;
    return p;
}

template <class T, int what, bool scaled>
__device__ inline double sum_of_chunk(const Leaf &leaf, unsigned int chunk, double scale) {
    const Place p = place_of(leaf, chunk);
    const T *elements = (const T *)leaf.source + p.start;
    if (is_aligned(elements))
        return sum_of_thread<T, what, scaled, true>(elements, p.count, p.room, scale);
    return sum_of_thread<T, what, scaled, false>(elements, p.count, p.room, scale);
}

// A whole chunk at a multiple of 16 bytes goes through words of which BATCH are always under way:
// as one is added up, the next is asked for, at last those of the next such chunk. Null if it is
// no such chunk.
__device__ inline const char *whole_chunk(const Leaf &leaf, unsigned int chunk, const void *memory) {
    const long long start = (long long)(chunk - leaf.first) * CHUNK;
    if (leaf.count - start < CHUNK || !is_aligned(memory)) return nullptr;
    const int shift = KINDS == 4 ? 2 : KINDS == 8 ? 3 : KINDS < 4 || leaf.kind < 2 ? 1 : leaf.kind;
    return (const char *)memory + (start << shift);
}

template <bool once, int batch>
__device__ inline void read_first(Words (&words)[batch], const char *from) {
#pragma unroll
    for (int j = 0; j < batch; j++) {
        words[j].x = words[j].y = words[j].z = words[j].w = 0;  // what they were is done with
        load_if<once>(words[j], from + threadIdx.x * 16 + j * STRIDE, from != nullptr);
    }
}

template <class T, int what>
__device__ inline double sum_of_whole(Words (&words)[BATCH], const char *here, const char *ahead) {
    const int size = Pack<T>::size, stages = CHUNK / (THREADS * size * BATCH);
    double sums[size];
#pragma unroll
    for (int k = 0; k < size; k++) sums[k] = 0;
    const bool more = ahead != nullptr;
#pragma unroll 1
    for (int stage = 1; stage <= stages; stage++) {
        here = stage < stages ? here + BATCH * STRIDE : ahead;
        const bool there = stage < stages || more;
#pragma unroll
        for (int j = 0; j < BATCH; j++) {
            Pack<T> pack;
            pack.words = words[j];
            add_pack<T, what, false>(sums, pack, 1.0);
            load_if<true>(words[j], here + threadIdx.x * 16 + j * STRIDE, there);
        }
    }
#pragma unroll
    for (int width = size / 2; width > 0; width /= 2)
#pragma unroll
        for (int k = 0; k < width; k++) sums[k] = join<what>(sums[k], sums[k + width]);
    return sums[0];
}

template <class T, int what, bool again>
__device__ inline double sum_of(
    const Leaf &leaf, unsigned int chunk, double scale,
    Words (&words)[BATCH], const char *here, const char *ahead
) {
    if (!again && here) return sum_of_whole<T, what>(words, here, ahead);
    const double sum = sum_of_chunk<T, what, again>(leaf, chunk, scale);
    if (!again) read_first<true>(words, ahead);
    return sum;
}

// From norms and bounds to factors: the arithmetic of `agclip` for float64 scalars, step by step.

__device__ inline double pick(bool condition, double a, double b) { return condition ? a : b; }

__device__ inline double middle_power(double x) {
    return x < 0x1p-400 ? 0x1p-600 : x > 0x1p400 ? 0x1p600 : 1.0;
}

__device__ inline double times_powers(double x, double a, double b, double c) {
    double low = pick(a < b, a, b), high = pick(a < b, b, a);
    const double middle = pick(c < low, low, pick(c > high, high, c));
    low = pick(c < low, c, low);
    high = pick(c > high, c, high);
    return x * (low * high) * middle;
}

__device__ inline double scalar(const void *at, int kind, double value) {
    if (at) {
        if (kind == 0) value = widen(real(*(const Half *)at));
        else if (kind == 1) value = widen(real(*(const Brain *)at));
        else if (kind == 2) value = widen(*(const float *)at);
        else value = *(const double *)at;
        if (value < 0) value = 0;
    }
    return value;
}

struct Split { double pre, rest; };

__device__ inline Split split(double above, double below, double scale, bool divided) {
    Split s;
    s.pre = 1.0;
    if (above * 1.0 < below * (0x1p-900 / scale)) s.pre = 0x1p-600;
    if (above * 0x1p800 < below * (0x1p-800 / scale)) s.pre = 0x1p-1022;
    if (divided) {
        if (above * 1.0 > below * (0x1p800 / scale)) s.pre = 0x1p600;
        if (above * 0x1p-700 > below * (0x1p900 / scale)) s.pre = 0x1p1000;
    }
    const double left_over = scale / s.pre;
    bool early = s.pre < 1.0 || scale > 1.0;
    if (divided && s.pre > 1.0) early = left_over < 1.0;
    const double before = early ? left_over : 1.0, after = early ? 1.0 : left_over;
    s.rest = (above * before) / below * after;
    return s;
}

struct Numbers {  // what a decision depends on besides the norm
    double bound, loss, shrink;
    bool narrow;
};

__device__ void decide(
    const Args &args, double *record, double root, double scale, bool finite, const Numbers &given
) {
    const bool divided = args.flags & DIVIDED;
    const double margin = args.flags & STRICT ? 1.0 - 0x1p-50 : 1.0;
    double limit;
    if (!divided) limit = given.bound * margin * scale;
    else if (given.narrow) limit = given.bound * given.loss * margin;
    else {
        const double power = middle_power(given.bound), other = middle_power(given.loss);
        const double product = (given.bound / power) * (given.loss / other) * margin;
        limit = times_powers(product, power, other, scale);
    }
    const bool over = !(root <= limit), clipped = over && finite;

    const double above = divided && !clipped ? 1.0 : given.bound;
    const double below = clipped ? root : divided ? given.loss : 1.0;
    Split s;
    s.pre = 1.0;
    if (given.narrow) s.rest = above / below;
    else s = split(above, below, divided && !clipped ? 1.0 : scale, divided);
    const double shrunk = s.rest * given.shrink;
    if (divided) s.rest = clipped ? shrunk : s.rest;
    else {
        s.pre = clipped ? s.pre : 1.0;
        s.rest = clipped ? shrunk : 1.0;
    }
    if (!(args.flags & (ZERO | SKIP)) && !finite) {
        Bits64 nan;
        nan.bits = 0x7ff8000000000000ll;
        s.rest = nan.value;
    }
    const bool limited = args.flags & SKIP ? clipped : over || !finite;

    if (divided && s.rest > 0x1.fffffffffffffp1023) s.rest = 0x1.fffffffffffffp1023;
    const double coefficient = s.pre * s.rest;
    double pre = 1.0;
    if (coefficient < 0x1p-100) pre = 0x1p-64;
    if (coefficient < 0x1p-180) pre = 0x1p-126;
    if (divided) {
        if (coefficient > 0x1p60) pre = 0x1p40;
        if (coefficient > 0x1p150) pre = 0x1p120;
    }
    double single = coefficient / pre;
    if (divided && single > 0x1.fffffep127) single = 0x1.fffffep127;

    record[ROOT] = root;
    record[SCALE] = scale;
    record[LIMIT] = limit;
    record[NARROW_PRE] = pre;
    record[NARROW_REST] = single;
    record[WIDE_PRE] = s.pre;
    record[WIDE_REST] = s.rest;
    Bits64 state;
    state.bits = (finite ? FINITE : 0) | (limited ? LIMITED : 0) | (limited || divided ? ACTIVE : 0)
               | ((args.flags & ZERO) && !finite ? ERASED : 0);
    record[STATE] = state.value;
}

// A group's decision from its norm, root / scale.
__device__ inline void settle(
    const Args &args, double *record, double root, double scale, bool finite, Numbers &given,
    int kind, double weight
) {
    given.bound = scalar(args.bound_at, args.bound_kind, args.bound) * weight;
    if (args.low[EPS] > 0) {
        const double value = root / scale, ratio = value / (value + args.low[EPS]);
        given.bound = given.bound * pick(ratio > 0, ratio, 1.0);
    }
    given.loss = scalar(args.loss_at, args.loss_kind, args.loss);
    given.shrink = args.shrink[kind];
    decide(args, record, root, scale, finite, given);
    if ((args.flags & JOINT) && args.norm) {
        double value = root / scale;
        if (args.flags & DIVIDED) {
            const double power = middle_power(given.loss);
            const double inverse = 1.0 / (given.loss / power);
            value = times_powers(root * inverse, 1.0 / power, 1.0 / scale, 1.0);
        }
        if (args.norm_kind == 3) *(double *)args.norm = value;
        else *(float *)args.norm = narrow(value);
    }
}

// A group's norm and decision; true if the elements have to be scaled and read once more first.
template <int what, bool again>
__device__ bool finish(const Args &args, double *record, double sum, int kind, double weight) {
    Numbers given;
    given.narrow = args.flags & JOINT ? (args.flags & NARROW) != 0 : kind != 3;
    double scale = again ? record[SCALE] : 1.0;
    const bool outside = sum < 0x1p-900 || sum > 0x1.fffffffffffffp1023;
    if (what == SQUARES && !again && !given.narrow && outside) {
        Bits64 state;
        state.bits = AGAIN;
        record[SCALE] = sum < 0x1p-900 ? 0x1p620 : 0x1p-600;
        record[STATE] = state.value;
        return true;
    }
    const double root = what == SQUARES && sum > 0 ? root_of(sum) : sum;
    const bool finite = sum <= 0x1.fffffffffffffp1023;
    settle(args, record, root, scale, finite, given, kind, weight);
    return false;
}

__device__ inline long long state_of(const double *record) {
    Bits64 state;
    state.value = record[STATE];
    return state.bits;
}

// Whether this block is the last to come here; what the others wrote before is there to be read.
__device__ inline bool is_last(unsigned int *counter, unsigned int all, bool *answer) {
    if (threadIdx.x == 0) {
        fence();
        *answer = atomicAdd(counter, 1u) == all - 1;
        if (*answer) *counter = 0;
        fence();
    }
    __syncthreads();
    return *answer;
}

// The first launch. Chunks are taken as blocks come to them, so that none waits for a slow one at
// the end. What stands where does not depend on who has written it.
template <int what, bool again> __device__ void norm(const Args &args) {
    __shared__ double sums[2][THREADS];
    __shared__ double others[THREADS];
    __shared__ int complete[2];  // the leaf whose chunks are all done: it is summed a turn later
    __shared__ unsigned int taken[2];
    __shared__ bool last;
    __shared__ int flagged;
    double *flag = args.record + RECORD * (args.flags & JOINT ? 1 : args.number);
    if (again) {
        wait_for_the_last();
        if (*flag == 0) return;
    }
    const Leaf *leaves = leaves_of(args);
    const unsigned int chunks = args.chunks;
    unsigned int chunk = blockIdx.x, mine = 0;
    if (threadIdx.x == 0) {
        complete[0] = complete[1] = -1, flagged = 0;
        taken[0] = gridDim.x < chunks ? take(args.counters + NORMS, chunk) : chunks;
    }
    Words words[BATCH];
    const char *here = nullptr;
    int turn = 0, place = 0;
    if (chunk < chunks) {
        place = leaf_of(leaves, 0, args.number, chunk);
        if (!again) here = whole_chunk(leaves[place], chunk, leaves[place].source);
    }
    read_first<true>(words, here);
    __syncthreads();
    while (chunk < chunks) {
        const unsigned int next = taken[turn];
        const char *ahead = nullptr;
        unsigned int then = next;
        int next_place = place;
        if (next < chunks) {
            if (threadIdx.x == 0) then = take(args.counters + NORMS, next);
            next_place = leaf_after(leaves, place, args.number, next);
            if (!again) ahead = whole_chunk(leaves[next_place], next, leaves[next_place].source);
        }
        bool counted = true;
        double scale = 1.0;
        if (again) {
            const double *record = args.record + RECORD * (args.flags & JOINT ? 0 : place);
            counted = (state_of(record) & AGAIN) != 0;
            scale = record[SCALE];
        }
        if (counted) {
            const Leaf &leaf = leaves[place];
            double sum = 0;
            if (is_kind<0>(leaf))
                sum = sum_of<Half, what, again>(leaf, chunk, scale, words, here, ahead);
            if (is_kind<1>(leaf))
                sum = sum_of<Brain, what, again>(leaf, chunk, scale, words, here, ahead);
            if (is_kind<2>(leaf))
                sum = sum_of<float, what, again>(leaf, chunk, scale, words, here, ahead);
            if (is_kind<3>(leaf))
                sum = sum_of<double, what, again>(leaf, chunk, scale, words, here, ahead);
            sums[turn][threadIdx.x] = sum;
        }
        if (threadIdx.x == 0) taken[1 - turn] = then;
        here = ahead;
        __syncthreads();
        const int done = complete[1 - turn];
        if (threadIdx.x < 32) {
            int completed = -1;
            const double sum = counted ? tree<what>(sums[turn]) : 0;
            if (threadIdx.x == 0) {
                const unsigned int all = chunks_of(leaves[place]);
                if (counted && all == 1) args.sums[place] = sum;
                else if (counted) args.partial[chunk] = sum, mine++;
                // The others are told once for all of a block's chunks of a leaf: a fence waits.
                if (mine && (next >= chunks || next_place != place)) {
                    fence();
                    unsigned int *counter = args.counters + CHUNKS + place;
                    if (atomicAdd(counter, mine) == all - mine) {
                        *counter = 0;
                        completed = place;
                        fence();
                    }
                    mine = 0;
                }
            }
            if (threadIdx.x == 0) complete[turn] = completed;
        }
        if (done >= 0) {
            const double *partial = args.partial + leaves[done].first;
            const double sum = sum_of_block<what, 4>(partial, chunks_of(leaves[done]), others);
            if (threadIdx.x == 0) args.sums[done] = sum;
        }
        chunk = next;
        place = next_place;
        turn = 1 - turn;
    }
    let_the_next_begin();
    __syncthreads();
    const int done = complete[1 - turn];
    double only = 0;
    if (done >= 0) {
        const double *partial = args.partial + leaves[done].first;
        only = sum_of_block<what, 12>(partial, chunks_of(leaves[done]), others);
        if (threadIdx.x == 0) args.sums[done] = only;
    }
    if (gridDim.x == 1 || args.number == 1) {
        // The block that has summed the only leaf is the last one that had anything to do.
        if (gridDim.x > 1 && done < 0) return;
        __syncthreads();
    } else if (!is_last(args.counters + BLOCKS, gridDim.x, &last)) return;
    if (threadIdx.x == 0) args.counters[NORMS] = args.counters[PRODUCTS] = 0;
    if (!args.record) return;  // the sums are all that is wanted
    if (args.flags & JOINT) {
        double sum = only;
        if (args.number > 1 || done < 0)
            sum = sum_of_leaves<what>(leaves, args.sums, args.number, others);
        if (threadIdx.x == 0) *flag = finish<what, again>(args, args.record, sum, 0, 1.0);
        return;
    }
    for (int i = threadIdx.x; i < args.number; i += THREADS) {
        double *record = args.record + RECORD * (long long)i;
        if (again && !(state_of(record) & AGAIN)) continue;
        const Leaf &leaf = leaves[i];
        const double sum = leaf.count > 0 ? load_shared(args.sums + i) : 0.0;
        if (finish<what, again>(args, record, sum, leaf.kind, leaf.weight)) flagged = 1;
    }
    __syncthreads();
    if (threadIdx.x == 0) *flag = flagged;
}

#define NORM extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
#if ONLY < 0 || ONLY == 0
NORM agclip_norm_2(const __grid_constant__ Args args) { norm<SQUARES, false>(args); }
#endif
#if ONLY < 0 || ONLY == 1
NORM agclip_norm_1(const __grid_constant__ Args args) { norm<MAGNITUDES, false>(args); }
#endif
#if ONLY < 0 || ONLY == 2
NORM agclip_norm_inf(const __grid_constant__ Args args) { norm<PEAK, false>(args); }
#endif
#if ONLY < 0 || ONLY == 3
NORM agclip_norm_2_again(const __grid_constant__ Args args) { norm<SQUARES, true>(args); }
#endif

#if ONLY < 0 || ONLY == 7
// In the place of a norm of all leaves one that is known: it is in the record, or comes as a loss
// scale does.
extern "C" __global__ void __launch_bounds__(THREADS) agclip_given(
    const __grid_constant__ Args args
) {
    if (threadIdx.x > 0) return;
    const bool measured = args.low[REBOUND] > 0;
    const double root = measured ? args.record[ROOT] : scalar(args.loss_at, args.loss_kind, args.loss);
    const double scale = measured ? args.record[SCALE] : 1.0;
    Numbers given;
    given.narrow = (args.flags & NARROW) != 0;
    settle(args, args.record, root, scale, root <= 0x1.fffffffffffffp1023, given, 0, 1.0);
    args.counters[NORMS] = args.counters[PRODUCTS] = 0;
}
#endif

// What becomes of every element: elementwise functions, formed in R and rounded to T once.
template <class T, class R> struct Product {
    R pre, rest;
    __device__ T operator()(T x) const {
        T y;
        store(y, times(times(real(x), pre), rest));
        return y;
    }
};

template <class T, class R> struct Within {
    R low, high;
    __device__ T operator()(T x) const {
        T y;
        store(y, at_least(at_most(real(x), high), low));
        return y;
    }
};

template <class T, class F>
__device__ inline void change(Pack<T> &pack, const F &f) {
#pragma unroll
    for (int k = 0; k < Pack<T>::size; k++) pack.elements[k] = f(pack.elements[k]);
}

template <class T, bool aligned, class F>
__device__ inline void map_rows(const T *source, T *target, int count, int room, const F &f) {
    const int size = Pack<T>::size, step = THREADS * size, slack = aligned ? 1 : 2;
    const int batch = aligned ? BATCH_SCALE : (BATCH_SCALE + 1) / 2;
    for (int i = threadIdx.x * size; i < count; i += batch * step) {
        Pack<T> packs[batch];
        const int last = i + (batch - 1) * step;
        if (last + size <= count && last + slack * size <= room) {
#pragma unroll
            for (int j = 0; j < batch; j++) {
                if (aligned) packs[j].read(source + i + j * step);
                else packs[j].read_across(source + i + j * step);
            }
#pragma unroll
            for (int j = 0; j < batch; j++) {
                change<T>(packs[j], f);
                packs[j].write(target + i + j * step);
            }
        } else {
#pragma unroll
            for (int j = 0; j < batch; j++) {
                const int at = i + j * step;
                packs[j].template read_end<aligned>(source + at, count - at, room - at);
            }
#pragma unroll
            for (int j = 0; j < batch; j++) {
                const int at = i + j * step;
                change<T>(packs[j], f);
                if (count - at >= size) packs[j].write(target + at);
                else packs[j].write_some(target + at, count - at);
            }
        }
    }
}

// Elements before the first address that is a multiple of 16 go one by one.
template <class T, class F>
__device__ inline void map_chunk(const Leaf &leaf, unsigned int chunk, const F &f) {
    const Place p = place_of(leaf, chunk);
    const T *source = (const T *)leaf.source + p.start;
    T *target = (T *)leaf.target + p.start;
    int head = (int)((16 - ((size_t)target & 15)) & 15) / (int)sizeof(T);
    if (head > p.count) head = p.count;
    if ((int)threadIdx.x < head) target[threadIdx.x] = f(source[threadIdx.x]);
    const int count = p.count - head, room = p.room - head;
    if (is_aligned(source + head)) map_rows<T, true>(source + head, target + head, count, room, f);
    else map_rows<T, false>(source + head, target + head, count, room, f);
}

// A whole chunk through words that are under way, as for the norms.
template <class T, class F>
__device__ inline void map_whole(
    Words (&words)[BATCH_SCALE], const char *here, const char *ahead, T *target, const F &f
) {
    const int size = Pack<T>::size, stages = CHUNK / (THREADS * size * BATCH_SCALE);
    target += threadIdx.x * size;
    const bool more = ahead != nullptr;
#pragma unroll 1
    for (int stage = 1; stage <= stages; stage++) {
        here = stage < stages ? here + BATCH_SCALE * STRIDE : ahead;
        const bool there = stage < stages || more;
#pragma unroll
        for (int j = 0; j < BATCH_SCALE; j++) {
            Pack<T> pack;
            pack.words = words[j];
            change<T>(pack, f);
            pack.write(target + j * THREADS * size);
            load_if<false>(words[j], here + threadIdx.x * 16 + j * STRIDE, there);
        }
        target += BATCH_SCALE * THREADS * size;
    }
}

// A product with zero would keep NaN.
template <class T> __device__ inline void erase_chunk(const Leaf &leaf, unsigned int chunk) {
    const Place p = place_of(leaf, chunk);
    T *target = (T *)leaf.target + p.start;
    for (int i = threadIdx.x; i < p.count; i += THREADS) store(target[i], 0);
}

// True if the words are now those ahead.
template <class T, class R>
__device__ inline bool scale_chunk(
    const Leaf &leaf, unsigned int chunk, const double *record,
    Words (&words)[BATCH_SCALE], const char *here, const char *ahead
) {
    Bits64 state;
    state.value = load_shared(record + STATE);
    const bool wide = sizeof(R) == 8;
    Product<T, R> product;
    product.pre = as<R>(load_shared(record + (wide ? WIDE_PRE : NARROW_PRE)));
    product.rest = as<R>(load_shared(record + (wide ? WIDE_REST : NARROW_REST)));
    if (state.bits & ERASED) {
        erase_chunk<T>(leaf, chunk);
        return false;
    }
    // In place a factor of one leaves nothing to do: it changes no bit.
    const bool one = widen(product.pre) == 1.0 && widen(product.rest) == 1.0;
    if (one && leaf.source == leaf.target) return false;
    if (here) {
        T *target = (T *)leaf.target + (long long)(chunk - leaf.first) * CHUNK;
        map_whole<T>(words, here, ahead, target, product);
    } else {
        map_chunk<T>(leaf, chunk, product);
        read_first<false>(words, ahead);
    }
    return true;
}

__device__ inline const char *whole_pair(const Leaf &leaf, unsigned int chunk) {
    return is_aligned(leaf.target) ? whole_chunk(leaf, chunk, leaf.source) : nullptr;
}

#if ONLY < 0 || ONLY == 4
// From the last chunk back: what was read last is what the caches still hold.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_SCALE) agclip_product(
    const __grid_constant__ Args args
) {
    __shared__ unsigned int taken[2];
    const bool joint = args.flags & JOINT;
    const Leaf *leaves = leaves_of(args);
    const unsigned int chunks = args.chunks;
    unsigned int index = blockIdx.x;
    int place = leaf_of(leaves, 0, args.number, chunks - 1 - index), turn = 0;
    wait_for_the_last();
    Bits64 state;
    state.value = load_shared(args.record + STATE);
    const bool idle = joint && !(state.bits & (ACTIVE | ERASED));
    if (idle && (args.flags & IN_PLACE)) return;
    if (threadIdx.x == 0)
        taken[0] = gridDim.x < chunks ? take(args.counters + PRODUCTS, index) : chunks;
    Words words[BATCH_SCALE];
    const char *here = whole_pair(leaves[place], chunks - 1 - index);
    read_first<false>(words, here);
    for (;; turn = 1 - turn) {
        __syncthreads();
        const unsigned int chunk = chunks - 1 - index, next = taken[turn];
        const char *ahead = nullptr;
        int next_place = place;
        if (next < chunks) {
            if (threadIdx.x == 0) taken[1 - turn] = take(args.counters + PRODUCTS, next);
            next_place = leaf_before(leaves, place, chunks - 1 - next);
            if (joint || next_place == place)
                ahead = whole_pair(leaves[next_place], chunks - 1 - next);
        }
        const Leaf &leaf = leaves[place];
        const double *record = args.record + RECORD * (long long)(joint ? 0 : place);
        bool ready = false;
        if (is_kind<0>(leaf))
            ready = scale_chunk<Half, float>(leaf, chunk, record, words, here, ahead);
        if (is_kind<1>(leaf))
            ready = scale_chunk<Brain, float>(leaf, chunk, record, words, here, ahead);
        if (is_kind<2>(leaf))
            ready = scale_chunk<float, float>(leaf, chunk, record, words, here, ahead);
        if (is_kind<3>(leaf))
            ready = scale_chunk<double, double>(leaf, chunk, record, words, here, ahead);
        if (next >= chunks) return;
        here = ready ? ahead : nullptr;
        index = next;
        place = next_place;
    }
}

#endif

#if ONLY < 0 || ONLY == 5
template <class T, class R>
__device__ inline void bound_chunk(const Args &args, const Leaf &leaf, unsigned int chunk) {
    Within<T, R> within;
    within.low = as<R>(args.low[leaf.kind]);
    within.high = as<R>(args.high[leaf.kind]);
    map_chunk<T>(leaf, chunk, within);
}

extern "C" __global__ void __launch_bounds__(THREADS) agclip_within(
    const __grid_constant__ Args args
) {
    const Leaf *leaves = leaves_of(args);
    int low = 0;
    for (unsigned int chunk = blockIdx.x; chunk < args.chunks; chunk += gridDim.x) {
        low = leaf_after(leaves, low, args.number, chunk);
        const Leaf &leaf = leaves[low];
        if (is_kind<0>(leaf)) bound_chunk<Half, float>(args, leaf, chunk);
        if (is_kind<1>(leaf)) bound_chunk<Brain, float>(args, leaf, chunk);
        if (is_kind<2>(leaf)) bound_chunk<float, float>(args, leaf, chunk);
        if (is_kind<3>(leaf)) bound_chunk<double, double>(args, leaf, chunk);
    }
}
#endif
