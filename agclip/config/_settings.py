"""The settings as one frozen record, each value with the place it came from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, TypedDict

from agclip._typing import NonFinite

OnForeign: TypeAlias = Literal["error", "convert"]
OnShard: TypeAlias = Literal["error", "whole"]
Accelerate: TypeAlias = Literal["auto", "numba", "off"]
Table: TypeAlias = Mapping[str, Any]


class Setting(NamedTuple):
    """A value that has been checked, and the place that said it."""

    value: Any
    source: str


Layer: TypeAlias = Mapping[str, Setting]
"""What one source says: some settings by name."""


class Given(TypedDict, total=False):
    """The keyword arguments of `set_config` and `config_context`; None for one not given.

    Example:
        >>> from agclip.config import Given
        >>> given: Given = {"nonfinite": "error", "strict": True}
        >>> with agclip.config_context(**given):
        ...     agclip.get_config().nonfinite
        'error'
    """

    backend: str | list[str] | tuple[str, ...] | None
    device: str | None
    on_foreign: OnForeign | None
    on_shard: OnShard | None
    accelerate: Accelerate | None
    threads: int | Literal["own", "auto"] | None
    nonfinite: NonFinite | None
    reproducible: bool | None
    strict: bool | None
    clip: Table | list[Table] | tuple[Table, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings in force, as `get_config` returns them.

    Attributes:
        backend: The library of the arrays that agclip makes itself, as of Python numbers: a
            name, or names of which the first usable one counts; "auto" follows given arrays.
        device: The device that agclip makes arrays on, as its library spells it; None for the
            library's own choice.
        on_foreign: What becomes of arrays of another library than `backend`: "error" or "convert".
        on_shard: Whether an array in a program that runs once on each device is the whole gradient,
            where no `comm` says it: "error" goes by the types, and refuses norms where they do not
            tell; "whole" takes each for the whole one, as after a mean over the devices.
        accelerate: Which implementation sums and scales on the host: "auto", "numba" or "off".
        threads: How many threads of agclip's own its kernels use on the host; "own" for as many as
            the library of the arrays would use, None for that library's own threads where they
            can be had.
        nonfinite: What becomes of gradients with a NaN or an infinity: "propagate", "error", "zero"
            or "skip".
        reproducible: Whether norms have the same bits everywhere.
        strict: Whether the exact norm of the result is within the bound.
        clip: What to clip by: tables with a `rule`, one after the other.

    Example:
        >>> with agclip.config_context(strict=True):
        ...     settings = agclip.get_config()
        >>> settings.strict, settings.source("strict")
        (True, 'config_context')
    """

    backend: str | tuple[str, ...] = "auto"
    device: str | None = None
    on_foreign: OnForeign = "error"
    on_shard: OnShard = "error"
    accelerate: Accelerate = "auto"
    threads: int | Literal["own"] | None = None
    nonfinite: NonFinite = "propagate"
    reproducible: bool = False
    strict: bool = False
    clip: tuple[Table, ...] = ()
    _sources: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    def source(self, key: str) -> str:
        """Return the place that said the value of a setting.

        Args:
            key: The name of the setting.

        Returns:
            "set_config", "config_context", the name of an environment variable, a file and the
            key in it such as "/home/me/agclip.toml: backend", or "default".

        Raises:
            ValueError: If there is no setting of that name.
        """
        if key not in KEYS:
            msg = f"`key` must be one of {', '.join(KEYS)}; got {key!r}."
            raise ValueError(msg)
        return self._sources.get(key, "default")


KEYS: tuple[str, ...] = tuple(
    field.name for field in dataclasses.fields(Settings) if not field.name.startswith("_")
)
"""The names of the settings."""


def merged(*layers: Layer) -> Settings:
    """Return the settings that layers add up to, the last one counting most."""
    found: dict[str, Setting] = {}
    for layer in layers:
        found.update(layer)
    values = {key: setting.value for key, setting in found.items()}
    sources = {key: setting.source for key, setting in found.items()}
    return Settings(**values, _sources=sources)
