"""What a rule's step asks of PyTorch besides the fused kernels: views and memory, no launch."""

import math

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import agclip  # noqa: E402 - PyTorch is optional, here and below
from agclip.adapters import Terms  # noqa: E402
from agclip_backends._cuda.fused import Room  # noqa: E402
from fused_host import HostLibrary  # noqa: E402
from fused_rehearsal import CpuLibrary, device  # noqa: E402
from fused_seam_cases import RULES, leaves_of, stepped  # noqa: E402

pytest_plugins = ["fused_fixtures"]

NO_LAUNCH = {"view", "slice", "unbind", "select", "empty", "empty_like"}
DTYPES = ("bfloat16", "float32", "float64", "complex64")
BOUNDS = (0.25, 0.0, 1e-310, math.inf)


def launches(call):
    """Return what a call asks of PyTorch that takes a launch on a device."""
    with torch.profiler.profile() as profile:
        call()
    names = [e.name for e in profile.events() if e.cpu_parent is None]
    found = [n.removeprefix("aten::") for n in names if n.startswith("aten::")]
    return [n for n in found if n not in NO_LAUNCH]


@pytest.mark.filterwarnings("ignore:Warning. Profiler clears events")
@pytest.mark.parametrize("inplace", [False, True], ids=["new", "in-place"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", RULES)
def test_a_step_with_a_bound_of_the_hosts_launches_the_kernels_alone(
    seam, seam_host, name, dtype, inplace
):
    if name.endswith("-1") and dtype == "float64":
        pytest.skip("sums of magnitudes of float64 are the general program's")
    rule, leaves = RULES[name](), leaves_of(dtype)
    state = rule.init(leaves)
    with device(seam):
        step = rule.update_ if inplace else rule.update
        step(leaves, state)  # takes the stream's workspace, of zeros
        assert launches(lambda: step(leaves, state)) == []
    assert "agclip_report" in seam_host.launches


@pytest.mark.parametrize("count", [1, 2, 5, 200])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("rule", ["ClipByNorm", "ClipByGlobalNorm", "ClipByRMS"])
def test_the_threshold_is_the_bound_as_it_was_given(seam, seam_host, rule, bound, dtype, count):
    made = getattr(agclip, rule)(bound)
    found, wanted = (
        stepped(made, leaves_of(dtype, (3,) * count), way, inplace=True)[1] for way in (seam, None)
    )
    assert "agclip_report" in seam_host.launches
    assert found.threshold.dtype == wanted.threshold.dtype == torch.float64
    assert found.threshold.shape == wanted.threshold.shape == ()
    assert float(found.threshold) == bound
    assert list(found.leaf_norms) == list(wanted.leaf_norms)
    assert len(found.leaf_norms) == count


def test_a_bound_on_the_device_is_reported_itself(seam, seam_host):
    bound = torch.tensor(0.25, dtype=torch.float64)
    for made in (bound, bound.float()):
        info = stepped(agclip.ClipByGlobalNorm(made), leaves_of("float32"), seam, inplace=True)[1]
        assert float(info.threshold) == 0.25
    assert "agclip_report" in seam_host.launches


def test_a_graph_that_is_replayed_reports_the_bound(library):
    host = HostLibrary(library, capturing=True)
    room, leaves = Room(CpuLibrary(host)), leaves_of("float32")
    work = room.decide(leaves, None, Terms(), 0.5, record=True)
    room.apply(work)
    threshold = work.clipped.details.threshold
    for _ in range(2):
        threshold.fill_(7.0)
        host.replay()
        assert float(threshold) == 0.5
