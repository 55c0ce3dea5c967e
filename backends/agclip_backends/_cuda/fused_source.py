"""The CUDA source of a whole clip in two launches: norms and decisions, then products.

The first launch reads every leaf once. A leaf is cut into chunks, a block of threads takes a chunk
at a time, and every element has its thread, its place in that thread's sum and its place in the
tree of sums, as in `_cuda.source`: so a leaf's sum has the same bits whatever the device, the grid
and the other leaves are. The block that finishes a leaf's last chunk adds up the leaf; the one that
finishes last of all compares the norms with their bounds, and writes the factors down for the
second launch. Nothing is added atomically: atomics only count who is done and who takes which
chunk, and what the first launch counts with is zero again when it ends, so that a captured graph
can be replayed. From Hopper on the second launch begins while the first one ends, and waits in it.

Where float64 leaves are among them a third launch stands between the two. It returns at once unless
a sum of squares has left the range; then it reads the elements again, times a power of two.

Compilers may be told to flush subnormal float32 numbers to zero (CuPy 14 adds `-ftz=true` to what
it is given): arithmetic, comparisons and conversions of float32 are spelled out in PTX for that.

Where a record is asked for, one more launch of a single block writes all that it shows, into one
array of which the parts of the record are views.

The source, `fused.cu` and `report.cu`, needs no header, and little enough of CUDA to be compiled as
C++ for the host as well.
"""

from __future__ import annotations

from importlib import resources

from agclip_backends._cuda.source import CHUNK, THREADS

INLINE = 96
"""Leaves that travel as an argument of the kernel, in 4 KiB; a longer table is uploaded."""

RECORD = 8
"""Words of 8 bytes that the decision on a group takes; the source names them."""

JOINT, NARROW, DIVIDED, ZERO, SKIP, STRICT, IN_PLACE = 1, 2, 4, 8, 16, 32, 64
"""Flags of a call: one group of all leaves; none is float64; there is a loss scale; policies; a
strict bound; leaves are their own targets."""

FINITE, LIMITED, ACTIVE, ERASED, AGAIN = 1, 2, 4, 8, 16
"""Flags of a decision: the first three as in `agclip`; zeros are written; one more read is due."""

_SIZES = {"THREADS": THREADS, "CHUNK": CHUNK, "INLINE": INLINE, "RECORD": RECORD}

_FILES = ("fused.cu", "report.cu")

SOURCE = "".join(
    [
        *(f"#define {name} {value}\n" for name, value in _SIZES.items()),
        *(
            resources.files("agclip_backends._cuda").joinpath(name).read_text(encoding="utf-8")
            for name in _FILES
        ),
    ]
)

NORMS = {2.0: "agclip_norm_2", 1.0: "agclip_norm_1", float("inf"): "agclip_norm_inf"}
"""The kernel of the first launch, by the order of the norm."""

KERNELS = (
    *NORMS.values(),
    "agclip_norm_2_again",
    "agclip_product",
    "agclip_within",
    "agclip_report",
    "agclip_given",
)
"""All kernels; a kernel's place is what the source knows as ONLY."""
