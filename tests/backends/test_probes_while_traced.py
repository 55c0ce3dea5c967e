"""A backend that is asked for first within a function that is traced is usable there too."""

import importlib

import pytest


def in_jit(library, asks):
    library.jit(lambda x: (asks(), x)[1])(library.numpy.ones(2))


def in_grad(library, asks):
    library.grad(lambda x: (asks(), x)[1])(1.0)


def in_function(library, asks):
    library.function(lambda x: (asks(), x)[1])(library.ones(2))


def in_xla(library, asks):
    library.function(lambda x: (asks(), x)[1], jit_compile=True)(library.ones(2))


def in_dynamo(library, asks):
    found = library.compile(lambda x: x + (asks() is None), backend="eager", fullgraph=True)
    assert found(library.ones(2)).tolist() == [2, 2]


def in_vmap(library, asks):
    library.func.vmap(lambda x: (asks(), x)[1])(library.ones(2))


def with_fakes(library, asks):
    with library._subclasses.fake_tensor.FakeTensorMode():
        asks()


def by_make_fx(library, asks):
    from torch.fx.experimental.proxy_tensor import make_fx

    make_fx(lambda x: (asks(), x + 1)[1])(library.ones(2))


def in_compile(library, asks):
    compiled = library.compile(lambda x: (asks(), x)[1])
    compiled(library.ones(2))


WAYS = {
    "jax": (in_jit, in_grad),
    "tensorflow": (in_function, in_xla),
    "torch": (in_dynamo, in_vmap, with_fakes, by_make_fx),
    "mlx.core": (in_compile,),
}
CASES = [(name, way) for name, ways in WAYS.items() for way in ways]


@pytest.mark.parametrize(
    ("name", "way"), CASES, ids=[f"{name}-{way.__name__}" for name, way in CASES]
)
def test_the_probe_succeeds(name, way):
    library = pytest.importorskip(name, reason=f"{name} is not installed")
    if name == "jax":
        importlib.import_module("jax.numpy")
    adapter = importlib.import_module(f"agclip_backends.{name.partition('.')[0]}.adapter")
    told = []

    def asks():
        # Not `Backend.usable`, which keeps what has been found out before.
        told.append(adapter._usable.__wrapped__())
        return told[-1]

    way(library, asks)
    assert told, "nobody asked"
    assert set(told) == {None}
