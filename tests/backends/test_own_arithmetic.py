"""Subclasses of NumPy's arrays that change what arithmetic means are refused; others are arrays."""

import importlib
import re

import numpy as np
import pytest

import agclip
import matrix


class Metres(np.ndarray):
    """Multiplies its unit, as unyt and astropy do."""

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        plain = [x.view(np.ndarray) if isinstance(x, Metres) else x for x in inputs]
        return getattr(ufunc, method)(*plain, **options).view(Metres)


class Dispatched(np.ndarray):
    """Has functions of its own."""

    def __array_function__(self, function, types, arguments, options):
        return NotImplemented


class Named(np.ndarray):
    """Has a name, and NumPy's arithmetic."""

    def __array_finalize__(self, source):
        self.name = getattr(source, "name", None)


def _astropy():
    units = pytest.importorskip("astropy.units", reason=REASON)
    return [3.0, 4.0] * units.m


def _unyt(values=(3.0, 4.0)):
    unyt = pytest.importorskip("unyt", reason=REASON)
    return unyt.unyt_array(list(values), "m") if values else unyt.unyt_quantity(3.0, "m")


def _pint():
    pint = pytest.importorskip("pint", reason=REASON)
    return pint.UnitRegistry().Quantity(np.array([3.0, 4.0]), "m")


def _of(module, make):
    return lambda: make(pytest.importorskip(module, reason=REASON))


REASON = "installed by `make test-all`"
OWN = "`t` must hold dense arrays; got one that computes in a way of its own ({}) at t[1]. "
UNKNOWN = "`t` must hold arrays of a library that agclip knows; got {} at t[1]. "
NO_ARRAY = "`t` must be an array, a list of numbers, or a list, tuple, dict or registered container"
REFUSED = {
    "ufuncs": (lambda: np.ones(2).view(Metres), OWN.format(f"{__name__}.Metres")),
    "functions": (lambda: np.ones(2).view(Dispatched), OWN.format(f"{__name__}.Dispatched")),
    "masked": (
        lambda: np.ma.masked_array([1.0, 2.0]),
        "`t` must hold dense arrays; got one that is masked at t[1]. ",
    ),
    "records": (
        lambda: np.rec.array([(3.0, 4.0)], dtype=[("a", "f4"), ("b", "f4")]),
        "`t` must hold real or complex floating-point arrays; got record64 at t[1]. ",
    ),
}
STRANGE = {
    "astropy": (_astropy, OWN.format("astropy.units.quantity.Quantity")),
    "unyt": (_unyt, OWN.format("unyt.array.unyt_array")),
    "a scalar of unyt": (lambda: _unyt(()), OWN.format("unyt.array.unyt_quantity")),
    "pint": (_pint, UNKNOWN.format("pint.Quantity")),
    "xarray": (
        _of("xarray", lambda xarray: xarray.DataArray([3.0, 4.0])),
        UNKNOWN.format("xarray.core.dataarray.DataArray"),
    ),
    "a data set of xarray": (
        _of("xarray", lambda xarray: xarray.Dataset({"a": ("x", [3.0, 4.0])})),
        NO_ARRAY,
    ),
    "a series of pandas": (
        _of("pandas", lambda pandas: pandas.Series([3.0, 4.0])),
        UNKNOWN.format("pandas"),
    ),
    "a frame of pandas": (
        _of("pandas", lambda pandas: pandas.DataFrame({"a": [3.0, 4.0]})),
        NO_ARRAY,
    ),
}
CASES = [
    *(pytest.param(*case, id=name) for name, case in REFUSED.items()),
    *(pytest.param(*case, id=name, marks=pytest.mark.whole) for name, case in STRANGE.items()),
]


@pytest.fixture(params=["new", "in place"])
def function(request):
    return agclip.clip_by_norm if request.param == "new" else agclip.clip_by_norm_


@pytest.mark.parametrize(("make", "text"), CASES)
def test_it_is_refused_with_its_name_and_its_path(make, text, function):
    good = np.full(2, 8.0)
    words = text.rstrip(" .").replace(" at t[1]", "")
    with pytest.raises(TypeError, match=re.escape(words)) as caught:
        function([good, make()], 1.0)
    assert " at t[1]" in str(caught.value)
    assert good.tolist() == [8.0, 8.0]


