"""The fused kernels on a real GPU, through the public functions and rules: as NumPy has it.

`backends/test_fused_seam.py` shows the same without one.
"""

import itertools
import math

import numpy as np
import pytest

import agclip

DTYPES = ("float16", "bfloat16", "float32", "float64")
SIZES = (5, 0, 30_000, 1, 70, 16_384)
FUNCTIONS = {
    "clip_by_norm": (0.5, {}),
    "clip_by_norm-inf": (0.5, {"ord": math.inf}),
    "clip_by_average_norm": (0.001, {}),
    "clip_by_rms": (0.25, {}),
    "clip_by_global_norm": (0.5, {}),
    "clip_by_global_norm-inf": (0.5, {"ord": math.inf}),
}
RULES = {
    "ClipByNorm": lambda **o: agclip.ClipByNorm(0.5, **o),
    "ClipByRMS": lambda **o: agclip.ClipByRMS(0.25, **o),
    "ClipByGlobalNorm": lambda **o: agclip.ClipByGlobalNorm(0.5, **o),
    "ClipByGlobalNorm-inf": lambda **o: agclip.ClipByGlobalNorm(0.5, ord=math.inf, **o),
}
OPTIONS = [
    {"nonfinite": policy, "strict": strict, "loss_scale": loss}
    for policy, strict, loss in itertools.product(
        ("propagate", "zero", "skip"), (False, True), (None, 8.0, 0.37)
    )
]


class Torch:
    """PyTorch's tensors on a GPU."""

    def __init__(self):
        self.torch = pytest.importorskip("torch", reason="PyTorch is not installed")
        if not self.torch.cuda.is_available():
            pytest.skip("PyTorch cannot use a GPU here")
        from agclip_backends.torch.fused import seam

        self.seam = seam

    def there(self, x):
        if x.dtype.name == "bfloat16":
            return self.torch.from_numpy(x.view(np.int16)).cuda().view(self.torch.bfloat16)
        return self.torch.from_numpy(x.copy()).cuda()

    def here(self, x, dtype):
        if dtype.name == "bfloat16":
            return x.view(self.torch.int16).cpu().numpy().view(dtype)
        return x.cpu().numpy()


class Cupy:
    """CuPy's arrays."""

    def __init__(self):
        self.cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
        from agclip_backends.cupy import backend

        reason = backend.usable()
        if reason:
            pytest.skip(f"CuPy cannot be used here: {reason}")
        from agclip_backends.cupy.fused import seam

        self.seam = seam

    def there(self, x):
        try:
            return self.cupy.asarray(x)
        except (TypeError, ValueError) as error:  # of bfloat16, before CuPy 14
            pytest.skip(f"CuPy has no {x.dtype.name}: {error}")

    def here(self, x, dtype):
        return x.get()


@pytest.fixture(params=[Torch, Cupy], ids=["torch", "cupy"])
def lib(request, monkeypatch):
    made = request.param()
    made.launched = []
    own = made.seam.room.library.launch

    def launch(*args, **options):
        made.launched.append(1)
        own(*args, **options)

    monkeypatch.setattr(made.seam.room.library, "launch", launch)
    return made


def leaves_of(dtype, sizes=SIZES, bad=None):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed").bfloat16
    rng = np.random.default_rng(0)
    leaves = [rng.standard_normal(n).astype(dtype) for n in sizes]
    if bad is not None:
        leaves[2][7] = bad
    return leaves


def same(found, wanted):
    if wanted.dtype == np.float64:
        np.testing.assert_allclose(found, wanted, rtol=1e-14)
        return
    word = {2: np.uint16, 4: np.uint32}[wanted.dtype.itemsize]
    nan = np.isnan(wanted.astype(np.float32))
    assert found.dtype == wanted.dtype
    assert (np.isnan(found.astype(np.float32)) == nan).all()
    assert (found.view(word)[~nan] == wanted.view(word)[~nan]).all()


@pytest.mark.parametrize("inplace", [False, True], ids=["new", "in-place"])
@pytest.mark.parametrize("bad", [None, math.nan, -math.inf])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning:numpy")
def test_functions_have_the_bits_of_numpys(lib, name, dtype, bad, inplace):
    public = name.partition("-")[0]
    bound, more = FUNCTIONS[name]
    squares = not more
    for options in OPTIONS:
        wanted = getattr(agclip, public)(leaves_of(dtype, bad=bad), bound, **more, **options)
        leaves = [lib.there(x) for x in leaves_of(dtype, bad=bad)]
        lib.launched.clear()
        function = getattr(agclip, public + "_" * inplace)
        found = function(leaves, bound, **more, **options)
        assert len(lib.launched) == 2 + (dtype == "float64" and squares)
        if public == "clip_by_global_norm":
            (found, norm), (wanted, right) = found, wanted
            assert float(norm) == pytest.approx(float(right), rel=1e-14, nan_ok=True)
            assert str(norm.dtype).endswith(right.dtype.name)
        for x, y in zip(found, wanted, strict=True):
            same(lib.here(x, y.dtype), y)


