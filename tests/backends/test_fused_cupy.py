"""What CuPy's side of the fused kernels tells of arrays, shown on arrays that pretend to be CuPy's.

`backends/test_fused_gpu.py` runs the kernels where there is a GPU.
"""

from types import SimpleNamespace

import numpy as np
import pytest

from agclip._backends.fused import Terms

cupy = pytest.importorskip("cupy", reason="CuPy is not installed")


def leaf(address, shape=(4, 6), dtype="float32", device=0, order="C"):
    x = np.zeros(shape, dtype, order=order)
    return SimpleNamespace(
        dtype=x.dtype,
        size=x.size,
        nbytes=x.nbytes,
        data=SimpleNamespace(ptr=address, device_id=device),
        _c_contiguous=x.flags.c_contiguous,
        _f_contiguous=x.flags.f_contiguous,
    )


def surveyed(leaves, types=None, *, inplace=True):
    from agclip_backends.cupy.resident import survey

    return survey(leaves, {cupy.ndarray} if types is None else types, inplace)


def test_dense_arrays_of_one_device_are_known_at_once():
    found = surveyed([leaf(0x1000), leaf(0x2000, (5,), "complex128"), leaf(0, (0, 3))])
    assert {kind.name for kind in found.kinds} == {"float32", "complex128"}
    assert (found.elements, found.access, found.distinct) == (34, "sync", True)


def test_arrays_that_share_memory_are_asked_for_it():
    assert not surveyed([leaf(0x1000), leaf(0x1010)]).distinct
    assert not surveyed([leaf(0x1000), leaf(0x2000)], inplace=False).distinct


@pytest.mark.parametrize(
    "leaves",
    [
        [leaf(0x1000), leaf(0x2000, device=1)],
        [leaf(0x1000), leaf(0x2000, dtype="int32")],
        [leaf(0x1000), SimpleNamespace(**{**vars(leaf(1)), "_c_contiguous": False})],
    ],
    ids=["two devices", "integers", "gaps"],
)
def test_others_are_asked_one_by_one(leaves):
    assert surveyed(leaves) is None
    assert surveyed(leaves[:1], {np.ndarray}) is None


@pytest.mark.parametrize("double", [False, True])
def test_the_parts_of_a_report_are_where_the_source_puts_them(double):
    from agclip_backends.cupy.fused import CupyLibrary

    report = np.zeros(3 + 3 + 2)
    report[:2] = 7.5, 0.25
    report.view(np.bool_)[16:18] = True, False
    report.view(np.float32)[5] = 7.0
    report[3:6] = 1.5, 2.5, 3.5
    report.view(np.float32)[12:15] = 1.0, 2.0, 3.0
    kinds = (2, 3, 0) if double else (2, 1, 0)
    found = CupyLibrary().details(report, kinds)
    assert found.norm == (7.5 if double else 7.0)
    assert found.leaf_norms() == ([1.0, 2.5, 3.0] if double else [1.0, 2.0, 3.0])
    assert (found.scale, found.clipped, found.nonfinite) == (0.25, True, False)


class Counted:
    """An array that counts how often it is asked for what the kernels have to know."""

    asked = 0

    def __init__(self, address, **options):
        vars(self)["leaf"] = leaf(address, **options)

    def __getattr__(self, name):
        Counted.asked += name in ("dtype", "data", "_c_contiguous")
        return getattr(self.leaf, name)


def test_what_has_been_surveyed_is_not_looked_at_again(monkeypatch):
    from agclip_backends.cupy.fused import CupyLibrary

    leaves = [Counted(0x1000 * i, dtype="complex64" if i == 3 else "float32") for i in (1, 2, 3)]
    found = surveyed(leaves)
    monkeypatch.setattr(cupy.cuda.runtime, "is_hip", False)
    library, wanted = CupyLibrary(), CupyLibrary().describe(leaves)
    monkeypatch.setattr(Counted, "asked", 0)
    assert library.describe(found) is found.described == wanted
    assert library.takes(found, Terms(), (0.5, None))
    assert not library.takes(found, Terms(order=1.0), (0.5, None))
    assert not library.takes(found, None, ())
    assert not library.takes(found, Terms(), (np.float64(0.5), None))
    assert Counted.asked == 0
    part = found.chosen([1])
    assert library.describe(part)[0] == (0x2000,)


def test_arrays_of_others_are_left_alone():
    from agclip_backends.cupy.fused import CupyLibrary

    assert not CupyLibrary().takes([np.ones(3)], Terms(), (0.5, None))
