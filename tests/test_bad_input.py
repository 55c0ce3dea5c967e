"""Bad input to every function: an error that names the place, and no input is changed by it."""

import functools
import math
import re
import warnings
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import agclip
import arrays
from agclip._backends import shapes

NAN, INF = float("nan"), float("inf")


class Function(NamedTuple):
    """A public function of a tree, with options that are right unless others are given."""

    call: Callable[..., Any]
    tree: str
    bound: str | None = None


def by_value(function):
    return Function(functools.partial(function, clip_value_min=-1.0, clip_value_max=1.0), "t")


def by_norm(function, tree="t", bound="clip_norm"):
    return Function(functools.partial(function, **{bound: 1.0}), tree, bound)


def adaptive(function):
    def call(grads, **options):
        return function(grads, **{"params": grads, "unit_axes": "out_in", **options})

    return Function(call, "grads", "clipping")


RETURNING = {
    "clip_by_value": by_value(agclip.clip_by_value),
    "clip_by_norm": by_norm(agclip.clip_by_norm),
    "clip_by_average_norm": by_norm(agclip.clip_by_average_norm),
    "clip_by_rms": by_norm(agclip.clip_by_rms, bound="clip_rms"),
    "clip_by_global_norm": by_norm(agclip.clip_by_global_norm, "t_list"),
    "adaptive_grad_clip": adaptive(agclip.adaptive_grad_clip),
    "clip_per_example": by_norm(agclip.clip_per_example, "grads"),
    "global_norm": Function(agclip.global_norm, "t_list"),
}
IN_PLACE = {
    "clip_by_value_": by_value(agclip.clip_by_value_),
    "clip_by_norm_": by_norm(agclip.clip_by_norm_),
    "clip_by_average_norm_": by_norm(agclip.clip_by_average_norm_),
    "clip_by_rms_": by_norm(agclip.clip_by_rms_, bound="clip_rms"),
    "clip_by_global_norm_": by_norm(agclip.clip_by_global_norm_, "t_list"),
    "adaptive_grad_clip_": adaptive(agclip.adaptive_grad_clip_),
}
FUNCTIONS = {**RETURNING, **IN_PLACE}
BY_VALUE = {name: f for name, f in FUNCTIONS.items() if "value" in name}
BY_NORM = {name: f for name, f in FUNCTIONS.items() if "value" not in name}
BOUNDED = {name: f for name, f in FUNCTIONS.items() if f.bound is not None}
WITH_ORDER = ("clip_by_norm", "clip_by_norm_", "clip_by_global_norm", "clip_by_global_norm_")


def chosen(functions):
    """A fixture with each of some functions."""

    @pytest.fixture(params=functions)
    def function(request):
        return FUNCTIONS[request.param]

    return function


function = chosen(FUNCTIONS)
value_clip = chosen(BY_VALUE)
norm_function = chosen(BY_NORM)
bounded = chosen(BOUNDED)
returning_by_norm = chosen([name for name in RETURNING if "value" not in name])
in_place = chosen(IN_PLACE)
in_place_by_norm = chosen([name for name in IN_PLACE if "value" not in name])
of_order = chosen([*WITH_ORDER, "global_norm"])


def x():
    return np.asarray([3.0, 4.0], dtype=np.float32)


def described(found):
    """How a message names the kind of an object."""
    return f"the class {found.__qualname__}" if isinstance(found, type) else type(found).__name__


def rows():
    return np.asarray([[3.0, 4.0], [6.0, 8.0]], dtype=np.float32)


def with_last(bad, good=None):
    """A nested tree whose last leaf is bad."""
    return {"layer": [x() if good is None else good, None, (bad,)]}


PATH = re.escape("['layer'][2][0]")


# --- the guard itself --------------------------------------------------------------------------


@pytest.mark.parametrize("name", arrays.WRITABLE)
def test_the_guard_sees_a_changed_bit(name):
    leaf = arrays.library(name).array([0.0, 1.0])
    with pytest.raises(AssertionError, match="was changed"), arrays.unchanged([leaf]):
        leaf[0] = -0.0


def test_the_guard_sees_a_changed_tree():
    tree = {"a": [x()]}
    with pytest.raises(AssertionError, match="was changed"), arrays.unchanged(tree):
        tree["a"].append(None)


@pytest.mark.parametrize("name", arrays.LIBRARIES)
def test_the_guard_sees_no_change_where_there_is_none(name):
    leaf = arrays.library(name).array([3.0, 4.0])
    with arrays.unchanged(leaf):
        agclip.global_norm(leaf)
    assert arrays.fingerprint(leaf) == arrays.fingerprint(leaf)


# --- what is no array --------------------------------------------------------------------------

NO_ARRAYS = {
    "str": "abc",
    "bytes": b"abc",
    "bytearray": bytearray(b"abc"),
    "set": {1.0, 2.0},
    "frozenset": frozenset({1.0}),
    "object": object(),
    "module": math,
    "dtype": np.dtype("float32"),
    "class": float,
    "function": len,
    "range": range(3),
    "Decimal": Decimal(1),
    "Fraction": Fraction(1, 2),
    "ellipsis": ...,
    "keys": {"a": 1.0}.keys(),
    "items": {"a": 1.0}.items(),
    "memoryview": memoryview(b"abc"),
}


@pytest.fixture(params=NO_ARRAYS)
def no_array(request):
    return NO_ARRAYS[request.param]


def test_what_is_no_array_is_named_by_its_path(function, no_array):
    tree, found = with_last(no_array), re.escape(described(no_array))
    text = f"^`{function.tree}` must be an array, .*; got {found} at {function.tree}{PATH}. Take"
    with arrays.unchanged(tree), pytest.raises(TypeError, match=text):
        function.call(tree)


def test_what_is_no_array_is_named_alone(no_array):
    found = re.escape(described(no_array))
    with pytest.raises(TypeError, match=f"^`t` must be an array, .*; got {found} at t. Take"):
        agclip.clip_by_norm(no_array, 1.0)


class Foreign:
    """An array of a library that agclip knows nothing of, and that knows no standard."""

    dtype, shape, __mul__ = "float32", (2,), None


def test_an_array_that_no_backend_claims_is_an_array_all_the_same(function):
    tree = with_last(Foreign())
    text = (
        f"^`{function.tree}` must hold arrays of a library that agclip knows; got "
        rf"{__name__}\.Foreign at {function.tree}{PATH}\. A library that follows the Python Array "
        r"API standard needs no more; for another one see agclip\.register_backend\.$"
    )
    with arrays.unchanged(tree), pytest.raises(TypeError, match=text):
        function.call(tree)


def test_a_class_of_arrays_that_no_backend_claims_is_no_array():
    text = r"^`t` must be an array, .*; got the class Foreign at t\[0\]\. Take it out, or see"
    with pytest.raises(TypeError, match=text):
        agclip.clip_by_norm([Foreign], 1.0)


@pytest.mark.parametrize("cls", [np.ndarray, np.float32], ids=lambda cls: cls.__name__)
def test_a_class_of_arrays_is_no_array(cls):
    tree = with_last(cls)
    text = f"^`t` must be an array, .*; got the class {cls.__name__} at t{PATH}. Take it out"
    with arrays.unchanged(tree), pytest.raises(TypeError, match=text):
        agclip.clip_by_norm(tree, 1.0)


def test_a_class_of_arrays_is_no_threshold():
    tree = [x()]
    text = r"^`clip_norm` must be a number >= 0, or None for no clipping; got the class float32\.$"
    with arrays.unchanged(tree), pytest.raises(TypeError, match=text):
        agclip.clip_by_norm(tree, np.float32)


