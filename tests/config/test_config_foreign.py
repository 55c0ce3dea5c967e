"""Arrays of another library than the configured one: converted, clipped, and given back."""

import collections
import importlib

import numpy as np
import pytest

import agclip
import arrays
from agclip._backends import registry

HOMES = ("numpy", "torch", "jax", "array_api_strict")
FUNCTIONS = {
    "clip_by_norm": lambda f, x: f({"a": [x, None]}, 1.0),
    "clip_by_average_norm": lambda f, x: f({"a": [x, None]}, 0.1),
    "clip_by_rms": lambda f, x: f({"a": [x, None]}, 0.5),
    "clip_by_value": lambda f, x: f({"a": [x, None]}, -1.0, 2.0),
    "clip_by_global_norm": lambda f, x: f({"a": [x, None]}, 1.0)[0],
    "adaptive_grad_clip": lambda f, x: f({"a": [x, None]}, {"a": [x, None]}, unit_axes="out_in"),
    "clip_per_example": lambda f, x: f({"a": [x, None]}, 1.0)[0],
}
VALUES = [[3.0, -4.0], [0.5, 12.0]]
PRECISION = {"float64": 2e-15, "complex128": 2e-15, "float32": 2e-7, "complex64": 2e-7}


@pytest.fixture(params=HOMES)
def home(request, project):
    """A configured library that everything is converted to."""
    arrays.library(request.param)
    agclip.set_config(backend=request.param, on_foreign="convert")
    return request.param


@pytest.fixture(params=arrays.LIBRARIES)
def lib(request):
    return arrays.library(request.param)


@pytest.fixture
def numpy_home(project):
    agclip.set_config(backend="numpy", on_foreign="convert")


def own(call, *args):
    """What a call gives where nothing is converted."""
    with agclip.config_context(backend="auto"):
        return call(*args)


def values(lib, x):
    if lib.name == "torch" and str(x.dtype) == "torch.bfloat16":
        x = x.float()
    return lib.entries(x)


def bfloat16(lib):
    if lib.name == "torch":
        return lib.array(VALUES).bfloat16()
    reason = "ml_dtypes is not installed"
    return lib.array(VALUES, pytest.importorskip("ml_dtypes", reason=reason).bfloat16)


# --- what comes out ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.usefixtures("home")
def test_the_result_is_that_of_the_arrays_own_library(lib, name):
    function, x = getattr(agclip, name), lib.array(VALUES)
    result, expected = FUNCTIONS[name](function, x), own(FUNCTIONS[name], function, x)
    got, wanted = result["a"][0], expected["a"][0]
    assert (type(got), got.dtype, got.shape) == (type(wanted), wanted.dtype, wanted.shape)
    np.testing.assert_allclose(lib.entries(got), lib.entries(wanted), rtol=2e-7)
    assert result["a"][1] is None


@pytest.mark.parametrize(
    "dtype", ["float64", "float16", "bfloat16", "complex64", "complex128", "float32"]
)
@pytest.mark.usefixtures("home")
def test_every_dtype_comes_back(lib, dtype):
    if lib.name == "array_api_strict" and dtype in ("float16", "bfloat16"):
        pytest.skip("the standard has no half types")
    x = bfloat16(lib) if dtype == "bfloat16" else lib.array(VALUES, dtype)
    got, wanted = agclip.clip_by_norm(x, 1.0), own(agclip.clip_by_norm, x, 1.0)
    assert (type(got), got.dtype) == (type(x), x.dtype)
    got, wanted = values(lib, got), values(lib, wanted)
    np.testing.assert_allclose(
        got.astype(complex), wanted.astype(complex), rtol=PRECISION.get(dtype, 0.0)
    )


@pytest.mark.parametrize("name", ["clip_by_global_norm", "clip_per_example"])
@pytest.mark.usefixtures("home")
def test_the_norm_and_the_count_are_of_the_arrays_library(lib, name):
    x = lib.array(VALUES)
    (_, got), (_, wanted) = getattr(agclip, name)(x, 1.0), own(getattr(agclip, name), x, 1.0)
    assert (type(got), got.dtype, got.shape) == (type(wanted), wanted.dtype, ())
    assert lib.entries(got) == pytest.approx(lib.entries(wanted), rel=2e-7)


@pytest.mark.usefixtures("home")
def test_a_norm_that_was_returned_may_be_given(lib):
    x = lib.array(VALUES)
    norm = agclip.global_norm([x])
    assert type(norm) is type(own(agclip.global_norm, [x]))
    clipped, again = agclip.clip_by_global_norm([x], 1.0, use_norm=norm)
    assert lib.entries(again) == lib.entries(norm)
    assert np.linalg.norm(lib.entries(clipped[0])) == pytest.approx(1.0)


def test_arrays_of_the_configured_library_are_not_converted(home):
    x = arrays.library(home).array(VALUES)
    agclip.set_config(on_foreign="error")
    got, wanted = agclip.clip_by_norm(x, 1.0), own(agclip.clip_by_norm, x, 1.0)
    entries = arrays.library(home).entries
    assert entries(got).tobytes() == entries(wanted).tobytes()


@pytest.mark.usefixtures("home")
def test_several_libraries_may_stand_in_one_tree():
    libs = [arrays.library(name) for name in arrays.LIBRARIES]
    tree = collections.OrderedDict((lib.name, lib.array([3.0, 4.0])) for lib in libs)
    clipped, norm = agclip.clip_by_global_norm(tree, 1.0)
    assert type(clipped) is collections.OrderedDict
    assert [type(x) for x in clipped.values()] == [type(x) for x in tree.values()]
    assert type(norm) in (np.ndarray, np.float32)
    assert norm == pytest.approx(5 * len(libs) ** 0.5)
    total = sum((lib.entries(clipped[lib.name]) ** 2).sum() for lib in libs)
    assert total == pytest.approx(1.0)


