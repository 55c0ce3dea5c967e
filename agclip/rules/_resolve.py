"""What rules take from the settings: the one place that asks for them."""

from __future__ import annotations

from agclip._clipping.arguments import Options
from agclip._typing import NonFinite
from agclip.config import current


def configured(
    nonfinite: NonFinite | None, reproducible: bool | None = None, strict: bool | None = None
) -> Options:
    """Return options with the settings in the place of None."""
    if nonfinite is not None and reproducible is not None and strict is not None:
        return Options(nonfinite, strict, reproducible)
    settings = current()
    return Options(
        settings.nonfinite if nonfinite is None else nonfinite,
        settings.strict if strict is None else strict,
        settings.reproducible if reproducible is None else reproducible,
    )
