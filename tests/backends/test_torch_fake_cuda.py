"""PyTorch on a GPU waits for nothing: no number is copied there, and none is read from there.

A copy of a number from the host is a synchronisation, and neither it nor a read can be part of a
CUDA graph. Shown for every public function and rule, without a GPU.
"""

import functools
import inspect
import math

import pytest

import agclip
import arrays
import matrix
from agclip.rules import ClipInfo
from thinned import thinned

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import fake_cuda  # noqa: E402 - PyTorch is optional

DTYPES = ("float16", "bfloat16", "float32", "float64", "complex64", "complex128")
QUICK = ("bfloat16", "complex64")
KINDS = ("nan, zero", "inf, skip", "an empty leaf")
CLIPS = [name for name in agclip.__all__ if name.startswith(("clip_", "adaptive_grad"))]
TIMES = {"new": False, "in-place": True}


@pytest.fixture(autouse=True)
def cuda(monkeypatch):
    """Pretend to have a GPU, and let the matrix look at no number."""
    monkeypatch.setattr(matrix, "_host", lambda x: x)
    monkeypatch.setattr(ClipInfo, "to_host", lambda info: info)
    with fake_cuda.mode():
        yield


@pytest.fixture(params=matrix.SUBJECTS.values(), ids=list(matrix.SUBJECTS))
def subject(request):
    return request.param


@pytest.fixture(params=TIMES.values(), ids=list(TIMES))
def inplace(request):
    return request.param


def made(dtype):
    """A library of tensors on "cuda", as `matrix` takes it."""

    def convert(values):
        return fake_cuda.tensor(values.shape, getattr(torch, dtype))

    return arrays.Library("torch", convert, None)


def run(subject, dtype, kind, *, inplace):
    if inplace and not subject.inplace:
        pytest.skip(f"{subject.public} has no twin that works in place")
    if dtype.startswith("complex") and subject.public in ("clip_by_value", "ClipByValue"):
        pytest.skip("complex numbers have no order")
    kind = matrix.KINDS[kind]
    trees, params = matrix.trees_of(kind, made(dtype))
    with fake_cuda.Watch() as watch:
        subject.run(trees[:2], params, kind.policy, inplace=inplace)
    return watch


def waits_for_nothing(watch):
    return watch.launched and not watch.copied and not watch.read


@pytest.mark.parametrize("dtype", thinned(DTYPES, keep=QUICK))
def test_no_dtype_makes_anything_wait(subject, inplace, dtype):
    watch = run(subject, dtype, "nested", inplace=inplace)
    assert waits_for_nothing(watch), (watch.copied, watch.read)


@pytest.mark.parametrize(
    "kind", thinned(KINDS, ("nan, zero",), lambda kind: kind.replace(", ", "-"))
)
def test_no_policy_makes_anything_wait(subject, inplace, kind):
    watch = run(subject, "float32", kind, inplace=inplace)
    assert waits_for_nothing(watch), (watch.copied, watch.read)


@pytest.mark.parametrize("dtype", thinned(["bfloat16", "float64"], keep=("bfloat16",)))
def test_no_setting_makes_anything_wait(subject, inplace, dtype):
    reproducible = not subject.name.endswith("ord-3")
    with agclip.config_context(strict=True, reproducible=reproducible):
        watch = run(subject, dtype, "nested", inplace=inplace)
    assert waits_for_nothing(watch), (watch.copied, watch.read)


@pytest.mark.parametrize("dtype", thinned(DTYPES, keep=("float32", "complex64")))
@pytest.mark.parametrize("reproducible", [False, True])
@pytest.mark.parametrize("order", [0.5, 1, 2, 3, math.inf])
def test_no_norm_makes_anything_wait(order, reproducible, dtype):
    odd = order not in (1, 2, math.inf) or (order != 2 and dtype.startswith("complex"))
    if reproducible and odd:
        pytest.skip("there is no reproducible norm of that order")
    leaves = [fake_cuda.tensor(shape, getattr(torch, dtype)) for shape in ((3, 2), (), (0,))]
    with fake_cuda.Watch() as watch:
        agclip.global_norm(leaves, order, reproducible=reproducible, loss_scale=1024.0)
    assert waits_for_nothing(watch), (watch.copied, watch.read)