@pytest.mark.usefixtures("numpy_home")
def test_numbers_beside_other_arrays_become_arrays_of_the_configured_library():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    clipped = agclip.clip_by_norm([5.0, torch.tensor([3.0, 4.0])], 1.0)
    assert [type(x) for x in clipped] == [np.ndarray, torch.Tensor]


@pytest.mark.usefixtures("numpy_home")
def test_the_first_array_of_the_configured_library_may_be_a_converted_one():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    registry.BY_TYPE.clear()
    assert agclip.clip_by_norm(torch.tensor([3.0, 4.0]), 1.0).tolist() == pytest.approx([0.6, 0.8])


@pytest.mark.usefixtures("numpy_home")
def test_what_is_within_the_bound_comes_back_itself():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    x = torch.tensor([0.3, 0.4])
    assert agclip.clip_by_norm([x], 1.0)[0] is x


@pytest.mark.parametrize("name", ["numpy", "torch"])
@pytest.mark.usefixtures("home")
def test_what_comes_back_can_be_written(name):
    lib = arrays.library(name)
    got, norm = agclip.clip_by_global_norm(lib.array(VALUES), 1.0)
    got[...] = 1.0
    norm[...] = 2.0
    assert lib.entries(got).tolist() == [[1.0, 1.0], [1.0, 1.0]]


@pytest.mark.usefixtures("project")
def test_of_several_backends_the_first_usable_one_is_the_home():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    agclip.set_config(backend=["numpy", "torch"])
    assert agclip.clip_by_norm(np.asarray([3.0, 4.0]), 1.0) == pytest.approx([0.6, 0.8])
    with pytest.raises(TypeError, match=r"arrays of numpy, as `backend` says \(set_config\); got"):
        agclip.clip_by_norm(torch.tensor([3.0, 4.0]), 1.0)


# --- numbers and trees beside the gradients ----------------------------------------------------


@pytest.mark.usefixtures("home")
def test_bounds_may_be_arrays_of_any_library(lib):
    x = lib.array(VALUES)
    clipped = agclip.clip_by_value(x, lib.array([-1.0, -2.0]), np.asarray([1.0, 8.0], "float32"))
    assert lib.entries(clipped).tolist() == [[1.0, -2.0], [0.5, 8.0]]
    bounded = agclip.clip_by_norm(x, lib.array(0.5), loss_scale=lib.array(2.0))
    assert np.linalg.norm(lib.entries(bounded)) == pytest.approx(0.5)


@pytest.mark.usefixtures("home")
def test_parameters_may_be_of_another_library_than_gradients(lib):
    weights = np.asarray([[1.0, 0.0], [0.0, 1000.0]], dtype=np.float32)
    clipped = agclip.adaptive_grad_clip(lib.array(VALUES), weights, 0.1, unit_axes="out_in")
    assert type(clipped) is type(lib.array(VALUES))
    expected = own(
        lambda: agclip.adaptive_grad_clip(np.float32(VALUES), weights, 0.1, unit_axes="out_in")
    )
    np.testing.assert_allclose(lib.entries(clipped), expected, rtol=2e-7)


# --- in place ----------------------------------------------------------------------------------

TWINS = [name for name in FUNCTIONS if name != "clip_per_example"]


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("library", arrays.WRITABLE)
@pytest.mark.usefixtures("home")
def test_the_original_arrays_are_overwritten(library, name):
    lib = arrays.library(library)
    x = lib.array(VALUES)
    expected = lib.entries(own(FUNCTIONS[name], getattr(agclip, name), lib.array(VALUES))["a"][0])
    result = FUNCTIONS[name](getattr(agclip, f"{name}_"), x)
    assert result["a"][0] is x
    np.testing.assert_allclose(lib.entries(x), expected, rtol=2e-7)


@pytest.mark.usefixtures("home")
def test_arrays_of_several_libraries_are_overwritten_together():
    libs = [arrays.library(name) for name in arrays.WRITABLE]
    tree = [lib.array([3.0, 4.0]) for lib in libs]
    tree += tree[:1]
    agclip.clip_by_global_norm_(tree, 1.0)
    written = [lib.entries(x) for x, lib in zip(tree, [*libs, libs[0]], strict=True)]
    expected = np.broadcast_to(np.array([0.6, 0.8]) / len(tree) ** 0.5, (len(tree), 2))
    np.testing.assert_allclose(written, expected, rtol=2e-7)


def test_nothing_is_written_unless_everything_can_be(home):
    if home == "numpy":
        pytest.importorskip("torch", reason="torch is not installed")
    frozen = np.asarray([3.0, 4.0])
    frozen.setflags(write=False)
    tree = [np.asarray([3.0, 4.0]), frozen]
    with (
        arrays.unchanged(tree),
        pytest.raises(TypeError, match=r"one that is read-only at t\[1\]\. Use"),
        agclip.config_context(backend="torch" if home == "numpy" else home),
    ):
        agclip.clip_by_norm_(tree, 1.0)


@pytest.mark.usefixtures("home")
def test_arrays_that_are_immutable_stay_so():
    x = importlib.import_module("jax.numpy").asarray([3.0, 4.0])
    with pytest.raises(TypeError, match=r"one that is immutable at t\[0\]\. Use"):
        agclip.clip_by_norm_([x], 1.0)
