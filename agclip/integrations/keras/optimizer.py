"""Optimizers of Keras that clip by a rule."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import keras

from agclip._checks import describe, flag
from agclip.integrations.keras._clipping import Clipping
from agclip.integrations.keras._config import config_of, rule_of
from agclip.rules._layout import grows
from agclip.rules._rule import Rule, check_rule, resolved

OptimizerT = TypeVar("OptimizerT")

_OWN = ("clipnorm", "clipvalue", "global_clipnorm")
_HIDDEN = "keras.src.backend."
"""Where Keras keeps the classes that stand in for its optimizers on one backend."""

if TYPE_CHECKING:
    from keras.optimizers import Optimizer as _Base
else:
    _Base = object  # a mixin: each class of optimizers has a subclass of its own that clips


class ClippedOptimizer(_Base):  # type: ignore[misc]  # Any, where Keras is not there
    """An optimizer of Keras that clips by a rule: see `with_clipping`, which makes one.

    It is also an instance of the class it was made from, with all that is there.

    Attributes:
        clipping: The rule, and `last`, the record of the last step.

    Example:
        >>> import agclip, keras
        >>> from agclip.integrations.keras import ClippedOptimizer, with_clipping
        >>> optimizer = with_clipping(keras.optimizers.SGD(1.0), agclip.ClipByNorm(1.0))
        >>> isinstance(optimizer, ClippedOptimizer), isinstance(optimizer, keras.optimizers.SGD)
        (True, True)
    """

    clipping: Clipping

    def build(self, variables: Sequence[Any]) -> None:
        """Create the variables of the optimizer, and those of the rule behind them.

        Args:
            variables: The variables that are trained.
        """
        super().build(variables)
        self.clipping._build(self, variables)

    def apply(self, grads: Sequence[Any], trainable_variables: Any = None) -> None:
        """Take a step, with clipped gradients.

        Args:
            grads: The gradients.
            trainable_variables: The variables they belong to; None for all.

        Raises:
            RuntimeError: If the optimizer does not clip where Keras's do.
        """
        self.clipping._taken = False  # a flag: a count would have torch.compile compile anew
        super().apply(grads, trainable_variables)
        variables = self._trainable_variables if trainable_variables is None else ()
        pairs = zip(grads, trainable_variables or variables, strict=False)
        if not self.clipping._taken and any(_is_clipped(*pair) for pair in pairs):
            msg = (
                f"`optimizer` must clip in its own step, as Keras's do; got a "
                f"{type(self).__mro__[2].__name__}, which took one without. Clip what is passed to "
                f"apply() instead: agclip.Clipper(rule)."
            )
            raise RuntimeError(msg)

    def _backend_apply_gradients(self, grads: Any, trainable_variables: Any) -> None:
        self.clipping._targets = trainable_variables
        try:
            super()._backend_apply_gradients(grads, trainable_variables)
        finally:
            self.clipping._targets = None
        if self.gradient_accumulation_steps:
            self.clipping._taken = True  # in eager code the clip is left to the last batch

    def _clip_gradients(self, grads: Sequence[Any]) -> list[Any]:
        """Clip by the rule, where Keras would: accumulated, unscaled, before weight decay."""
        _refuse_own(self)
        return self.clipping._clip(self, grads, self._trainable_variables)

    def get_config(self) -> dict[str, Any]:
        """Return the optimizer without the rule, and the rule, as plain data."""
        # Keras asks an object's class for its name, so it has to see one of the class itself.
        cls = next(one for one in _plain_classes(self) if not one.__module__.startswith(_HIDDEN))
        plain = object.__new__(cls)
        vars(plain).update(vars(self))
        return {
            "optimizer": keras.saving.serialize_keras_object(plain),
            "rule": config_of(self.clipping.rule),
            "leaf_norms": self.clipping.leaf_norms,
        }

    def __reduce__(self) -> tuple[Any, ...]:
        # Keras names the class, which was made while the program ran.
        _, arguments = super().__reduce__()
        return _unpickled, arguments

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None
    ) -> Any:
        """Return an optimizer that clips, from what `get_config` returned.

        Args:
            config: That.
            custom_objects: Classes and functions by the names they have there.
        """
        # Keras writes into what it deserialises.
        saved = copy.deepcopy(dict(config))
        optimizer = keras.saving.deserialize_keras_object(
            saved["optimizer"], custom_objects=custom_objects
        )
        rule = rule_of(saved["rule"], custom_objects)
        return with_clipping(optimizer, rule, leaf_norms=saved["leaf_norms"])


def with_clipping(optimizer: OptimizerT, rule: Rule, *, leaf_norms: bool = False) -> OptimizerT:
    """Let an optimizer of Keras clip by a rule.

    ```python
    model.compile(with_clipping(keras.optimizers.Adam(1e-3), agclip.ZClip()), loss="mse")
    ```

    It clips where Keras's own `clipnorm`, `clipvalue` and `global_clipnorm` do: once a step, when
    gradients have been accumulated and unscaled, and before weight decay. What the rule remembers
    is in the optimizer's variables, and saved and loaded with these. The rule knows a gradient by
    the path of its variable, such as "sequential/dense/kernel". `optimizer.clipping.last` is the
    record of the last step.

    To load a saved model, import this module before; Keras then knows the class.

    Args:
        optimizer: The optimizer. With loss scaling it is the inner one:
            `LossScaleOptimizer(with_clipping(optimizer, rule))`.
        rule: The rule, with memory or without. Its state must have one shape for all steps, so
            `AutoClip` needs a window.
        leaf_norms: Whether the record holds the norm of each gradient, NaN for one that no rule
            looks at.

    Returns:
        The optimizer itself. Its class is now a subclass of what it was and of `ClippedOptimizer`.

    Raises:
        TypeError: If `optimizer` is no optimizer of Keras, `rule` no rule, or `leaf_norms` no bool.
        ValueError: If the optimizer clips already, wraps another one, or the state of the rule
            grows.

    Example:
        >>> import agclip, keras
        >>> from agclip.integrations.keras import with_clipping
        >>> w = keras.Variable([0.0, 0.0])
        >>> optimizer = with_clipping(keras.optimizers.SGD(1.0), agclip.ClipByGlobalNorm(1.0))
        >>> _ = optimizer.apply_gradients([(keras.ops.array([3.0, 4.0]), w)])
        >>> w.numpy(), float(optimizer.clipping.last.norm)
        (array([-0.6, -0.8], dtype=float32), 5.0)
    """
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        msg = (
            f"`optimizer` must be an optimizer of Keras, such as keras.optimizers.Adam(); got "
            f"{describe(optimizer)}."
        )
        raise TypeError(msg)
    _refuse_wrapper(optimizer)
    if isinstance(optimizer, ClippedOptimizer):
        msg = (
            f"`optimizer` must not clip by a rule already; got one that clips by "
            f"{optimizer.clipping.rule!r}. Make a new one, or give it a Chain of both rules."
        )
        raise ValueError(msg)
    _refuse_own(optimizer)
    check_rule("rule", rule)
    flag("leaf_norms", leaf_norms)
    if grows(rule):
        msg = (
            f"`rule` must have a state of one shape for all steps; got {rule!r}, whose history "
            f"grows. Give AutoClip a window, such as 1000."
        )
        raise ValueError(msg)
    chosen: Any = optimizer
    cls: Any = type(chosen)
    chosen.__class__ = _clipped(cls)
    chosen.clipping = Clipping(resolved(rule), leaf_norms=leaf_norms)
    if chosen.built:
        chosen.clipping._build(chosen, chosen._trainable_variables)
    return optimizer


@functools.cache
def _clipped(cls: type[Any]) -> type[Any]:
    """Return the subclass of a class of optimizers that clips; all have one name in Keras."""
    made: type[Any] = type(
        ClippedOptimizer.__name__,
        (ClippedOptimizer, cls),
        {"__module__": ClippedOptimizer.__module__, "__doc__": ClippedOptimizer.__doc__},
    )
    _registered(made)
    return made


_registered = keras.saving.register_keras_serializable("agclip", ClippedOptimizer.__name__)
_registered(ClippedOptimizer)


def _unpickled(saved: Any) -> Any:
    return keras.optimizers.Optimizer._unpickle_model(saved)


def _plain_classes(optimizer: Any) -> Sequence[type[Any]]:
    """Return the classes of an optimizer that clips, from the one it had before on."""
    return type(optimizer).__mro__[2:]


def _is_clipped(grad: Any, variable: Any) -> bool:
    return grad is not None and not getattr(variable, "overwrite_with_gradient", False)


def _refuse_wrapper(optimizer: Any) -> None:
    """Raise a ValueError if an optimizer leaves its steps to others."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        msg = (
            "`optimizer` must be what takes the step, on gradients that are unscaled; got a "
            "LossScaleOptimizer. Write LossScaleOptimizer(with_clipping(optimizer, rule))."
        )
        raise ValueError(msg)
    several = getattr(keras.optimizers, "MultiOptimizer", None)  # Keras has it from 3.14 on
    if several is not None and isinstance(optimizer, several):
        msg = (
            "`optimizer` must be what takes the step; got a MultiOptimizer. Give each of the "
            "optimizers in it a rule of its own: with_clipping(optimizer, rule)."
        )
        raise ValueError(msg)


def _refuse_own(optimizer: Any) -> None:
    """Raise a ValueError if Keras would clip too."""
    for name in _OWN:
        if getattr(optimizer, name) is not None:
            msg = (
                f"`{name}` must be None in an optimizer that clips by a rule; got "
                f"{getattr(optimizer, name)!r}. Leave it out, or put that clip into the rule with "
                f"agclip.Chain."
            )
            raise ValueError(msg)
