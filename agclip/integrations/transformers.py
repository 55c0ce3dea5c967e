"""agclip in the `Trainer` of Transformers: a callback that clips by any rule."""

from __future__ import annotations

from typing import Any

from transformers.trainer_callback import ExportableState, TrainerCallback

from agclip.integrations.torch._named import clip, unscale, unwrapped
from agclip.rules import Clipper, Rule


class ClipGradients(TrainerCallback, ExportableState):  # type: ignore[misc]  # Any to mypy
    """A callback that clips the gradients by a rule before each step of the optimizer.

    ```python
    trainer = Trainer(
        model=model,
        args=TrainingArguments(..., max_grad_norm=0),  # the rule clips, nobody else
        callbacks=[ClipGradients(agclip.ZClip())],
    )
    ```

    The trainer logs the norm before clipping as `grad_norm`, which it measures itself. Paths are
    the names of the model's parameters. The state of the rule is saved in the checkpoint's
    `trainer_state.json`, and `trainer.train(resume_from_checkpoint=...)` goes on with it.

    Attributes:
        clipper: The rule with its state.

    Example:
        >>> import agclip, torch, transformers
        >>> from agclip.integrations.transformers import ClipGradients
        >>> net = torch.nn.Linear(2, 1, bias=False)
        >>> args = transformers.TrainingArguments(max_grad_norm=0, use_cpu=True, report_to=[])
        >>> clip = ClipGradients(agclip.ClipByGlobalNorm(1.0))
        >>> trainer = transformers.Trainer(net, args, callbacks=[clip])
        >>> clip.clipper.step  # trainer.train() clips before each step
        0
    """

    def __init__(self, rule: Rule) -> None:
        """Keep a rule.

        Args:
            rule: The rule.

        Raises:
            TypeError: If it is none.
        """
        self.clipper = Clipper(rule)
        self.clipper.inplace = hasattr(rule, "update_")

    def on_init_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Refuse arguments with which the rule would not see the gradients as they are.

        Args:
            args: The arguments of the training.
            state: The state of the trainer.
            control: What the trainer does next.
            kwargs: The model and all else that the trainer has.

        Raises:
            ValueError: If the trainer clips too, or makes callbacks anew from a checkpoint.
            NotImplementedError: If each process holds a part of the gradients.
        """
        if args.max_grad_norm:
            msg = (
                f"`max_grad_norm` must be 0 where ClipGradients clips; got {args.max_grad_norm}. "
                f"Make the arguments as TrainingArguments(..., max_grad_norm=0)."
            )
            raise ValueError(msg)
        if args.restore_callback_states_from_checkpoint:
            msg = (
                "`restore_callback_states_from_checkpoint` must be False with ClipGradients, which "
                "cannot be made anew from a file; got True. It restores its own state without."
            )
            raise ValueError(msg)
        if args.deepspeed or args.fsdp:
            kind = "deepspeed" if args.deepspeed else "fsdp"
            msg = (
                f"`args` must leave each process whole gradients for a rule to clip; got {kind}, "
                f"which shards them. Use max_grad_norm there."
            )
            raise NotImplementedError(msg)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin anew, or with what the checkpoint holds.

        Args:
            args: The arguments of the training.
            state: The state of the trainer, as loaded.
            control: What the trainer does next.
            kwargs: The model and all else that the trainer has.
        """
        # The trainer saves callbacks that the checkpoint knows; one that is new is not there yet.
        saved = state.stateful_callbacks.setdefault(type(self).__name__, self.state())
        self.clipper.reset()
        if state.global_step:
            self.clipper.load_state_dict(saved["attributes"]["clipper"])

    def on_pre_optimizer_step(
        self, args: Any, state: Any, control: Any, *, model: Any, optimizer: Any, **kwargs: Any
    ) -> None:
        """Clip the gradients, which are accumulated by now.

        Args:
            args: The arguments of the training.
            state: The state of the trainer.
            control: What the trainer does next.
            model: The model.
            optimizer: The optimizer that is to take the step.
            kwargs: All else that the trainer has.
        """
        # Transformers measures the norm, and has unscaled the gradients for it, from 5.3 on only.
        unscale(unwrapped(optimizer), getattr(optimizer, "scaler", None))
        clip(self.clipper, dict(model.named_parameters()))

    def state(self) -> dict[str, Any]:
        """Return what the checkpoint keeps, as plain data."""
        return {"args": {}, "attributes": {"clipper": self.clipper.state_dict()}}
