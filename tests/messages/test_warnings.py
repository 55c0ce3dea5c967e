"""The text of every warning of a call, and the reasons why a backend cannot be used."""

import importlib
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

import agclip

CLIPPED = "nothing is clipped"
WITH_NORM = "nothing is clipped, and the norm is 0"
WARNINGS = {
    "clip_by_value": ("t", CLIPPED, lambda f: f([], 0, 1)),
    "clip_by_norm": ("t", CLIPPED, lambda f: f([], 1)),
    "clip_by_average_norm": ("t", CLIPPED, lambda f: f([], 1)),
    "clip_by_rms": ("t", CLIPPED, lambda f: f([], 1)),
    "clip_by_global_norm": ("t_list", WITH_NORM, lambda f: f([], 1)),
    "clip_by_global_norm with a norm": ("t_list", WITH_NORM, lambda f: f([], 1, 5.0)),
    "adaptive_grad_clip": ("grads", CLIPPED, lambda f: f([], [], unit_axes="out_in")),
    "clip_per_example": ("grads", CLIPPED, lambda f: f([], 1)),
    "global_norm": ("t_list", "the norm is 0", lambda f: f([])),
}
WITHOUT_TWIN = {"clip_per_example", "global_norm"}
WARNING_CASES = [(name, "") for name in WARNINGS] + [
    (name, "_") for name in WARNINGS if name not in WITHOUT_TWIN
]


@pytest.mark.parametrize(("name", "twin"), WARNING_CASES)
def test_the_warning_has_its_text(name, twin):
    argument, consequence, call = WARNINGS[name]
    text = f"`{argument}` holds no array: {consequence}. Was an iterator used up?"
    with pytest.warns(UserWarning, match=f"^{re.escape(text)}$") as caught:
        call(getattr(agclip, name.partition(" ")[0] + twin))
    assert [type(warning.message) for warning in caught] == [UserWarning]


# --- why a backend cannot be used --------------------------------------------------------------


def fail(message):
    def ones(*_, **__):
        raise RuntimeError(message)

    return ones


class Probe(NamedTuple):
    """What a library answers when it is tried, and the reason that follows."""

    text: str | None
    library: str
    ones: Callable[[int], Any]


class ZeroTensor:
    def sum(self):
        return self

    def item(self):
        return 0.0

    def __float__(self):
        return 0.0


PROBES = {
    "torch miscounts": Probe(
        "the sum of two ones is not two", "torch", lambda *_, **__: ZeroTensor()
    ),
    "torch fails": Probe("no kernel image", "torch", fail("no kernel image")),
    "jax fails": Probe("no TPU", "jax", fail("no TPU")),
    "cupy miscounts": Probe("the sum of two ones is not two", "cupy", lambda _: ZeroTensor()),
    "cupy fails": Probe("RuntimeError: no driver", "cupy", fail("no driver")),
    "cupy works": Probe(None, "cupy", np.ones),
}


@pytest.mark.parametrize("probe", PROBES.values(), ids=PROBES)
def test_the_reason_why_a_library_cannot_be_used(probe, monkeypatch):
    pytest.importorskip(probe.library, reason=f"{probe.library} is not installed")
    adapter = importlib.import_module(f"agclip_backends.{probe.library}.adapter")
    name = "jnp" if probe.library == "jax" else probe.library
    there = vars(getattr(adapter, name))
    monkeypatch.setattr(adapter, name, SimpleNamespace(**{**there, "ones": probe.ones}))
    assert adapter.backend.usable.__wrapped__() == probe.text


OVERLAPS = "holds several elements in the same memory"


@pytest.mark.parametrize(
    ("shape", "strides", "reason"),
    [((1, 3), (0, 0), OVERLAPS), ((3, 2), (4, 4), OVERLAPS), ((1, 3), (0, 4), None)],
)
def test_a_device_array_that_overlaps_itself_cannot_be_written(shape, strides, reason):
    pytest.importorskip("cupy", reason="CuPy is not installed")
    adapter = importlib.import_module("agclip_backends.cupy.adapter")
    view = SimpleNamespace(shape=shape, strides=strides, itemsize=4)
    assert adapter.backend.unwritable(view) == reason
