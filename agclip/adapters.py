"""All that the adapter of an array library may import from agclip.

An adapter builds one `Backend` and advertises it by an entry point: see `docs/backends.md`. It
replaces the kernels worth replacing, and may call the default ones for the leaves that its own are
not meant for. The types of kernels say what each is given and returns.
"""

from agclip._backends.backend import Backend
from agclip._backends.batch import LeafBatch, all_real, counts, double, elements, kinds
from agclip._backends.contract import (
    AbsMax,
    Clip,
    ExactSum,
    Factor,
    Grid,
    PowerSums,
    ScalarLike,
    Scale,
    ScaleEach,
    ScaleInPlace,
    Sqrt,
    Sums,
    SumSquares,
    Total,
)
from agclip._backends.dtypes import Kind, kind_named, kind_of
from agclip._backends.exact_sums import exact_sum
from agclip._backends.fused import Decided, Details, Fused, Terms
from agclip._backends.host_scalars import total as float_total
from agclip._backends.kernels import (
    abs_max,
    cast,
    is_one,
    number,
    real_parts,
    scale,
    scaled,
    select,
    sum_squares,
    sums,
    total,
)
from agclip._backends.powers import power_sums, power_sums_in_pieces
from agclip._backends.powers import whole as accurate_sum
from agclip._backends.questions import (
    At,
    Branch,
    FindMisplaced,
    Misplaced,
    Places,
    Run,
    Survey,
)
from agclip._backends.shapes import overlaps_itself, pieces
from agclip._backends.slices import ScaleSlices, SumSlices
from agclip._backends.sparse import FindSparse, Merged, Sparse
from agclip._typing import Access, Array, Device, DType, Namespace, Scalar
from agclip.config import current as settings
from agclip.distributed._ranks import AllReduceAxes, Engine, FindParts, Link, Op, Parts
from agclip_backends._memory import Memory

__all__ = [
    "AbsMax",
    "Access",
    "AllReduceAxes",
    "Array",
    "At",
    "Backend",
    "Branch",
    "Clip",
    "DType",
    "Decided",
    "Details",
    "Device",
    "Engine",
    "ExactSum",
    "Factor",
    "FindMisplaced",
    "FindParts",
    "FindSparse",
    "Fused",
    "Grid",
    "Kind",
    "LeafBatch",
    "Link",
    "Memory",
    "Merged",
    "Misplaced",
    "Namespace",
    "Op",
    "Parts",
    "Places",
    "PowerSums",
    "Run",
    "Scalar",
    "ScalarLike",
    "Scale",
    "ScaleEach",
    "ScaleInPlace",
    "ScaleSlices",
    "Sparse",
    "Sqrt",
    "SumSlices",
    "SumSquares",
    "Sums",
    "Survey",
    "Terms",
    "Total",
    "abs_max",
    "accurate_sum",
    "all_real",
    "cast",
    "counts",
    "double",
    "elements",
    "exact_sum",
    "float_total",
    "is_one",
    "kind_named",
    "kind_of",
    "kinds",
    "number",
    "overlaps_itself",
    "pieces",
    "power_sums",
    "power_sums_in_pieces",
    "real_parts",
    "scale",
    "scaled",
    "select",
    "settings",
    "sum_squares",
    "sums",
    "total",
]
