"""Accelerate, as it is installed, in a loop that trains a model of two parameters."""

from importlib.util import find_spec
from unittest import mock

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
if find_spec("accelerate") is None:
    pytest.skip("accelerate is not installed", allow_module_level=True)

from accelerate import Accelerator  # noqa: E402
from accelerate.state import AcceleratorState, GradientState  # noqa: E402

import agclip  # noqa: E402
from agclip._clipping import by_value  # noqa: E402
from agclip.integrations.accelerate import clip_gradients  # noqa: E402
from agclip.integrations.torch import installed  # noqa: E402

GRAD = (3.0, 4.0)


class Net(torch.nn.Module):
    """A model whose gradients are (3, 4) times what the data says."""

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(2))

    def forward(self, factor):
        return factor * (self.w * torch.tensor(GRAD)).sum()


@pytest.fixture(autouse=True)
def _alone():
    """Forget the accelerator of the test before: its state is the process's."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def train(factors, clip, *, scale=None, **options):
    """Train by SGD, and call `clip(accelerator, model)` where an example of Accelerate clips."""
    accelerator = Accelerator(cpu=True, **options)
    if scale is not None:
        # float16 needs a device of its own kind; the scaler does not.
        accelerator.state._mixed_precision = "fp16"
        accelerator.native_amp = True
        accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    net = Net()
    net, optimizer = accelerator.prepare(net, torch.optim.SGD(net.parameters(), lr=1.0))
    for factor in factors:
        with accelerator.accumulate(net):
            accelerator.backward(net(torch.tensor(factor)))
            clip(accelerator, net)
            optimizer.step()
            optimizer.zero_grad()
    return accelerator.unwrap_model(net).w.tolist()


# --- its own clipping, with agclip's functions in place ----------------------------------------


def by_norm(accelerator, net):
    if accelerator.sync_gradients:
        accelerator.clip_grad_norm_(net.parameters(), 1.0)


def test_it_clips_by_norm_where_its_own_norm_is_infinite():
    assert train([1e30], by_norm) == [0.0, 0.0]
    with installed():
        assert train([1e30, 1e30], by_norm) == pytest.approx([-1.2, -1.6])


def test_it_clips_by_norm_what_has_been_accumulated():
    with installed():
        end = train([1e30, 2e30], by_norm, gradient_accumulation_steps=2)
    assert end == pytest.approx([-0.6, -0.8])


def test_it_clips_by_value():
    with installed(), mock.patch.object(by_value, "clip", wraps=by_value.clip) as clip:
        end = train([1.0, 0.1], lambda acc, net: acc.clip_grad_value_(net.parameters(), 0.5))
    assert clip.call_count == 2
    assert end == pytest.approx([-0.8, -0.9])


# --- a rule ------------------------------------------------------------------------------------


def clipping(rule, **options):
    """A clipper, and what calls it in a loop; the records come into a list."""
    clipper, infos = agclip.Clipper(rule, inplace=True), []

    def clip(accelerator, net):
        infos.append(clip_gradients(accelerator, net, clipper, **options))

    return clipper, clip, infos


def test_a_rule_clips_each_step():
    _, clip, infos = clipping(agclip.ClipByGlobalNorm(1.0))
    assert train([2.0, 0.1], clip) == pytest.approx([-0.9, -1.2])
    assert [float(info.norm) for info in infos] == pytest.approx([10.0, 0.5])
    assert list(infos[0].leaf_norms) == ["w"]


def test_a_rule_waits_until_gradients_are_accumulated():
    clipper, clip, infos = clipping(agclip.ClipByGlobalNorm(1.0))
    end = train([2.0, 4.0], clip, gradient_accumulation_steps=2)
    assert end == pytest.approx([-0.6, -0.8])
    assert infos[0] is None
    assert float(infos[1].norm) == pytest.approx(15.0)
    assert clipper.step == 1


def test_gradients_are_unscaled_before_a_rule_clips():
    _, clip, infos = clipping(agclip.ClipByGlobalNorm(1.0))
    assert train([2.0], clip, scale=8.0) == pytest.approx([-0.6, -0.8])
    assert float(infos[0].norm) == pytest.approx(10.0)


def test_a_clipper_is_saved_and_loaded_with_the_rest(tmp_path):
    clipper, clip, _ = clipping(agclip.ZClip(warmup=2, max_norm=None))

    def save(accelerator, net):
        clip(accelerator, net)
        if clipper.step == 4:
            accelerator.register_for_checkpointing(clipper)
            accelerator.save_state(tmp_path)

    train([1.0, 1.5, 1.0, 40.0], save)
    other = agclip.Clipper(clipper.rule, inplace=True)
    accelerator = Accelerator(cpu=True)
    net = Net()
    accelerator.prepare(net, torch.optim.SGD(net.parameters(), lr=1.0))
    accelerator.register_for_checkpointing(other)
    accelerator.load_state(tmp_path)
    assert other.state_dict() == clipper.state_dict()
    assert other.step == 4