@pytest.mark.parametrize("inplace", [False, True], ids=["new", "in-place"])
@pytest.mark.parametrize("bad", [None, math.nan])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", RULES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning:numpy")
def test_rules_and_their_records_are_numpys(lib, name, dtype, bad, inplace):
    for options in OPTIONS:
        rule = RULES[name](**options)
        wanted, _, right = rule.update(leaves_of(dtype, bad=bad), ())
        leaves = [lib.there(x) for x in leaves_of(dtype, bad=bad)]
        lib.launched.clear()
        found, _, info = (rule.update_ if inplace else rule.update)(leaves, ())
        assert len(lib.launched) == 3 + 3 * (dtype == "float64" and "inf" not in name)
        for x, y in zip(found, wanted, strict=True):
            same(lib.here(x, y.dtype), y)
        for field in ("norm", "scale", "clipped", "nonfinite"):
            one, other = getattr(info, field), getattr(right, field)
            assert one.ndim == 0
            assert str(one.dtype).endswith(other.dtype.name)
        found, wanted = info.to_host(), right.to_host()
        for one, other in zip(found[:5], wanted[:5], strict=True):
            assert one == pytest.approx(other, rel=1e-14, nan_ok=True)
        norms = found.leaf_norms, wanted.leaf_norms
        assert norms[0] == pytest.approx(norms[1], rel=1e-14, nan_ok=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("inplace", [False, True], ids=["new", "in-place"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning:numpy")
def test_entries_are_clipped_in_one_launch(lib, dtype, inplace):
    wanted = agclip.clip_by_value(leaves_of(dtype, bad=math.nan), -0.1, 1 / 3)
    leaves = [lib.there(x) for x in leaves_of(dtype, bad=math.nan)]
    lib.launched.clear()
    function = agclip.clip_by_value_ if inplace else agclip.clip_by_value
    found = function(leaves, -0.1, 1 / 3)
    assert len(lib.launched) == 1
    for x, y in zip(found, wanted, strict=True):
        same(lib.here(x, y.dtype), y)


@pytest.mark.parametrize("count", [1, 20, 1000])
def test_the_number_of_launches_is_that_of_one_leaf(lib, count):
    leaves = [lib.there(np.ones(100, np.float32)) for _ in range(count)]
    for function, launches in (
        (lambda: agclip.clip_by_global_norm_(leaves, 0.5), 2),
        (lambda: agclip.clip_by_norm_(leaves, 0.25), 2),
        (lambda: agclip.clip_by_global_norm(leaves, 0.1), 2),
        (lambda: agclip.ClipByGlobalNorm(0.01).update_(leaves, ()), 3),
        (lambda: agclip.clip_by_value_(leaves, -1.0, 1.0), 1),
        (lambda: agclip.global_norm(leaves), 1),
    ):
        lib.launched.clear()
        function()
        assert len(lib.launched) == launches


def test_memory_held_twice_counts_twice_and_is_written_once(lib):
    x, y = np.full(6, 3.0, np.float32), np.full(8, 2.0, np.float32)
    a, b = lib.there(x), lib.there(y)
    agclip.clip_by_global_norm_([a, b, a.reshape(2, 3)], 1.0)
    wanted, _ = agclip.clip_by_global_norm([x, y, x], 1.0)
    for found, right in ((a, wanted[0]), (b, wanted[1])):
        same(lib.here(found, right.dtype), right)


def test_products_after_the_norms_of_another_clip_are_whole(lib):
    leaves = {key: np.ones(50 << 20, np.float32) for key in "ab"}
    there = {key: lib.there(x) for key, x in leaves.items()}
    rule = agclip.PerGroup({"a": agclip.ClipByNorm(0.5), "*": agclip.ClipByGlobalNorm(0.5)})
    rule.update_(there, rule.init(there))
    wanted, _, _ = rule.update(leaves, rule.init(leaves))
    for key in "ab":
        same(lib.here(there[key], wanted[key].dtype), wanted[key])


def test_a_graph_needs_no_call_before_it():
    made = Torch()
    torch = made.torch
    x = torch.full((3000,), 2.0, device="cuda", dtype=torch.bfloat16)
    graph = torch.cuda.CUDAGraph()
    rule = agclip.ClipByGlobalNorm(1.0)
    with torch.cuda.graph(graph):
        _, _, info = rule.update_([x], ())
    for value in (3.0, 1e-3, 5.0):
        x.fill_(value)
        graph.replay()
        wanted, _, right = rule.update([torch.full((3000,), value, dtype=torch.bfloat16)], ())
        assert torch.equal(x.cpu(), wanted[0])
        assert info.to_host()[:5] == pytest.approx(right.to_host()[:5], rel=1e-14)