# --- dtypes ------------------------------------------------------------------------------------

NO_NUMBERS = ("bool", "str", "bytes", "object", "datetime64[D]", "timedelta64[s]", "f4,i4")
NOT_FLOATING = ("int8", "int32", "int64", "uint8", "uint64", *NO_NUMBERS)


def of_dtype(dtype):
    return np.zeros(2, dtype=dtype)


@pytest.mark.parametrize("dtype", NOT_FLOATING)
def test_a_norm_wants_floating_point_arrays(norm_function, dtype):
    tree, name = with_last(of_dtype(dtype)), re.escape(of_dtype(dtype).dtype.name)
    text = (
        f"^`{norm_function.tree}` must hold real or complex floating-point arrays; "
        f"got {name} at {norm_function.tree}{PATH}. Convert it with astype, or take it out"
    )
    with arrays.unchanged(tree), pytest.raises(TypeError, match=text):
        norm_function.call(tree)


@pytest.mark.parametrize("dtype", ["complex64", "complex128", *NO_NUMBERS])
def test_a_value_clip_wants_real_arrays(value_clip, dtype):
    tree, name = with_last(of_dtype(dtype)), re.escape(of_dtype(dtype).dtype.name)
    text = (
        "^`t` must hold real floating-point or integer arrays; "
        f"got {name} at t{PATH}. Convert it with astype, or take it out"
    )
    with arrays.unchanged(tree), pytest.raises(TypeError, match=text):
        value_clip.call(tree)


@pytest.mark.parametrize("dtype", ["int32", "bool"])
@pytest.mark.parametrize("name", arrays.LIBRARIES)
def test_every_library_is_asked_for_floating_point_arrays(name, dtype):
    lib = arrays.library(name)
    tree = with_last(lib.array([1, 0], dtype), lib.array([3.0, 4.0]))
    with (
        arrays.unchanged(tree),
        pytest.raises(TypeError, match=f"arrays; got {dtype} at t_list{PATH}. Convert"),
    ):
        agclip.clip_by_global_norm(tree, 1.0)


@pytest.mark.parametrize("dtype", ["complex64", "bool"])
@pytest.mark.parametrize("name", arrays.LIBRARIES)
def test_every_library_is_asked_for_real_arrays(name, dtype):
    lib = arrays.library(name)
    tree = with_last(lib.array([1, 0], dtype), lib.array([3.0, 4.0]))
    with (
        arrays.unchanged(tree),
        pytest.raises(TypeError, match=f"arrays; got {dtype} at t{PATH}. Convert"),
    ):
        agclip.clip_by_value(tree, 0, 1)


@pytest.mark.parametrize("number", [True, [True, False], [1.0, True]])
def test_truth_values_are_no_numbers(function, number):
    tree = {"w": number}
    with arrays.unchanged(tree), pytest.raises(TypeError, match=f"^`{function.tree}` must hold"):
        function.call(tree)


# --- arrays of a special kind ------------------------------------------------------------------


def test_a_masked_array_is_refused(function):
    tree = with_last(np.ma.masked_array(x(), mask=[True, False]))
    text = f"must hold dense arrays; got one that is masked at {function.tree}{PATH}. Convert"
    with arrays.unchanged(tree), pytest.raises(TypeError, match=text):
        function.call(tree)


def test_a_matrix_is_refused(function):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        tree = with_last(np.matrix([[3.0, 4.0]]))
    text = f"must hold dense arrays; got one that is a matrix at {function.tree}{PATH}. Convert"
    with arrays.unchanged(tree), pytest.raises(TypeError, match=text):
        function.call(tree)


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed")


def test_a_tensor_of_another_layout_is_refused(function, torch):
    tree = with_last(torch.eye(2).to_mkldnn(), torch.ones(2))
    text = rf"got one that has the layout torch\._mkldnn at {function.tree}{PATH}. Convert"
    with arrays.unchanged(tree), pytest.raises(TypeError, match=text):
        function.call(tree)


def test_a_ragged_batch_of_tensors_is_refused(function, torch):
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged)
    with pytest.raises(TypeError, match=rf"layout torch\.jagged at {function.tree}\[1\]\."):
        function.call([torch.ones(2), nested])


WIDE_UNSIGNED = pytest.mark.parametrize("dtype", ["uint16", "uint32", "uint64"])


@WIDE_UNSIGNED
def test_wide_unsigned_tensors_are_refused(function, torch, dtype):
    # PyTorch lacks most operations on these dtypes, comparisons among them.
    tree = with_last(arrays.library("torch").array([3, 400], dtype), torch.asarray([3.0, 400.0]))
    text = (
        f"^`{function.tree}` must hold dense arrays; got one that has the dtype torch.{dtype}, "
        f"which torch cannot compare at {function.tree}{PATH}. Convert it first.$"
    )
    with arrays.unchanged(tree), pytest.raises(TypeError, match=text):
        function.call(tree)


@WIDE_UNSIGNED
@pytest.mark.parametrize("name", ["clip_value_min", "clip_value_max"])
def test_wide_unsigned_tensors_are_no_bounds(value_clip, torch, name, dtype):
    tree, bound = [torch.asarray([3, 4])], arrays.library("torch").array([3, 4], dtype)
    text = rf"^`{name}` must be a real number, an array of them, or None; got Tensor\.$"
    with arrays.unchanged(tree, bound), pytest.raises(TypeError, match=text):
        value_clip.call(tree, **{"clip_value_min": None, "clip_value_max": None, name: bound})


@WIDE_UNSIGNED
def test_a_wide_unsigned_tensor_is_no_threshold(bounded, torch, dtype):
    tree, bound = [torch.asarray([3.0, 4.0])], arrays.library("torch").array(3, dtype)
    text = rf"^`{bounded.bound}` must be a number >= 0, or None for no clipping; got Tensor\.$"
    with arrays.unchanged(tree, bound), pytest.raises(TypeError, match=text):
        bounded.call(tree, **{bounded.bound: bound})


def test_a_tensor_without_data_cannot_be_checked(torch):
    tree = [torch.ones(2, device="meta")]
    text = '^`nonfinite` must not be "error" for traced arrays, .*; got traced arrays of torch in'
    with arrays.unchanged(tree), pytest.raises(ValueError, match=text):
        agclip.clip_by_norm(tree, 1.0, nonfinite="error")


def test_a_tensor_without_data_in_the_place_of_a_threshold_is_refused(torch):
    tree, bound = [x()], torch.ones((), device="meta")
    with (
        arrays.unchanged(tree),
        pytest.raises(
            TypeError, match="must be a number or a 0-d array of numpy, as the leaves are"
        ),
    ):
        agclip.clip_by_norm(tree, bound)


def test_a_delayed_call_of_dask_is_refused():
    dask = pytest.importorskip("dask", reason="Dask is not installed")
    with pytest.raises(TypeError, match=r"^`t` must hold dense arrays; got one that is no dask"):
        agclip.clip_by_norm(dask.delayed(np.ones)(2), 1.0)


@pytest.fixture
def unsized():
    """A lazy array whose size is a question that only computing it answers."""
    da = pytest.importorskip("dask.array", reason="Dask is not installed")
    leaf = da.asarray([0.5, 3.0, 4.0])
    return leaf[leaf > 1]


