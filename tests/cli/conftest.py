"""Backends for the tests of the commands: one that is here, and one that cannot be used."""

import pytest

import agclip


@pytest.fixture(params=["numpy", "torch", "jax", "dask"])
def backend(request, need_backend):
    need_backend(request.param)
    return request.param


@pytest.fixture
def unusable(monkeypatch):
    row = agclip.BackendInfo(
        name="cupy", version="14", usable=False, reason="no device", source="agclip"
    )
    monkeypatch.setattr(agclip, "backends", lambda **_: [row])
