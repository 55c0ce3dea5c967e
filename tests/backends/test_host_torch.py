"""Tensors on the CPU that are no plain memory: the same results, in the same layout."""

import warnings

import numpy as np
import pytest

import agclip
import hosts
from thinned import thinned

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

pytest_plugins = ["host_fixtures"]


def plain(dtype=torch.float32):
    return torch.tensor(hosts.drawn("float64", 240), dtype=dtype).reshape(2, 3, 8, 5)


def numbers():
    return torch.complex(plain(), plain().flip(0))


LAYOUTS = {
    "contiguous": plain,
    "transposed": lambda: plain().transpose(0, 3),
    "channels last": lambda: plain().to(memory_format=torch.channels_last),
    "gaps": lambda: plain()[:, :, ::2, ::3],
    "one number": lambda: torch.tensor(-3.5),
    "one column": lambda: plain()[:, :1, :1, :1],
    "parameter": lambda: torch.nn.Parameter(plain(), requires_grad=False),
    "complex": numbers,
    "conjugate": lambda: numbers().conj(),
    "one conjugate": lambda: torch.tensor([3 + 4j]).conj(),
    "negative": lambda: numbers().conj().imag,
    "one negative": lambda: torch.tensor([3 + 4j]).conj().imag,
}
COMPILED = (
    "contiguous", "transposed", "channels last", "one number", "one negative", "parameter",
    "complex",
)  # fmt: skip
MAYBE = ("one column", "one conjugate", "conjugate")
"""Whether the kernels take these is a matter of speed alone."""
CLIPS = {
    **hosts.CLIPS,
    "global": (
        lambda t: agclip.clip_by_global_norm([t], 0.5, reproducible=True)[0][0],
        lambda t: agclip.clip_by_global_norm_([t], 0.5, reproducible=True)[0][0],
    ),
}


layout = hosts.one_of(LAYOUTS)


@pytest.fixture(params=CLIPS)
def clips(request, layout):
    if request.param == "value" and layout in ("complex", "conjugate", "one conjugate"):
        pytest.skip("complex numbers have no order")
    return CLIPS[request.param]


def wanted_of(clip, leaf):
    """Return what a clip makes of the same numbers of NumPy."""
    return clip(np.array(entries(leaf), order="C"))


def entries(x):
    return x.detach().resolve_conj().resolve_neg().numpy()


def test_a_clip_of_any_layout_is_that_of_plain_memory(accelerate, leaf, clips):
    wanted, version = wanted_of(clips[0], leaf), leaf._version
    before = entries(leaf).copy()
    clipped = clips[0](leaf)
    assert np.array_equal(entries(clipped), wanted)
    assert np.array_equal(entries(leaf), before)
    assert leaf._version == version
    assert clipped.dtype == leaf.dtype


def test_any_layout_is_clipped_in_its_own_memory(accelerate, leaf, clips):
    wanted, address, strides = wanted_of(clips[0], leaf), leaf.data_ptr(), leaf.stride()
    assert clips[1](leaf) is leaf
    assert np.array_equal(entries(leaf), wanted)
    assert (leaf.data_ptr(), leaf.stride()) == (address, strides)


@pytest.mark.parametrize("layout", ["contiguous", "transposed", "channels last"], ids=hosts.kebab)
def test_dense_memory_keeps_its_order_of_axes(accelerate, leaf):
    assert agclip.clip_by_norm(leaf, 0.5).stride() == leaf.stride()


@pytest.mark.parametrize("layout", [n for n in LAYOUTS if n not in MAYBE], ids=hosts.kebab)
def test_which_layouts_the_compiled_kernels_take(layout, leaf):
    with hosts.accelerated("numba"):
        assert hosts.compiled([leaf]) is (layout in COMPILED)


def test_a_negative_view_is_written_through_to_its_base(accelerate):
    z = torch.tensor([3 + 4j])
    agclip.clip_by_value_(z.conj().imag, -1.0, 9.0)
    assert z.tolist() == [3 + 1j]


def made_in_inference_mode():
    with torch.inference_mode():
        return torch.tensor([3.0, 4.0])


REFUSED = {
    "is a leaf that requires grad": lambda: torch.ones(3, requires_grad=True),
    "was made in inference mode": made_in_inference_mode,
    "holds several elements in the same memory": lambda: torch.ones(1).expand(3),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_cannot_be_written_is_refused_and_nothing_is_written(accelerate, reason):
    ordinary = torch.tensor([3.0, 4.0])
    with pytest.raises(TypeError, match=f"got one that {reason}"):
        agclip.clip_by_norm_([ordinary, REFUSED[reason]()], 0.5)
    assert ordinary.tolist() == [3.0, 4.0]


@pytest.mark.parametrize("reason", REFUSED)
def test_what_cannot_be_written_is_clipped_to_new_tensors(accelerate, reason):
    clipped = agclip.clip_by_norm(REFUSED[reason](), 0.5)
    assert clipped.detach().norm().item() == pytest.approx(0.5, rel=1e-6)


LAYOUTS_REFUSED = {
    "torch._mkldnn": lambda: torch.ones(2, 2).to_mkldnn(),
}


@pytest.mark.parametrize("name", LAYOUTS_REFUSED)
@pytest.mark.parametrize("clip", [agclip.clip_by_norm, agclip.clip_by_norm_])
def test_what_is_not_strided_is_refused(accelerate, name, clip):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of layouts in beta
        odd = LAYOUTS_REFUSED[name]()
    with pytest.raises(TypeError, match=f"has the layout {name} at t"):
        clip([torch.ones(2), odd], 0.5)


ZERO = """
import agclip, torch
x = torch._efficientzerotensor((3,))
(_, clipped), norm = agclip.clip_by_global_norm([torch.tensor([3.0, 4.0]), x], 1.0)
print(norm.item(), (clipped + torch.zeros(3)).tolist())
"""


@pytest.mark.parametrize("mode", thinned(hosts.MODES, keep=["numba"]))
def test_a_tensor_of_zeros_without_memory_is_clipped(mode):
    if mode == "numba":
        pytest.importorskip("numba", reason="Numba is not installed")
    done = hosts.program(ZERO, mode)
    assert (done.returncode, done.stdout) == (0, "5.0 [0.0, 0.0, 0.0]\n")


def test_a_tensor_of_another_dtype_or_device_is_none_of_the_kernels_business():
    with hosts.accelerated("numba"):
        leaves = [torch.ones(3), torch.ones(2, dtype=torch.float8_e5m2)]
        assert not hosts.compiled(leaves)
        assert not hosts.compiled([torch.ones(3, device="meta")])
        assert hosts.compiled(leaves[:1])
