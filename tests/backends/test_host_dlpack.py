"""Tensors that compiled code reads through DLPack: what is plain memory, and nothing else."""

import gc
import weakref

import numpy as np
import pytest

import agclip

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
kernels = pytest.importorskip("agclip_backends._host.kernels", reason="Numba is not installed")
dlpack = pytest.importorskip("agclip_backends.torch.dlpack", reason="PyTorch is not installed")
tensors = pytest.importorskip("agclip_backends.torch.tensors", reason="PyTorch is not installed")

if dlpack._functions() is None:
    pytest.skip("this PyTorch has no DLPackExchangeAPI", allow_module_level=True)

pytestmark = pytest.mark.filterwarnings("ignore:.*prototype|.*beta state|.*deprecated:UserWarning")
DTYPES = ["float16", "bfloat16", "float32", "float64", "complex64", "complex128"]
CODES = {"float16": 0, "bfloat16": 1, "float32": 2, "float64": 3, "complex64": 2, "complex128": 3}


def made_in_inference_mode():
    with torch.inference_mode():
        return torch.ones(3)


PLAIN = {
    "vector": lambda: torch.ones(5),
    "matrix": lambda: torch.ones(3, 4),
    "0-d": lambda: torch.tensor(2.0),
    "no elements": lambda: torch.ones(0),
    "no elements, with axes": lambda: torch.ones(3, 0, 2).transpose(0, 2),
    "axes swapped": lambda: torch.ones(2, 3, 4).permute(2, 0, 1),
    "channels last": lambda: torch.ones(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
    "axes of one": lambda: torch.ones(4, 1, 3, 1).transpose(0, 1),
    "part": lambda: torch.ones(10)[3:7],
    "row": lambda: torch.ones(4, 5)[2],
    "parameter": lambda: torch.nn.Parameter(torch.ones(3), requires_grad=False),
    "detached": lambda: torch.ones(3, requires_grad=True).detach(),
    "stride of an axis of one": lambda: torch.ones(12).as_strided((1, 3), (7, 1)),
}
OTHERS = {
    "gaps": lambda: torch.ones(10)[::2],
    "column": lambda: torch.ones(4, 5)[:, 2],
    "overlapping": lambda: torch.ones(4).as_strided((3, 2), (1, 1)),
    "expanded": lambda: torch.ones(1).expand(4),
    "block": lambda: torch.ones(4, 5)[:2, :2],
    "integers": lambda: torch.ones(3, dtype=torch.int32),
    "flags": lambda: torch.ones(3, dtype=torch.bool),
    "meta": lambda: torch.ones(3, device="meta"),
    "sparse": lambda: torch.eye(3).to_sparse(),
    "sparse rows": lambda: torch.eye(3).to_sparse_csr(),
    "mkldnn": lambda: torch.eye(3).to_mkldnn(),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "quantised": lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
    "zeros without memory": lambda: torch._efficientzerotensor(3),
    "requires grad": lambda: torch.ones(3, requires_grad=True),
    "conjugate": lambda: torch.ones(3, dtype=torch.complex64).conj(),
}


def described(leaves, *, inplace=False):
    return tensors._described(leaves, kernels, inplace)


@pytest.fixture(params=list(PLAIN))
def plain(request):
    return PLAIN[request.param]()


@pytest.fixture(params=list(OTHERS))
def other(request):
    return OTHERS[request.param]()


@pytest.mark.parametrize("inplace", [False, True])
def test_plain_memory_is_described_as_its_attributes_say(plain, inplace):
    found = described([plain], inplace=inplace)
    columns = found.table[: kernels.FIRST, :1].ravel().tolist()
    assert columns == [plain.data_ptr(), plain.numel(), CODES["float32"]]
    assert (found.counts, found.elements) == ([plain.numel()], plain.numel())
    assert found.distinct is inplace


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_has_its_code_and_its_parts(dtype):
    leaf = torch.ones(3, 2, dtype=getattr(torch, dtype))
    table, found = dlpack.table_of([leaf], kernels, written=False)
    parts = 2 if dtype.startswith("complex") else 1
    wanted = [leaf.data_ptr(), 6 * parts, CODES[dtype]]
    assert table[: kernels.FIRST, 0].tolist() == wanted
    assert [kind.name for kind in dlpack.kinds_of(found)] == [dtype]


def test_leaves_of_several_dtypes_have_a_kind_each():
    leaves = [torch.ones(2, dtype=getattr(torch, dtype)) for dtype in DTYPES[:4]]
    found = described(leaves)
    assert [kind.name for kind in found.column] == DTYPES[:4]
    assert found.kinds == {*found.column}


def test_whatever_is_no_plain_memory_is_asked_by_itself(other):
    assert described([torch.ones(2), other]) is None
    assert described([other, torch.ones(2)]) is None


def test_an_error_of_the_library_is_forgotten(other):
    described([torch.ones(2), other])
    assert [x.item() for x in agclip.clip_by_norm([torch.full((1,), 4.0)], 2.0)] == [2.0]


def test_the_sample_is_of_the_host_whatever_the_default_device():
    dlpack._reads_tensors.cache_clear()
    with torch.device("meta"):
        assert dlpack._reads_tensors(kernels)


def test_zeros_without_memory_in_place_leave_all_as_it_was():
    leaves = [torch.tensor([3.0, 4.0]), torch._efficientzerotensor(2)]
    with agclip.config_context(accelerate="numba"), pytest.raises(TypeError, match="zeros without"):
        agclip.clip_by_global_norm_(leaves, 1.0)
    assert leaves[0].tolist() == [3.0, 4.0]


def test_tensors_of_inference_mode_are_read_and_not_written():
    leaf = made_in_inference_mode()
    assert described([leaf]) is not None
    assert described([leaf], inplace=True) is None
    with torch.inference_mode():
        assert described([leaf], inplace=True) is not None


def test_memory_that_two_share_is_not_written():
    base = torch.ones(8)
    assert described([base[:5], base[4:]]) is not None
    assert described([base[:5], base[4:]], inplace=True) is None
    assert described([base[:5], base[5:]], inplace=True) is not None


def test_what_requires_grad_is_read_where_nothing_is_recorded():
    leaf = torch.ones(3, requires_grad=True)
    with torch.no_grad():
        assert described([leaf]).counts == [3]


def test_no_tensor_is_held_after_a_call():
    leaf = torch.ones(3)
    alive = weakref.ref(leaf)
    described([leaf, torch.eye(2).to_sparse()])
    described([leaf])
    del leaf
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize(
    "missing", ["attribute", "version", "function", "layout"], ids=lambda word: f"no {word}"
)
def test_another_pytorch_is_asked_by_attributes(missing, monkeypatch):
    for cached in (dlpack._functions, dlpack._reads_tensors):
        cached.cache_clear()
    if missing == "attribute":
        monkeypatch.setattr(dlpack, "_ATTRIBUTE", "__nothing_of_the_kind__")
    elif missing == "version":
        monkeypatch.setattr(dlpack, "_MAJOR", 99)
    elif missing == "function":
        monkeypatch.setattr(dlpack, "_DESCRIBE", 1)  # the older one in the chain: there is none
    else:
        monkeypatch.setitem(dlpack._DTYPES, "float32", (dlpack._FLOAT, 31))
        dlpack._formats.cache_clear()
    try:
        assert described([torch.ones(3)]) is None
        (clipped,) = agclip.clip_by_norm([torch.tensor([3.0, 4.0])], 1.0)
        np.testing.assert_allclose(clipped, [0.6, 0.8], rtol=1e-6)
    finally:
        monkeypatch.undo()
        for cached in (dlpack._functions, dlpack._reads_tensors, dlpack._formats):
            cached.cache_clear()