@pytest.mark.parametrize("name", ["clip_by_rms", "clip_by_average_norm"])
def test_an_average_wants_a_known_size(unsized, name):
    text = rf"^`t` must have a known size; got shape \(nan,\) at t{PATH}\. Let the library compute"
    with pytest.raises(ValueError, match=text):
        FUNCTIONS[name].call(with_last(unsized, arrays.library("dask").array([3.0, 4.0])))


def test_a_size_that_is_not_known_yet_is_no_matter_to_a_norm(unsized):
    assert agclip.clip_by_norm(unsized, 1.0).compute().tolist() == pytest.approx([0.6, 0.8])


# --- two libraries -----------------------------------------------------------------------------

MIXED = [("numpy", name) for name in arrays.LIBRARIES[1:]] + [("torch", "jax"), ("jax", "dask")]


@pytest.mark.parametrize(("first", "second"), MIXED)
def test_two_libraries_are_named_with_their_paths(function, first, second):
    one, two = (arrays.library(name).array([3.0, 4.0]) for name in (first, second))
    tree = {"a": None, "b": [one, one], "c": {"d": two}}
    text = (
        "^the arrays of one call must come from one library; got "
        rf"{first} at {function.tree}\['b'\]\[0\] and {second} at {function.tree}\['c'\]\['d'\]\. "
    )
    with arrays.unchanged(tree), pytest.raises(TypeError, match=text):
        function.call(tree)


# --- what cannot be written --------------------------------------------------------------------


def read_only():
    leaf = x()
    leaf.setflags(write=False)
    return leaf


def repeated():
    return np.lib.stride_tricks.as_strided(x(), (3, 2), (0, 4))


NUMPY_UNWRITABLE = {
    "read-only": (read_only, "is read-only"),
    "broadcast": (lambda: np.broadcast_to(x(), (3, 2)), "is read-only"),
    "scalar": (lambda: np.float32(3.0), "is an immutable scalar"),
    "stride of 0": (repeated, "holds several elements in the same memory"),
}


@pytest.mark.parametrize("kind", NUMPY_UNWRITABLE)
def test_what_cannot_be_written_is_found_before_anything_is(in_place, kind):
    make, reason = NUMPY_UNWRITABLE[kind]
    tree = with_last(make())
    text = f"written in place; got one that {reason} at {in_place.tree}{PATH}. Use the function"
    with arrays.unchanged(tree), pytest.raises(TypeError, match=text):
        in_place.call(tree)


def test_numbers_cannot_be_written(in_place):
    tree = {"w": x(), "b": [None, 5.0, x()]}
    text = (
        rf"written in place; got Python numbers at {in_place.tree}\['b'\]\[1\]\. Use the function"
    )
    with arrays.unchanged(tree), pytest.raises(TypeError, match=text):
        in_place.call(tree)


@pytest.mark.parametrize(("name", "reason"), [("jax", "is immutable"), ("dask", "is lazy")])
def test_immutable_arrays_cannot_be_written(in_place, name, reason):
    tree = with_last(arrays.library(name).array([3.0, 4.0]), arrays.library(name).array([1.0]))
    with (
        arrays.unchanged(tree),
        pytest.raises(
            TypeError, match=rf"got one that {reason}.* at {in_place.tree}\['layer'\]\[0\]\."
        ),
    ):
        in_place.call(tree)


TORCH_UNWRITABLE = {
    "recorded": (
        lambda torch: torch.ones(2, requires_grad=True),
        "is a leaf that requires grad",
    ),
    "expanded": (
        lambda torch: torch.ones(1).expand(3),
        "holds several elements in the same memory",
    ),
    "inference": (
        lambda torch: torch.inference_mode()(torch.ones)(2),
        "was made in inference mode",
    ),
}


@pytest.mark.parametrize("kind", TORCH_UNWRITABLE)
def test_tensors_that_cannot_be_written_are_found_before_anything_is(in_place, torch, kind):
    make, reason = TORCH_UNWRITABLE[kind]
    tree = with_last(make(torch), torch.asarray([3.0, 4.0]))
    text = f"written in place; got one that {reason}.* at {in_place.tree}{PATH}. Use the function"
    with arrays.unchanged(tree), pytest.raises(TypeError, match=text):
        in_place.call(tree)


def test_a_parameter_may_be_written_where_nothing_is_recorded(in_place_by_norm, torch):
    parameter = torch.nn.Parameter(torch.asarray([3.0, 4.0]))
    with torch.no_grad():
        in_place_by_norm.call([parameter], **{in_place_by_norm.bound: 0.0})
    assert parameter.tolist() == [0.0, 0.0]


# PyTorch refuses to write into these; agclip has to ask before it writes into their neighbours.
RECORDED_VIEWS = {
    "a view of a parameter": lambda torch: torch.nn.Parameter(torch.ones(3))[:2],
    "one of several views": lambda torch: (torch.ones(2, 2, requires_grad=True) * 3).unbind(0)[0],
}


@pytest.mark.parametrize("kind", RECORDED_VIEWS)
def test_a_view_that_autograd_protects_is_found_before_anything_is_written(torch, kind):
    tree = with_last(RECORDED_VIEWS[kind](torch), torch.asarray([300.0, 400.0]))
    reason = "is a view that autograd keeps track of"
    with (
        arrays.unchanged(tree),
        pytest.raises(TypeError, match=f"written in place; got one that {reason} at t{PATH}. Use"),
    ):
        agclip.clip_by_norm_(tree, 1.0)


OVERLAPPING = {
    "numpy": lambda: np.lib.stride_tricks.as_strided(np.arange(4.0), (3, 2), (8, 8)),
    "torch": lambda: arrays.library("torch").array(np.arange(4.0)).unfold(0, 2, 1),
}


@pytest.mark.parametrize("name", OVERLAPPING)
def test_overlapping_windows_cannot_be_written(name):
    lib = arrays.library(name)
    tree = with_last(OVERLAPPING[name](), lib.array([3.0, 4.0]))
    reason = "holds several elements in the same memory"
    with (
        arrays.unchanged(tree),
        pytest.raises(TypeError, match=f"written in place; got one that {reason} at t{PATH}. Use"),
    ):
        agclip.clip_by_norm_(tree, 1.0)


def strided(shape, strides):
    """A view of doubles with strides given in entries."""
    return np.lib.stride_tricks.as_strided(
        np.zeros(64)[32:], shape, [8 * stride for stride in strides]
    )


LAYOUTS = {
    "contiguous": (lambda: np.zeros((4, 6)), False),
    "without axes": (lambda: np.zeros(()), False),
    "one entry": (lambda: np.broadcast_to(np.zeros(1), (1, 1)), False),
    "transposed": (lambda: np.zeros((4, 6)).T, False),
    "axes in another order": (lambda: np.zeros((2, 3, 4)).transpose(1, 2, 0), False),
    "every second entry": (lambda: np.zeros((4, 6))[::2, 1::3], False),
    "reversed": (lambda: np.zeros(6)[::-1], False),
    "reversed along both axes": (lambda: np.zeros((4, 6))[::-1, ::-2], False),
    "diagonal": (lambda: np.zeros((4, 4)).diagonal(), False),
    "a part of a record": (lambda: np.zeros(3, "f4,f8")["f1"], False),
    "stride of 0": (lambda: np.broadcast_to(np.zeros(3), (2, 3)), True),
    "stride of 0 within": (lambda: np.broadcast_to(np.zeros((3, 1)), (3, 2)), True),
    "stride of 0 along an axis of 1": (lambda: strided((1, 3), (0, 1)), False),
    "sliding window": (
        lambda: np.lib.stride_tricks.sliding_window_view(np.zeros(6), 3),
        True,
    ),
    "windows side by side": (lambda: strided((2, 3), (3, 1)), False),
    "windows that run backwards": (lambda: strided((3, 3), (-1, 1)), True),
    "windows apart that run backwards": (lambda: strided((3, 3), (-3, 1)), False),
    "less than an entry apart": (
        lambda: np.lib.stride_tricks.as_strided(np.zeros(4), (3,), (4,)),
        True,
    ),
    "empty": (lambda: np.zeros((0, 3)), False),
    "empty with a stride of 0": (lambda: np.broadcast_to(np.zeros((0, 1)), (0, 3)), False),
}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_a_layout_overlaps_itself_or_not(kind):
    make, overlaps = LAYOUTS[kind]
    view = make()
    assert shapes.overlaps_itself(view.shape, view.strides, view.itemsize) is overlaps


