"""The CuPy adapter with NumPy in CuPy's place, and its kernels compiled for the host.

Everything but CuPy itself runs: the adapter's logic, the tables, the kernels, and all of agclip as
it works for a library whose values cannot be read for nothing.
"""

import contextlib

import numpy as np
import pytest

import agclip
import cuda_host
import suites
from agclip._backends import registry
from agclip.testing import Library
from agclip.testing._report import fixed_checks
from libraries import bfloat16

pytest.importorskip("cupy", reason="CuPy is not installed")


@pytest.fixture(scope="session")
def kernels(tmp_path_factory):
    if cuda_host.COMPILER is None:
        pytest.skip("there is no C++ compiler here")
    return cuda_host.build(tmp_path_factory.mktemp("cuda"))


@pytest.fixture(scope="class")
def adapter(kernels):
    """The adapter's module, with NumPy for CuPy and the host for the device."""
    import agclip_backends.cupy.adapter as module

    def places(leaves):
        return [("cpu", [i for i, x in enumerate(leaves) if module.calls.fits(module._DRIVER, x)])]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "cupy", np)
        patch.setattr(module, "_DRIVER", cuda_host.HostDriver(kernels))
        patch.setattr(module, "_places", places)
        patch.setattr(module, "on", lambda _: contextlib.nullcontext())
        patch.setattr(module, "elementwise", cuda_host.HostEntries(kernels))
        patch.setattr(module, "_empty_like", np.empty_like)
        patch.setattr(module, "BLOCK", 64)
        yield module


@pytest.fixture(scope="class")
def backend(adapter):
    """A backend for NumPy's arrays of the adapter's kernels, as the registry sees it."""
    own = agclip.get_backend("numpy")
    made = agclip.Backend(
        name="numpy",
        xp=own.xp,
        sum_squares=adapter.backend.sum_squares,
        scale=adapter.backend.scale,
        scale_=adapter.backend.scale_,
        keeps_bits=adapter.backend.keeps_bits,
        acc_dtype=own.acc_dtype,
        unwritable=own.unwritable,
        refuse=own.refuse,
        restore=own.restore,
        context=own.context,
        run=own.run,
        block=adapter.BLOCK,
    )
    assert made.access(np.ones(2)) == "sync"
    before = dict(registry._registered)
    agclip.register_backend(made)
    yield made
    registry._registered.clear()
    registry._registered.update(before)
    registry.BY_TYPE.clear()


class TestConformance(suites.Thinned):
    own = ("float16", "complex64")
    # NumPy makes a scalar, which is no array, of a sum without axes; CuPy does not.
    checks = tuple(c for c in fixed_checks() if "norm has the widest dtype" not in c.name)
    examples = 10

    @pytest.fixture(scope="class")
    @classmethod
    def library(cls, backend):
        return Library(backend.name, "CuPy's adapter on the host", dtypes=bfloat16())
