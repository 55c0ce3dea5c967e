"""Lightning's Trainer and Fabric, as installed, on a model of two parameters that trains."""

import copy
import importlib
import warnings
from importlib.util import find_spec
from unittest import mock

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
if find_spec("lightning") is None:
    pytest.skip("lightning is not installed", allow_module_level=True)

import lightning  # noqa: E402
from lightning.fabric.plugins import MixedPrecision as FabricMixed  # noqa: E402
from lightning.pytorch.plugins import MixedPrecision  # noqa: E402
from lightning.pytorch.utilities import grad_norm  # noqa: E402

import agclip  # noqa: E402
from agclip.integrations.lightning import ClipGradients, clip_gradients  # noqa: E402
from agclip.integrations.torch import installed  # noqa: E402

GRAD = (3.0, 4.0)


class Net(lightning.LightningModule):
    """A model whose gradients are (3, 4) times what the data says."""

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(2))
        self.seen = []

    def training_step(self, batch):
        (factor,) = batch
        return factor.mean() * (self.w * torch.tensor(GRAD)).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)

    def on_before_zero_grad(self, optimizer):
        if self.w.grad is not None:
            self.seen.append(self.w.grad.tolist())


class Ruled(ClipGradients, Net):
    gradient_clip_rule = agclip.ClipByGlobalNorm(1.0)


class Manual(Ruled):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(super().training_step(batch))
        optimizer.step()

    def on_before_optimizer_step(self, optimizer):
        self.configure_gradient_clipping(optimizer)


class Two(Ruled):
    """Two optimizers, the gradients of one ten times those of the other."""

    gradient_clip_rule = agclip.ZClip(warmup=1, max_norm=None)

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.v = torch.nn.Parameter(torch.zeros(2))

    def training_step(self, batch):
        (factor,) = batch
        for optimizer, p, more in zip(self.optimizers(), (self.w, self.v), (1, 10), strict=True):
            optimizer.zero_grad()
            self.manual_backward(more * factor.mean() * (p * torch.tensor(GRAD)).sum())
            self.configure_gradient_clipping(optimizer)
            optimizer.step()

    def configure_optimizers(self):
        return [torch.optim.SGD([p], lr=1.0) for p in (self.w, self.v)]


def data(*factors):
    return torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.tensor(factors)), batch_size=1
    )


def fit(net, *factors, checkpoint=None, **options):
    options = {"max_epochs": 1, "log_every_n_steps": 1} | options
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    trainer.fit(net, data(*factors), ckpt_path=checkpoint)
    return trainer


def mixed(scale=8.0):
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=1000)
    return MixedPrecision("16-mixed", "cpu", scaler=scaler)


def norm(trainer, name="grad_2.0_norm_total"):
    return float(trainer.callback_metrics[name])


# --- the trainer's own clipping, with agclip's functions in place ------------------------------


def test_the_trainer_clips_by_norm_where_its_own_norm_is_infinite():
    net, options = Net(), {"gradient_clip_val": 1.0, "gradient_clip_algorithm": "norm"}
    fit(net, 1e30, **options)
    assert net.w.tolist() == [0.0, 0.0]
    with installed():
        fit(net, 1e30, 1e30, **options)
    assert net.w.tolist() == pytest.approx([-1.2, -1.6])


def test_the_trainer_clips_by_value():
    net = Net()
    with installed(), mock.patch("agclip._clipping.by_value.clip", wraps=_by_value()) as clip:
        fit(net, 1.0, 0.1, gradient_clip_val=0.5, gradient_clip_algorithm="value")
    assert clip.call_count == 2
    assert net.w.tolist() == pytest.approx([-0.8, -0.9])


def test_fabric_clips_by_norm_where_its_own_norm_is_infinite():
    fabric, net, optimizer = on_fabric()
    with installed():
        for _ in range(2):
            fabric.backward(net.training_step((torch.tensor([1e30]),)))
            n = fabric.clip_gradients(net, optimizer, max_norm=1.0)
            optimizer.step()
            optimizer.zero_grad()
    assert float(n) == pytest.approx(5e30)
    assert net.w.tolist() == pytest.approx([-1.2, -1.6])


def test_fabric_clips_by_value():
    fabric, net, optimizer = on_fabric()
    with installed(), mock.patch("agclip._clipping.by_value.clip", wraps=_by_value()) as clip:
        fabric.backward(net.training_step((torch.tensor([1.0]),)))
        fabric.clip_gradients(net, optimizer, clip_val=0.5)
    assert clip.call_count == 1
    assert net.w.grad.tolist() == [0.5, 0.5]


def _by_value():
    from agclip._clipping import by_value

    return by_value.clip


def on_fabric(*, fused=False, **options):
    fabric = lightning.Fabric(accelerator="cpu", devices=1, **options)
    net, optimizer = fabric.setup(
        (made := Net()), torch.optim.SGD(made.parameters(), lr=1.0, fused=fused)
    )
    net.mark_forward_method("training_step")
    return fabric, net, optimizer