AXES = st.lists(st.tuples(st.integers(0, 4), st.integers(-9, 9)), max_size=3)


@settings(deadline=None)
@given(AXES, st.integers(1, 3))
def test_what_is_said_not_to_overlap_does_not(axes, itemsize):
    shape, strides = [n for n, _ in axes], [stride for _, stride in axes]
    starts = [0]
    for length, stride in axes:
        starts = [start + i * stride for start in starts for i in range(length)]
    taken = [start + byte for start in starts for byte in range(itemsize)]
    assert len(set(taken)) == len(taken) or shapes.overlaps_itself(shape, strides, itemsize)


# --- Python numbers ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ragged", "shapes"),
    [
        ([[1.0, 2.0], [3.0]], ("(2,) at {}[0]", "(1,) at {}[1]")),
        ([[1.0], 2.0], ("(1,) at {}[0]", "() at {}[1]")),
        ([[[1.0]], [[1.0, 2.0]]], ("(1, 1) at {}[0]", "(1, 2) at {}[1]")),
        (((1.0, 2.0), [1.0, 2.0], [1.0]), ("(2,) at {}[0]", "(1,) at {}[2]")),
    ],
)
def test_a_nested_list_of_numbers_is_rectangular(ragged, shapes):
    first, second = (shape.format("t['w']") for shape in shapes)
    text = f"must be rectangular; got shapes {first} and {second}. Pass arrays"
    with arrays.unchanged(ragged), pytest.raises(ValueError, match=re.escape(text)):
        agclip.clip_by_norm({"w": ragged}, 1.0)


def test_an_empty_row_is_no_row_of_numbers():
    # What holds a list without numbers is a container, so `[1.0]` and 2.0 are tensors here.
    clipped = agclip.clip_by_norm([[2.0], [], 2.0], 1.0)
    assert [len(clipped), clipped[0].tolist(), clipped[1], float(clipped[2])] == [3, [1.0], [], 1.0]


@pytest.mark.parametrize("number", [1e39, -1e39, 10**39, 10**400, -(10**400), 1.7e308])
def test_a_number_has_to_fit_float32(returning_by_norm, number):
    tree, name = {"w": [1.0, number]}, returning_by_norm.tree
    text = rf"^numbers at {name}\['w'\] must fit float32; got -?1.*\. Pass an array"
    with arrays.unchanged(tree), pytest.raises(ValueError, match=text):
        returning_by_norm.call(tree)


def test_a_complex_number_beyond_all_floats_has_to_fit_float32():
    with pytest.raises(ValueError, match=r"^numbers at t must fit float32; got \(1\.7e\+308"):
        agclip.clip_by_norm([complex(1.7e308, 1.7e308)], 1.0)


def test_a_complex_number_fits_if_its_parts_do():
    (z,) = agclip.clip_by_norm([complex(3e38, 3e38)], 1.0).tolist()
    assert abs(z) == pytest.approx(1.0)


@pytest.mark.parametrize("number", [2**31, -(2**31) - 1, 10**400])
def test_an_integer_has_to_fit_32_bits(number):
    text = r"^numbers at t\[0\] must fit a 32-bit integer; got -?[12]\d+\. Pass an array instead\.$"
    with pytest.raises(ValueError, match=text):
        agclip.clip_by_value([[1, number], {}], 0, 1)


@pytest.mark.parametrize("number", [2**31 - 1, -(2**31)])
def test_the_outermost_integers_of_32_bits_fit(number):
    assert agclip.clip_by_value([number], None, None).tolist() == [number]


@pytest.mark.parametrize("number", [3.4028234663852886e38, INF, NAN])
def test_the_outermost_numbers_of_float32_fit(number):
    (value,) = agclip.clip_by_norm([number], None).tolist()
    assert value == number or value != value


# --- thresholds --------------------------------------------------------------------------------

REAL = "must be a number >= 0, or None for no clipping"
BAD_THRESHOLDS = {
    "-1": (-1, ValueError, "must be a number >= 0, or None for no clipping; got -1.0"),
    "-0.5": (np.float32(-0.5), ValueError, "must be a number >= 0, .*; got -0.5"),
    "-inf": (-INF, ValueError, "must be a number >= 0, .*; got -inf"),
    "nan": (NAN, ValueError, "must be a number >= 0, .*; got nan"),
    "0-d -1": (np.asarray(-1.0), ValueError, "must be a number >= 0, .*; got -1.0"),
    "0-d nan": (np.asarray(NAN), ValueError, "must be a number >= 0, .*; got nan"),
    "fraction": (Fraction(-1, 2), ValueError, "must be a number >= 0, .*; got -0.5"),
    "list": ([1.0], ValueError, "must be a scalar; got a list"),
    "tuple": ((), ValueError, "must be a scalar; got a tuple"),
    "vector": (np.ones(1), ValueError, r"must be a scalar; got an array of shape \(1,\)"),
    "matrix": (np.ones((2, 0)), ValueError, r"must be a scalar; got an array of shape \(2, 0\)"),
    "str": ("1", TypeError, f"{REAL}; got str"),
    "bytes": (b"1", TypeError, f"{REAL}; got bytes"),
    "True": (True, TypeError, f"{REAL}; got bool"),
    "complex": (1j, TypeError, f"{REAL}; got complex"),
    "0-d bool": (np.asarray(True), TypeError, f"{REAL}; got an array of bool"),
    "0-d complex": (np.asarray(1j), TypeError, f"{REAL}; got an array of complex128"),
    "0-d object": (np.asarray(None), TypeError, f"{REAL}; got an array of object"),
    "Decimal": (Decimal(1), TypeError, f"{REAL}; got Decimal"),
    "dict": ({}, TypeError, f"{REAL}; got dict"),
    "class": (float, TypeError, f"{REAL}; got the class float"),
    "object": (object(), TypeError, f"{REAL}; got object"),
    "function": (len, TypeError, f"{REAL}; got builtin_function_or_method"),
}


@pytest.mark.parametrize("kind", BAD_THRESHOLDS)
def test_a_threshold_is_one_number_from_zero_upwards(bounded, kind):
    value, error, text = BAD_THRESHOLDS[kind]
    tree = [x(), {"b": x()}]
    with (
        arrays.unchanged(tree, value),
        pytest.raises(error, match=rf"^`{bounded.bound}` {text}\.$"),
    ):
        bounded.call(tree, **{bounded.bound: value})


@pytest.mark.parametrize("kind", BAD_THRESHOLDS)
def test_a_threshold_is_checked_for_an_empty_tree_too(kind):
    value, error, text = BAD_THRESHOLDS[kind]
    with pytest.raises(error, match=rf"^`clip_norm` {text}\.$"):
        agclip.clip_by_norm([], value)


