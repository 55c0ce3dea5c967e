"""timm's clipping, as it is installed, in a loop that trains a model of two parameters.

timm cannot be imported without a torchvision of the build that PyTorch is of. What clips needs
none, so its package is entered by the folder, and nothing but these modules is run.
"""

import importlib
import sys
import types
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
if (SPEC := find_spec("timm")) is None:
    pytest.skip("timm is not installed", allow_module_level=True)

from agclip._clipping import by_value  # noqa: E402
from agclip.integrations.torch import installed  # noqa: E402

GRAD = (3.0, 4.0)


@pytest.fixture(scope="module")
def timm():
    """timm's modules that clip: `clip_grad`, and `cuda`, whose scaler calls it."""
    folder = Path(SPEC.origin).parent
    shells = {"timm": types.ModuleType("timm"), "timm.utils": types.ModuleType("timm.utils")}
    shells["timm"].__path__ = [str(folder)]
    shells["timm.utils"].__path__ = [str(folder / "utils")]
    with mock.patch.dict(sys.modules, shells):
        return types.SimpleNamespace(
            clip_grad=importlib.import_module("timm.utils.clip_grad"),
            cuda=importlib.import_module("timm.utils.cuda"),
        )


def train(timm, factors, value, mode):
    """Train as timm's script does: the scaler unscales, clips and takes the step."""
    w = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.SGD([w], lr=1.0)
    scaler = timm.cuda.NativeScaler(device="cpu")
    scaler._scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for factor in factors:
        loss = factor * (w * torch.tensor(GRAD)).sum()
        scaler(loss, optimizer, clip_grad=value, clip_mode=mode, parameters=[w])
        optimizer.zero_grad()
    return w.tolist()


def test_it_clips_by_norm_where_its_own_norm_is_infinite(timm):
    assert train(timm, [1e30], 1.0, "norm") == [0.0, 0.0]
    with installed():
        assert train(timm, [1e30, 1e30], 1.0, "norm") == pytest.approx([-1.2, -1.6])


def test_it_clips_by_value(timm):
    with installed(), mock.patch.object(by_value, "clip", wraps=by_value.clip) as clip:
        end = train(timm, [1.0, 0.1], 0.5, "value")
    assert clip.call_count == 2
    assert end == pytest.approx([-0.8, -0.9])


def test_its_own_adaptive_clipping_stays(timm):
    plain = train(timm, [1.0, 2.0, 3.0], 0.1, "agc")
    with installed():
        assert train(timm, [1.0, 2.0, 3.0], 0.1, "agc") == plain
    assert plain != [0.0, 0.0]


@pytest.mark.parametrize("order", [1.0, 3.0, float("inf")])
def test_a_norm_of_another_order_is_that_of_pytorch(timm, order):
    p = torch.nn.Parameter(torch.zeros(2))
    ends = []
    for context in (mock.MagicMock(), installed()):
        p.grad = torch.tensor(GRAD)
        with context:
            timm.clip_grad.dispatch_clip_grad([p], 1.0, mode="norm", norm_type=order)
        ends.append(p.grad.tolist())
    assert ends[1] == pytest.approx(ends[0], rel=1e-6)
