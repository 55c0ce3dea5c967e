"""Run the examples in README.md, docs/*.md and docs/rules/*.md as tests."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import agclip
from agclip._backends import registry
from agclip._trees import tree
from agclip.config import _now

# Before TensorFlow: 2.20 and 2.21 show their LLVM to every library, and Triton 3.7, which PyTorch
# loads when it first compiles or makes an optimizer, crashes on it (tensorflow#124205).
with contextlib.suppress(ImportError):
    importlib.import_module("triton")

ROOT = Path(__file__).parent
PAGES = (ROOT, ROOT / "docs", ROOT / "docs" / "rules")


WHOLE = ("flax", "haiku")
"""The libraries of the examples that only `make test-all` installs."""
DECISIVE = ("BACKEND", "DEVICE", "ON_FOREIGN", "NONFINITE", "REPRODUCIBLE", "STRICT")


def pytest_configure() -> None:
    """Let no setting of the machine decide over results: its files and variables do not count."""
    os.environ["AGCLIP_CONFIG"] = "none"
    for name in DECISIVE:
        os.environ.pop(f"AGCLIP_{name}", None)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect the examples of a page."""
    if file_path.suffix == ".md" and file_path.parent in PAGES:
        return _pages()(file_path, parent)
    return None


@functools.cache
def _pages() -> Callable[[Path, pytest.Collector], pytest.Collector | None]:
    # Imported when the first page is met, so that benchmarks run without Sybil.
    from sybil import Sybil
    from sybil.parsers.myst import PythonCodeBlockParser, SkipParser

    return Sybil(
        parsers=[PythonCodeBlockParser(), SkipParser()],
        patterns=["README.md", "docs/*.md", "docs/rules/*.md"],
        setup=_set_up,
        teardown=_tear_down,
    ).pytest()


def _set_up(namespace: dict[str, Any]) -> None:
    namespace["absent"] = _absent
    namespace["before"] = dict(registry._registered), dict(tree._containers)


def _tear_down(namespace: dict[str, Any]) -> None:
    """Forget what a page has registered and set."""
    backends, containers = namespace["before"]
    for registered, known in ((registry._registered, backends), (tree._containers, containers)):
        registered.clear()
        registered.update(known)
    registry.BY_TYPE.clear()
    _now.forget()


def _absent(name: str) -> str:
    """Return why a library cannot be used here; empty if it can. Pages skip examples by it."""
    if importlib.util.find_spec(name) is None:
        return "installed by `make test-all`" if name in WHOLE else f"{name} is not installed"
    try:
        agclip.get_backend(name)
    except ValueError:
        return ""  # no adapter brings it, and none is needed
    except (ImportError, RuntimeError) as error:
        return str(error)
    return ""