@pytest.mark.parametrize("name", ["torch", "jax"])
@pytest.mark.parametrize("value", [-1.0, NAN])
def test_a_threshold_in_an_array_that_can_be_read_is_checked(name, value):
    lib = arrays.library(name)
    tree = [lib.array([3.0, 4.0])]
    with (
        arrays.unchanged(tree),
        pytest.raises(ValueError, match=f"^`clip_norm` must be a number >= 0, .*; got {value}"),
    ):
        agclip.clip_by_norm(tree, lib.array(value))


def test_a_learned_threshold_is_checked(torch):
    tree, bound = [torch.asarray([3.0, 4.0])], torch.tensor(-1.0, requires_grad=True)
    with (
        arrays.unchanged(tree, bound),
        pytest.raises(ValueError, match=r"^`clip_norm` must be a number >= 0, .*; got -1\.0"),
    ):
        agclip.clip_by_norm(tree, bound)


@pytest.mark.parametrize(("leaf", "bound"), [("numpy", "jax"), ("torch", "jax"), ("jax", "dask")])
def test_a_threshold_of_another_library_is_refused(leaf, bound):
    tree = [arrays.library(leaf).array([3.0, 4.0])]
    text = f"`clip_norm` must be a number or a 0-d array of {leaf}, .*; got one of {bound}. Convert"
    with arrays.unchanged(tree), pytest.raises(TypeError, match=text):
        agclip.clip_by_norm(tree, arrays.library(bound).array(1.0))


def test_an_integer_beyond_all_floats_is_no_bound():
    # A bound is a number >= 0, and this is one: larger than any norm.
    assert agclip.clip_by_norm(x(), 10**400).tolist() == [3.0, 4.0]


def test_a_negative_integer_beyond_all_floats_is_refused():
    with pytest.raises(ValueError, match=r"^`clip_norm` must be a number >= 0"):
        agclip.clip_by_norm(x(), -(10**400))


def test_a_loss_scale_beyond_all_floats_is_refused():
    with pytest.raises(ValueError, match=r"^`loss_scale` must be a finite number > 0"):
        agclip.global_norm(x(), loss_scale=10**400)


# --- loss scale, given norm, policy, order -----------------------------------------------------

BAD_SCALES = {
    "0": (0, ValueError, "must be a finite number > 0, or None; got 0.0"),
    "-2": (-2.0, ValueError, "must be a finite number > 0, or None; got -2.0"),
    "inf": (INF, ValueError, "must be a finite number > 0, or None; got inf"),
    "nan": (NAN, ValueError, "must be a finite number > 0, or None; got nan"),
    "0-d 0": (np.asarray(0.0), ValueError, "must be a finite number > 0, or None; got 0.0"),
    "vector": (np.ones(2), ValueError, r"must be a scalar; got an array of shape \(2,\)"),
    "list": ([2.0], ValueError, "must be a scalar; got a list"),
    "str": ("2", TypeError, "must be a finite number > 0, or None; got str"),
    "True": (True, TypeError, "must be a finite number > 0, or None; got bool"),
    "complex": (2j, TypeError, "must be a finite number > 0, or None; got complex"),
}


@pytest.mark.parametrize("kind", BAD_SCALES)
def test_a_loss_scale_is_a_positive_number(function, kind):
    value, error, text = BAD_SCALES[kind]
    tree = [x(), {"b": x()}]
    with arrays.unchanged(tree), pytest.raises(error, match=rf"^`loss_scale` {text}\.$"):
        function.call(tree, loss_scale=value)


def test_integers_have_no_loss_scale(value_clip):
    tree = [x(), np.asarray([3, 4])]
    text = (
        r"^`loss_scale` must be None for integer arrays; got one for int64 at t\[1\]\. Convert the "
        r"leaf, or divide it yourself\.$"
    )
    with arrays.unchanged(tree), pytest.raises(TypeError, match=text):
        value_clip.call(tree, clip_value_min=0, clip_value_max=1, loss_scale=2.0)


BAD_NORMS = {
    "-1": (-1, ValueError, "must be a norm, which is >= 0; got -1.0"),
    "-inf": (-INF, ValueError, "must be a norm, which is >= 0; got -inf"),
    "vector": (np.ones(2), ValueError, r"must be a scalar; got an array of shape \(2,\)"),
    "str": ("5", TypeError, "must be a norm, which is >= 0; got str"),
    "True": (True, TypeError, "must be a norm, which is >= 0; got bool"),
}


@pytest.mark.parametrize("kind", BAD_NORMS)
@pytest.mark.parametrize("name", ["clip_by_global_norm", "clip_by_global_norm_"])
def test_a_given_norm_is_a_norm(name, kind):
    value, error, text = BAD_NORMS[kind]
    tree = [x()]
    with arrays.unchanged(tree), pytest.raises(error, match=rf"^`use_norm` {text}\.$"):
        FUNCTIONS[name].call(tree, use_norm=value)


@pytest.mark.parametrize("policy", ["ignore", "Error", "", True, 3, ["zero"], b"zero"], ids=repr)
def test_a_policy_is_one_of_four(bounded, policy):
    tree = [x()]
    text = '^`nonfinite` must be one of "propagate", "error", "zero", "skip"; got '
    with arrays.unchanged(tree), pytest.raises(ValueError, match=text + re.escape(f"{policy!r}.")):
        bounded.call(tree, nonfinite=policy)


def test_a_policy_may_not_be_an_array():
    with pytest.raises(ValueError, match=r"^`nonfinite` must be one of"):
        agclip.clip_by_norm(x(), 1.0, nonfinite=np.asarray(["zero", "skip"]))


BAD_ORDERS = {
    "0": (0, ValueError, "got 0"),
    "-1": (-1.0, ValueError, "got -1.0"),
    "-inf": (-INF, ValueError, "got -inf"),
    "nan": (NAN, ValueError, "got nan"),
    "fro": ("fro", TypeError, "got str"),
    "None": (None, TypeError, "got NoneType"),
    "True": (True, TypeError, "got bool"),
    "complex": (2j, TypeError, "got complex"),
    "list": ([2], TypeError, "got list"),
    "array": (np.asarray(2.0), TypeError, "got ndarray"),
}


@pytest.mark.parametrize("kind", BAD_ORDERS)
def test_an_order_is_a_positive_number(of_order, kind):
    value, error, text = BAD_ORDERS[kind]
    tree = [x()]
    with (
        arrays.unchanged(tree),
        pytest.raises(error, match=f"^`ord` must be a number > 0, such as 1, 2 or inf; {text}.$"),
    ):
        of_order.call(tree, ord=value)


def test_an_order_beyond_all_floats_is_infinite():
    assert agclip.global_norm([x()], 10**400) == 4.0


@pytest.mark.parametrize("order", [3, 0.5, 1.5])
def test_a_reproducible_norm_has_one_of_three_orders(of_order, order):
    tree = [x()]
    text = rf"^`ord` must be 1, 2 or inf with `reproducible`; got {float(order)}\. No library"
    with arrays.unchanged(tree), pytest.raises(ValueError, match=text):
        of_order.call(tree, ord=order, reproducible=True)


def test_a_reproducible_norm_wants_float64(norm_function):
    strict = pytest.importorskip("array_api_strict", reason="array_api_strict is not installed")
    single = strict.Device("no_x64")
    tree = with_last(*(strict.ones(2, dtype=strict.float32, device=single) for _ in range(2)))
    text = rf"^`reproducible` must be False .* at {norm_function.tree}\['layer'\]\[0\]\. Move"
    with arrays.unchanged(tree), pytest.raises(NotImplementedError, match=text):
        norm_function.call(tree, reproducible=True)


