"""Compiled kernels of host memory: one call for a whole list of leaves, whoever owns them.

A leaf is an address, a number of real elements and a code for their format. It is cut into blocks
of `BLOCK` elements, and a call works off a range of blocks. What it writes for a block depends on
that block alone, so no division among threads changes a bit. No call holds the interpreter lock.

It is all in one file: Numba's cache on disk asks whether this file has changed, and no other.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, cfunc, njit, types
from numba.extending import intrinsic

from agclip_backends._host.keeping import kept

BLOCK = 1 << 14
"""Elements of a block: 64 KiB of float32. A sum adds at most as many numbers one by one."""

FLOAT16, BFLOAT16, FLOAT32, FLOAT64 = range(4)
"""The formats of real elements."""

ADDRESS, COUNT, CODE, FIRST = range(4)
"""The rows of a table."""


def _pointer(llvm: Any, kind: Any) -> Any:
    """Return a compiled function from an address to a typed pointer."""

    @intrinsic
    def cast(_: Any, __: Any) -> Any:
        def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
            return builder.inttoptr(args[0], ir.PointerType(llvm))

        return types.CPointer(kind)(types.uintp), generate

    return cast


_as_uint16 = _pointer(ir.IntType(16), types.uint16)
_as_int64 = _pointer(ir.IntType(64), types.int64)
_as_float32 = _pointer(ir.FloatType(), types.float32)
_as_float64 = _pointer(ir.DoubleType(), types.float64)


def _compiled(**options: Any) -> Any:
    # LLVM vectorises a loop only in a function of its own: inlined by Numba it runs at half speed.
    return kept(njit, nogil=True, inline="never", error_model="numpy", **options)


# Half types, as the 16-bit integers of their bits: widened and narrowed in cache, block by block.


@_compiled()
def _float32(bits: Any) -> Any:
    return np.uint32(bits).view(np.float32)


@_compiled()
def _bits(x: Any) -> Any:
    return np.float32(x).view(np.uint32)


@_compiled()
def _long_bits(x: Any) -> Any:
    return np.float64(x).view(np.int64)


@_compiled()
def _widen_float16(x: Any, y: Any) -> None:
    for k in range(x.size):
        bits = np.uint32(x[k])
        magnitude = np.uint32(bits & np.uint32(0x7FFF))
        # A product with a power of two moves the exponent, that of subnormal numbers as well.
        finite = _float32(magnitude << np.uint32(13)) * np.float32(2.0**112)
        special = _float32(_bits(finite) | np.uint32(0x7F800000))
        wide = special if magnitude >= np.uint32(0x7C00) else finite
        y[k] = _float32(_bits(wide) | ((bits & np.uint32(0x8000)) << np.uint32(16)))


@_compiled()
def _narrow_float16(x: Any, y: Any) -> None:
    for k in range(x.size):
        bits = _bits(x[k])
        magnitude = np.uint32(bits & np.uint32(0x7FFFFFFF))
        # A sum with 0.5 has the spacing of float16's subnormal numbers.
        small = np.uint32(_bits(_float32(magnitude) + np.float32(0.5)) - np.uint32(0x3F000000))
        odd = (magnitude >> np.uint32(13)) & np.uint32(1)
        normal = (magnitude - np.uint32(0x38000000) + np.uint32(0xFFF) + odd) >> np.uint32(13)
        special = np.uint32(0x7E00) if magnitude > np.uint32(0x7F800000) else np.uint32(0x7C00)
        half = small if magnitude < np.uint32(0x38800000) else np.uint32(normal)
        half = special if magnitude >= np.uint32(0x47800000) else half
        y[k] = np.uint16(half | ((bits >> np.uint32(16)) & np.uint32(0x8000)))


@_compiled()
def _widen_bfloat16(x: Any, y: Any) -> None:
    for k in range(x.size):
        y[k] = _float32(np.uint32(x[k]) << np.uint32(16))


@_compiled()
def _narrow_bfloat16(x: Any, y: Any) -> None:
    for k in range(x.size):
        bits = _bits(x[k])
        odd = (bits >> np.uint32(16)) & np.uint32(1)
        rounded = (bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)
        quiet = (bits >> np.uint32(16)) | np.uint32(0x40)
        special = np.uint32(bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
        y[k] = np.uint16(quiet if special else rounded)


# One block, of float32 or float64. Sums may be reassociated, which vectorises them; NaN and
# infinities keep their meaning.


@_compiled(fastmath={"reassoc", "contract", "nsz"})
def _block_squares(x: Any) -> Any:
    total = 0.0
    for k in range(x.size):
        y = np.float64(x[k])
        total += y * y
    return total


@_compiled(fastmath={"reassoc", "contract", "nsz"})
def _block_scaled(x: Any, scale: Any) -> Any:
    total = 0.0
    for k in range(x.size):
        y = np.float64(x[k]) * scale
        total += y * y
    return total


@_compiled(fastmath={"reassoc", "nsz"})
def _block_magnitudes(x: Any) -> Any:
    total = 0.0
    for k in range(x.size):
        total += abs(np.float64(x[k]))
    return total


@_compiled()
def _two_sum(a: Any, b: Any) -> Any:
    """Return the rounded sum and its error (D. E. Knuth, 1969)."""
    total = a + b
    shadow = total - a
    return total, (a - (total - shadow)) + (b - shadow)


@_compiled()
def _squares(x: Any, scale: Any, chunk: Any) -> Any:
    """Add up chunk by chunk, with the errors of the additions: only within chunks any is lost."""
    total = lost = 0.0
    for start in range(0, x.size, chunk):
        piece = x[start : start + chunk]
        new = _block_squares(piece) if scale == 1.0 else _block_scaled(piece, scale)
        total, error = _two_sum(total, new)
        lost += error
    # Beside an infinity or NaN there is no error to speak of.
    return total + lost if np.isfinite(lost) else total


@_compiled()
def _magnitudes(x: Any, chunk: Any) -> Any:
    total = lost = 0.0
    for start in range(0, x.size, chunk):
        total, error = _two_sum(total, _block_magnitudes(x[start : start + chunk]))
        lost += error
    return total + lost if np.isfinite(lost) else total


@_compiled()
def _block_peak32(x: Any) -> Any:
    # As integers, magnitudes are ordered like numbers, with NaN above infinity.
    peak = np.uint32(0)
    for k in range(x.size):
        peak = max(peak, np.uint32(_bits(x[k]) & np.uint32(0x7FFFFFFF)))
    return np.float64(_float32(peak))


@_compiled()
def _block_peak64(x: Any) -> Any:
    peak = np.int64(0)
    for k in range(x.size):
        peak = max(peak, _long_bits(x[k]) & np.int64(0x7FFFFFFFFFFFFFFF))
    return np.int64(peak).view(np.float64)


@_compiled()
def _block_parts(x: Any, scale: Any, anchors: Any, square: Any, parts: Any) -> None:
    """Add up the parts of s = (scale·x)², or of |scale·x|, in units of their anchors' last places.

    s + anchor has the anchor's exponent, so the bits of the two differ by the part as an integer.
    """
    a, b, c = anchors[0], anchors[1], anchors[2]
    bits_a, bits_b, bits_c = _long_bits(a), _long_bits(b), _long_bits(c)
    first, second, third = np.int64(0), np.int64(0), np.int64(0)
    for k in range(x.size):
        y = np.float64(x[k]) * scale
        rest = y * y if square else abs(y)
        with_part = rest + a
        first += _long_bits(with_part) - bits_a
        rest -= with_part - a
        with_part = rest + b
        second += _long_bits(with_part) - bits_b
        rest -= with_part - b
        third += _long_bits(rest + c) - bits_c
    parts[0], parts[1], parts[2] = first, second, third


# In place: with a target of its own a loop would have to ask whether the two overlap, and would not
# be vectorised where they are the same. A block that was just copied is still in cache.


@_compiled()
def _block_copy(x: Any, y: Any) -> None:
    for k in range(x.size):
        y[k] = x[k]


@_compiled()
def _block_scale(x: Any, pre: Any, rest: Any) -> None:
    for k in range(x.size):
        x[k] = x[k] * pre * rest


@_compiled()
def _block_clip(x: Any, low: Any, high: Any) -> None:
    for k in range(x.size):
        # NaN is ordered with nothing, and stays.
        below = high if x[k] > high else x[k]
        x[k] = low if below < low else below


# All blocks of a range. A table has a column a leaf: its rows are the addresses, the numbers of
# elements, the formats, and the number of the first block. One more column has the number of all
# elements, and that of all blocks.


@_compiled()
def _leaf_of(table: Any, block: Any) -> Any:
    return np.searchsorted(table[FIRST], block, side="right") - 1


@_compiled()
def _place(table: Any, leaf: Any, block: Any) -> Any:
    """Return the leaf of a block, the given one or one after it, where it begins, and its size."""
    while block >= table[FIRST, leaf + 1]:
        leaf += 1
    begin = (block - table[FIRST, leaf]) * BLOCK
    return leaf, begin, min(BLOCK, table[COUNT, leaf] - begin)


@_compiled()
def _half(address: Any, begin: Any, size: Any) -> Any:
    return carray(_as_uint16(np.uintp(address + begin * 2)), (size,))


@_compiled()
def _single(address: Any, begin: Any, size: Any) -> Any:
    return carray(_as_float32(np.uintp(address + begin * 4)), (size,))


@_compiled()
def _double(address: Any, begin: Any, size: Any) -> Any:
    return carray(_as_float64(np.uintp(address + begin * 8)), (size,))


@_compiled()
def _read(address: Any, code: Any, begin: Any, size: Any, scratch: Any) -> Any:
    """Return a block of a float32 leaf or, widened, of a half one."""
    if code == FLOAT32:
        return _single(address, begin, size)
    if code == FLOAT16:
        _widen_float16(_half(address, begin, size), scratch)
    else:
        _widen_bfloat16(_half(address, begin, size), scratch)
    return scratch[:size]


@_compiled()
def _copied(source: Any, target: Any, code: Any, begin: Any, size: Any, scratch: Any) -> Any:
    """Return a block as float32 that may be overwritten: the target's own, or the scratch."""
    x = _read(source, code, begin, size, scratch)
    if code == FLOAT32 and target != source:
        y = _single(target, begin, size)
        _block_copy(x, y)
        return y
    return x


