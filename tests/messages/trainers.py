"""What stands for a trainer in a call of the tables: that it says what the true one would."""

from types import SimpleNamespace
from unittest import mock

import agclip


def covered(torch_clip):
    """Take functions back while something else stands in the place of one."""
    torch_clip.install()
    try:
        with mock.patch("torch.nn.utils.clip_grad_norm_", len):
            torch_clip.uninstall()
    finally:
        torch_clip.uninstall()


def lightning_net(in_lightning, torch, *, states=None, scaled=False, kind="DDPStrategy"):
    """Return a module in a trainer, and its optimizer, whose gradients may be scaled."""

    class Hooks:
        def on_load_checkpoint(self, checkpoint):
            pass

    class Net(in_lightning.ClipGradients, Hooks):
        gradient_clip_rule = agclip.ClipByGlobalNorm(1.0)

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))])
    net = Net()
    net.trainer = SimpleNamespace(
        optimizers=[optimizer],
        strategy=type(kind, (), {})(),
        precision_plugin=SimpleNamespace(scaler=torch.amp.GradScaler("cpu") if scaled else None),
    )
    net.on_load_checkpoint({"agclip": states})
    return SimpleNamespace(
        clip=lambda **more: net.configure_gradient_clipping(optimizer, **more),
        clip_another=lambda: net.configure_gradient_clipping(torch.optim.SGD([torch.ones(1)])),
    )


def accelerator(kind):
    """Return an accelerator of some kind."""
    return SimpleNamespace(distributed_type=SimpleNamespace(name=kind))


def training(in_transformers, **arguments):
    """Make a trainer with arguments of one's own."""
    usual = {
        "max_grad_norm": 0,
        "restore_callback_states_from_checkpoint": False,
        "deepspeed": None,
        "fsdp": None,
    }
    callback = in_transformers.ClipGradients(agclip.ZClip())
    callback.on_init_end(SimpleNamespace(**usual | arguments), None, None)
