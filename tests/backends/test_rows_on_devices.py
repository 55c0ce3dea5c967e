"""Leaves and slices laid end to end on a device are decided on as each by itself, in few launches.

CPU tensors pass for those of a device.
"""

import itertools
import math

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import agclip  # noqa: E402 - PyTorch is optional, here and below
from agclip._backends import joined  # noqa: E402
from agclip._clipping import adaptive, decide  # noqa: E402
from agclip._numerics import exact, norms  # noqa: E402
from agclip._trees.gather import gather  # noqa: E402
from fused_rehearsal import device  # noqa: E402

SHAPES = [(4, 3), (1, 5), (0, 2), (7, 1), (2, 3, 2), (6, 6)]
OPTIONS = [
    {"nonfinite": policy, "strict": strict, "loss_scale": scale}
    for policy, strict, scale in itertools.product(
        ("propagate", "zero", "skip"), (False, True), (None, 0.37)
    )
]
UNITS = {"unit_axes": "out_in"}
CALLS = {
    "axes": lambda t, **o: agclip.clip_by_norm(t, 0.5, axes=(0,), **o),
    "axes, in place": lambda t, **o: agclip.clip_by_norm_(t, 0.5, axes=(0,), **o),
    "axes, order 1": lambda t, **o: agclip.clip_by_norm(t, 0.5, axes=(0,), ord=1, **o),
    "adaptive": lambda t, **o: agclip.adaptive_grad_clip(t, params(t), 0.1, **UNITS, **o),
    "adaptive, in place": lambda t, **o: agclip.adaptive_grad_clip_(
        t, params(t), 0.1, **UNITS, **o
    ),
    "exact": lambda t, **o: list(agclip.clip_by_global_norm(t, 0.5, reproducible=True, **o)[0]),
    "exact norm": lambda t, **_: [agclip.global_norm(t, reproducible=True)],
    "order inf": lambda t, **_: [agclip.global_norm(t, math.inf)],
}
DTYPES = {
    "float32": ["float32"],
    "bfloat16": ["bfloat16"],
    "float64": ["float64"],
    "complex64": ["complex64"],
    "mixed": ["float32", "float64", "float16"],
}


@pytest.fixture(params=sorted(DTYPES))
def dtypes(request):
    return DTYPES[request.param]


def drawn(dtypes, bad=None):
    draw, found = torch.Generator().manual_seed(0), []
    for shape, dtype in zip(SHAPES, itertools.cycle(dtypes), strict=False):
        kind = getattr(torch, dtype)
        base = torch.complex64 if kind.is_complex else torch.float64
        found.append(torch.randn(shape, generator=draw, dtype=base).to(kind))
    if bad is not None:
        found[4][1, 1, 0] = bad
    return found


def params(leaves):
    return [torch.arange(x.numel()).reshape(x.shape).to(x.dtype) for x in leaves]


def bits(tensors):
    flat = torch.utils._pytree.tree_leaves(tensors)
    return [(x.dtype, x.shape, repr(x.tolist())) for x in flat]


@pytest.fixture
def alone(monkeypatch):
    """Returns what a function returns where nothing is laid end to end."""

    def call(function):
        with monkeypatch.context() as patch, device(None):
            for module in (adaptive, decide):
                patch.setattr(module, "row_of", lambda *_: None)
            for module in (exact, norms):
                patch.setattr(module, "joined", lambda _, leaves: leaves)
            return function()

    return call


@pytest.mark.parametrize("bad", [None, math.nan, math.inf])
@pytest.mark.parametrize("name", sorted(CALLS))
def test_what_lies_in_a_row_is_decided_on_alone(name, dtypes, bad, alone):
    options = OPTIONS if "norm" not in name and "order inf" not in name else [{}]
    for given in options:
        with device(None):
            found = CALLS[name](drawn(dtypes, bad), **given)
        wanted = alone(lambda given=given: CALLS[name](drawn(dtypes, bad), **given))
        assert bits(found) == bits(wanted), given


@pytest.mark.parametrize("order", [3.0, 1.5])
def test_other_orders_are_the_same_but_for_the_order_of_sums(order, dtypes, alone):
    with device(None):
        found = agclip.global_norm(drawn(dtypes), order)
    wanted = alone(lambda: agclip.global_norm(drawn(dtypes), order))
    assert found.dtype == wanted.dtype
    assert float(found) == pytest.approx(float(wanted), rel=1e-7 if wanted.itemsize < 8 else 1e-14)


def launches(function, count):
    """The operations of PyTorch's that are more than another look at memory."""
    views = (
        "reshape",
        "view",
        "slice",
        "expand",
        "broadcast_to",
        "detach",
        "alias",
        "select",
        "to",
    )
    leaves = [torch.randn(6, 5) for _ in range(count)]
    with device(None):
        function(leaves)
        with torch.profiler.profile() as profile:
            function(leaves)
    names = [e.name for e in profile.events() if e.cpu_parent is None]
    return sum(n.startswith("aten::") and n.removeprefix("aten::") not in views for n in names)


@pytest.mark.filterwarnings("ignore:Warning. Profiler clears events")
@pytest.mark.parametrize(
    ("name", "most"),
    [("exact norm", 0), ("order inf", 0), ("axes, in place", 12), ("adaptive, in place", 24)],
)
def test_a_leaf_more_is_few_launches_more(name, most):
    """Of joined leaves none; of slices those of their sums and products."""
    few, many = (launches(CALLS[name], count) for count in (4, 44))
    assert many - few <= 40 * most


def test_leaves_are_joined_up_to_a_size(monkeypatch):
    monkeypatch.setattr(joined, "SMALL", 10)
    monkeypatch.setattr(joined, "MOST", 25)
    leaves = [torch.arange(n, dtype=torch.float32) for n in (10, 11, 9, 10, 3, 0)]
    sizes = []

    def program(here):
        sizes.extend(x.numel() for x in joined.joined(agclip.get_backend("torch"), here))
        return agclip.global_norm(here, reproducible=True)

    with device(None):
        program(gather(leaves, "t_list", listed=True).arrays)
    assert sorted(sizes) == [11, 13, 19]
    assert joined.joined(agclip.get_backend("torch"), leaves) is leaves
