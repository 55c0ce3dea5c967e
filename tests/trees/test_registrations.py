"""What is registered holds from the next call on, whatever calls before have kept for themselves.

Functions and rules are run before a registration, so that every table and cache is filled, and
after it.
"""

import dataclasses
import importlib
import inspect
import threading

import numpy as np
import pytest

import agclip
import arrays
from agclip._backends import registry as _registry
from thinned import thinned


@pytest.fixture(autouse=True)
def _registry_as_before(tmp_path):
    with arrays.registry(tmp_path) as lent:
        yield lent


CLIPPER = agclip.Clipper(agclip.ClipByNorm(1.0))
CALLS = {
    "a clip of elements": lambda tree: agclip.clip_by_value(tree, -0.5, 0.5),
    "a clip by norms": lambda tree: agclip.clip_by_norm(tree, 1.0),
    "a clip by one norm": lambda tree: agclip.clip_by_global_norm(tree, 1.0)[0],
    "a clip with parameters": lambda tree: agclip.adaptive_grad_clip(
        tree, tree, 0.5, unit_axes="out_in"
    ),
    "a rule with memory": lambda tree: agclip.QuantileClip(0.5).update(tree, ())[0],
    "a clipper that was made before": lambda tree: CLIPPER(tree)[0],
}


@pytest.fixture(params=CALLS)
def call(request):
    return CALLS[request.param]


# --- containers --------------------------------------------------------------------------------


class Labelled(np.ndarray):
    """An array of NumPy's to all who do not know better."""


class ByItself:
    """An array by its namespace, which no adapter knows."""

    def __init__(self, values):
        self.values = values

    dtype = property(lambda self: self.values.dtype)
    shape = property(lambda self: self.values.shape)
    ndim = property(lambda self: self.values.ndim)
    __mul__ = None

    def __array_namespace__(self, api_version=None):
        return importlib.import_module("array_api_strict")


ARRAY_LIKE = {
    "a subclass of arrays": (
        lambda: np.full(4, 8.0).view(Labelled),
        lambda x: ((np.array(x),), None),
        lambda _, new: new[0].view(Labelled),
    ),
    "an array by its namespace": (
        lambda: ByItself(np.full(4, 8.0)),
        lambda x: ((x.values,), None),
        lambda _, new: ByItself(*new),
    ),
}


@pytest.fixture(params=ARRAY_LIKE)
def array_like(request):
    return ARRAY_LIKE[request.param]


def seen(lists, build):
    def kept(aux, new):
        lists.append(new)
        return build(aux, new)

    return kept


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "in a list"])
def test_a_container_is_one_though_its_class_was_one_of_arrays(array_like, call, alone):
    make, take_apart, put_together = array_like
    assert _registry.resolve(make()) is not None, "it is known as an array by now"
    built = []
    agclip.register_container(type(make()), take_apart, seen(built, put_together))
    clipped = call(make() if alone else [make(), make()])
    for one in [clipped] if alone else clipped:
        assert type(one) is type(make())
    assert len(built) == (1 if alone else 2)
    assert all(type(new) is np.ndarray and new.max() < 8 for (new,) in built)


def test_a_path_leads_into_what_had_none():
    good, bad = np.full(4, 8.0).view(Labelled), np.ones(4, bool).view(Labelled)
    agclip.clip_by_norm([good], 1.0)
    agclip.register_container(Labelled, lambda x: ((np.array(x),), None, ("held",)), _none)
    with pytest.raises(TypeError, match=r"got bool at t\[0\]\['held'\]\."):
        agclip.clip_by_norm([bad], 1.0)


def test_a_call_in_another_thread_enters_no_class_again():
    # It has begun before the registration, and ends after it.
    begun, done = threading.Event(), threading.Event()

    class Slow(np.ndarray):
        @property
        def dtype(self):
            if threading.current_thread() is not threading.main_thread():
                begun.set()
                assert done.wait(60)
            return np.ndarray.dtype.__get__(self)

    other = threading.Thread(target=lambda: _registry.resolve(np.ones(2).view(Slow)))
    other.start()
    assert begun.wait(60)
    agclip.register_container(Slow, lambda x: ((np.array(x),), None), lambda _, new: new[0])
    done.set()
    other.join()
    assert _registry.resolve(np.ones(2).view(Slow)) is None


# --- backends ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    thinned(arrays.LIBRARIES, lambda name: name not in ("jax", "tensorflow", "dask")),
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_backend_replaces_one_that_has_been_called_and_compiled(name, call):
    lib = arrays.library(name)
    tree = [lib.array([[8.0, 8.0]]), lib.array([8.0])]
    call(tree)
    before, asked = agclip.get_backend(name), []

    def counted(kernel):
        def replaced(*arguments, **options):
            asked.append(kernel)
            return kernel(*arguments, **options)

        return replaced

    kernels = ("clip", "sum_squares", "access")
    replaced = {field: counted(getattr(before, field)) for field in kernels}
    agclip.register_backend(dataclasses.replace(before, survey=_none, fused=_none, **replaced))
    call(tree)
    assert asked
    count = len(asked)
    agclip.register_backend(before)
    call(tree)
    assert len(asked) == count


def _none(*_):
    return None


def test_every_registration_is_tried():
    found = {
        name
        for name, value in inspect.getmembers(agclip, callable)
        if name.startswith("register") and inspect.isfunction(value)
    }
    assert found == {"register_backend", "register_container"}
