"""The configured backend: where agclip makes arrays itself."""

import dataclasses
import re
import warnings

import numpy as np
import pytest

import agclip
import arrays

pytestmark = pytest.mark.usefixtures("project")

USABLE = ("numpy", "torch", "jax", "dask", "array_api_strict")


@pytest.fixture
def registry(tmp_path):
    with arrays.registry(tmp_path) as lent:
        yield lent


@pytest.fixture(params=USABLE)
def lib(request):
    return arrays.library(request.param)


def name_of(x):
    return type(x).__module__.partition(".")[0].replace("jaxlib", "jax")


# --- namespace ---------------------------------------------------------------------------------


def test_by_default_it_is_numpy():
    assert agclip.namespace() is agclip.get_backend("numpy").xp
    assert agclip.get_backend() is agclip.get_backend("numpy")


def test_the_namespace_is_that_of_the_configured_backend(lib):
    agclip.set_config(backend=lib.name)
    assert name_of(agclip.namespace().asarray([1.0])) == lib.name
    assert agclip.get_backend().name == lib.name


def test_of_several_backends_the_first_usable_one_counts(registry):
    agclip.register_backend(
        agclip.Backend(name="abacus", xp=np, usable=lambda: "no beads are there")
    )
    agclip.set_config(backend=["abacus", "numpy"])
    assert agclip.get_backend().name == "numpy"
    assert registry.folder.is_dir()


@pytest.fixture
def few_backends(project, registry, monkeypatch):
    """Of agclip's own backends only NumPy's may be used."""
    monkeypatch.setenv("AGCLIP_BLOCK", "cupy,dask,jax,mlx,tensorflow,torch")
    agclip.register_backend(agclip.Backend(name="abacus", xp=np, usable=lambda: "no beads"))
    return registry


def test_without_a_usable_one_the_error_has_the_reasons_and_what_is_usable(few_backends):
    few_backends.install(
        "agclip-toy", {"toylib": "toy_adapter:backend"}, {"toy_adapter": ""}, extras=["toylib"]
    )
    agclip.set_config(backend=["abacus", "toylib", "dask"])
    text = (
        "`backend` must name a backend that can be used here; got ('abacus', 'toylib', 'dask') "
        "(set_config). abacus: no beads; toylib: toylib is not installed. Run: pip install "
        '"agclip-toy[toylib]"; dask: AGCLIP_BLOCK names it. Take it out of that variable to use '
        "it. Usable: numpy."
    )
    with pytest.raises(RuntimeError, match=f"^{re.escape(text)}$"):
        agclip.namespace()


@pytest.mark.usefixtures("few_backends")
def test_the_error_names_the_variable_that_asked(monkeypatch):
    monkeypatch.setenv("AGCLIP_BACKEND", "abacus")
    text = r"got 'abacus' \(AGCLIP_BACKEND\)\. abacus: no beads\. Usable: numpy\.$"
    with pytest.raises(RuntimeError, match=text):
        agclip.clip_by_norm([1.0], 1.0)


def test_an_adapter_that_breaks_is_passed_by(registry):
    modules = {"toylib": "", "toy_adapter": "1 / 0"}
    registry.install("agclip-toy", {"toylib": "toy_adapter:backend"}, modules)
    agclip.set_config(backend=["toylib", "numpy"])
    assert agclip.get_backend().name == "numpy"
    agclip.set_config(backend="toylib")
    with pytest.raises(RuntimeError, match=r"of agclip-toy must load; got ZeroDivisionError"):
        agclip.namespace()


def test_a_backend_that_replaces_another_is_found_at_once(registry):
    agclip.set_config(backend="numpy")
    assert agclip.get_backend().block
    mine = dataclasses.replace(agclip.get_backend("numpy"), block=None)
    agclip.register_backend(mine)
    assert agclip.get_backend() is mine
    assert registry.folder.is_dir()


# --- numbers -----------------------------------------------------------------------------------


def test_numbers_become_arrays_of_the_configured_backend(lib):
    agclip.set_config(backend=lib.name)
    clipped, norm = agclip.clip_by_global_norm([[3.0, 0.0], 4.0], 1.0)
    assert {name_of(x) for x in (*clipped, norm)} == {lib.name}
    assert lib.entries(clipped[0]).dtype == np.float32
    assert lib.entries(clipped[1]) == pytest.approx(0.8)


