"""Rules whose bound follows from the norm, through the fused kernels: as the general program.

The norm is measured, the rule forms its bound of it, and the kernels decide by both: nothing is
measured again, whatever the number of leaves, and nothing is read.
"""

import itertools
import math

import numpy as np
import pytest

import agclip
import fused_host

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from agclip_backends._cuda.fused import Room  # noqa: E402 - PyTorch is optional
from agclip_backends._cuda.table import Terms  # noqa: E402
from fused_rehearsal import device  # noqa: E402
from fused_seam_cases import FACTS, alike, leaves_of, same  # noqa: E402
from thinned import thinned  # noqa: E402

pytest_plugins = ["fused_fixtures"]

RULES = {
    "ZClip": lambda **o: agclip.ZClip(0.5, 0.5, 1, 20.0, **o),
    "ZClip-mean": lambda **o: agclip.ZClip(0.5, 0.5, 1, 20.0, "mean", **o),
    "AutoClip": lambda **o: agclip.AutoClip(50.0, 4, **o),
    "QuantileClip": lambda **o: agclip.QuantileClip(0.5, **o),
}
OPTIONS = [
    {},
    {"nonfinite": "zero"},
    {"nonfinite": "skip", "strict": True},
    {"loss_scale": 8.0},
    {"loss_scale": 0.37, "strict": True},
]
POWERS = (0, 0, 3, -2, 1, 5)


def trained(rule, dtype, way, *, inplace, bad=None):
    """Take some steps of a rule; return the leaves and the records of all, and the last state."""
    leaves, infos, state = [], [], ()
    for i, power in enumerate(POWERS):
        grads = leaves_of(dtype, power=power, bad=bad if i == 3 else None)
        with device(way):
            if i == 0:
                state = rule.init(grads)
            new, state, info = (rule.update_ if inplace else rule.update)(grads, state)
            infos.append(info.to_host())
        leaves += new
    return leaves, infos, state


def is_quick(cell):
    """Tell whether `make test` runs a cell: rules differ in the bound alone."""
    rule, dtype, bad = cell
    return (dtype == "float32" and bad is None) or (rule == "ZClip" and bad is not None)


@pytest.mark.parametrize("inplace", [False, True], ids=["new", "in-place"])
@pytest.mark.parametrize(
    ("rule", "dtype", "bad"),
    thinned(
        itertools.product(RULES, ("float16", "float32", "float64"), (None, math.nan)),
        is_quick,
        ids=lambda cell: "-".join(map(str, cell)),
        tuples=True,
    ),
)
def test_a_rule_with_memory_is_the_general_program(seam, seam_host, rule, dtype, bad, inplace):
    for options in OPTIONS:
        made = RULES[rule](**options)
        seam_host.launches.clear()
        mine = trained(made, dtype, seam, inplace=inplace, bad=bad)
        again = ["agclip_norm_2_again"] * (dtype == "float64")
        whole = ["agclip_norm_2", *again, "agclip_given"]
        more = ["agclip_norm_2", *again] if dtype == "float64" else []
        assert seam_host.launches == [*whole, *more, "agclip_report", "agclip_product"] * len(
            POWERS
        )
        theirs = trained(made, dtype, None, inplace=inplace, bad=bad)
        assert all(same(x, y, dtype) for x, y in zip(mine[0], theirs[0], strict=True)), options
        for found, wanted in zip(mine[1], theirs[1], strict=True):
            if dtype != "float64":
                alike(found, wanted)
            else:
                assert found.threshold == pytest.approx(wanted.threshold, rel=1e-12, nan_ok=True)
                assert [getattr(found, x) for x in FACTS[1:]] == [
                    getattr(wanted, x) for x in FACTS[1:]
                ]
        for key, value in mine[2].items():
            assert torch.allclose(value, theirs[2][key], rtol=1e-12, atol=0, equal_nan=True)


def test_nothing_is_read(seam, seam_host, monkeypatch):
    rule, grads = agclip.ZClip(), leaves_of("float32")
    with device(seam):
        state = rule.init(grads)

        def reading(*_):
            msg = "a tensor has been read"
            raise AssertionError(msg)

        for name in ("__float__", "__bool__", "item", "tolist", "cpu", "numpy"):
            monkeypatch.setattr(torch.Tensor, name, reading)
        for _ in range(3):
            _, state, _ = rule.update_(grads, state)
    assert len(seam_host.launches) == 12


def test_a_bound_that_autograd_records_is_left_to_the_general_program(seam, seam_host):
    rule, grads = RULES["ZClip"](), leaves_of("float32")
    found = []
    for way in (seam, None):
        with device(way):
            state = rule.init(grads)
            recorded = {k: v.clone() for k, v in state.items()}
            recorded["mean"] = recorded["mean"] + torch.tensor(1.0, requires_grad=True).double()
            recorded["count"] = recorded["count"] + 5
            new, _, _ = rule.update(grads, recorded)
        found.append(new)
    assert "agclip_product" not in seam_host.launches
    assert found[0][0].requires_grad == found[1][0].requires_grad
    assert all(torch.equal(x, y) for x, y in zip(*found, strict=True))


@pytest.mark.parametrize("bound", [0.5, 1e9, math.inf])
@pytest.mark.parametrize("divided", [None, 4.0])
def test_a_bound_of_the_norm_is_that_bound(room, bound, divided):
    def of(norm):
        seen.append(float(norm))
        return bound

    seen, leaves = [], [np.linspace(-3, 3, n, dtype=np.float32) for n in (300, 7)]
    other = [x.copy() for x in leaves]
    done = room.clip(leaves, None, Terms(limit=of), math.inf, divided)
    wanted = room.clip(other, None, Terms(), bound, divided)
    assert seen == [float(wanted.norm)]
    assert done.record[:8].tobytes() == wanted.record[:8].tobytes()
    assert all(x.tobytes() == y.tobytes() for x, y in zip(leaves, other, strict=True))


def test_what_was_captured_forms_its_bound_anew(library):
    host = fused_host.HostLibrary(library)
    room, bound = Room(host), np.full((), 0.5)
    static = [np.ones(9, np.float32)]
    host.capturing = True
    room.clip(static, None, Terms(limit=lambda _: bound), math.inf)
    host.capturing = False
    replayed = list(host.recorded)
    for value in (0.25, 2.0, 1e9):
        static[0][...] = np.arange(9)
        bound[...] = value
        other = [static[0].copy()]
        room.clip(other, None, Terms(), value)
        host.recorded = replayed
        host.replay()
        host.recorded = []
        assert static[0].tobytes() == other[0].tobytes()
