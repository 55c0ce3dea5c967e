"""Arrays that are hard to convert: odd layouts and places, and those that must not be converted."""

import importlib
import re

import numpy as np
import pytest

import agclip
import arrays

HOMES = ("torch", "jax", "array_api_strict")


def read_only(x):
    x.setflags(write=False)
    return x


LAYOUTS = {
    "read-only": lambda: read_only(np.asarray([3.0, -4.0])),
    "big-endian": lambda: np.asarray([3.0, -4.0], dtype=">f4"),
    "big-endian halves": lambda: np.asarray([3.0, -4.0], dtype=">f2"),
    "backwards": lambda: np.asarray([3.0, -4.0], dtype="float32")[::-1],
    "every second": lambda: np.arange(12.0)[::2],
    "transposed": lambda: np.arange(6.0).reshape(2, 3).T,
    "by columns": lambda: np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "expanded": lambda: np.broadcast_to(np.float32(2.0), (3, 2)),
    "not aligned": lambda: np.frombuffer(b"\0" * 9, dtype="float64", offset=1).copy()[:0],
    "packed": lambda: np.zeros(3, dtype=[("a", "i1"), ("x", "f8")])["x"] + np.float64(2.0),
    "no entry": lambda: np.zeros((0, 3), dtype="float32"),
    "one number": lambda: np.asarray(5.0),
    "a scalar": lambda: np.float32(5.0),
    "a field": lambda: np.ones(3, dtype=[("a", "i1"), ("x", "f8")])["x"],
    "subnormal": lambda: np.asarray([5e-324, 1.0]),
}


@pytest.fixture(params=HOMES)
def home(request, project):
    arrays.library(request.param)
    agclip.set_config(backend=request.param, on_foreign="convert")
    return request.param


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_array_of_numpy_comes_back_as_it_was(layout):
    x = LAYOUTS[layout]()
    with arrays.unchanged(x):
        clipped = agclip.clip_by_norm(x, 1.0)
    with agclip.config_context(backend="auto"):
        expected = agclip.clip_by_norm(x, 1.0)
    assert (type(clipped), clipped.dtype, clipped.shape) == (type(x), x.dtype, x.shape)
    np.testing.assert_allclose(clipped, expected, rtol=1e-6, atol=1e-300)


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("layout", ["big-endian", "backwards", "every second", "transposed"])
def test_an_array_of_numpy_is_overwritten_whatever_its_layout(layout):
    x = LAYOUTS[layout]()
    expected = x / np.linalg.norm(x.astype(float))
    assert agclip.clip_by_norm_(x, 1.0) is x
    np.testing.assert_allclose(x, expected, rtol=1e-6)


TENSORS = {
    "transposed": lambda torch: torch.arange(6.0).reshape(2, 3).T,
    "expanded": lambda torch: torch.tensor([3.0]).expand(4),
    "one number": lambda torch: torch.tensor(5.0),
    "no entry": lambda torch: torch.zeros(0, 3),
    "eight bits": lambda torch: torch.tensor([3.0, -4.0]).to(torch.float8_e5m2),
    "conjugate": lambda torch: torch.tensor([3.0 + 4.0j]).conj(),
    "negative": lambda torch: torch.tensor([3.0 + 4.0j]).conj().imag,
}


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("kind", TENSORS)
@pytest.mark.parametrize("backend", ["numpy", "jax", "array_api_strict"])
def test_a_tensor_comes_back_as_it_was(kind, backend):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    arrays.library(backend)
    x = TENSORS[kind](torch)
    with agclip.config_context(backend=backend, on_foreign="convert"):
        clipped = agclip.clip_by_norm(x, 1.0)
    expected = agclip.clip_by_norm(x, 1.0)
    assert (clipped.dtype, clipped.shape) == (x.dtype, x.shape)
    torch.testing.assert_close(clipped.to(torch.complex64), expected.to(torch.complex64))


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("name", ["array_api_strict", "jax", "numpy"])
def test_an_array_that_runs_backwards_is_converted(name):
    lib = arrays.library(name)
    pytest.importorskip("torch", reason="torch is not installed")
    agclip.set_config(backend="torch", on_foreign="convert")
    clipped = agclip.clip_by_norm(lib.array([4.0, 3.0])[::-1], 1.0)
    assert lib.entries(clipped) == pytest.approx([0.6, 0.8])


# --- devices -----------------------------------------------------------------------------------


@pytest.fixture
def strict():
    return pytest.importorskip("array_api_strict", reason="array_api_strict is not installed")


@pytest.mark.usefixtures("project")
def test_an_array_comes_back_to_its_device(strict):
    x = strict.asarray([3.0, 4.0], device=strict.Device("device2"))
    with agclip.config_context(backend="numpy", on_foreign="convert"):
        (clipped,), norm = agclip.clip_by_global_norm([x], 1.0)
    assert (clipped.device, norm.device) == (x.device, x.device)


@pytest.mark.usefixtures("project")
def test_arrays_are_converted_to_the_configured_device(strict):
    with agclip.config_context(backend="array_api_strict", on_foreign="convert", device="device1"):
        made = agclip.asarray(np.asarray([3.0, 4.0]))
        assert made.device == strict.Device("device1")
        assert agclip.clip_by_norm(np.asarray([3.0, 4.0]), 1.0) == pytest.approx([0.6, 0.8])


# --- what must not be converted ----------------------------------------------------------------


def parameter():
    return importlib.import_module("torch").ones(2, requires_grad=True)


REFUSED = {
    "a mask is not dropped": (
        "torch",
        lambda: np.ma.masked_array([1.0], [True]),
        "`t` must hold dense arrays; got one that is masked at t['w']. Convert it first.",
    ),
    "integers are named as they came": (
        "torch",
        lambda: np.asarray([1, 2], dtype="int16"),
        (
            "`t` must hold real or complex floating-point arrays; got int16 at t['w']. Convert it "
            "with astype, or take it out of the tree."
        ),
    ),
    "a derivative is not lost": (
        "numpy",
        parameter,
        (
            "`t` must hold arrays that can be converted to numpy; got one of torch at t['w'], "
            "which refuses (BufferError: Can't export tensors that require gradient, use "
            "tensor.detach()). Convert it yourself."
        ),
    ),
    "a precision is not lost": (
        "torch",
        lambda: np.asarray([1.0], dtype=np.longdouble),
        (
            "`t` must hold real or complex floating-point arrays; got float128 at t['w']. Convert "
            "it with astype, or take it out of the tree."
        ),
    ),
}


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("kind", REFUSED)
def test_what_would_be_lost_is_refused(kind):
    backend, make, text = REFUSED[kind]
    pytest.importorskip("torch", reason="torch is not installed")
    with (
        agclip.config_context(backend=backend, on_foreign="convert"),
        pytest.raises(TypeError, match=f"^{re.escape(text)}$"),
    ):
        agclip.clip_by_norm({"w": make()}, 1.0)
