"""What the calls in the tables may use: arrays, libraries of one test's own, settings and files."""

import contextlib
import dataclasses
import functools  # noqa: F401 - for calls, as what is imported below and not used here
import importlib
import io
import os
import shlex
import struct
import warnings
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import array_api_compat.numpy as xnp
import numpy as np

import agclip
import agclip.distributed
from agclip._backends import devices, entry_points  # noqa: F401
from agclip._trees import default_backend  # noqa: F401
from agclip.cli import main
from agclip.cli.files.readers import _pt, open_file, transfer  # noqa: F401
from agclip.cli.files.readers._format import dtype_of  # noqa: F401
from agclip.config import _now  # noqa: F401
from agclip.testing import Library  # noqa: F401
from agclip.testing.checks import (
    errors,  # noqa: F401
    vectors,
)
from agclip.testing.harness import check  # noqa: F401
from agclip_backends._cuda import (
    driver,  # noqa: F401
)
from agclip_backends._cuda import (
    kept as kept_kernels,  # noqa: F401
)
from agclip_backends._host import team, threads
from messages.keras_optimizers import (
    keras_growing,  # noqa: F401
    keras_logged,  # noqa: F401
    keras_optimizer,  # noqa: F401
    keras_replicas,  # noqa: F401
    keras_step,  # noqa: F401
)
from messages.optimizers import (  # noqa: F401
    attach,
    captured,
    fused_by_another,
    optimizer,
    step_with,
    wrapped,
)
from messages.trainers import (
    accelerator,  # noqa: F401
    covered,  # noqa: F401
    lightning_net,  # noqa: F401
    training,  # noqa: F401
)

NAN, INF = float("nan"), float("inf")
X = np.asarray([3.0, 4.0], dtype=np.float32)
X.setflags(write=False)
M = np.ones((2, 3), dtype=np.float32)
M.setflags(write=False)
INTEGERS = np.asarray([3, 4])

# --- trees and arrays --------------------------------------------------------------------------


@dataclasses.dataclass
class Layer:
    w: Any
    b: Any


def in_itself():
    tree = []
    tree.append(tree)
    return tree


def as_strided(x, shape, strides):
    return np.lib.stride_tricks.as_strided(x, shape, strides)


def look_alike(module, name="LookAlike"):
    """Return an object with the attributes of an array, of a class of some module."""
    body = {"__module__": module, "dtype": "float32", "shape": (2,), "__mul__": None}
    return type(name, (), body)()


class Closed:
    """Memory behind the methods of DLPack, which nobody is given."""

    def __dlpack__(self, **_):
        raise BufferError(self.__doc__)

    def __dlpack_device__(self):
        return (1, 0)


class Metres(np.ndarray):
    def __array_ufunc__(self, *_, **__):
        return NotImplemented


def matrix():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        return np.matrix([[3.0, 4.0]])


def trained(torch, *values):
    """Return a parameter that has a gradient."""
    p = torch.nn.Parameter(torch.zeros(len(values)))
    p.grad = torch.tensor(values)
    return p


def in_inference_mode(torch):
    with torch.inference_mode():
        return torch.ones(2)


def single(strict):
    """Return an array on a device without float64."""
    return strict.ones(2, dtype=strict.float32, device=strict.Device("no_x64"))


# --- ranks --------------------------------------------------------------------------------------


def one_rank(vector, op):
    """The communicator of a group of one rank."""
    return vector


def with_more(numbers):
    """Return a communicator that another rank has added numbers to, by position."""

    def all_reduce(vector, op):
        return [x + numbers.get(i, 0.0) for i, x in enumerate(vector)]

    return all_reduce


def lost(vector, op):
    """The communicator of a group in which another rank fails between two vectors."""
    return vector if op == "max" else [NAN] * len(vector)


def recorded(torch, torch_groups):
    """Reduce a vector of which autograd wants the derivative."""
    with mock.patch("torch.distributed.all_reduce"):
        group = SimpleNamespace(_device_types=[torch.device("cpu")])
        return torch_groups.all_reduce(group, torch.ones(2, requires_grad=True), "sum")


