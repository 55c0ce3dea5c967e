"""Records of clips on a device: norms of leaves are views of one report, made at the first look."""

import gc
import weakref

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import agclip  # noqa: E402 - PyTorch is optional
from agclip._backends.lazy import LazyDict  # noqa: E402
from agclip_backends.torch import fused  # noqa: E402
from fused_rehearsal import device  # noqa: E402
from fused_seam_cases import RULES, leaves_of, stepped  # noqa: E402

pytest_plugins = ["fused_fixtures"]

DTYPES = {"float32": ["float32"], "mixed": ["float32", "float64", "bfloat16", "complex64"]}


@pytest.fixture(params=sorted(DTYPES))
def tree(request):
    """Leaves of several dtypes by their names, one of them empty."""
    drawn = {name: leaves_of(name) for name in DTYPES[request.param]}
    return {f"{name}{i}": x for name, leaves in drawn.items() for i, x in enumerate(leaves)}


@pytest.fixture
def views(monkeypatch):
    """How often the norms of leaves have been made."""
    made, whole = [], fused._norms_of

    def counted(*given):
        made.append(given)
        return whole(*given)

    monkeypatch.setattr(fused, "_norms_of", counted)
    return made


@pytest.mark.parametrize("rule", ["ClipByNorm", "ClipByGlobalNorm"])
@pytest.mark.parametrize("inplace", [False, True], ids=["new", "in-place"])
def test_norms_are_made_at_the_first_look_and_are_those_of_the_program(
    seam, seam_host, views, tree, rule, inplace
):
    copy = {key: x.clone() for key, x in tree.items()}
    with device(seam):
        made, step = RULES[rule](), "update_" if inplace else "update"
        _, _, info = getattr(made, step)(tree, made.init(tree))
    assert "agclip_report" in seam_host.launches
    assert type(info.leaf_norms) is LazyDict
    assert views == []
    before = list(seam_host.launches)
    found = dict(info.leaf_norms)
    assert seam_host.launches == before
    assert len(views) == 1
    wanted = dict(stepped(RULES[rule](), copy, None, inplace=False)[1].leaf_norms)
    assert list(found) == list(wanted) == list(tree)
    for key, norm in found.items():
        assert (norm.dtype, norm.shape) == (wanted[key].dtype, ())
        assert float(norm) == pytest.approx(float(wanted[key]), rel=1e-14)
    assert all(info.leaf_norms[key] is norm for key, norm in found.items())
    assert len(views) == 1


def test_a_record_keeps_its_own_numbers_alive_and_no_leaf(seam, views, tree):
    count = len(tree)
    with device(seam):
        _, _, info = agclip.ClipByGlobalNorm(0.5).update_(tree, ())
    leaves = [weakref.ref(x) for x in tree.values()]
    tree.clear()
    gc.collect()
    assert [leaf() for leaf in leaves] == [None] * count
    (report,) = {x.untyped_storage().data_ptr() for x in info.leaf_norms.values()}
    assert report == info.scale.untyped_storage().data_ptr()
    assert info.scale.untyped_storage().nbytes() == 8 * (4 + count + (count + 1) // 2)


def test_later_calls_change_no_record(seam, tree):
    with device(seam):
        rule = agclip.ClipByGlobalNorm(1e9)
        infos = []
        for power in range(3):
            grads = {key: x * 2.0**power for key, x in tree.items()}
            infos.append(rule.update_(grads, ())[2])
    first, *others = [{key: float(x) for key, x in info.leaf_norms.items()} for info in infos]
    for power, other in enumerate(others, 1):
        assert other == pytest.approx({key: x * 2.0**power for key, x in first.items()})
