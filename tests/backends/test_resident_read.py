"""Many tensors of a device, read by one call of compiled code: as each of them would say.

The tensors are the host's.
"""

from collections import Counter
from operator import attrgetter

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
kernels = pytest.importorskip("agclip_backends._host.kernels", reason="Numba is not installed")

from agclip_backends.torch import dlpack, resident, tensors  # noqa: E402 - PyTorch is optional

if dlpack._functions() is None:
    pytest.skip("this PyTorch has no DLPackExchangeAPI", allow_module_level=True)

from test_host_dlpack import OTHERS, PLAIN  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*prototype|.*beta state|.*deprecated:UserWarning")
MORE = {
    "float16": lambda: torch.ones(3, dtype=torch.float16),
    "bfloat16": lambda: torch.ones(3, dtype=torch.bfloat16),
    "float64": lambda: torch.ones(3, dtype=torch.float64),
    "complex64": lambda: torch.ones(3, dtype=torch.complex64),
    "complex128": lambda: torch.ones(3, dtype=torch.complex128),
}
EVERY = {**PLAIN, **OTHERS, **MORE}
FIELDS = ("column", "counts", "kinds", "elements", "access", "distinct", "known")


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    for name in ("_known", "_read"):
        monkeypatch.setattr(resident, name, resident.Recent())


def many(*others):
    return [*(torch.ones(2, 3) for _ in range(resident.MANY)), *others]


def surveyed(leaves, *, inplace=True, read=kernels):
    return resident.survey(leaves, inplace, lambda _: True, read)


def alike(found, wanted):
    if wanted is None:
        return found is None
    return all(getattr(found, name) == getattr(wanted, name) for name in FIELDS)


@pytest.mark.parametrize("inplace", [False, True], ids=["new", "in-place"])
@pytest.mark.parametrize("name", EVERY)
def test_tensors_that_are_read_are_what_they_say_themselves(name, inplace):
    leaves = many(EVERY[name]())
    wanted = surveyed(leaves, inplace=inplace, read=None)
    for _ in range(3):
        assert alike(surveyed(leaves, inplace=inplace), wanted)


@pytest.mark.parametrize("name", EVERY)
def test_what_else_comes_to_lie_in_a_known_place_is_seen(name):
    plain = many(torch.ones(3))
    assert all(surveyed(plain) is not None for _ in range(2))
    leaves = [*plain[:-1], EVERY[name]()]
    wanted = surveyed(leaves, read=None)
    assert alike(surveyed(leaves), wanted)
    assert alike(surveyed(plain), surveyed(plain, read=None))


x = torch.ones(12)
SAME_PLACE = {
    "fewer": lambda: x[:6],
    "gaps": lambda: x[::2],
    "another dtype": lambda: x.view(torch.int32),
    "halves": lambda: x.view(torch.float16),
    "axes swapped": lambda: x.view(3, 4).T,
    "another view": lambda: x.view(3, 4),
    "recorded": lambda: x.detach().requires_grad_(),
    "complex": lambda: x.view(torch.complex64),
    "of double length": lambda: x.view(torch.float64),
    "expanded": lambda: x[:1].expand(12),
}


@pytest.mark.parametrize("name", SAME_PLACE)
def test_tensors_at_one_address_are_told_apart(name):
    others = many()
    for leaf in (x, SAME_PLACE[name](), x):
        leaves = [*others, leaf]
        for _ in range(2):
            found = surveyed(leaves)
            resident._known.clear()
            assert alike(found, surveyed(leaves, read=None))


def test_a_tensor_made_in_inference_mode_is_seen_at_a_known_place():
    ordinary, other = many(), torch.ones(9)
    assert all(surveyed([*ordinary, other]) is not None for _ in range(2))
    with torch.inference_mode():
        made = torch.from_dlpack(other)
    if made.data_ptr() != other.data_ptr() or not made.is_inference():
        pytest.skip("this build of PyTorch makes no such tensor")
    assert surveyed([*ordinary, made]) is None
    with torch.inference_mode():
        assert surveyed([*ordinary, made]) is not None


def test_leaves_of_another_device_are_asked(monkeypatch):
    monkeypatch.setattr(dlpack, "device_of", lambda _: dlpack._CUDA | 1 << 32)
    leaves = many()
    assert resident._rows(leaves, kernels) is None
    assert alike(surveyed(leaves), surveyed(leaves, read=None))
    assert not resident._read


def test_a_device_is_told_by_its_number():
    class Leaf:
        is_cpu = False

        def get_device(self):
            return 3

    assert dlpack.device_of(Leaf()) == 2 + 3 * 2**32
    assert dlpack.device_of(torch.ones(1)) == 1


def test_a_reader_that_does_not_say_what_tensors_do_is_not_believed(monkeypatch):
    wrong = resident._Rows(b"", b"")
    monkeypatch.setattr(resident, "_rows", lambda *_: wrong)
    leaves = many()
    for _ in range(2):
        assert alike(surveyed(leaves), surveyed(leaves, read=None))
    assert not resident._read


def test_a_known_list_is_asked_for_what_autograd_knows_alone(monkeypatch):
    leaves, found = many(torch.ones(5)), Counter()
    assert all(surveyed(leaves) is not None for _ in range(2))
    method = type(torch.Tensor.numel)

    def counted(name, ask):
        def asking(*given):
            found[name] += 1
            return ask(*given)

        return asking

    for name, value in list(vars(resident).items()):
        if isinstance(value, (attrgetter, method)):
            monkeypatch.setattr(resident, name, counted(name.strip("_"), value))
    assert surveyed(leaves) is not None
    assert found == {"requires_grad": len(leaves), "version": len(leaves)}
    found.clear()
    with torch.no_grad():
        assert surveyed(leaves, inplace=False) is not None
    assert found == {"is_neg": len(leaves)}, "whose signs new memory gets"


@pytest.mark.parametrize("count", [resident.MANY - 1, resident.MANY])
@pytest.mark.parametrize("read", [None, kernels], ids=["without", "with"])
def test_long_lists_that_are_asked_count_as_work_without_the_kernels(monkeypatch, read, count):
    gone = []
    monkeypatch.setattr(tensors.loader, "went_without", lambda *given: gone.append(given))
    tensors._on_device([torch.ones(2)] * count, True, read)
    assert gone == ([(0, count // 2)] if read is None and count >= resident.MANY else [])