def by_shards(jax, function):
    """Return what a function of the shards of a vector gives, on a mesh of one device."""
    mesh = jax.make_mesh((1,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("d")
    return jax.shard_map(function, mesh=mesh, in_specs=(spec,), out_specs=spec)(np.ones((1, 2)))


def with_partial(torch, op, function):
    """Return what a function of a DTensor gives that is a part of a sum or a maximum."""
    from torch import distributed
    from torch.distributed.tensor import DTensor, Partial, Replicate, init_device_mesh

    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        whole = DTensor.from_local(torch.ones(2), mesh, [Replicate()])
        with mock.patch("agclip_backends.torch.dtensors._summed", return_value=whole):
            return function(DTensor.from_local(torch.ones(2), mesh, [Partial(op)]))
    finally:
        distributed.destroy_process_group()


def engine_of(registry, source):
    modules = {"toylib": "class Group: pass", "toy_engine": source}
    at = {"toylib": "toy_engine:engine"}
    registry.install("agclip-toy", at, modules, group="agclip.communicators")
    group = importlib.import_module("toylib").Group()
    return agclip.global_norm([X], comm=group)


# --- libraries ---------------------------------------------------------------------------------

TOY = """\
import array_api_compat.numpy as xp


class Array(xp.ndarray):
    pass


class Frozen(Array):
    def __setitem__(self, key, value):
        raise TypeError("rows are frozen")


def read_only():
    x = xp.ones(2).view(Array)
    x.setflags(write=False)
    return x


def frozen():
    return xp.ones(2).view(Frozen)
"""
TOY_ADAPTER = """\
import array_api_compat.numpy as xp

from agclip import Backend

backend = Backend(name="toylib", xp=xp)
"""


def toy(registry):
    """Return a library whose adapter replaces no kernel."""
    modules = {"toylib": TOY, "toy_adapter": TOY_ADAPTER}
    registry.install("agclip-toy", {"toylib": "toy_adapter:backend"}, modules)
    return importlib.import_module("toylib")


def get_installed(registry, modules, *, extras=(), value="toy_adapter:backend"):
    registry.install("agclip-toy", {"toylib": value}, modules, extras=extras)
    return agclip.get_backend("toylib")


def get_unlisted(registry, modules):
    registry.install("agclip-toy", {}, modules)
    return agclip.get_backend("toylib")


def clip_incompletely():
    lacking = ("isfinite", "where")
    names = [name for name in dir(xnp) if name not in lacking]
    xp = SimpleNamespace(**{name: getattr(xnp, name) for name in names})
    agclip.register_backend(agclip.Backend(name="numpy", xp=xp))
    return agclip.clip_by_norm(X, 1)


def fork_in_a_clip():
    """Do to the helpers what a fork does to them in the child."""
    crew = threads._crew
    threads.work_off(threads.Shares(lambda *_: crew.forget(), 2, 1, None), 2)


def share_nothing():
    """Have a team do none of the work that it is handed."""
    kernels = SimpleNamespace(team_body=lambda: 0, DONE=0, BLOCKS=1)
    team.Team(lambda *_: None, lambda: 0).work_off(kernels, np.array([0, 4]), 2)


def get_unusable():
    agclip.register_backend(
        agclip.Backend(name="toylib", xp=np, usable=lambda: "no device is plugged in")
    )
    return agclip.get_backend("toylib")


def clip_blocked(registry):
    modules = {"toylib": "class Rows:\n dtype = shape = __mul__ = None"}
    registry.install("agclip-toy", {"toylib": "toylib:backend"}, modules)
    with mock.patch.dict(os.environ, {"AGCLIP_BLOCK": "toylib"}):
        return agclip.clip_by_norm(importlib.import_module("toylib").Rows(), 1)


def compiler_that_refuses():
    """Return an NVRTC whose programs all have an error in line 1."""
    log = b"line 1: no\n"

    def tell_size(_, size):
        size._obj.value = len(log) + 1

    def tell(_, room):
        room.value = log

    def name(_):
        return b"NVRTC_ERROR_COMPILATION"

    return SimpleNamespace(
        nvrtcGetErrorString=name, nvrtcGetProgramLogSize=tell_size, nvrtcGetProgramLog=tell
    )


# --- settings ----------------------------------------------------------------------------------


def configured(call, **settings):
    """Call with settings of its own."""
    with agclip.config_context(**settings):
        return call()


def alone(call, **settings):
    """Call with settings of its own, on a machine whose only library is NumPy."""
    with mock.patch.dict(os.environ, {"AGCLIP_BLOCK": "cupy,dask,jax,mlx,tensorflow,torch"}):
        return configured(call, **settings)


def without_numba():
    missing = mock.patch("agclip_backends._host.loader._installed", return_value=False)
    with missing, agclip.config_context(accelerate="numba"):
        return agclip.clip_by_norm(X, 1)


def with_numba_switched_off():
    off = mock.patch("agclip_backends._host.loader._switched_off", return_value=True)
    unused = mock.patch("agclip_backends._host.loader.loader.module", None)
    with off, unused, agclip.config_context(accelerate="numba"):
        return agclip.clip_by_norm(X, 1)


def environment(call=lambda: agclip.clip_by_norm([1.0], 1.0), **variables):
    """Call in an environment."""
    named = {f"AGCLIP_{name}": text for name, text in variables.items()}
    with mock.patch.dict(os.environ, named):
        return call()


def file(text, name="agclip.toml"):
    """Clip where a file of settings lies."""
    Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return agclip.clip_by_norm([1.0], 1.0)


def from_table(text):
    """Make the clipper that a file describes."""
    path = Path.cwd() / "agclip.toml"
    path.write_text(text)
    return agclip.Clipper.from_config(path)


# --- rules -------------------------------------------------------------------------------------


class Halve:
    """A rule of another's making, without a way in place."""

    def init(self, params):
        return ()

    def update(self, grads, state, params=None):
        clipped, _, info = agclip.ClipByGlobalNorm(None).update(grads, ())
        return {key: leaf / 2 for key, leaf in clipped.items()}, state, info


class Coalesce(Halve):
    """A rule of another's making that has PyTorch add up entries of one place."""

    def update(self, grads, state, params=None):
        _, _, info = agclip.ClipByGlobalNorm(None).update(grads, ())
        return {key: leaf.coalesce() for key, leaf in grads.items()}, state, info


def step(rule, grads):
    """Take the first step of a rule."""
    return rule.update(grads, rule.init(grads))


def load(rule, state, **more):
    """Load what has been saved into the clipper of a rule."""
    clipper = agclip.Clipper(rule)
    clipper.load_state_dict({"rule": type(rule).__name__, "state": state, **more})
    return clipper


# --- the command line --------------------------------------------------------------------------


class FailedError(Exception):
    """A command ended with the status 1; its text is the line that it printed."""


class UsageError(Exception):
    """A command ended with the status 2; its text is the line that it printed."""


def cli(line, **files):
    """Run a command where some files lie: `in_npz` for `in.npz`."""
    np.savez("in.npz", w=np.asarray([3.0, 4.0]), b=np.asarray([0.5], np.float32))
    for name, content in files.items():
        path = Path(".".join(name.rsplit("_", 1)))
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    before = {path: path.read_bytes() for path in Path.cwd().iterdir() if path.is_file()}
    out, err = io.StringIO(), io.StringIO()
    # A mistake is told before the user has waited.
    trained = mock.patch("agclip.cli.demo.demo.train", raising(AssertionError("it trains")))
    with trained, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(shlex.split(line))
    kept = {path: path.read_bytes() for path in Path.cwd().iterdir() if path.is_file()}
    assert kept == before, "a command that fails leaves no file and changes none"
    assert not out.getvalue() or "check" in line, out.getvalue()
    (text,) = err.getvalue().splitlines()
    raise {1: FailedError, 2: UsageError}[status](text)


def saved(save, *args, **arrays):
    """Return what a function writes into a file."""
    made = io.BytesIO()
    save(made, *args, **arrays)
    return made.getvalue()


def npy(descr="'<f4'", shape="(2,)", numbers=bytes(8), version=1):
    """Return an array as a `.npy` file, with a header of one's own."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode("latin1")
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes((version, 0)) + length + header + numbers


def archive(**members):
    """Return a ZIP archive: `w_npy` for `w.npy`."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as opened:
        for name, content in members.items():
            opened.writestr(".".join(name.rsplit("_", 1)), content)
    return made.getvalue()


def replaced(content, mark, offset, new):
    """Return bytes with some others at an offset from the last mark."""
    place = content.rindex(mark) + offset
    return content[:place] + new + content[place + len(new) :]


def tensors(header, numbers=bytes(4)):
    """Return a `.safetensors` file with a header of one's own."""
    return struct.pack("<Q", len(header)) + header.encode() + numbers


def shortened(content):
    """Return a `.safetensors` file that has lost its last bytes since it was opened."""
    path = Path("a.safetensors")
    path.write_bytes(content)
    source = open_file(path)
    path.write_bytes(content[:-4])
    return source


def within(call, **modules):
    """Call where modules are others; None stands for one that is not installed."""
    with mock.patch.dict("sys.modules", modules):
        return call()


def patched(call, target, new):
    """Call while something else stands in the place of what is found there."""
    with mock.patch(target, new):
        return call()


def raising(error):
    """Return a function that raises an error."""

    def raise_it(*_, **__):
        raise error

    return raise_it


def doubled(registry, call):
    """Call where two distributions bring one name."""
    registry.install("agclip-toy", {"toylib": "toy_adapter:backend"}, {})
    registry.install("other-toy", {"toylib": "other:backend"}, {})
    return call()


def twice():
    made = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(made, "w") as opened:
        warnings.simplefilter("ignore", UserWarning)
        for _ in range(2):
            opened.writestr("w.npy", npy())
    return made.getvalue()


# --- the conformance suite ---------------------------------------------------------------------


def flushing(library):
    """Prepare a vector of subnormal numbers for a library that flushes them."""
    library._flushing["float64"] = True
    for vector in vectors.vectors():
        if "smallest" in vector.name:
            vector.prepare(library, agclip.clip_by_norm)


def refusal(code):
    return SimpleNamespace(name="a call", error=TypeError, message="", call=lambda *_: eval(code))


def no_compiler(*_):
    msg = "no compiler"
    raise OSError(msg)