def test_what_is_empty_has_results_of_the_configured_backend(lib):
    agclip.set_config(backend=lib.name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        norm, count = agclip.global_norm([]), agclip.clip_per_example([], 1.0)[1]
    assert [name_of(norm), name_of(count)] == [lib.name] * 2
    assert lib.entries(norm).dtype == np.float32
    assert lib.entries(count).dtype == np.int32


def test_numbers_beside_arrays_follow_these():
    pytest.importorskip("torch", reason="torch is not installed")
    agclip.set_config(backend="torch")
    with agclip.config_context(backend="auto"):
        clipped = agclip.clip_by_norm([np.asarray([3.0, 4.0]), 5.0], 1.0)
    assert [type(x).__module__ for x in clipped] == ["numpy", "numpy"]


# --- asarray -----------------------------------------------------------------------------------


def test_an_array_is_made_in_the_configured_library(lib):
    agclip.set_config(backend=lib.name)
    made = agclip.asarray([[1.0, 2.0]])
    assert name_of(made) == lib.name
    assert made.dtype == agclip.namespace().asarray([[1.0, 2.0]]).dtype
    assert lib.entries(made).tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize("dtype", ["float64", "float32", "int32"])
def test_the_name_of_a_dtype_means_the_same_in_all(lib, dtype):
    agclip.set_config(backend=lib.name)
    assert lib.entries(agclip.asarray([1, 2], dtype)).dtype == dtype
    assert lib.entries(agclip.asarray(np.asarray([1, 2]), dtype)).dtype == dtype


def test_a_dtype_of_the_library_will_do():
    assert agclip.asarray([1, 2], agclip.namespace().float32).dtype == np.float32


def test_an_array_of_another_library_is_converted(lib):
    agclip.set_config(backend=lib.name)
    made = agclip.asarray(np.asarray([1.5, 2.5]))
    assert name_of(made) == lib.name
    assert (lib.entries(made).dtype, lib.entries(made).tolist()) == (np.float64, [1.5, 2.5])


def test_by_default_an_array_stays_what_it_is(lib):
    x = lib.array([1.0, 2.0])
    assert agclip.asarray(x) is x
    assert name_of(agclip.asarray(x, "float64")) == lib.name


def test_a_name_that_is_no_dtype_is_an_error():
    text = "`dtype` must be a dtype of numpy, or the name of one; got 'float31'."
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        agclip.asarray([1.0], "float31")


# --- the device --------------------------------------------------------------------------------


@pytest.fixture
def strict():
    return pytest.importorskip("array_api_strict", reason="array_api_strict is not installed")


def test_arrays_are_made_on_the_configured_device(strict):
    agclip.set_config(backend="array_api_strict", device="device1")
    device = strict.Device("device1")
    x = strict.asarray([1.0])
    made = [agclip.asarray([1.0]), agclip.asarray([1.0], "float32"), agclip.asarray(x)]
    made += [agclip.asarray(np.asarray([1.0])), agclip.clip_by_norm([3.0, 4.0], 1.0)]
    assert [array.device for array in made] == [device] * len(made)
    assert agclip.asarray(made[0]) is made[0]


def test_an_array_that_follows_none_is_moved_to_the_configured_device(strict):
    agclip.set_config(device="device2")
    assert agclip.asarray(strict.asarray([1.0])).device == strict.Device("device2")


def test_arrays_that_are_given_stay_where_they_are(strict):
    agclip.set_config(backend="array_api_strict", device="device1")
    x = strict.asarray([3.0, 4.0])
    assert agclip.clip_by_norm(x, 1.0).device == x.device


CPUS = {
    "numpy": ["cpu"],
    "mlx": ["cpu"],
    "torch": ["cpu"],
    "jax": ["cpu", "cpu:0"],
    "dask": ["cpu"],
}


@pytest.mark.parametrize(("name", "device"), [(n, d) for n, names in CPUS.items() for d in names])
def test_every_library_knows_the_processor(name, device):
    arrays.library(name)
    agclip.set_config(backend=name, device=device)
    assert name_of(agclip.asarray([1.0])) == name


NOWHERE = {"numpy": "cuda:0", "torch": "cuda:99", "jax": "cpu:99", "array_api_strict": "device"}
ODD = {"jax": ["tpu", "cpu:x", "nowhere"], "torch": ["nowhere", "cpu:x"], "numpy": ["pu"]}


@pytest.mark.parametrize(
    ("name", "device"), [*NOWHERE.items(), *[(n, d) for n, odd in ODD.items() for d in odd]]
)
def test_a_library_without_the_device_is_not_usable(name, device, monkeypatch):
    arrays.library(name)
    others = {"cupy", "dask", "jax", "mlx", "tensorflow", "torch"} - {name}
    monkeypatch.setenv("AGCLIP_BLOCK", ",".join(others))
    agclip.set_config(backend=name, device=device)
    usable = [name] if name in ("jax", "torch") else []
    text = (
        f"`backend` must name a backend that can be used here; got {name!r} (set_config). {name}: "
        f"`device` must name one that {name} has here; got {device!r} (set_config). Usable: "
    )
    with pytest.raises(RuntimeError, match=f"^{re.escape(text)}") as caught:
        agclip.asarray([1.0])
    assert str(caught.value).removeprefix(text) == ", ".join(sorted([*usable, "numpy"])) + "."


def test_the_next_library_with_the_device_counts(strict):
    agclip.set_config(backend=["numpy", "array_api_strict"], device="device1")
    assert agclip.namespace() is strict


def test_an_array_that_stays_cannot_be_moved_to_a_device_that_is_not_there():
    agclip.set_config(device="cuda:0")
    text = "`device` must name one that numpy has here; got 'cuda:0' (set_config)."
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        agclip.asarray(np.asarray([1.0]))
