"""Adapters of array libraries for agclip.

The registry of agclip imports these modules through the entry-point group `agclip.backends`;
a program imports `agclip` only.
"""

DEFAULT = "numpy"
"""The backend in which agclip makes arrays of Python numbers when no array says otherwise."""

BACKENDS = {
    "numpy": "agclip_backends.numpy:backend",
    "cupy": "agclip_backends.cupy:backend",
    "torch": "agclip_backends.torch:backend",
    "jax": "agclip_backends.jax:backend",
    "tensorflow": "agclip_backends.tensorflow:backend",
    "dask": "agclip_backends.dask:backend",
    "cubed": "agclip_backends.cubed:backend",
    "mlx": "agclip_backends.mlx:backend",
}
"""The adapters in this package, as its distribution advertises them.

A copy of the package on `PYTHONPATH`, or in an application that has been frozen, has no metadata.
"""

CONTAINERS = {
    "jax": "agclip_backends.containers:flatten_jax",
    "optree": "agclip_backends.containers:flatten_optree",
}
"""The functions that open containers, likewise."""

PYTREES = {
    "jax": "agclip_backends.containers:dict_of_jax",
    "optree": "agclip_backends.containers:dict_of_optree",
    "torch": "agclip_backends.containers:dict_of_torch",
}
"""The functions that tell libraries, which look at the very class of a container, of one that reads
as a dict."""

COMMUNICATORS = {
    "torch": "agclip_backends.torch.groups:engine",
    "mpi4py": "agclip_backends.mpi:engine",
}
"""The engines that move vectors between processes, likewise."""

EXTRAS = {"numpy": (), "cupy": ("cupy-cuda12x", "cupy-cuda13x")}
"""The extras that bring a library, where they are not one of its name."""

STANDARD = ("array_api_strict", "ndonnx")
"""Libraries that need no adapter, since they follow the standard, and that a file may name."""

STORED_IN = {"sparse": "numpy"}
"""Libraries of sparse arrays that are made of another library's arrays, whose backend takes them.

The two may stand in one tree.
"""