# --- a rule in a module ------------------------------------------------------------------------


def test_a_rule_clips_each_step_and_its_norm_is_logged():
    net = Ruled()
    trainer = fit(net, 1.0, 0.1)
    assert net.w.tolist() == pytest.approx([-0.9, -1.2])
    assert norm(trainer) == pytest.approx(0.5)


def test_the_norm_has_the_name_that_lightning_gives_it():
    net = Ruled()
    net.gradient_clip_rule = agclip.ClipByGlobalNorm(1.0, ord="inf")
    trainer = fit(net, 2.0)
    net.w.grad = torch.tensor(GRAD)
    (name,) = (name for name in grad_norm(net, "inf") if name.endswith("total"))
    assert norm(trainer, name) == 8.0


def test_gradients_are_accumulated_before_they_are_clipped():
    net = Ruled()
    trainer = fit(net, 2.0, 2.0, accumulate_grad_batches=2)
    assert net.w.tolist() == pytest.approx([-0.6, -0.8])
    assert norm(trainer) == pytest.approx(10.0)


@pytest.mark.parametrize("kind", [Ruled, Manual])
def test_gradients_are_unscaled_before_they_are_clipped(kind):
    net = kind()
    trainer = fit(net, 2.0, 2.0, plugins=[mixed()])
    assert norm(trainer) == pytest.approx(10.0)
    assert net.w.tolist() == pytest.approx([-1.2, -1.6])


def test_a_step_that_the_scaler_skips_is_not_remembered():
    net = Ruled()
    net.gradient_clip_rule = agclip.ZClip(warmup=2, max_norm=None)
    fit(net, 1.0, float("inf"), 1.0, plugins=[mixed()])
    (clipper,) = net._gradient_clippers
    assert clipper.state_dict()["state"]["mean"] == pytest.approx(5.0)


def test_manual_optimization_clips_in_the_hook():
    net = Manual()
    trainer = fit(net, 2.0, 2.0)
    assert net.w.tolist() == pytest.approx([-1.2, -1.6])
    assert norm(trainer) == pytest.approx(10.0)


def test_each_optimizer_has_a_memory_and_a_norm_of_its_own():
    net = Two()
    trainer = fit(net, 1.0, 1.0)
    means = [c.state_dict()["state"]["mean"] for c in net._gradient_clippers]
    assert means == pytest.approx([5.0, 50.0])
    assert norm(trainer, "grad_2.0_norm_total/0") == pytest.approx(5.0)
    assert norm(trainer, "grad_2.0_norm_total/1") == pytest.approx(50.0)


def test_paths_are_the_names_of_parameters():
    net = Ruled()
    net.gradient_clip_rule = agclip.PerGroup({"w": agclip.ClipByNorm(2.0), "*": None})
    fit(net, 1.0)
    assert net.w.tolist() == pytest.approx([-1.2, -1.6])


@pytest.mark.parametrize("package", ["lightning", "pytorch_lightning"])
def test_the_mixin_is_for_both_packages(package):
    pytest.importorskip(package, reason=f"{package} is not installed")
    base = importlib.import_module(package).LightningModule
    assert ClipGradients not in base.__mro__
    net = type("Net", (ClipGradients, base), {})()
    net.on_save_checkpoint(saved := {})
    net.on_load_checkpoint(saved)
    assert saved == {}


def test_the_trainer_and_the_rule_do_not_both_clip():
    with pytest.raises(ValueError, match="`gradient_clip_val` must be None"):
        fit(Ruled(), 1.0, gradient_clip_val=1.0)


def test_gradients_that_are_still_scaled_are_refused():
    class Early(Manual):
        def on_before_optimizer_step(self, optimizer):
            pass

        def training_step(self, batch):
            self.manual_backward(Net.training_step(self, batch))
            self.configure_gradient_clipping(self.optimizers())

    with pytest.raises(RuntimeError, match="on_before_optimizer_step"):
        fit(Early(), 1.0, plugins=[mixed()])


@pytest.mark.parametrize("options", [{}, {"plugins": [mixed()]}], ids=["float32", "scaled"])
def test_an_optimizer_that_unscales_in_its_step_is_clipped_too(options):
    class Fused(Ruled):
        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1.0, fused=True)

    trainer = fit(net := Fused(), 2.0, 0.1, **options)
    assert net.w.tolist() == pytest.approx([-0.9, -1.2], rel=1e-3)
    assert norm(trainer) == pytest.approx(0.5, rel=1e-3)


def test_a_rule_without_a_way_in_place_clips_too():
    class Halving:
        def init(self, params):
            return ()

        def update(self, grads, state, params=None):
            _, _, info = agclip.ClipByGlobalNorm(None).update(grads, ())
            return {name: grad / 2 for name, grad in grads.items()}, state, info

    net = Ruled()
    net.gradient_clip_rule = Halving()
    fit(net, 1.0)
    assert net.w.tolist() == [-1.5, -2.0]


