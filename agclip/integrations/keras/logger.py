"""A callback that logs what clipping does."""

from __future__ import annotations

from typing import Any

import keras

from agclip.integrations.keras.optimizer import ClippedOptimizer


class ClipLogger(keras.callbacks.Callback):  # type: ignore[misc]  # Any, where Keras is not there
    """A callback that logs the norm of the gradients before clipping, and how often it is clipped.

    ```python
    history = model.fit(x, y, callbacks=[ClipLogger()])
    history.history["grad_norm"], history.history["clip_rate"]
    ```

    Logs of an epoch have two more entries: `grad_norm`, the mean of the norms that are finite, and
    `clip_rate`, the share of steps whose gradients exceeded the bound. Callbacks that stand behind
    it see both. It reads a norm in every batch, so a device is waited for.

    Example:
        >>> import agclip, keras, numpy as np
        >>> from agclip.integrations.keras import ClipLogger, with_clipping
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
        >>> optimizer = with_clipping(keras.optimizers.SGD(0.1), agclip.ClipByGlobalNorm(1e-3))
        >>> model.compile(optimizer, "mse")
        >>> x = np.ones((4, 1), "float32")
        >>> done = model.fit(x, 9.0 * x, batch_size=2, verbose=0, callbacks=[ClipLogger()])
        >>> done.history["clip_rate"]
        [1.0]
    """

    def on_train_begin(self, logs: Any = None) -> None:
        """See that the optimizer clips by a rule.

        Args:
            logs: What Keras logs.

        Raises:
            ValueError: If it does not.
        """
        _clipping_of(self.model)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Forget the epoch before.

        Args:
            epoch: Its number.
            logs: What Keras logs.
        """
        self._norms: list[float] = []
        self._clipped: list[bool] = []
        self._seen = self._iterations()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Read what has been done in a step.

        Args:
            batch: Its number.
            logs: What Keras logs.
        """
        model: Any = self.model
        if keras.backend.backend() == "jax":
            model.jax_state_sync()  # until then variables hold arrays that have been donated
        seen, self._seen = self._seen, self._iterations()
        if seen == self._seen:
            return  # a batch that was accumulated, or skipped
        info = _clipping_of(self.model).last.to_host()
        self._clipped.append(info.clipped)
        if not info.nonfinite:
            self._norms.append(info.norm)

    def _iterations(self) -> int:
        model: Any = self.model
        return int(model.optimizer.iterations)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Add the two entries.

        Args:
            epoch: Its number.
            logs: What Keras logs, which is added to.
        """
        if logs is not None and self._clipped:
            norms = self._norms or [float("nan")]
            logs["grad_norm"] = sum(norms) / len(norms)
            logs["clip_rate"] = sum(self._clipped) / len(self._clipped)


def _clipping_of(model: Any) -> Any:
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if not isinstance(optimizer, ClippedOptimizer):
        msg = (
            f"`model` must have an optimizer that clips by a rule for ClipLogger to log; got "
            f"{type(optimizer).__name__}. Compile it with with_clipping(optimizer, rule)."
        )
        raise ValueError(msg)
    return optimizer.clipping
