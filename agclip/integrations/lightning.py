"""agclip in Lightning: any rule in a `LightningModule`, and in a loop of Fabric."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agclip.integrations.torch._named import clip, is_scaled, named, unscale, unwrapped
from agclip.rules import Clipper, Rule
from agclip.rules._info import ClipInfo
from agclip.rules._rule import check_rule

_KEY = "agclip"
_SHARDING = {"FSDPStrategy", "DeepSpeedStrategy", "ModelParallelStrategy", "XLAFSDPStrategy"}

if TYPE_CHECKING:
    from lightning import LightningModule as _Base
else:
    _Base = object  # a mixin: `lightning` and `pytorch_lightning` have a class each


class ClipGradients(_Base):  # type: ignore[misc]  # Any, whether or not Lightning is there
    """A mixin for a `LightningModule` whose gradients a rule clips.

    ```python
    class Net(ClipGradients, lightning.LightningModule):
        gradient_clip_rule = agclip.ZClip()
    ```

    It stands before `LightningModule`, and clips where `Trainer(gradient_clip_val=...)` would:
    before each step of an optimizer, when the gradients have been accumulated and unscaled. Each
    optimizer has a memory of its own, which is saved in the checkpoint under the key "agclip". The
    norm before clipping is logged as `grad_2.0_norm_total`, as Lightning's `grad_norm` calls it; of
    several optimizers with "/0", "/1" behind. Paths are the names of the module's parameters.

    In manual optimization call it from the hook before the step:

    ```python
    def on_before_optimizer_step(self, optimizer):
        self.configure_gradient_clipping(optimizer)
    ```

    Who overrides `on_save_checkpoint` or `on_load_checkpoint` calls that of `super()`.

    Attributes:
        gradient_clip_rule: The rule; set it in the class, in `__init__`, or before `fit`.

    Example:
        >>> import agclip, lightning, torch
        >>> from agclip.integrations.lightning import ClipGradients
        >>> class Net(ClipGradients, lightning.LightningModule):
        ...     gradient_clip_rule = agclip.ClipByGlobalNorm(1.0)
        ...
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.w = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        ...
        ...     def training_step(self, batch, index):
        ...         return (self.w * self.w).sum() / 2
        ...
        ...     def configure_optimizers(self):
        ...         return torch.optim.SGD(self.parameters(), lr=1.0)
        >>> quiet = {"logger": False, "enable_checkpointing": False, "barebones": False}
        >>> quiet |= {"enable_progress_bar": False, "enable_model_summary": False}
        >>> trainer = lightning.Trainer(max_steps=1, accelerator="cpu", **quiet)
        >>> net = Net()
        >>> trainer.fit(net, torch.utils.data.DataLoader([0, 1]))
        >>> net.w.data  # the gradient was [3, 4]
        tensor([2.4000, 3.2000])
    """

    gradient_clip_rule: Rule
    _gradient_clippers: list[Clipper] | None = None
    _saved_gradient_clippers: list[dict[str, Any]] | None = None

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradients of an optimizer by the rule, and log their norm.

        Args:
            optimizer: The optimizer that is to take a step.
            gradient_clip_val: What the trainer would clip by: None.
            gradient_clip_algorithm: What it would clip: left out.

        Raises:
            TypeError: If `gradient_clip_rule` is no rule.
            ValueError: If the trainer clips too, or the optimizer is not one of the trainer's.
            RuntimeError: If the gradients are multiplied by a loss scale, in manual optimization.
            NotImplementedError: If the strategy leaves each process a part of the gradients.
        """
        if gradient_clip_val is not None:
            msg = (
                f"`gradient_clip_val` must be None in a module with ClipGradients; got "
                f"{gradient_clip_val!r}. Leave it out of Trainer(...): `gradient_clip_rule` clips."
            )
            raise ValueError(msg)
        _require_whole(self.trainer.strategy)
        optimizer = unwrapped(optimizer)
        optimizers = self.trainer.optimizers
        index = next((i for i, known in enumerate(optimizers) if known is optimizer), None)
        if index is None:
            msg = (
                f"`optimizer` must be one that configure_optimizers() returned; got another "
                f"{type(optimizer).__name__}."
            )
            raise ValueError(msg)
        rule: Any = getattr(self, "gradient_clip_rule", None)
        check_rule("gradient_clip_rule", rule)
        clipper = self._clippers(rule, len(optimizers))[index]
        _unscale(optimizer, getattr(self.trainer.precision_plugin, "scaler", None))
        info = clip(clipper, named(self, optimizer))
        if info is not None:
            several = f"/{index}" if len(optimizers) > 1 else ""
            order = float(getattr(rule, "ord", 2))
            self.log(f"grad_{order}_norm_total{several}", info.norm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the state of the rule into a checkpoint, a dict for each optimizer.

        Args:
            checkpoint: The checkpoint.
        """
        super().on_save_checkpoint(checkpoint)
        saved = self._saved_gradient_clippers
        if self._gradient_clippers is not None:
            saved = [clipper.state_dict() for clipper in self._gradient_clippers]
        if saved is not None:
            checkpoint[_KEY] = saved

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the state of the rule from a checkpoint, from which the next step goes on.

        Args:
            checkpoint: The checkpoint. One without the key "agclip" lets the rule begin anew.
        """
        super().on_load_checkpoint(checkpoint)
        self._gradient_clippers = None
        self._saved_gradient_clippers = checkpoint.get(_KEY)

    def _clippers(self, rule: Rule, count: int) -> list[Clipper]:
        """Return a clipper for each optimizer: new ones, or with what has been loaded."""
        if self._gradient_clippers is None:
            saved = self._saved_gradient_clippers
            if saved is not None and len(saved) != count:
                msg = (
                    f"`checkpoint[{_KEY!r}]` must have a state for each optimizer, {count}; got "
                    f"{len(saved)}. Take it out of the checkpoint to begin anew."
                )
                raise ValueError(msg)
            made = [Clipper(rule, inplace=hasattr(rule, "update_")) for _ in range(count)]
            for clipper, state in zip(made, saved or (), strict=saved is not None):
                clipper.load_state_dict(state)
            self._gradient_clippers = made
        return self._gradient_clippers


def clip_gradients(fabric: Any, module: Any, optimizer: Any, clipper: Clipper) -> ClipInfo | None:
    """Clip the gradients of an optimizer by a rule, in a loop of Lightning Fabric.

    What `fabric.clip_gradients(module, optimizer, max_norm=1.0)` is for a norm: it is called before
    each step, and unscales the gradients where they are scaled. Paths are the names of the module's
    parameters. `fabric.save(path, {"clipper": clipper, ...})` and `fabric.load` take
    the clipper as they take an optimizer.

    Args:
        fabric: The Fabric.
        module: The module.
        optimizer: The optimizer, whose parameters are clipped.
        clipper: The rule with its state, one for each optimizer.

    Returns:
        A record of what has been done; None if no parameter has a gradient.

    Raises:
        NotImplementedError: If the strategy leaves each process a part of the gradients.

    Example:
        >>> import agclip, lightning, torch
        >>> from agclip.integrations.lightning import clip_gradients
        >>> fabric = lightning.Fabric(accelerator="cpu", devices=1)
        >>> net = torch.nn.Linear(2, 1, bias=False)
        >>> net, optimizer = fabric.setup(net, torch.optim.SGD(net.parameters(), lr=1.0))
        >>> fabric.backward(net(torch.tensor([[3.0, 4.0]])).sum())
        >>> info = clip_gradients(
        ...     fabric, net, optimizer, agclip.Clipper(agclip.ClipByGlobalNorm(1.0))
        ... )
        >>> float(info.norm)
        5.0
    """
    _require_whole(fabric.strategy)
    optimizer = unwrapped(optimizer)
    unscale(optimizer, getattr(fabric.strategy.precision, "scaler", None))
    # What Fabric has set up has the module itself as an attribute: its names are without a prefix.
    original = getattr(module, "_original_module", module)
    return clip(clipper, named(original, optimizer))


def _require_whole(strategy: Any) -> None:
    """Raise if a process holds a part of the gradients: the norm of a part is none."""
    for base in type(strategy).__mro__:
        if base.__name__ in _SHARDING:
            msg = (
                f"`strategy` must leave each process whole gradients for a rule to clip; got "
                f"{type(strategy).__name__}, which shards them. Use DDP, or what the strategy "
                f"itself has to clip."
            )
            raise NotImplementedError(msg)


def _unscale(optimizer: Any, scaler: Any) -> None:
    """Divide gradients by the loss scale, where Lightning leaves that to a fused optimizer's step.

    Raises:
        RuntimeError: If Lightning will divide them later.
    """
    if getattr(optimizer, "_step_supports_amp_scaling", False):
        unscale(optimizer, scaler)
    elif is_scaled(optimizer, scaler):
        msg = (
            "`optimizer` must have gradients that are unscaled; got scaled ones. In manual "
            "optimization clip in the hook on_before_optimizer_step, not in training_step."
        )
        raise RuntimeError(msg)