def test_a_batch_without_a_loss_is_no_step_of_the_rule():
    class Skipping(Ruled):
        def training_step(self, batch):
            return None if batch[0] == 0 else super().training_step(batch)

    net = Skipping()
    with warnings.catch_warnings():
        # Lightning warns of `None`, once.
        warnings.filterwarnings("ignore", message=".*`training_step` returned `None`")
        fit(net, 0.0, 1.0)
    assert net._gradient_clippers[0].step == 1


# --- the checkpoint ----------------------------------------------------------------------------


class Remembering(Ruled):
    gradient_clip_rule = agclip.ZClip(warmup=2, max_norm=None)


FACTORS = (1.0, 1.5, 1.0, 40.0)


def test_a_run_that_is_resumed_ends_where_one_that_was_not_does(tmp_path):
    whole = Remembering()
    fit(whole, *FACTORS, max_epochs=2)

    first = Remembering()
    trainer = fit(first, *FACTORS)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    second = Remembering()
    fit(second, *FACTORS, max_epochs=2, checkpoint=tmp_path / "a.ckpt")

    assert second.w.tolist() == whole.w.tolist()
    ends = [net._gradient_clippers[0].state_dict() for net in (second, whole)]
    assert ends[0] == ends[1]
    assert ends[0]["step"] == 8


def test_what_is_loaded_is_saved_again_before_the_first_step():
    net, saved = Remembering(), {}
    fit(net, 1.0)
    net.on_save_checkpoint(saved)
    other, again = Remembering(), {}
    other.on_load_checkpoint(saved)
    other.on_save_checkpoint(again)
    assert again["agclip"] == saved["agclip"]


def test_nothing_is_saved_of_a_module_that_has_not_trained():
    saved = {}
    Remembering().on_save_checkpoint(saved)
    assert saved == {}


def test_a_checkpoint_without_a_state_lets_the_rule_begin_anew():
    net = Remembering()
    fit(net, 1.0, 1.0)
    net.on_load_checkpoint({})
    fit(net, 1.0)
    assert net._gradient_clippers[0].step == 1


def test_a_module_that_has_trained_is_copied():
    net = Remembering()
    fit(net, 1.0)
    other = copy.deepcopy(net)
    assert other._gradient_clippers[0].state_dict() == net._gradient_clippers[0].state_dict()


# --- a rule in a loop of Fabric ----------------------------------------------------------------


def loop(fabric, net, optimizer, clipper, factors):
    infos = []
    for factor in factors:
        fabric.backward(net.training_step((torch.tensor([factor]),)))
        infos.append(clip_gradients(fabric, net, optimizer, clipper))
        optimizer.step()
        optimizer.zero_grad()
    return infos


def test_a_rule_clips_in_a_loop_of_fabric():
    fabric, net, optimizer = on_fabric()
    clipper = agclip.Clipper(agclip.ClipByGlobalNorm(1.0), inplace=True)
    infos = loop(fabric, net, optimizer, clipper, (2.0, 0.1))
    assert [float(info.norm) for info in infos] == pytest.approx([10.0, 0.5])
    assert list(infos[0].leaf_norms) == ["w"]
    assert net.w.tolist() == pytest.approx([-0.9, -1.2])


@pytest.mark.parametrize("fused", [False, True])
def test_fabric_unscales_before_a_rule_clips(fused):
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    fabric, net, optimizer = on_fabric(
        fused=fused, plugins=[FabricMixed("16-mixed", "cpu", scaler=scaler)]
    )
    clipper = agclip.Clipper(agclip.ClipByGlobalNorm(1.0), inplace=True)
    (info,) = loop(fabric, net, optimizer, clipper, (2.0,))
    assert float(info.norm) == pytest.approx(10.0)
    assert net.w.tolist() == pytest.approx([-0.6, -0.8])


def test_fabric_saves_and_loads_a_clipper(tmp_path):
    fabric, net, optimizer = on_fabric()
    clipper = agclip.Clipper(agclip.ZClip(warmup=2, max_norm=None), inplace=True)
    loop(fabric, net, optimizer, clipper, FACTORS)
    fabric.save(tmp_path / "a.ckpt", {"clipper": clipper})
    other = agclip.Clipper(clipper.rule, inplace=True)
    fabric.load(tmp_path / "a.ckpt", {"clipper": other})
    assert other.state_dict() == clipper.state_dict()


def test_fabric_without_gradients_takes_no_step():
    fabric, net, optimizer = on_fabric()
    clipper = agclip.Clipper(agclip.ZClip(), inplace=True)
    assert clip_gradients(fabric, net, optimizer, clipper) is None
    assert clipper.step == 0
