"""What rules take from the settings: the one place that asks for them."""

from __future__ import annotations

from typing import NamedTuple

from agclip._typing import NonFinite
from agclip.config import current


class Resolved(NamedTuple):
    """Options that settings decide where a rule leaves them open."""

    nonfinite: NonFinite
    reproducible: bool
    strict: bool


def configured(
    nonfinite: NonFinite | None, reproducible: bool | None = None, strict: bool | None = None
) -> Resolved:
    """Return options with the settings in the place of None."""
    if nonfinite is not None and reproducible is not None and strict is not None:
        return Resolved(nonfinite, reproducible, strict)
    settings = current()
    return Resolved(
        settings.nonfinite if nonfinite is None else nonfinite,
        settings.reproducible if reproducible is None else reproducible,
        settings.strict if strict is None else strict,
    )
