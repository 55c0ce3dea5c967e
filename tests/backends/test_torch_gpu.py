"""PyTorch on a real GPU: every public clip and rule waits for nothing, and goes into a CUDA graph.

`backends/test_torch_fake_cuda.py` shows without one that no number is copied and none is read.
"""

import pytest

import arrays
import matrix
from agclip.rules import ClipInfo
from thinned import thinned

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

# PyTorch says so once in a process when it is first asked to tell of waits.
pytestmark = pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")


@pytest.fixture
def gpu(monkeypatch):
    """A GPU, and a matrix that looks at no number."""
    if not torch.cuda.is_available():
        reason = "PyTorch is built without CUDA" if torch.version.cuda is None else "no GPU"
        pytest.skip(f"PyTorch cannot use a GPU here: {reason}")
    monkeypatch.setattr(matrix, "_host", lambda x: x)
    monkeypatch.setattr(ClipInfo, "to_host", lambda info: info)
    yield torch.device("cuda")
    torch.cuda.set_sync_debug_mode("default")


@pytest.fixture(params=matrix.SUBJECTS.values(), ids=list(matrix.SUBJECTS))
def subject(request):
    return request.param


@pytest.fixture(params=[False, True], ids=["new", "in-place"])
def inplace(request, subject):
    if request.param and not subject.inplace:
        pytest.skip(f"{subject.public} has no twin that works in place")
    return request.param


def trees_on(device, dtype):
    def convert(values):
        return torch.from_numpy(values).to(device, getattr(torch, dtype))

    return matrix.trees_of(matrix.KINDS["nested"], arrays.Library("torch", convert, None))


@pytest.mark.parametrize("policy", thinned(["propagate", "zero", "skip"], keep=("zero",)))
@pytest.mark.parametrize("dtype", thinned(["bfloat16", "float32", "float64"], keep=("float32",)))
def test_nothing_waits_for_a_gpu(gpu, subject, inplace, dtype, policy):
    trees, params = trees_on(gpu, dtype)
    torch.cuda.set_sync_debug_mode("error")
    results, _ = subject.run(trees, params, policy, inplace=inplace)
    torch.cuda.set_sync_debug_mode("default")
    assert len(results) == len(trees)


@pytest.mark.parametrize("dtype", thinned(["bfloat16", "float32"], keep=("bfloat16",)))
def test_all_goes_into_a_cuda_graph(gpu, subject, dtype):
    trees, params = trees_on(gpu, dtype)
    wanted, _ = subject.run(trees, params, "propagate", inplace=False)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results, _ = subject.run(trees, params, "propagate", inplace=False)
    graph.replay()
    torch.cuda.synchronize()
    pairs = zip(matrix.leaves_of(results), matrix.leaves_of(wanted), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
