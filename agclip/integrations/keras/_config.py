"""Rules as the configurations that Keras saves, and back."""

from __future__ import annotations

import dataclasses
import inspect
import numbers
from collections.abc import Mapping
from typing import Any

import keras

from agclip import rules
from agclip.rules._rule import Rule

_RULE, _CLASS = "rule", "rule_class"
"""The keys under which the name of a rule's class stands: of a rule, and of a class by itself."""


def config_of(rule: Any) -> dict[str, Any]:
    """Return a rule as plain data; one of another's making as Keras serialises objects.

    Functions and arrays among the arguments are serialised by Keras: a function has to be
    registered with it, and a lambda is loaded with `safe_mode=False` alone.

    Raises:
        TypeError: If a rule of another's making has no `get_config`, or a function cannot be saved.
    """
    if type(rule) not in _CLASSES.values():
        return _serialised(rule)
    fields = (one for one in dataclasses.fields(rule) if one.init)
    arguments = {one.name: _plain(getattr(rule, one.name)) for one in fields}
    return {_RULE: type(rule).__name__, "arguments": arguments}


def rule_of(config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Return the rule that `config_of` has described.

    Args:
        config: What it returned, perhaps by way of JSON.
        custom_objects: Classes and functions by the names they have in the configuration.

    Raises:
        TypeError: If a class or function is not known to Keras.
        ValueError: If no rule has that name, or a lambda is loaded in safe mode.
    """
    if _RULE not in config:
        return keras.saving.deserialize_keras_object(config, custom_objects=custom_objects)
    cls = _class(config[_RULE])
    arguments = {
        name: _restored(value, custom_objects) for name, value in config["arguments"].items()
    }
    if cls is rules.Scheduled:
        arguments |= dict(arguments.pop("options"))
    return cls(**arguments)


_CLASSES: dict[str, type[Any]] = {
    name: cls
    for name, cls in vars(rules).items()
    if inspect.isclass(cls) and dataclasses.is_dataclass(cls)
}


def _class(name: str) -> type[Any]:
    if name not in _CLASSES:
        msg = (
            f"`config['rule']` must name one of {', '.join(sorted(_CLASSES))}; got {name!r}. "
            f"Load the optimizer with the version of agclip that saved it, or a newer one."
        )
        raise ValueError(msg)
    return _CLASSES[name]


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, numbers.Real):
        return int(value) if isinstance(value, numbers.Integral) else float(value)
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, type):
        return {_CLASS: value.__name__}
    return config_of(value) if isinstance(value, Rule) else _serialised(value)


def _restored(value: Any, custom_objects: Mapping[str, Any] | None) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple(_restored(one, custom_objects) for one in value)
    if not isinstance(value, Mapping):
        return value
    return _class(value[_CLASS]) if _CLASS in value else rule_of(value, custom_objects)


def _serialised(value: Any) -> dict[str, Any]:
    made: dict[str, Any] = keras.saving.serialize_keras_object(value)
    return made