# --- axes --------------------------------------------------------------------------------------

BAD_AXES = {
    "2": (2, ValueError, "must name axes of the 2-d array at t[0]; got 2."),
    "-3": (-3, ValueError, "must name axes of the 2-d array at t[0]; got -3."),
    "(0, 5)": (
        (0, 5),
        ValueError,
        "must name axes of the 2-d array at t[0]; got (0, 5).",
    ),
    "(0, 0)": ((0, 0), ValueError, "must name every axis once; got (0, 0)."),
    "(1, -1)": ((1, -1), ValueError, "must name every axis once; got (1, -1)."),
    "0.0": (0.0, TypeError, "must be an integer or a sequence of integers; got 0.0."),
    "str": ("ab", TypeError, "must be an integer or a sequence of integers; got 'ab'."),
    "(None,)": ((None,), TypeError, "must be an integer or a sequence of integers; got (None,)."),
    "nested": ([[0]], TypeError, "must be an integer or a sequence of integers; got [[0]]."),
    "bool": (True, TypeError, "must be an integer or a sequence of integers; got True."),
}


@pytest.mark.parametrize("kind", BAD_AXES)
@pytest.mark.parametrize("name", ["clip_by_norm", "clip_by_norm_"])
def test_axes_are_axes_of_every_leaf(name, kind):
    value, error, text = BAD_AXES[kind]
    tree = [rows()]
    with arrays.unchanged(tree), pytest.raises(error, match=re.escape(f"`axes` {text}")):
        FUNCTIONS[name].call(tree, axes=value)


def test_the_leaf_without_such_an_axis_is_named():
    tree = {"w": rows(), "b": x()}
    text = "^`axes` must name axes of the 1-d array at t['b']; got 1."
    with arrays.unchanged(tree), pytest.raises(ValueError, match=re.escape(text)[1:]):
        agclip.clip_by_norm_(tree, 1.0, 1)


@pytest.mark.parametrize("name", ["clip_by_norm", "clip_by_norm_"])
def test_axes_that_can_be_read_only_once_serve_every_leaf(name):
    once, again = FUNCTIONS[name].call([rows(), rows()], axes=iter([1]))
    right = [[pytest.approx([0.6, 0.8])] * 2] * 2
    assert [once.tolist(), again.tolist()] == right


BAD_UNITS = {
    "layout": ("hwio", ValueError, '^`unit_axes` must be "out_in", "in_out", axes, or a function'),
    "empty": ("", ValueError, '^`unit_axes` must be "out_in", "in_out", axes, or a function'),
    "None": (None, ValueError, '^`unit_axes` must be "out_in", .* returns one of these; got None'),
    "float": (0.5, TypeError, "^`unit_axes` must be .*; got 0.5"),
    "axis": (
        2,
        ValueError,
        r"^`unit_axes` must name axes of the 2-d array at grads\['w'\]; got 2",
    ),
    "twice": ((0, -2), ValueError, r"^`unit_axes` must name every axis once; got \(0, -2\)"),
    "words": (lambda *_: "oihw", ValueError, "or a function of .* one of these; got 'oihw'"),
    "floats": (lambda *_: 0.5, TypeError, "^`unit_axes` must be .*; got 0.5"),
    "out of range": (lambda *_: (7,), ValueError, r"of the 1-d array at .*; got \(7,\)"),
}


@pytest.mark.parametrize("kind", BAD_UNITS)
@pytest.mark.parametrize("name", ["adaptive_grad_clip", "adaptive_grad_clip_"])
def test_unit_axes_are_a_layout_or_axes(name, kind):
    value, error, text = BAD_UNITS[kind]
    tree = {"b": x(), "w": rows()}
    with arrays.unchanged(tree), pytest.raises(error, match=rf"{text}.*\.$"):
        FUNCTIONS[name].call(tree, unit_axes=value)


def test_what_a_callable_raises_is_raised():
    tree = [rows()]
    with arrays.unchanged(tree), pytest.raises(ZeroDivisionError, match="division by zero"):
        agclip.adaptive_grad_clip_(tree, tree, unit_axes=lambda *_: 1 / 0)


# --- adaptive clipping -------------------------------------------------------------------------

ADAPTIVE = pytest.mark.parametrize("name", ["adaptive_grad_clip", "adaptive_grad_clip_"])
BAD_EPS = {
    "-1": (-1.0, ValueError, "must be a number >= 0, or None for no lower limit; got -1.0"),
    "nan": (NAN, ValueError, "must be a number >= 0, or None for no lower limit; got nan"),
    "list": ([1.0], ValueError, "must be a scalar; got a list"),
    "vector": (np.ones(2), ValueError, r"must be a scalar; got an array of shape \(2,\)"),
    "str": ("1", TypeError, "must be a number >= 0, or None for no lower limit; got str"),
    "True": (True, TypeError, "must be a number >= 0, or None for no lower limit; got bool"),
    "complex": (1j, TypeError, "must be a number >= 0, or None for no lower limit; got complex"),
}


@ADAPTIVE
@pytest.mark.parametrize("kind", BAD_EPS)
def test_eps_is_a_number_from_zero_upwards(name, kind):
    value, error, text = BAD_EPS[kind]
    tree = [x()]
    with arrays.unchanged(tree), pytest.raises(error, match=rf"^`eps` {text}\.$"):
        FUNCTIONS[name].call(tree, eps=value)


@pytest.mark.parametrize("clipping", [None, INF])
@pytest.mark.parametrize("eps", [None, 0.0])
def test_without_a_bound_nothing_is_clipped_though_the_parameters_are_zero(clipping, eps):
    clipped = agclip.adaptive_grad_clip(x(), x() * 0, clipping, eps, unit_axes="out_in")
    assert clipped.tolist() == [3.0, 4.0]


def test_a_ratio_of_zero_gives_zeros_whatever_eps_is():
    assert agclip.adaptive_grad_clip(x(), x(), 0.0, INF, unit_axes="out_in").tolist() == [0.0, 0.0]


BAD_PARAMS = {
    "None": (None, ValueError, "got NoneType at params where `grads` has ['w'], ['b']."),
    "a leaf": (x(), ValueError, "got ndarray at params where `grads` has ['w'], ['b']."),
    "a missing key": (
        {"w": rows()},
        ValueError,
        "the structure of `grads`; got ['w'] at params where `grads` has ['w'], ['b'].",
    ),
    "no key": ({}, ValueError, "got nothing at params where `grads` has ['w'], ['b']."),
    "one more key": (
        {"w": rows(), "b": [x()], "c": x()},
        ValueError,
        "got ['w'], ['b'], ['c'] at params where `grads` has ['w'], ['b'].",
    ),
    "a list": (
        [rows(), [x()]],
        ValueError,
        "got a container of 2 at params where `grads` has ['w'], ['b'].",
    ),
    "a longer list": (
        {"w": rows(), "b": [x(), x()]},
        ValueError,
        "got a container of 2 at params['b'] where `grads` has a container of 1.",
    ),
    "no list": (
        {"w": rows(), "b": x()},
        ValueError,
        "got ndarray at params['b'] where `grads` has a container of 1.",
    ),
    "a class": (
        {"w": rows(), "b": float},
        ValueError,
        "got the class float at params['b'] where `grads` has a container of 1.",
    ),
    "no array": ({"w": rows(), "b": ["abc"]}, TypeError, "got str at params['b'][0]."),
    "a container": ({"w": rows(), "b": [{}]}, TypeError, "got dict at params['b'][0]."),
    "a None": ({"w": rows(), "b": [None]}, ValueError, "got None at params['b'][0]."),
    "integers": ({"w": rows(), "b": [np.ones(2, int)]}, TypeError, "got int64 at params['b'][0]."),
    "masked": (
        {"w": rows(), "b": [np.ma.masked_array(x())]},
        TypeError,
        "`params` must hold dense arrays; got one that is masked at params['b'][0].",
    ),
    "a shape": (
        {"w": rows(), "b": [rows()]},
        ValueError,
        "got (2, 2) at params['b'][0] and (2,) at grads['b'][0]. Pass the parameters that these",
    ),
    "a shape that broadcasts": (
        {"w": rows(), "b": [np.ones(1, dtype=np.float32)]},
        ValueError,
        "`params` must have the shapes of `grads`; got (1,) at params['b'][0]",
    ),
}


