"""NumPy's arrays in the place of CuPy's, the kernels on the host: for the whole adapter of CuPy.

The arrays are of a class that passes for `cupy.ndarray`: they have its attributes, and are arrays
where NumPy has scalars. What the adapter imports as `cupy` makes them, and is NumPy otherwise.
"""

from __future__ import annotations

import contextlib
import dataclasses
from types import ModuleType, SimpleNamespace
from unittest import mock

import array_api_compat.numpy
import numpy as np

import cuda_host
import fused_host
from agclip._backends import registry
from agclip_backends._cuda.fused import Room
from agclip_backends._cuda.seam import Seam
from agclip_backends._cuda.table import Place
from agclip_backends.cupy import adapter, devices, fused, namespace, resident, slices
from agclip_backends.cupy.fused import CupyLibrary


class Device:
    """The one device that there is."""

    id = 0

    def __eq__(self, other):
        return isinstance(other, Device)

    __hash__ = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


class Array(np.ndarray):
    """Memory of the host that passes for a device's."""

    __module__ = "cupy"

    device = Device()
    _c_contiguous = property(lambda x: x.flags.c_contiguous)
    _f_contiguous = property(lambda x: x.flags.f_contiguous)

    @property
    def data(self):
        return SimpleNamespace(
            ptr=self.ctypes.data,
            device_id=0,
            memset_async=lambda value, size: self.fill(value),
        )

    def __array_wrap__(self, made, context=None, return_scalar=False):
        return np.asarray(made).view(Array)

    def __getitem__(self, key):
        keys = key if isinstance(key, tuple) else (key,)
        plain = not any(isinstance(one, (list, np.ndarray)) or one is Ellipsis for one in keys)
        return np.ndarray.__getitem__(self, (*keys, ...) if plain else key)

    def __iter__(self):
        return (self[i] for i in range(len(self)))


def there(x):
    """Return what NumPy made, as an array of the device: arrays, scalars and tuples of them."""
    if isinstance(x, (np.ndarray, np.generic)):
        return np.asarray(x).view(Array)
    if isinstance(x, (list, tuple)):
        return type(x)(map(there, x))
    return x


class Pretended(ModuleType):
    """A module of NumPy's functions whose results are such arrays."""

    def __init__(self, module, **own):
        super().__init__("cupy")
        self.module, self.called = module, []
        vars(self).update(own)

    def __getattr__(self, name):
        found = getattr(self.module, name)
        if not callable(found) or isinstance(found, type):
            return found

        def function(*given, **options):
            self.called.append(name)
            options.pop("device", None)
            return there(found(*given, **options))

        return function


def pretended():
    runtime = SimpleNamespace(is_hip=False, getDevice=lambda: 0)
    cuda = SimpleNamespace(Device=Device, runtime=runtime)
    return Pretended(np, ndarray=Array, cuda=cuda)


class Entries(cuda_host.HostEntries):
    """What is done entry by entry, to such arrays."""

    def _applied(self, name, *arrays):
        return there(super()._applied(name, *arrays))


class OnHost(fused_host.HandedOn, CupyLibrary):
    """The adapter's own library, its launches on the host."""

    def __init__(self, host):
        super().__init__()
        self.host = host

    def place(self, leaves):
        return Place(0, 7, self.host.capturing)


@contextlib.contextmanager
def device(host, kernels, *, slices_too=True, whole=True):
    """Have agclip take such arrays for CuPy's; yields what the adapter imports as `cupy`.

    Args:
        host: A `fused_host.HostLibrary`.
        kernels: What `cuda_host.build` returns.
        slices_too: Whether slices of all leaves are summed and multiplied at once.
        whole: Whether whole clips are done at once.
    """
    made, seam = pretended(), Seam(Room(OnHost(host)))
    xp = Pretended(array_api_compat.numpy)
    entries = Entries(kernels)
    driver = cuda_host.HostDriver(kernels)
    with contextlib.ExitStack() as stack:

        def patch(module, **values):
            stack.enter_context(mock.patch.multiple(module, **values))

        patch(adapter, cupy=made, _DRIVER=driver, elementwise=entries, BLOCK=64)
        patch(devices, cupy=made)
        patch(fused, cupy=made, room=seam.room)
        patch(resident, cupy=made)
        patch(slices, cupy=made, elementwise=entries, seam=seam)
        patch(namespace, cupy=made, xp=xp, elementwise=entries)
        own = adapter.backend
        off = {} if slices_too else {"sum_slices": _nothing, "scale_slices": _nothing}
        off |= {} if whole else {"fused": _nothing, "clip": _nothing}
        seams = {"clip": seam.clip, "fused": seam.fused, "usable": lambda: None, "block": 64}
        known = {"cupy": dataclasses.replace(own, **{**seams, **off})}
        stack.enter_context(mock.patch.dict(registry._registered, known))
        stack.enter_context(mock.patch.dict(registry.BY_TYPE, clear=True))
        yield SimpleNamespace(cupy=made, xp=xp, seam=seam, driver=driver)


def _nothing(*_):
    return None
