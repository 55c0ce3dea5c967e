"""One array library as a record: its namespace, and the kernels worth replacing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from typing import Any

from agclip._backends import answers, contract, kernels, powers, questions
from agclip._backends.exact_sums import exact_sum
from agclip._backends.fused import Fused
from agclip._backends.slices import ScaleSlices, SumSlices
from agclip._backends.sparse import FindSparse
from agclip._typing import Access, Array, Device, DType, Namespace
from agclip.distributed._ranks import AllReduceAxes, FindParts
from agclip_backends import _memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:  # noqa: PLW1641 - the dataclass makes the hash of the fields
    """An array library: its name, its Array API namespace, and its kernels.

    Every kernel has a default that is a complete program in standard calls, so a record of a
    library that follows the standard is `Backend(name="lib", xp=lib)`. To customise one, use
    `dataclasses.replace(backend, scale=mine)`; there is nothing to inherit from.

    The types of `agclip.adapters` say what each kernel is given and returns. Two fields are
    optional accelerations, `clip` and `survey`: they may answer None, and the general way is taken.

    Attributes:
        name: The top-level package that defines the array class, such as "numpy". It is the
            dispatch key, and the name of the entry point in the group `agclip.backends`.
        xp: The namespace of the Array API standard.
        sum_squares: `(xp, leaves, acc_dtype, scale)` → Σ (scale·|x|)² of each leaf, formed in
            `acc_dtype`.
        abs_max: `(xp, leaves, acc_dtype)` → max |x| of each leaf: 0 of an empty one, NaN if an
            element is; of a complex leaf the larger of both parts.
        power_sums: `(xp, leaves, acc_dtype, p, scale, unit)` → Σ (scale·|x|/unit)^p of each leaf;
            for p = inf the maximum.
        sums: `(xp, leaves, function)` → for each leaf the sums of the arrays that an elementwise
            function makes of it; the reproducible norm is made of them where nothing can be read.
        total: `(xp, values)` → the sum of 0-d arrays that are on one device.
        exact_sum: `(xp, leaves, acc_dtype, grid)` → the sum that defines the reproducible norm, an
            integer in units of the grid, where `access` is "free".
        scale: `(xp, leaves, factor)` → new leaves times a `Factor`, one rounding each.
        scale_: `(xp, leaves, factor)` → None; the same in place.
        scale_each: `(xp, leaves, factors, inplace)` → leaves, each times a factor of its own, whose
            parts are floats; None to have them multiplied one by one.
        sum_slices: `(xp, leaves, counts)` → Σ|x|² of equal parts of leaves on a device, of which
            each is so many; None to have them summed along axes.
        scale_slices: `(xp, leaves, counts, factor, inplace)` → leaves, such parts each times its
            own number; None to have the leaves multiplied one by one.
        sqrt: `(xp, x)` → the correctly rounded square root of x >= 0 in the accumulation dtype.
        scalar_like: `(xp, value, dtype, x)` → a Python number or bool as a new 0-d array on the
            device of x, where `access` is "free".
        branch: `(xp, predicate, if_true, if_false)` → the list of arrays that one of two thunks
            returns. Eager libraries test the predicate, compilers have a conditional, `where`
            on both sides serves everything else.
        run: `(program, static, arrays)` → `program(*static, *arrays)`; a library with a compiler
            compiles once per program and `static`.
        clip: `(xp, leaves, lows, highs, inplace)` → real leaves, each clipped between two numbers;
            None to have it done in standard calls.
        survey: `(leaves, types, inplace)` → the leaves, of these types, as a `LeafBatch`, if all
            are ordinary arrays that can be read, and overwritten if `inplace`; None to have each
            leaf asked by itself. Leaves of a batch are not asked for `refuse`, `unwritable` and
            `access`.
        fused: `(leaves, terms, bound, loss_scale, inplace, record)` → a clip by norms, decided and
            not yet written, as a `Decided`; None to have it done kernel by kernel. It is asked only
            for whole leaves whose values are not free to read.
        access: `(x)` → what reading the value of x costs: "free"; "graph", free but arithmetic must
            stay in arrays, because the library records or compiles it; "sync", a synchronisation
            or a computation; "never", there is no value yet.
        replays: `()` → whether code is being compiled that will repeat, whenever it runs, what it
            now assigns to objects outside of it.
        keeps_bits: `(x)` → whether x times one is x where it lives, subnormal numbers included:
            then nothing has to be picked for leaves that may be within the bound.
        read: `(objects, types)` → the same objects of this library, of these types, as arrays: a
            variable as the value that it has now. Whatever else is asked is asked of the arrays,
            but for `unwritable`.
        sparse: `(objects, types)` → what objects store that are arrays of which only some elements
            are stored, each as a `Sparse`, and None for others; None if no object is one.
        refuse: `(x)` → why an object of this library is no dense array, or None.
        misplaced: `(leaves, types)` → the first leaf, of these types, that is a parameter in the
            place of a gradient, or an object that holds parameters, as a `Misplaced`; None if there
            is none.
        unwritable: `(x)` → why x cannot be overwritten, or None.
        memory: `(leaves)` → for each leaf where it lies, as a `Memory` in bytes: the address of its
            first element, the strides and the size of an element; None for one of which that is
            not known, and for all if no two share memory.
        partial: `(leaves)` → the position of a leaf that is a part of an array alone, so that the
            norm of the whole cannot be told, and what it is; None if there is none.
        parts: `(leaves, types)` → of leaves, of these types, that are cut over processes what is
            here, and the links or the axes over which the rest of each is, as `Parts`; None if
            there are none, or the types do not tell.
        all_reduce: `(xp, values, axes, op)` → 0-d arrays, reduced over named axes of a mesh in the
            program that is being traced.
        usable: `()` → why the library cannot be used here, or None.
        device: `(x)` → the device of x, or None where a library moves data by itself.
        named_device: `(xp, name)` → the device of that name, or None if there is none here.
        acc_dtype: `(xp, x)` → the dtype that sums over x are formed in: float64, or float32 where
            x's device has no float64.
        restore: `(leaf, new)` → what takes the place of a leaf in the tree: `new`, or the same
            numbers as the kind of object that the leaf is.
        rows: `(x)` → of how many pieces, added as arrays, a sum over the first axis of x is made; 1
            where the library's own reduction serves.
        export: `(x)` → x, or a copy of it, in memory that another library can read by DLPack: the
            elements as they are, no stride below 0.
        at: `(x, function, *arguments, **options)` → what the function returns, called where x is:
            for a library that computes on a current device, whatever arrays it is given.
        context: `()` → a context manager for calls of the library that are made outside of `run`.
        block: Leaves are widened in pieces of this many elements; None for whole leaves.
        chain: `sum_squares` adds no more squares than this one after the other, and then the sums
            of as many: the rounding test counts on it where access is "free". None for `block`.

    Example:
        >>> import array_api_strict
        >>> agclip.Backend(name="array_api_strict", xp=array_api_strict).name
        'array_api_strict'
    """

    name: str
    xp: Namespace
    sum_squares: contract.SumSquares = kernels.sum_squares
    abs_max: contract.AbsMax = kernels.abs_max
    power_sums: contract.PowerSums = powers.power_sums
    sums: contract.Sums = kernels.sums
    total: contract.Total = kernels.total
    exact_sum: contract.ExactSum = exact_sum
    scale: contract.Scale = kernels.scale
    scale_: contract.ScaleInPlace = kernels.scale_
    scale_each: contract.ScaleEach = kernels.nothing
    sum_slices: SumSlices = kernels.nothing
    scale_slices: ScaleSlices = kernels.nothing
    sqrt: contract.Sqrt = kernels.sqrt
    scalar_like: contract.ScalarLike = kernels.scalar_like
    branch: questions.Branch = kernels.select
    run: questions.Run = kernels.run
    clip: contract.Clip = kernels.nothing
    survey: questions.Survey = kernels.nothing
    fused: Fused = kernels.nothing
    access: Callable[[Array], Access] = kernels.access
    replays: Callable[[], bool] = answers.replays
    keeps_bits: Callable[[Array], bool] = answers.keeps_bits
    read: Callable[[Sequence[Any], set[type]], Sequence[Any]] = kernels.read
    sparse: FindSparse = kernels.nothing
    refuse: Callable[[Any], str | None] = answers.refuse
    misplaced: questions.FindMisplaced = kernels.nothing
    unwritable: Callable[[Array], str | None] = answers.unwritable
    memory: questions.Places = _memory.of
    partial: Callable[[Sequence[Array]], tuple[int, str] | None] = kernels.nothing
    parts: FindParts = kernels.nothing
    all_reduce: AllReduceAxes = answers.no_axes
    usable: Callable[[], str | None] = answers.usable
    device: Callable[[Array], Device] = kernels.device
    named_device: Callable[[Namespace, str], Device] = answers.named_device
    acc_dtype: Callable[[Namespace, Array], DType] = kernels.accumulation_dtype
    restore: Callable[[Any, Array], Any] = kernels.restore
    rows: Callable[[Array], int] = answers.rows
    export: Callable[[Array], Array] = answers.export
    at: questions.At = answers.anywhere
    context: Callable[[], AbstractContextManager[Any]] = nullcontext
    block: int | None = None
    chain: int | None = None

    def __eq__(self, other: object) -> bool:
        """Tell whether two records are one, or have the same fields."""
        if self is other:  # asked first, for Dynamo cannot compare namespaces (PyTorch 2.11)
            return True
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, f.name) == getattr(other, f.name) for f in fields(self))

    def __repr__(self) -> str:
        """Show the name, the namespace, and the names of the fields that are not the default."""
        own = [f.name for f in fields(self)[2:] if getattr(self, f.name) is not f.default]
        xp = getattr(self.xp, "__name__", None) or repr(self.xp)
        replaced = f", replaced: {', '.join(own)}" if own else ""
        return f"Backend(name={self.name!r}, xp={xp}{replaced})"