@ADAPTIVE
@pytest.mark.parametrize("kind", BAD_PARAMS)
def test_parameters_have_the_structure_of_the_gradients(name, kind):
    params, error, text = BAD_PARAMS[kind]
    tree = {"w": rows(), "b": [x()]}
    with arrays.unchanged(tree, params), pytest.raises(error, match=re.escape(text)):
        FUNCTIONS[name].call(tree, params=params)


@ADAPTIVE
@pytest.mark.parametrize(("ours", "theirs"), [("numpy", "torch"), ("torch", "numpy")])
def test_parameters_are_of_the_library_of_the_gradients(name, ours, theirs):
    tree, params = ([arrays.library(lib).array([3.0, 4.0])] for lib in (ours, theirs))
    text = f"must hold arrays of the library of `grads`; got {theirs} and {ours}. Convert"
    with arrays.unchanged(tree, params), pytest.raises(TypeError, match=text):
        FUNCTIONS[name].call(tree, params=params)


@ADAPTIVE
def test_parameters_of_two_libraries_are_named(name):
    tree = [x(), x()]
    params = [x(), arrays.library("torch").array([3.0, 4.0])]
    text = r"got numpy at params\[0\] and torch at params\[1\]\."
    with arrays.unchanged(tree, params), pytest.raises(TypeError, match=text):
        FUNCTIONS[name].call(tree, params=params)


# --- examples ----------------------------------------------------------------------------------

BAD_BATCHES = {
    "no axis": ([np.ones(())], "shape () at grads[0]."),
    "no axis at the end": ([rows(), np.float32(1.0)], "shape () at grads[1] beside (2, 2) at"),
    "another length": ([rows(), np.ones((3, 2))], "shape (3, 2) at grads[1] beside (2, 2) at gra"),
    "an empty batch": ([rows(), np.ones((0, 2))], "shape (0, 2) at grads[1] beside (2, 2) at gra"),
}


@pytest.mark.parametrize("kind", BAD_BATCHES)
def test_every_leaf_has_the_same_examples(kind):
    tree, text = BAD_BATCHES[kind]
    with (
        arrays.unchanged(tree),
        pytest.raises(ValueError, match=re.escape(f"in every leaf; got {text}")),
    ):
        agclip.clip_per_example(tree, 1.0)


# --- value bounds ------------------------------------------------------------------------------

HOLDS_NAN = r"must not hold NaN; got an array that does\.$"
ENTRIES = "must be a real number, an array of them, or None"
BAD_BOUNDS = {
    "nan below": (NAN, 1, ValueError, "`clip_value_min` must be a number, or None .*; got nan"),
    "nan above": (0, NAN, ValueError, "`clip_value_max` must be a number, or None .*; got nan"),
    "crossing": (2, 1, ValueError, "<= `clip_value_max`; got 2 and 1. Swap them"),
    "crossing infinities": (INF, -INF, ValueError, "<= `clip_value_max`; got inf and -inf"),
    "crossing scalars": (np.float32(2), np.float64(1), ValueError, "got 2.0 and 1.0. Swap"),
    "crossing huge": (10**400, 1, ValueError, "<= `clip_value_max`; got 1000"),
    "crossing arrays": (np.asarray([0.0, 5.0]), np.ones(2), ValueError, "arrays that cross"),
    "crossing an array": (np.asarray([0.0, 5.0]), 1, ValueError, "got arrays that cross"),
    "crossing below": (2, np.ones(2), ValueError, "got arrays that cross. Swap them"),
    "nan in an array": (np.asarray([NAN, 0.0]), 1, ValueError, f"^`clip_value_min` {HOLDS_NAN}"),
    "nan in another": (np.zeros(2), np.asarray([0.0, NAN]), ValueError, f"_max` {HOLDS_NAN}"),
    "nan in 0-d": (0, np.asarray(NAN), ValueError, f"^`clip_value_max` {HOLDS_NAN}"),
    "str": ("0", 1, TypeError, f"`clip_value_min` {ENTRIES}; got str."),
    "bytes": (0, b"1", TypeError, f"`clip_value_max` {ENTRIES}; got bytes."),
    "bool": (False, 1, TypeError, f"`clip_value_min` {ENTRIES}; got bool."),
    "complex": (0, 1j, TypeError, f"`clip_value_max` {ENTRIES}; got complex."),
    "list": ([0.0, 0.0], 1, TypeError, f"`clip_value_min` {ENTRIES}; got list."),
    "object": (0, object(), TypeError, f"`clip_value_max` {ENTRIES}; got object."),
    "Decimal": (0, Decimal(1), TypeError, f"`clip_value_max` {ENTRIES}; got Decimal."),
    "class": (float, 1, TypeError, f"`clip_value_min` {ENTRIES}; got the class float."),
    "bools": (0, np.ones(2, bool), TypeError, f"{ENTRIES}; got an array of bool."),
    "complexes": (0, np.ones(2, complex), TypeError, f"{ENTRIES}; got an array of complex128."),
    "more axes": (np.zeros((2, 2)), 1, ValueError, r"got shape \(2, 2\) for \(2,\) at t\[1\]\."),
    "an axis more": (0, np.ones((1, 2)), ValueError, r"got shape \(1, 2\) for \(2,\) at t\[1\]\."),
    "a longer axis": (0, np.ones(3), ValueError, r"got shape \(3,\) for \(2, 2\) at t\[0\]\."),
}


@pytest.mark.parametrize("kind", BAD_BOUNDS)
def test_bounds_are_numbers_in_order(value_clip, kind):
    low, high, error, text = BAD_BOUNDS[kind]
    tree = [rows(), x()]
    with arrays.unchanged(tree, low, high), pytest.raises(error, match=text):
        value_clip.call(tree, clip_value_min=low, clip_value_max=high)


def test_a_bound_never_enlarges_a_leaf_without_axes(value_clip):
    tree = [np.asarray(1.0)]
    with (
        arrays.unchanged(tree),
        pytest.raises(
            ValueError, match=r"got shape \(1,\) for \(\) at t\[0\]\. A bound never enlarges"
        ),
    ):
        value_clip.call(tree, clip_value_min=np.zeros(1))