@pytest.mark.parametrize("subject", matrix.SUBJECTS)
def test_no_function_and_no_rule_takes_it(subject):
    tree = {"w": np.ones((2, 2)).view(Metres), "b": np.ones(2)}
    with pytest.raises(TypeError, match="computes in a way of its own"):
        matrix.SUBJECTS[subject].run([tree], tree, "propagate", inplace=False)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: agclip.clip_by_norm(np.ones(2), x),
        lambda x: agclip.clip_by_value(np.ones(2), None, x),
        lambda x: agclip.clip_by_global_norm(np.ones(2), 1.0, x),
        lambda x: agclip.clip_by_norm(np.ones(2), 1.0, loss_scale=x),
        lambda x: agclip.adaptive_grad_clip([np.ones(2)], [x], unit_axes=lambda *_: None),
    ],
    ids=["bound", "bound on elements", "norm", "loss scale", "parameters"],
)
def test_a_number_with_a_unit_is_none(call):
    with pytest.raises(TypeError, match=r"Metres|way of its own"):
        call(np.asarray(3.0).view(Metres))


def test_the_largest_of_metres_and_centimetres_is_no_number():
    unyt = pytest.importorskip("unyt", reason=REASON)
    tree = [unyt.unyt_array([3.0], "m"), unyt.unyt_array([12.0], "cm")]
    with pytest.raises(TypeError, match="way of its own"):
        agclip.global_norm(tree, ord=float("inf"))


@pytest.mark.parametrize(
    "make",
    [
        lambda _: np.array([3.0, 4.0]).view(Named),
        lambda _: np.array([3.0, 4.0]).view(np.recarray),
        lambda path: np.memmap(path / "x.bin", dtype="f8", mode="w+", shape=(2,)),
    ],
    ids=["a name", "records of nothing", "a file"],
)
def test_a_subclass_with_numpys_arithmetic_stays_what_it_is(make, tmp_path):
    x = make(tmp_path)
    x[...] = [3.0, 4.0]
    clipped = agclip.clip_by_norm(x, 1.0)
    assert type(clipped) is type(x)
    assert np.asarray(clipped).tolist() == pytest.approx([0.6, 0.8])


# --- memory of libraries without an adapter ----------------------------------------------------


@pytest.fixture
def strict():
    return pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")


@pytest.mark.parametrize(
    "view",
    [
        lambda x: np.lib.stride_tricks.as_strided(x, (3,), (0,)),
        lambda x: np.lib.stride_tricks.as_strided(x, (3, 2), (8, 8)),
    ],
    ids=["a stride of 0", "a sliding window"],
)
@pytest.mark.parametrize("twin", ["clip_by_norm_", "clip_by_value_", "clip_by_global_norm_"])
def test_elements_in_the_same_memory_are_refused_without_an_adapter(strict, view, twin):
    memory = np.arange(2.0, 6.0)
    good = strict.asarray(np.full(2, 8.0))
    odd = strict.asarray(view(memory), copy=False)
    numbers = (-1.0, 1.0) if "value" in twin else (1.0,)
    with pytest.raises(TypeError, match=r"several elements in the same memory at t\w*\[1\]"):
        getattr(agclip, twin)([good, odd], *numbers)
    assert memory.tolist() == [2.0, 3.0, 4.0, 5.0]
    assert np.asarray(good).tolist() == [8.0, 8.0]


def test_memory_that_is_shared_with_devices_is_known_by_its_elements():
    memory = importlib.import_module("agclip_backends._memory")

    class Usm:
        shape = (2, 3)

        def __init__(self, **shown):
            self.__sycl_usm_array_interface__ = {
                "data": (4096, False),
                "shape": self.shape,
                "typestr": "|f8",
                **shown,
            }

    whole, moved = memory.of([Usm(strides=None), Usm(strides=(-3, 1), offset=3)])
    assert whole == memory.Memory(4096, [24, 8], 8)
    assert moved == memory.Memory(4096 + 24, [-24, 8], 8)
    assert memory.elements(whole, (2, 3)) == memory.elements(moved, (2, 3))