@_compiled()
def _copied_double(source: Any, target: Any, begin: Any, size: Any) -> Any:
    y = _double(target, begin, size)
    if target != source:
        _block_copy(_double(source, begin, size), y)
    return y


@_compiled()
def _write(x: Any, target: Any, code: Any, begin: Any) -> None:
    """Round float32 results to a block of a half leaf; those of a float32 leaf are there."""
    if code == FLOAT16:
        _narrow_float16(x, _half(target, begin, x.size))
    elif code == BFLOAT16:
        _narrow_bfloat16(x, _half(target, begin, x.size))


@_compiled()
def _chunk(table: Any) -> Any:
    """Return how many squares of a narrow leaf are added at once: fewer beside a float64 leaf."""
    for leaf in range(table.shape[1] - 1):
        if table[CODE, leaf] == FLOAT64:
            return 256
    return 2048


@_compiled()
def sum_squares(table: Any, start: Any, stop: Any, scale: Any, out: Any) -> None:
    """Write Σ (scale·x)² of each block, in float64."""
    scratch, chunk = np.empty(BLOCK, np.float32), _chunk(table)
    leaf = _leaf_of(table, start)
    for block in range(start, stop):
        leaf, begin, size = _place(table, leaf, block)
        address, code = table[ADDRESS, leaf], table[CODE, leaf]
        if code == FLOAT64:
            out[block] = _squares(_double(address, begin, size), scale, 256)
        else:
            out[block] = _squares(_read(address, code, begin, size, scratch), scale, chunk)


