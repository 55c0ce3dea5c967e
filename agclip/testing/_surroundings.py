"""What runs here: the versions, the kernels and the settings that results may depend on."""

from __future__ import annotations

import importlib.util
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

import agclip
from agclip.config import KEYS, Settings, get_config

COMPANIONS = (
    "array-api-compat", "matplotlib", "ml_dtypes", "numba", "optree", "rich", "safetensors",
    "tensorboard",
)  # fmt: skip
"""Distributions that agclip works with, besides the backends."""


def versions() -> dict[str, str]:
    """Return what runs here by name."""
    found = {
        "agclip": agclip.__version__,
        "Python": f"{platform.python_version()} ({platform.python_implementation()})",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
    for name in COMPANIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def kernels(settings: Settings) -> str:
    """Return which kernels sum and scale arrays in host memory."""
    from agclip_backends._host import compiler
    from agclip_backends._host.loader import loader

    if settings.accelerate == "off":
        return f"array calls ({settings.source('accelerate')} says so)"
    if importlib.util.find_spec("numba") is None:
        return "array calls (Numba is not installed)"
    if loader.hopeless:
        return "array calls (Numba cannot compile here)"
    if loader.module is not None or settings.accelerate == "numba":
        return "compiled by Numba"
    reason = compiler.trial()
    where = f" (in a thread: {reason})" if reason else ""
    return f"compiled by Numba, once that is worth it{where}"


def threads(settings: Settings) -> str:
    """Return whose threads share the work of compiled kernels."""
    from agclip_backends._host.team import TEAMS

    if settings.threads is not None:
        asked = "" if settings.threads == "own" else f", {settings.threads}"
        return f"agclip's own{asked} ({settings.source('threads')} says so)"
    teams = {name: team() for name, team in TEAMS.items()}
    found = [f"{team.runtime} for {name}" for name, team in teams.items() if team and team.free()]
    return ", ".join([*found, "agclip's own for others" if found else "agclip's own"])


def changed(settings: Settings) -> dict[str, str]:
    """Return the settings that are not the default: the value, and who says it."""
    said = {key: settings.source(key) for key in KEYS}
    return {
        key: f"{getattr(settings, key)!r} ({source})"
        for key, source in said.items()
        if source != "default"
    }


def notes() -> list[str]:
    """Return what else is to be known of this process, a sentence each.

    A module of `agclip.integrations` that is loaded says by `is_installed()` whether agclip's
    functions stand in for those of a library now.
    """
    room = "agclip.integrations."
    names = [name.removeprefix(room) for name in sys.modules if name.startswith(room)]
    return [
        f"agclip's functions are installed in place of {name}'s own."
        for name in sorted(names)
        if "." not in name and getattr(sys.modules[room + name], "is_installed", _never)()
    ]


def _never() -> bool:
    return False


def described() -> str:
    """Return all of it, a line each."""
    settings = get_config()
    shown = ", ".join(f"{name} {found}" for name, found in versions().items())
    others = ", ".join(f"{key} = {said}" for key, said in changed(settings).items())
    lines = [
        shown,
        f"kernels: {kernels(settings)}",
        f"threads: {threads(settings)}",
        f"settings: {others or 'the defaults'}",
    ]
    return "\n".join([*lines, *(f"note: {note}" for note in notes())])
