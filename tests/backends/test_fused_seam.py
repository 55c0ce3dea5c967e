"""Public functions and rules through the fused kernels: as the general program, in two launches.

The kernels are compiled for the host; its tensors pass for those of a device.
"""

import itertools
import math

import numpy as np
import pytest

import arrays
import matrix
from thinned import thinned

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from fused_rehearsal import device  # noqa: E402 - PyTorch is optional
from fused_seam_cases import RULES, alike, leaves_of, same, stepped  # noqa: E402

pytest_plugins = ["fused_fixtures"]

NARROW = ("float16", "bfloat16", "float32", "complex64")


OPTIONS = [
    {"nonfinite": policy, "strict": strict, "loss_scale": loss}
    for policy, strict, loss in itertools.product(
        ("propagate", "zero", "skip"), (False, True), (None, 8.0, 0.37)
    )
]


def is_quick(cell):
    """Tell whether `make test` runs a cell: what is not finite spreads alike in all dtypes."""
    dtype, bad = cell
    if bad is None:
        return dtype in ("bfloat16", "float64")
    return (dtype, bad) == ("float32", -math.inf)


@pytest.mark.parametrize("inplace", [False, True], ids=["new", "in-place"])
@pytest.mark.parametrize(
    ("dtype", "bad"),
    thinned(
        itertools.product((*NARROW, "float64"), (None, math.nan, -math.inf)),
        is_quick,
        ids=lambda cell: "-".join(map(str, cell)),
        tuples=True,
    ),
)
@pytest.mark.parametrize("rule", RULES)
def test_a_rule_through_the_seam_is_the_general_program(seam, seam_host, rule, dtype, bad, inplace):
    for options in OPTIONS:
        made = RULES[rule](**options)
        seam_host.launches.clear()
        found = stepped(made, leaves_of(dtype, bad=bad), seam, inplace=inplace)
        taken = not (made_of_parts(dtype, rule) or (dtype == "float64" and rule.endswith("-1")))
        assert bool(seam_host.launches) == taken
        wanted = stepped(made, leaves_of(dtype, bad=bad), None, inplace=inplace)
        for x, y in zip(found[0], wanted[0], strict=True):
            assert same(x, y, dtype), options
        for name in ("norm", "scale", "threshold", "clipped", "nonfinite", "skip"):
            one, other = getattr(found[1], name), getattr(wanted[1], name)
            assert (one.dtype, one.shape) == (other.dtype, other.shape), name
        for one, other in zip(
            found[1].leaf_norms.values(), wanted[1].leaf_norms.values(), strict=True
        ):
            assert (one.dtype, one.shape) == (other.dtype, other.shape)
        alike(found[2], wanted[2])


def made_of_parts(dtype, rule):
    return dtype.startswith("complex") and rule.endswith(("-1", "-inf"))


@pytest.mark.parametrize("rule", ["ClipByNorm", "ClipByGlobalNorm"])
@pytest.mark.parametrize("loss_scale", [None, 3.0])
def test_each_leaf_of_float64_has_its_norm_beside_another_out_of_range(
    seam, seam_host, rule, loss_scale
):
    leaves = [
        x * 2.0**p
        for x, p in zip(leaves_of("float64", (9,) * 5), (0, 600, -700, -1060, 30), strict=True)
    ]
    made = RULES[rule](loss_scale=loss_scale)
    found = stepped(made, [x.clone() for x in leaves], seam, inplace=False)
    wanted = stepped(made, [x.clone() for x in leaves], None, inplace=False)
    assert seam_host.launches
    alike(found[2], wanted[2])
    assert all(same(x, y, "float64") for x, y in zip(found[0], wanted[0], strict=True))


LIBRARY = arrays.Library("torch", torch.from_numpy, None)


@pytest.mark.parametrize("kind", [k for k in matrix.KINDS if not matrix.KINDS[k].foreign])
@pytest.mark.parametrize("subject", matrix.SUBJECTS)
@pytest.mark.parametrize("inplace", [False, True], ids=["new", "in-place"])
def test_the_matrix_through_the_seam_is_the_general_program(seam, subject, kind, inplace):
    one, kind = matrix.SUBJECTS[subject], matrix.KINDS[kind]
    if inplace and not one.inplace:
        pytest.skip(f"{one.public} has no twin that works in place")
    found = []
    for way in (seam, None):
        trees, params = matrix.trees_of(kind, LIBRARY)
        with device(way):
            results, facts = one.run(trees, params, kind.policy, inplace=inplace)
        found.append([[x.tolist() for x in matrix.leaves_of(tree)] for tree in results])
        found.append(facts)
    assert repr(found[0]) == repr(found[2])
    np.testing.assert_equal(numbers(found[1]), pytest.approx(numbers(found[3]), nan_ok=True))


def numbers(x):
    """All numbers of states and records, in order."""
    if isinstance(x, dict):
        x = list(x.values())
    if isinstance(x, (list, tuple)):
        return [one for child in x for one in numbers(child)]
    return [float(x)]