# --- numbers that callers pass -----------------------------------------------------------------

ON_THE_HOST = torch.tensor(0.5)
NUMBERS = {
    "a float": lambda: 0.5,
    "a 0-d tensor on the host": lambda: ON_THE_HOST,
    "an integer": lambda: 2,
    "a 0-d tensor on the GPU": lambda: fake_cuda.tensor((), torch.float64),
    "a float32 on the GPU": lambda: fake_cuda.tensor(()),
}
OF_BOUND = ("clip_norm", "clip_value_max", "clip_rms", "clipping")
PLACES = [
    (name, option)
    for name in CLIPS
    for option in (*OF_BOUND, "loss_scale", "use_norm", "eps")
    if option in inspect.signature(getattr(agclip, name)).parameters
]


def call(name, option, number):
    """Call a function with one number, and others that are floats."""
    wanted = inspect.signature(getattr(agclip, name)).parameters
    dtypes = (torch.bfloat16, torch.float32, torch.float64)
    tree = {str(dtype): fake_cuda.tensor((3, 2), dtype) for dtype in dtypes}
    numbers = {key: 1.0 for key in OF_BOUND if key in wanted}
    if "params" in wanted:
        numbers |= {"params": {key: x + 1 for key, x in tree.items()}, "unit_axes": "out_in"}
    if "clip_value_min" in wanted:
        numbers["clip_value_min"] = None
    first = next(iter(wanted))
    return getattr(agclip, name)(**{first: tree, **numbers, option: number})


@pytest.mark.parametrize("place", PLACES, ids="-".join)
@pytest.mark.parametrize("kind", NUMBERS, ids=lambda kind: kind.replace(" ", "-"))
def test_no_number_makes_anything_wait(place, kind):
    number = NUMBERS[kind]()
    with fake_cuda.Watch() as watch:
        call(*place, number)
    assert waits_for_nothing(watch), (watch.copied, watch.read)


@pytest.mark.parametrize("kind", NUMBERS, ids=lambda kind: kind.replace(" ", "-"))
@pytest.mark.parametrize("step", ["update", "update_"])
def test_no_bound_of_a_rule_makes_anything_wait(kind, step):
    number, leaves = NUMBERS[kind](), [fake_cuda.tensor((3, 2))]
    with fake_cuda.Watch() as watch:
        getattr(agclip.ClipByValue(-1.0, number), step)(leaves, ())
        getattr(agclip.ClipByNorm(number), step)(leaves, ())
    assert waits_for_nothing(watch), (watch.copied, watch.read)


# --- how much is launched ----------------------------------------------------------------------

JOINT = {
    "global_norm": agclip.global_norm,
    "clip_by_global_norm": functools.partial(agclip.clip_by_global_norm, clip_norm=0.5),
    "clip_by_global_norm_": functools.partial(agclip.clip_by_global_norm_, clip_norm=0.5),
    "with a loss scale": lambda t: agclip.clip_by_global_norm_(t, 0.5, loss_scale=1024.0),
}


@pytest.mark.parametrize("name", JOINT, ids=lambda name: name.replace(" ", "-"))
@pytest.mark.parametrize("gaps", [0, 1, 2])
def test_a_leaf_with_gaps_goes_alone(name, gaps):
    """The others are as few launches as without it: only tensors without gaps stand in a list."""
    launches = []
    for count in (2, 40):
        leaves = [fake_cuda.tensor((5, 4)) for _ in range(count)]
        leaves[1:1] = [fake_cuda.tensor((5, 4))[:, ::2] for _ in range(gaps)]
        with fake_cuda.Watch() as watch:
            JOINT[name](leaves)
        assert watch.lists
        for _, members in watch.lists:
            assert len(members) == 1 or all(x.is_contiguous() for x in members)
        launches.append(len(watch.launched))
    assert launches[0] == launches[1]


def test_the_watch_sees_what_waits():
    x = fake_cuda.tensor((3,))
    with fake_cuda.Watch() as watch:
        torch.asarray(0.5, device="cuda")
        torch.where(x > 0, x, torch.ones(()))
        x * torch.ones(())
    # `asarray` copies where no mode sees it before torch 2.12.
    made = ["_to_copy"] if torch.__version__ >= (2, 12) else []
    assert watch.copied == [*made, "where"]