@pytest.mark.parametrize("bound", [1.5, 1.0, np.float32(2.0), INF, Fraction(1, 2)], ids=repr)
def test_integers_have_integer_bounds(value_clip, bound):
    tree = [x(), np.asarray([3, 4])]
    text = (
        r"^`clip_value_max` must be an integer for int64 at t\[1\]; got a float\. Round it, "
        r"convert the leaf, or pass None for no bound\.$"
    )
    with arrays.unchanged(tree), pytest.raises(TypeError, match=text):
        value_clip.call(tree, clip_value_min=0, clip_value_max=bound)


@pytest.mark.parametrize("name", arrays.LIBRARIES)
def test_integers_have_arrays_of_integers_as_bounds(name):
    lib = arrays.library(name)
    tree, bound = [lib.array([3, 4], "int32")], lib.array([0.0, 0.5])
    text = r"^`clip_value_min` must be an integer for int32 at t\[0\]; got an array of float32\."
    with arrays.unchanged(tree, bound), pytest.raises(TypeError, match=text):
        agclip.clip_by_value(tree, bound, 1)


@pytest.mark.parametrize(
    ("leaf", "bound"), [("numpy", "torch"), ("torch", "numpy"), ("jax", "dask")]
)
def test_bounds_are_of_the_library_of_the_leaves(leaf, bound):
    tree = [arrays.library(leaf).array([3.0, 4.0])]
    text = f"`clip_value_max` must be a number or an array of {leaf}, .*; got one of {bound}. Conv"
    with arrays.unchanged(tree), pytest.raises(TypeError, match=text):
        agclip.clip_by_value(tree, 0, arrays.library(bound).array([1.0, 1.0]))


# --- bounds of another dtype saturate, and never wrap ------------------------------------------


class Fit(NamedTuple):
    """A leaf, a lower and an upper bound, each with its dtype; and the right result."""

    leaf: tuple[list, str]
    low: tuple[Any, str] | None
    high: tuple[Any, str] | None
    right: list


LOW, HIGH = [-1e300, -1e300], [1e300, 1e300]
FITS = {
    "int64 above uint8": Fit(([0, 3, 255], "uint8"), None, ([300, 300, 2], "int64"), [0, 3, 2]),
    "int64 below uint8": Fit(([0, 3, 9], "uint8"), ([-5, 300, -5], "int64"), None, [0, 255, 9]),
    "int64 far off uint8": Fit(([0, 3], "uint8"), ([2**40, -(2**40)], "int64"), None, [255, 3]),
    "int64 for int32": Fit(([-7, 7], "int32"), None, ([2**40, -(2**40)], "int64"), [-7, -(2**31)]),
    "int8 for uint8": Fit(([1, 200], "uint8"), ([-1, -1], "int8"), ([127, 127], "int8"), [1, 127]),
    "uint8 for int8": Fit(([-9, 9], "int8"), ([0, 0], "uint8"), ([255, 255], "uint8"), [0, 9]),
    "uint64 for int64": Fit(([-9, 9], "int64"), None, ([2**64 - 1, 3], "uint64"), [-9, 3]),
    "float64 for float16": Fit(([1, -2], "float16"), (LOW, "float64"), (HIGH, "float64"), [1, -2]),
    "float64 lifts float16": Fit(([1, 2], "float16"), (HIGH, "float64"), None, [65504, 65504]),
    "infinities": Fit(([1, -2], "float16"), ([-INF, -INF], "float32"), None, [1, -2]),
    "no infinity": Fit(([1, -2], "float16"), None, ([INF, -3], "float64"), [1, -3]),
    "float64 for float32": Fit(([1, 2], "float32"), (LOW, "float64"), (HIGH, "float64"), [1, 2]),
    "float64 for float64": Fit(([1, 2], "float64"), ([3e300, -1e300], "float64"), None, [3e300, 2]),
    "digits for float64": Fit(([1, 2], "float64"), None, (1.1, "number"), [1, 1.1]),
    "a wide integer": Fit(([2**40, -5], "int64"), None, (2**39, "number"), [2**39, -5]),
    "int64 for float16": Fit(([1, -2], "float16"), None, ([10**6, -3], "int64"), [1, -3]),
    "a huge integer": Fit(([1, -2], "float16"), (-(10**400), "number"), None, [1, -2]),
    "a negative for uint8": Fit(([0, 3], "uint8"), (-5, "number"), (300, "number"), [0, 3]),
    "above the range": Fit(([0, 3], "uint8"), (256, "number"), None, [255, 255]),
    "below the range": Fit(([0, 3], "uint8"), None, (-1, "number"), [0, 0]),
}


def fitted(name, kind):
    """A library, a leaf of its and two bounds, and the right result."""
    if name == "array_api_strict" and FITS[kind].leaf[1] == "float16":
        pytest.skip("the standard, and so array_api_strict, has no float16")
    if name == "torch" and "uint64" in str(FITS[kind]):
        pytest.skip("a bound of a dtype that PyTorch cannot compare is refused: tested above")
    lib, fit = arrays.library(name), FITS[kind]
    low, high = (
        bound and (bound[0] if bound[1] == "number" else lib.array(*bound))
        for bound in (fit.low, fit.high)
    )
    return lib, lib.array(*fit.leaf), low, high, fit


@pytest.mark.parametrize("kind", FITS)
@pytest.mark.parametrize("name", arrays.LIBRARIES)
def test_bounds_of_another_dtype_saturate(name, kind):
    lib, leaf, low, high, fit = fitted(name, kind)
    clipped = agclip.clip_by_value({"w": leaf}, low, high)["w"]
    assert clipped.dtype == leaf.dtype
    assert lib.entries(clipped).tolist() == fit.right


@pytest.mark.parametrize("kind", FITS)
@pytest.mark.parametrize("name", arrays.WRITABLE)
def test_bounds_of_another_dtype_saturate_in_place(name, kind):
    lib, leaf, low, high, fit = fitted(name, kind)
    assert agclip.clip_by_value_(leaf, low, high) is leaf
    assert lib.entries(leaf).tolist() == fit.right


# --- what is not finite ------------------------------------------------------------------------

CHECKED = sorted(set(BOUNDED))


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("name", CHECKED)
def test_the_error_policy_names_the_leaf_and_writes_nothing(name, value):
    function = FUNCTIONS[name]
    tree = with_last(np.asarray([300.0, value], dtype=np.float32), x() * 100)
    found = "NaN" if value != value else "an infinity"
    text = f"^`{function.tree}` must be finite; got {found} at {function.tree}{PATH}. Skip the step"
    with arrays.unchanged(tree), pytest.raises(FloatingPointError, match=text):
        function.call(tree, nonfinite="error")


@pytest.mark.parametrize("name", ["torch", "array_api_strict"])
def test_the_error_policy_writes_nothing_in_other_libraries(in_place_by_norm, name):
    lib = arrays.library(name)
    tree = with_last(lib.array([NAN, 1.0]), lib.array([300.0, 400.0]))
    with (
        arrays.unchanged(tree),
        pytest.raises(FloatingPointError, match=f"got NaN at {in_place_by_norm.tree}{PATH}. Skip"),
    ):
        in_place_by_norm.call(tree, nonfinite="error")


# --- calls that Python itself refuses ----------------------------------------------------------


def test_an_unknown_option_is_refused(function):
    tree = [x()]
    with (
        arrays.unchanged(tree),
        pytest.raises(TypeError, match="unexpected keyword argument 'max_norm'"),
    ):
        function.call(tree, max_norm=1.0)


def test_adaptive_clipping_wants_to_know_the_units():
    tree = [x()]
    with (
        arrays.unchanged(tree),
        pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'unit_axes'"),
    ):
        agclip.adaptive_grad_clip_(tree, tree)
