"""The drop-ins for `torch.nn.utils` on tensors of a device: as on the CPU, and in two launches.

The kernels are compiled for the host; its tensors pass for those of a device.
"""

import math

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from agclip.integrations.torch import (  # noqa: E402 - PyTorch is optional
    clip_grad_norm_,
    clip_grad_value_,
    clip_grads_with_norm_,
    get_total_norm,
)
from fused_rehearsal import device  # noqa: E402
from fused_seam_cases import leaves_of, same  # noqa: E402

pytest_plugins = ["fused_fixtures"]

NORMS = {1: "agclip_norm_1", 2: "agclip_norm_2", math.inf: "agclip_norm_inf"}


def parameters(dtype, **options):
    made = []
    for grad in leaves_of(dtype, **options):
        made.append(torch.nn.Parameter(torch.zeros_like(grad)))
        made[-1].grad = grad
    return made


def grads(params):
    return [p.grad for p in params]


def same_all(ones, others, dtype):
    return all(same(x, y, dtype) for x, y in zip(ones, others, strict=True))


@pytest.fixture
def read(monkeypatch):
    """What has been read, of tensors that pass for those of a device."""
    found = []

    def reading(x, *_):
        found.append(x)
        msg = "a tensor has been read"
        raise AssertionError(msg)

    for name in ("__float__", "__bool__", "item", "tolist", "cpu", "numpy"):
        monkeypatch.setattr(torch.Tensor, name, reading)
    return found


@pytest.mark.parametrize("bad", [None, math.nan, math.inf], ids=str)
@pytest.mark.parametrize("bound", [0.0, 0.5, 7.0, 1e9, math.inf, None], ids=str)
@pytest.mark.parametrize("order", NORMS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_a_total_norm_is_clipped_as_on_the_cpu(seam, seam_host, dtype, order, bound, bad):
    mine, theirs = parameters(dtype, bad=bad), parameters(dtype, bad=bad)
    with device(seam):
        norm = clip_grad_norm_(mine, bound, order)
    wanted = clip_grad_norm_(theirs, bound, order)
    assert same(norm, wanted, dtype)
    assert same_all(grads(mine), grads(theirs), dtype)
    if order != 1 or dtype != "float64":
        again = ["agclip_norm_2_again"] * (dtype == "float64" and order == 2)
        assert seam_host.launches == [NORMS[order], *again, "agclip_product"]


@pytest.mark.parametrize("power", [-20, -8, 0, 40])
def test_a_denominator_with_a_small_number_counts_where_gradients_are_small(seam, seam_host, power):
    mine, theirs = parameters("float32", power=power), parameters("float32", power=power)
    bound = 2.0 ** (power - 1)
    with device(seam):
        clip_grad_norm_(mine, bound)
    torch.nn.utils.clip_grad_norm_(theirs, bound, foreach=False)
    assert seam_host.launches
    for one, other in zip(grads(mine), grads(theirs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=0)


@pytest.mark.parametrize("scale", [0.0, 1e-300, 1e200])
def test_norms_of_float64_out_of_the_range_of_squares(seam, seam_host, scale):
    found = []
    for way in (True, False):
        params = parameters("float64")
        for p in params:
            p.grad *= scale
        if way:
            with device(seam):
                norm = clip_grad_norm_(params, scale / 2)
        else:
            norm = clip_grad_norm_(params, scale / 2)
        found.append([norm, *grads(params)])
    assert seam_host.launches
    assert same_all(*found, "float64")


@pytest.mark.parametrize("kind", [float, torch.tensor, lambda x: torch.tensor([x]).double()])
@pytest.mark.parametrize("norm", [0.0, 3.25, 1e30, math.inf, math.nan], ids=str)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_a_norm_that_is_known_takes_no_pass_over_the_gradients(seam, seam_host, dtype, norm, kind):
    mine, theirs = parameters(dtype), parameters(dtype)
    given, bound = kind(norm), 1.5
    if kind is float and norm != norm:
        pytest.skip("a NaN that can be read is refused")
    with device(seam):
        clip_grads_with_norm_(mine, bound, given)
    clip_grads_with_norm_(theirs, bound, given)
    assert seam_host.launches == ["agclip_given", "agclip_product"]
    assert same_all(grads(mine), grads(theirs), dtype)


def test_a_clip_of_counted_chunks_follows_a_norm_that_is_known(seam, seam_host):
    found = []
    for way in (True, False):
        params = [torch.nn.Parameter(torch.zeros(1 << 18)) for _ in range(3)]
        for i, p in enumerate(params):
            p.grad = torch.full((1 << 18,), 1.0 + i)
        for _ in range(2):
            if way:
                with device(seam):
                    clip_grads_with_norm_(params, 1.0, 2.0)
                    clip_grad_norm_(params, 0.25)
            else:
                clip_grads_with_norm_(params, 1.0, 2.0)
                clip_grad_norm_(params, 0.25)
        found.append(grads(params))
    assert seam_host.launches == [
        *("agclip_given", "agclip_product", "agclip_norm_2", "agclip_product") * 2
    ]
    assert all(torch.equal(x, y) for x, y in zip(*found, strict=True))


@pytest.mark.parametrize("order", NORMS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_total_norm_takes_one_launch(seam, seam_host, dtype, order):
    with device(seam):
        norm = get_total_norm(leaves_of(dtype), order)
    assert seam_host.launches == [NORMS[order]]
    assert torch.equal(norm, get_total_norm(leaves_of(dtype), order))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("bound", [0.0, 1 / 3, math.inf])
def test_values_are_clipped_in_one_launch(seam, seam_host, dtype, bound):
    mine, theirs = parameters(dtype, bad=math.nan), parameters(dtype, bad=math.nan)
    with device(seam):
        clip_grad_value_(mine, bound)
    clip_grad_value_(theirs, bound)
    assert seam_host.launches == ["agclip_within"]
    assert same_all(grads(mine), grads(theirs), "float32")


def test_nothing_is_read(seam, seam_host, read):
    params, norm = parameters("float32"), torch.tensor(2.0)
    with device(seam):
        clip_grad_norm_(params, 0.5)
        clip_grads_with_norm_(params, 0.5, norm)
        clip_grads_with_norm_(params, norm, norm)
        get_total_norm(grads(params))
        clip_grad_value_(params, 0.5)
    assert not read
    assert len(seam_host.launches) == 8


@pytest.mark.parametrize(
    "case",
    [
        lambda params: clip_grad_norm_(params, 0.5, 3.0),
        lambda params: clip_grad_norm_(params, 0.5, error_if_nonfinite=True),
        lambda params: clip_grad_norm_(params, 0.5, 0),
    ],
    ids=["another order", "an error", "no order"],
)
def test_what_the_kernels_do_not_take_goes_the_general_way(seam, seam_host, case):
    mine, theirs = parameters("float32")[2:], parameters("float32")[2:]
    with device(seam):
        norm = case(mine)
    with device(None):
        wanted = case(theirs)
    assert not set(seam_host.launches) - {"agclip_given", "agclip_product"}
    assert torch.equal(norm, wanted)
    assert same_all(grads(mine), grads(theirs), "float32")


def test_a_tied_parameter_is_clipped_once(seam, seam_host):
    mine, theirs = parameters("float32"), parameters("float32")
    with device(seam):
        norm = clip_grad_norm_([*mine, mine[0]], 0.5)
    assert torch.equal(norm, clip_grad_norm_([*theirs, theirs[0]], 0.5))
    assert seam_host.launches == ["agclip_norm_2", "agclip_product"]
    assert same_all(grads(mine), grads(theirs), "float32")
