"""What the CUDA kernels do to an element, in a source of its own, and the calls on arrays.

It needs no header, and can be compiled as C++ for the host as well.
"""

from __future__ import annotations

from typing import NamedTuple

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
"""How elements are read, multiplied and rounded: no subnormal number is flushed to zero."""


class Operation(NamedTuple):
    """What is done to each element of arrays of any layout, which broadcast."""

    inputs: str
    """Types and names of the elements that are read."""
    output: str
    """Types and names of the elements that are written."""
    body: str
    """Statements, with `ARITHMETIC` before them."""


WIDEN = Operation("float32 x", "float64 y", "y = widened(x)")
NARROW = Operation("float64 x", "float32 y", "y = narrowed(x)")
LESS_EQUAL = Operation("float32 a, float32 b", "bool y", "y = widened(a) <= widened(b)")
FACTORS = Operation(
    "float64 a, float64 b, float64 c, float64 d, float64 e",
    "float64 v, float64 w, float64 x, float64 y, float64 z",
    "v = a; w = b; x = c; y = d; z = e",
)
"""What of a record is read by who multiplies: two numbers of two factors, and what is done."""
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