@_compiled()
def sum_magnitudes(table: Any, start: Any, stop: Any, out: Any) -> None:
    """Write Σ |x| of each block, in float64."""
    scratch, chunk = np.empty(BLOCK, np.float32), _chunk(table)
    leaf = _leaf_of(table, start)
    for block in range(start, stop):
        leaf, begin, size = _place(table, leaf, block)
        address, code = table[ADDRESS, leaf], table[CODE, leaf]
        if code == FLOAT64:
            out[block] = _magnitudes(_double(address, begin, size), 128)
        else:
            x = _read(address, code, begin, size, scratch)
            out[block] = _magnitudes(x, chunk // 2)


@_compiled()
def peaks(table: Any, start: Any, stop: Any, out: Any) -> None:
    """Write max |x| of each block, NaN if an element is."""
    scratch = np.empty(BLOCK, np.float32)
    leaf = _leaf_of(table, start)
    for block in range(start, stop):
        leaf, begin, size = _place(table, leaf, block)
        address, code = table[ADDRESS, leaf], table[CODE, leaf]
        if code == FLOAT64:
            out[block] = _block_peak64(_double(address, begin, size))
        else:
            out[block] = _block_peak32(_read(address, code, begin, size, scratch))


@_compiled()
def exact_parts(
    table: Any, start: Any, stop: Any, scale: Any, anchors: Any, square: Any, out: Any
) -> None:
    """Write the three sums of parts of each block, integers."""
    scratch = np.empty(BLOCK, np.float32)
    leaf = _leaf_of(table, start)
    for block in range(start, stop):
        leaf, begin, size = _place(table, leaf, block)
        address, code = table[ADDRESS, leaf], table[CODE, leaf]
        if code == FLOAT64:
            _block_parts(_double(address, begin, size), scale, anchors, square, out[block])
        else:
            x = _read(address, code, begin, size, scratch)
            _block_parts(x, scale, anchors, square, out[block])


@_compiled()
def scale(table: Any, start: Any, stop: Any, target: Any, factor: Any) -> None:
    """Write x·pre·rest to the targets' addresses: rounded once, from float32 for half types.

    `factor` holds the pre and rest of narrow leaves, then those of float64 ones.
    """
    scratch = np.empty(BLOCK, np.float32)
    leaf = _leaf_of(table, start)
    pre, rest = np.float32(factor[0]), np.float32(factor[1])
    for block in range(start, stop):
        leaf, begin, size = _place(table, leaf, block)
        address, code, to = table[ADDRESS, leaf], table[CODE, leaf], target[leaf]
        if code == FLOAT64:
            _block_scale(_copied_double(address, to, begin, size), factor[2], factor[3])
        else:
            x = _copied(address, to, code, begin, size, scratch)
            _block_scale(x, pre, rest)
            _write(x, to, code, begin)


@_compiled()
def clip(table: Any, start: Any, stop: Any, target: Any, lows: Any, highs: Any) -> None:
    """Write min(max(x, low), high) to the targets' addresses, with the bounds of each leaf."""
    scratch = np.empty(BLOCK, np.float32)
    leaf = _leaf_of(table, start)
    for block in range(start, stop):
        leaf, begin, size = _place(table, leaf, block)
        address, code, to = table[ADDRESS, leaf], table[CODE, leaf], target[leaf]
        if code == FLOAT64:
            _block_clip(_copied_double(address, to, begin, size), lows[leaf], highs[leaf])
        else:
            x = _copied(address, to, code, begin, size, scratch)
            _block_clip(x, np.float32(lows[leaf]), np.float32(highs[leaf]))
            _write(x, to, code, begin)


# Tables


@_compiled()
def complete(table: Any, written: Any) -> Any:
    """Fill in the first blocks and the end; tell whether leaves may be overwritten, if asked."""
    table[FIRST, 0] = table[COUNT, -1] = 0
    for leaf in range(table.shape[1] - 1):
        blocks = (table[COUNT, leaf] + BLOCK - 1) // BLOCK
        table[FIRST, leaf + 1] = table[FIRST, leaf] + blocks
        table[COUNT, -1] += table[COUNT, leaf]
    return not (written and _overlap(table))


@_compiled()
def totals(table: Any, parts: Any, out: Any) -> None:
    """Add up the blocks of each leaf: with the error of every addition, so that but one remains."""
    for leaf in range(table.shape[1] - 1):
        total = lost = 0.0
        for block in range(table[FIRST, leaf], table[FIRST, leaf + 1]):
            total, error = _two_sum(total, parts[block])
            lost += error
        out[leaf] = total + lost if np.isfinite(lost) else total


@_compiled()
def maxima(table: Any, parts: Any, out: Any) -> None:
    """Find the largest of the blocks of each leaf, NaN if one is; 0 of no blocks."""
    for leaf in range(table.shape[1] - 1):
        peak = 0.0
        for block in range(table[FIRST, leaf], table[FIRST, leaf + 1]):
            peak = peak if peak >= parts[block] or peak != peak else parts[block]
        out[leaf] = peak


@_compiled()
def _overlap(table: Any) -> Any:
    """Tell whether two leaves share memory: threads would overwrite it twice at a time."""
    order = np.argsort(table[ADDRESS, :-1])
    end = np.int64(0)
    for leaf in order:
        count = table[COUNT, leaf]
        if count and table[ADDRESS, leaf] < end:
            return True
        size = 8 if table[CODE, leaf] == FLOAT64 else 4 if table[CODE, leaf] == FLOAT32 else 2
        end = max(end, table[ADDRESS, leaf] + count * size)
    return False


_C_OR_F_CONTIGUOUS, _ALIGNED, _WRITEABLE = 0x1 | 0x2, 0x100, 0x400


@_compiled()
def _words(address: Any, count: Any) -> Any:
    return carray(_as_int64(np.uintp(address)), (count,))


@_compiled()
def _items(listed: Any, header: Any, count: Any) -> Any:
    """Return the addresses of the objects in a list of Python, whose own address is given.

    After the header of an object come the length and the address of the items (`PyListObject`).
    """
    return _words(_words(listed + header, 2)[1], count)


@_compiled()
def read_arrays(listed: Any, header: Any, formats: Any, written: Any, table: Any) -> Any:
    """Fill a table from NumPy's arrays, if each can be worked on as plain memory.

    Reads the fields that NumPy's C ABI has laid down for all releases (`PyArrayObject_fields`:
    data, nd, dimensions, strides, base, descr, flags), after the header of a Python object.

    Args:
        listed: The address of the list that holds them, as many as the table has place for.
        header: The size of an object's header.
        formats: Triples of a dtype's address, its format, and the number of reals in an element.
        written: Whether they are going to be overwritten.
        table: The table.

    Returns:
        A bit for each of the formats that occur; -1 if an array is of another kind, or two that are
        going to be overwritten share memory.
    """
    found, count = 0, table.shape[1] - 1
    objects = _items(listed, header, count)
    for leaf in range(count):
        fields = _words(objects[leaf] + header, 7)
        flags = np.int32(fields[6])
        wanted = _ALIGNED | (_WRITEABLE if written else 0)
        if flags & wanted != wanted or not flags & _C_OR_F_CONTIGUOUS:
            return -1
        kind = 0
        while kind < len(formats) and formats[kind, 0] != fields[5]:
            kind += 1
        if kind == len(formats):
            return -1
        elements = formats[kind, 2]
        for length in _words(fields[2], np.int64(np.int32(fields[1]))):
            elements *= length
        table[ADDRESS, leaf], table[COUNT, leaf] = fields[0], elements
        table[CODE, leaf] = formats[kind, 1]
        found |= 1 << kind
    return found if complete(table, written) else -1


def _caller() -> Any:
    """Return a compiled function that calls one of C at an address, which returns an int."""

    @intrinsic
    def call(_: Any, __: Any, ___: Any, ____: Any) -> Any:
        def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
            word = ir.IntType(64)
            function = ir.FunctionType(ir.IntType(32), [word, word])
            return builder.call(builder.inttoptr(args[0], ir.PointerType(function)), args[1:])

        return types.int32(types.uintp, types.uintp, types.uintp), generate

    return call


_call = _caller()


@kept(njit, inline="never", error_model="numpy")
def read_tensors(
    listed: Any, header: Any, functions: Any, formats: Any, device: Any, written: Any, table: Any
) -> Any:
    """Fill a table from the tensors of a library, if each is plain memory of one device.

    The library describes each by the function that DLPack has for it, in a `DLTensor`: data,
    device, number of axes and dtype, shape, strides, byte offset. It has to be called by a thread
    that holds the interpreter lock, so this kernel keeps it.

    Args:
        listed: The address of the list that holds them, as many as the table has place for.
        header: The size of an object's header.
        functions: The address of that function, and of the one that forgets an error of Python.
        formats: Triples of a dtype as it stands in the description, its format, and the number of
            reals in an element.
        device: The device as it stands in the description.
        written: Whether they are going to be overwritten.
        table: The table.

    Returns:
        A bit for each of the formats that occur; -1 if a tensor is of another kind, or two that are
        going to be overwritten share memory.
    """
    found, count = 0, table.shape[1] - 1
    objects, tensor = _items(listed, header, count), np.empty(6, np.int64)
    describe, forget, where = functions[0], functions[1], np.uintp(tensor.ctypes.data)
    for leaf in range(count):
        if _call(np.uintp(describe), np.uintp(objects[leaf]), where):
            _call(np.uintp(forget), np.uintp(0), np.uintp(0))
            return -1
        rank, dtype = np.int64(np.int32(tensor[2])), tensor[2] >> 32
        kind = 0
        while kind < len(formats) and formats[kind, 0] != dtype:
            kind += 1
        if tensor[1] != device or kind == len(formats):
            return -1
        shape, strides = _words(tensor[3], rank), _words(tensor[4], rank)
        elements = np.int64(1)
        for length in shape:
            elements *= length
        address = tensor[0] + tensor[5]
        if elements and not (address and _fills(shape, strides)):
            return -1
        found |= 1 << kind
        table[ADDRESS, leaf], table[COUNT, leaf] = address, elements * formats[kind, 2]
        table[CODE, leaf] = formats[kind, 1]
    return found if complete(table, written) else -1


@_compiled()
def _fills(shape: Any, strides: Any) -> Any:
    """Tell whether elements fill a piece of memory, in whatever order of axes."""
    reach = np.int64(1)
    for axis in range(shape.size - 1, -1, -1):
        if shape[axis] != 1 and strides[axis] != reach:
            break
        reach *= shape[axis]
    else:
        return True
    reach = np.int64(1)
    for _ in shape:
        for axis in range(shape.size):
            if shape[axis] != 1 and strides[axis] == reach:
                reach *= shape[axis]
                break
    total = np.int64(1)
    for length in shape:
        total *= length
    return reach == total


# A team of OpenMP's threads, which a library owns. Its runtime calls one function of C in each of
# them, with the address of a job: words of 64 bits.


def _atomic(operation: str) -> Any:
    """Return a compiled function that changes a word at an address, and returns what was there."""

    @intrinsic
    def change(_: Any, __: Any, ___: Any) -> Any:
        def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
            word = builder.inttoptr(args[0], ir.PointerType(ir.IntType(64)))
            return builder.atomic_rmw(operation, word, args[1], "monotonic")

        return types.int64(types.uintp, types.int64), generate

    return change


_fetch_add = _atomic("add")


NEXT, DONE, CAME = 0, 8, 9
"""The words that threads write: the first block that nobody has taken, in a cache line of its own,
how many are done, and how many threads there were that found one to take."""
KERNEL, BLOCKS, SHARE, TABLE, LEAVES, ARGUMENTS = range(16, 22)
"""The words they read: those from `ARGUMENTS` on are what the kernel takes besides."""
WORDS = ARGUMENTS + 4

_FOR_TEAMS = sum_squares, sum_magnitudes, peaks, exact_parts, scale, clip
SHARED = {kernel: number for number, kernel in enumerate(_FOR_TEAMS)}
"""The kernels that a team can be handed, by the number in a job."""


@_compiled()
def _numbers(address: Any, count: Any) -> Any:
    return _double(address, 0, count)


def _take_part(address: Any) -> None:
    """Work off shares of a job until none is left: `SHARED` says by which kernel.

    No exception can pass through C. All that a kernel can fail with is no memory for its scratch;
    Numba reports that on stderr, and the share is not done.
    """
    job = _words(address, WORDS)
    kernel, blocks, share, leaves = job[KERNEL], job[BLOCKS], job[SHARE], job[LEAVES]
    table = carray(_as_int64(np.uintp(job[TABLE])), (4, leaves + 1))
    a, b, c, d = job[ARGUMENTS], job[ARGUMENTS + 1], job[ARGUMENTS + 2], job[ARGUMENTS + 3]
    number = np.int64(a).view(np.float64)
    first = True
    while True:
        start = _fetch_add(np.uintp(address + 8 * NEXT), share)
        if start >= blocks:
            return
        if first:
            _fetch_add(np.uintp(address + 8 * CAME), 1)
            first = False
        stop = min(start + share, blocks)
        if kernel == 0:
            sum_squares(table, start, stop, number, _numbers(b, blocks))
        elif kernel == 1:
            sum_magnitudes(table, start, stop, _numbers(a, blocks))
        elif kernel == 2:
            peaks(table, start, stop, _numbers(a, blocks))
        elif kernel == 3:
            parts = carray(_as_int64(np.uintp(d)), (blocks, 3))
            exact_parts(table, start, stop, number, _numbers(b, 3), c != 0, parts)
        elif kernel == 4:
            scale(table, start, stop, _words(a, leaves), _numbers(b, 4))
        else:
            lows, highs = _numbers(b, leaves), _numbers(c, leaves)
            clip(table, start, stop, _words(a, leaves), lows, highs)
        _fetch_add(np.uintp(address + 8 * DONE), stop - start)


@functools.cache
def team_body() -> int:
    """Return the address of the function that a thread of a team calls, compiled when asked for."""
    made: Any = kept(cfunc, types.void(types.uintp), error_model="numpy")(_take_part)
    address: int = made.address
    return address
