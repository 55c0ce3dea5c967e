"""Which backend an array belongs to, and the one door that backends come in by."""

import contextlib
import dataclasses
import importlib
import re
import sys

import numpy as np
import pytest

import agclip
import arrays
from agclip._backends import entry_points
from agclip._backends import registry as _registry

# A library of its own: an array class, and a namespace that computes with NumPy.
TOY = """\
import array_api_compat.numpy as xp

__version__ = "7.0"


class Array(xp.ndarray):
    def __array_namespace__(self, api_version=None):
        return xp


def array(values):
    return xp.asarray(values).view(Array)
"""
ADAPTER = """\
import array_api_compat.numpy as xp
import toylib

from agclip import Backend

calls = []


def scale(namespace, leaves, factor):
    calls.append(len(leaves))
    return [leaf * 0 for leaf in leaves]


backend = Backend(name="toylib", xp=xp, scale=scale, access=lambda x: "free")
"""
VALUE = {"toylib": "agclip_toy:backend"}

# A library without an adapter: two classes, one namespace.
ORPHAN = """\
import sys

import array_api_compat.numpy as xp


class Dense:
    def __init__(self, values):
        self.values = xp.asarray(values)

    dtype = property(lambda self: self.values.dtype)
    shape = property(lambda self: self.values.shape)
    ndim = property(lambda self: self.values.ndim)
    __mul__ = None

    def __array_namespace__(self, api_version=None):
        return sys.modules[__name__]


class Diagonal(Dense):
    pass
"""


@pytest.fixture
def registry(tmp_path):
    with arrays.registry(tmp_path) as lent:
        yield lent


@pytest.fixture
def toylib(registry):
    """A library whose adapter another distribution brings."""
    registry.install("agclip-toy", VALUE, {"toylib": TOY, "agclip_toy": ADAPTER})
    return importlib.import_module("toylib")


def row(name):
    (found,) = [info for info in agclip.backends() if info.name == name]
    return found


# --- the class of an array says whose it is ----------------------------------------------------


@pytest.mark.parametrize("name", arrays.LIBRARIES)
def test_an_array_belongs_to_the_library_that_defines_its_class(name):
    assert _registry.resolve(arrays.library(name).array([1.0])).name == name


class Subclass(np.ndarray):
    pass


@pytest.mark.parametrize(
    "x",
    [np.ones(2).view(Subclass), np.float32(1.0), np.ma.masked_array([1.0])],
    ids=["subclass", "scalar", "masked"],
)
def test_a_subclass_belongs_to_the_library_of_its_parent(x):
    assert _registry.resolve(x).name == "numpy"


def test_a_parameter_is_an_array_of_torch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    assert _registry.resolve(torch.nn.Parameter(torch.ones(2))).name == "torch"


def test_a_subclass_of_a_parameter_is_an_array_of_torch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")

    class Weight(torch.nn.Parameter):
        pass

    assert _registry.resolve(Weight(torch.ones(2))).name == "torch"


def test_a_tracer_is_an_array_of_jax():
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    seen = []
    jax.jit(lambda x: seen.append(_registry.resolve(x).name))(jax.numpy.ones(2))
    assert seen == ["jax"]


@pytest.mark.parametrize("x", [1.0, "abc", None, [1.0], np, {"dtype": 1}], ids=lambda x: str(x)[:6])
def test_what_is_no_array_belongs_to_nobody(x):
    assert _registry.resolve(x) is None


@pytest.mark.parametrize("cls", [np.ndarray, np.float32], ids=lambda cls: cls.__name__)
def test_a_class_of_arrays_is_no_array(cls):
    assert _registry.resolve(cls) is None


def test_a_library_that_follows_the_standard_needs_no_adapter():
    strict = pytest.importorskip("array_api_strict", reason="array_api_strict is not installed")
    assert "array_api_strict" not in [info.name for info in agclip.backends()]
    x = strict.asarray([3.0, 4.0], dtype=strict.float32)
    clipped, norm = agclip.clip_by_global_norm({"w": x}, 1.0)
    assert type(clipped["w"]) is type(x)
    assert (clipped["w"].dtype, norm.dtype) == (strict.float32, strict.float32)
    assert np.asarray(clipped["w"]).tolist() == pytest.approx([0.6, 0.8])
    assert float(norm) == 5.0


def test_two_classes_of_a_library_without_an_adapter_are_one_library(registry):
    registry.install("orphan", {}, {"orphanlib": ORPHAN})
    orphan = importlib.import_module("orphanlib")
    leaves = [orphan.Dense([3.0]), orphan.Diagonal([4.0])]
    assert [_registry.resolve(leaf).name for leaf in leaves] == ["orphanlib", "orphanlib"]
    assert (
        _registry.backend_for(leaves, set(map(type, leaves)), lambda i: f"t[{i}]").name
        == "orphanlib"
    )


def test_a_library_that_inherits_from_numpy_is_one_of_its_own(registry):
    registry.install("orphan", {}, {"toylib": TOY})
    x = importlib.import_module("toylib").array([3.0, 4.0])
    assert isinstance(x, np.ndarray)
    assert _registry.resolve(x).name == "toylib"


def test_an_adapter_goes_before_the_namespace_of_the_array(toylib):
    x = toylib.array([3.0, 4.0])
    assert x.__array_namespace__() is toylib.xp
    assert agclip.clip_by_norm(x, 1.0).tolist() == [0.0, 0.0]


# --- distributions that bring a backend --------------------------------------------------------


def test_an_adapter_is_loaded_when_an_array_of_its_library_is_seen(toylib):
    agclip.clip_by_norm(np.ones(2), 1.0)
    assert "agclip_toy" not in sys.modules
    clipped = agclip.clip_by_norm([toylib.array([3.0, 4.0])], 1.0)
    assert type(clipped[0]) is toylib.Array
    assert sys.modules["agclip_toy"].calls == [1]


def test_a_backend_of_another_distribution_is_listed_with_its_source(toylib):
    expected = agclip.BackendInfo(
        name="toylib", version=toylib.__version__, usable=True, reason="", source="agclip-toy"
    )
    assert row("toylib") == expected


def test_a_backend_of_another_distribution_is_found_by_its_name(toylib):
    backend = agclip.get_backend("toylib")
    assert backend.name == "toylib"
    assert backend.xp.asarray([1.0]).tolist() == [1.0]


@pytest.mark.usefixtures("toylib")
def test_a_backend_that_is_installed_may_be_replaced(registry):
    mine = agclip.Backend(name="toylib", xp=np)
    agclip.register_backend(mine)
    assert agclip.get_backend("toylib") is mine
    assert row("toylib").source == "register_backend"


def test_the_same_distribution_found_twice_is_one(registry, toylib):
    site = registry.folder / "agclip-toy"
    twice = registry.folder / "again"
    twice.mkdir()
    for file in (site / "agclip_toy-0.1.dist-info").iterdir():
        target = twice / "agclip_toy-0.1.dist-info"
        target.mkdir(exist_ok=True)
        target.joinpath(file.name).write_text(file.read_text())
    sys.path.insert(0, str(twice))
    entry_points.forget()
    assert agclip.get_backend("toylib").name == toylib.__name__


def test_two_distributions_with_one_name_are_an_error_that_names_both(registry):
    registry.install("agclip-toy", VALUE, {"toylib": TOY, "agclip_toy": ADAPTER})
    registry.install("rival", {"toylib": "rival:backend"}, {"rival": ADAPTER})
    with pytest.raises(ImportError, match=r"got rival \(.*\) and agclip-toy \(.*\)\. Uninstall"):
        agclip.backends()


@pytest.fixture(params=["a crash", "a missing module", "a missing name", "no record"])
def broken(request, registry):
    """A library whose adapter does not load, and what is said of it."""
    source, reason = {
        "a crash": ("1 / 0", "must load; got ZeroDivisionError: division by zero."),
        "a missing module": ("import toylib.gone", "must load; got ModuleNotFoundError: No module"),
        "a missing name": ("other = 1", "must load; got AttributeError: module 'agclip_toy' has"),
        "no record": ("backend = print", "must name an agclip.Backend; got builtin_function"),
    }[request.param]
    registry.install("agclip-toy", VALUE, {"toylib": TOY, "agclip_toy": source})
    return importlib.import_module("toylib"), reason


def test_a_broken_adapter_is_listed_with_the_reason_beside_the_others(broken):
    _, reason = broken
    found = row("toylib")
    assert (found.usable, found.source) == (False, "agclip-toy")
    assert found.reason.startswith("ImportError: the ")
    assert reason in found.reason
    assert row("numpy").usable


def test_an_array_of_a_broken_adapter_is_an_error_that_names_the_distribution(broken):
    toylib, reason = broken
    with pytest.raises(ImportError, match=re.escape(reason)) as caught:
        agclip.clip_by_norm(toylib.array([1.0]), 1.0)
    assert "agclip-toy" in str(caught.value)


@pytest.mark.usefixtures("broken")
def test_a_broken_adapter_concerns_no_other_library():
    assert agclip.clip_by_norm(np.asarray([3.0, 4.0]), 1.0).tolist() == pytest.approx([0.6, 0.8])


def test_the_cause_of_a_crash_is_kept(registry):
    registry.install("agclip-toy", VALUE, {"toylib": TOY, "agclip_toy": "1 / 0"})
    with pytest.raises(ImportError, match="division by zero") as caught:
        agclip.get_backend("toylib")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


# --- containers come in by the same door -------------------------------------------------------

CONTAINERS = """\
def flatten(node):
    import boxlib

    if not isinstance(node, boxlib.Box):
        return None
    return [node.content], [".content"], lambda new: boxlib.Box(*new)
"""
BOX = """\
class Box:
    def __init__(self, content):
        self.content = content
"""


@pytest.fixture
def install_boxes(registry):
    def install(source):
        entry = {"boxlib": "agclip_boxes:flatten"}
        modules = {"boxlib": BOX, "agclip_boxes": source}
        registry.install("agclip-boxes", entry, modules, group="agclip.containers")
        return importlib.import_module("boxlib").Box

    return install


def test_a_distribution_may_bring_containers(install_boxes):
    box = install_boxes(CONTAINERS)
    clipped = agclip.clip_by_norm({"b": box(np.asarray([3.0, 4.0]))}, 1.0)["b"]
    assert type(clipped) is box
    assert clipped.content.tolist() == pytest.approx([0.6, 0.8])


def test_paths_lead_through_containers_of_a_distribution(install_boxes):
    box = install_boxes(CONTAINERS)
    with pytest.raises(TypeError, match=r"got str at t\['b'\]\.content\."):
        agclip.clip_by_norm({"b": box("abc")}, 1.0)


def test_containers_that_do_not_load_are_an_error_that_names_the_distribution(install_boxes):
    box = install_boxes("1 / 0")
    with pytest.raises(ImportError, match="agclip-boxes"):
        agclip.clip_by_norm(box(np.ones(2)), 1.0)


# --- asking by name ----------------------------------------------------------------------------


def test_the_default_backend_is_numpy():
    assert agclip.get_backend() is agclip.get_backend("numpy")
    assert agclip.get_backend().xp.asarray([1.0]).dtype == np.float64


def test_an_unknown_name_is_answered_with_the_nearest_one():
    with pytest.raises(ValueError, match=r"got 'dusk'\. Did you mean 'dask'\?$"):
        agclip.get_backend("dusk")


def test_a_name_that_is_near_to_none_is_answered_with_the_list():
    with pytest.raises(ValueError, match=r"got 'abacas'\. agclip\.backends\(\) lists them\.$"):
        agclip.get_backend("abacas")


@pytest.mark.usefixtures("registry")
def test_a_name_that_is_registered_is_suggested():
    agclip.register_backend(agclip.Backend(name="abacus", xp=np))
    with pytest.raises(ValueError, match=r"must be one of abacus, .*Did you mean 'abacus'\?$"):
        agclip.get_backend("abacas")


def test_a_library_that_is_not_installed_is_answered_with_the_pip_line(registry):
    registry.install("agclip-toy", VALUE, {"agclip_toy": ADAPTER}, extras=["toylib", "test"])
    line = re.escape('toylib is not installed. Run: pip install "agclip-toy[toylib]"')
    with pytest.raises(ImportError, match=f"must be installed; got: {line}$"):
        agclip.get_backend("toylib")
    assert re.fullmatch(line, row("toylib").reason)
    assert (row("toylib").usable, row("toylib").version) == (False, None)


@pytest.mark.usefixtures("registry")
def test_a_library_that_cannot_be_used_is_answered_with_its_reason():
    unusable = agclip.Backend(name="abacus", xp=np, usable=lambda: "no beads")
    agclip.register_backend(unusable)
    with pytest.raises(RuntimeError, match=r"'abacus' must be usable here; got: no beads$"):
        agclip.get_backend("abacus")
    expected = agclip.BackendInfo(
        name="abacus", version=None, usable=False, reason="no beads", source="register_backend"
    )
    assert row("abacus") == expected


# --- registering at run time -------------------------------------------------------------------


@pytest.mark.usefixtures("registry")
def test_a_registered_backend_replaces_the_one_of_its_name_at_once():
    x = np.asarray([3.0, 4.0])
    before = agclip.clip_by_norm(x, 1.0)

    def scale(_, leaves, factor):
        return [leaf * 0 for leaf in leaves]

    agclip.register_backend(dataclasses.replace(agclip.get_backend("numpy"), scale=scale))
    assert before.tolist() == pytest.approx([0.6, 0.8])
    assert agclip.clip_by_norm(x, 1.0).tolist() == [0.0, 0.0]


def test_the_test_above_left_no_trace():
    clipped = agclip.clip_by_norm(np.asarray([3.0, 4.0]), 1.0)
    assert clipped.tolist() == pytest.approx([0.6, 0.8])
    assert row("numpy").source == "agclip"


@pytest.mark.usefixtures("registry")
def test_registering_claims_arrays_that_had_no_adapter():
    strict = pytest.importorskip("array_api_strict", reason="array_api_strict is not installed")
    x = strict.asarray([1.0])
    first = _registry.resolve(x)
    mine = agclip.Backend(name="array_api_strict", xp=strict)
    agclip.register_backend(mine)
    assert first is not mine
    assert _registry.resolve(x) is mine


def test_only_records_are_registered():
    with pytest.raises(TypeError, match=r"must be an agclip\.Backend; got type"):
        agclip.register_backend(agclip.Backend)


def test_a_record_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        agclip.get_backend().name = "other"


# --- what a record may replace beside kernels --------------------------------------------------


@pytest.fixture
def replace(registry):
    """A function that replaces fields of NumPy's backend for one test."""

    def replaced(**fields):
        agclip.register_backend(dataclasses.replace(agclip.get_backend("numpy"), **fields))
        return registry

    return replaced


def test_a_backend_restores_nothing_unless_it_says_so():
    new = np.ones(2)
    assert agclip.Backend(name="abacus", xp=np).restore(np.float32(1.0), new) is new


def test_what_a_backend_restores_takes_the_place_of_the_leaf(replace):
    replace(restore=lambda leaf, new: ("restored", leaf, new.tolist()))
    leaf = np.asarray([3.0, 4.0])
    (word, was, entries), same = agclip.clip_by_norm([leaf, leaf / 10], 1.0)
    assert (word, entries) == ("restored", pytest.approx([0.6, 0.8]))
    assert was is leaf
    assert same.tolist() == pytest.approx([0.3, 0.4])


def test_a_leaf_that_nothing_is_done_to_is_not_restored(replace):
    replace(restore=lambda *_: pytest.fail("restored"))
    leaf = np.asarray([0.3, 0.4])
    assert agclip.clip_by_norm(leaf, 1.0) is leaf


def test_a_leaf_that_is_overwritten_is_not_restored(replace):
    replace(restore=lambda *_: pytest.fail("restored"))
    leaf = np.asarray([3.0, 4.0])
    assert agclip.clip_by_norm_(leaf, 1.0) is leaf
    assert leaf.tolist() == pytest.approx([0.6, 0.8])


@pytest.fixture
def contexts(replace):
    """A list of what happens to the contexts of NumPy's backend."""
    events = []

    @contextlib.contextmanager
    def context():
        events.append("entered")
        try:
            yield
        finally:
            events.append("left")

    replace(context=context)
    return events


OUTSIDE = {
    "bounds": (lambda x: agclip.clip_by_value(x, 0, 1), None),
    "bounds in place": (lambda x: agclip.clip_by_value_(x, 0, 1), None),
    "bounds that cross": (lambda x: agclip.clip_by_value(x, x, x - 1), "arrays that cross"),
    "bounds that do not fit": (lambda x: agclip.clip_by_value(x, 0, np.ones(3)), "must broadcast"),
    "numbers": (lambda x: agclip.clip_by_norm([x, 5.0], 1.0), None),
    "numbers that do not fit": (lambda x: agclip.clip_by_norm([x, 1e39], 1.0), "must fit float32"),
    "a search for NaN": (
        lambda x: agclip.clip_by_norm(x * float("nan"), 1.0, nonfinite="error"),
        "got NaN at t",
    ),
}


@pytest.mark.parametrize("kind", OUTSIDE)
def test_what_is_computed_outside_of_a_program_has_its_context(contexts, kind):
    call, text = OUTSIDE[kind]
    refused = pytest.raises((ValueError, FloatingPointError), match=text)
    with refused if text else contextlib.nullcontext():
        call(np.asarray([3.0, 4.0]))
    assert contexts == ["entered", "left"]


def test_a_program_brings_its_own_context(contexts):
    agclip.clip_by_norm(np.asarray([3.0, 4.0]), 1.0)
    assert contexts == []


def test_a_backend_has_no_context_unless_it_says_so():
    with agclip.Backend(name="abacus", xp=np).context() as context:
        assert context is None


def test_the_context_of_numpy_silences_it_and_ends():
    before = np.geterr()
    with agclip.get_backend("numpy").context():
        assert set(np.geterr().values()) == {"ignore"}
    assert np.geterr() == before


LEAF = np.asarray([1e300, -1e-300, 0.0, float("inf"), float("nan")])
LEAF.setflags(write=False)
STRICTLY = {
    "clip_by_value": lambda x: agclip.clip_by_value(x, -1e300, 1e300),
    "clip_by_value, arrays": lambda x: agclip.clip_by_value(x, x[:1] * 0, x[:1]),
    "clip_by_value, float16": lambda x: agclip.clip_by_value(np.ones(5, "float16"), None, x[:1]),
    "clip_by_norm": lambda x: agclip.clip_by_norm(x[:3], 1e-300),
    "clip_by_norm, axes": lambda x: agclip.clip_by_norm(x, 1e-300, 0),
    "clip_by_norm, ord": lambda x: agclip.clip_by_norm(x[:3], 1e-300, ord=3),
    "clip_by_norm, zero": lambda x: agclip.clip_by_norm(x, 1.0, nonfinite="zero"),
    "clip_by_rms": lambda x: agclip.clip_by_rms(x, 1e-300),
    "clip_by_average_norm": lambda x: agclip.clip_by_average_norm(x[:3], 1e-300),
    "clip_by_global_norm": lambda x: agclip.clip_by_global_norm([x, 1.0], 1e-300),
    "adaptive_grad_clip": lambda x: agclip.adaptive_grad_clip(x, x, unit_axes="out_in"),
    "clip_per_example": lambda x: agclip.clip_per_example(x, 1e-300),
    "global_norm": lambda x: agclip.global_norm([x[:3], x]),
}


@pytest.mark.parametrize("name", STRICTLY)
def test_numpy_may_be_set_to_raise(name):
    with np.errstate(all="raise"):
        STRICTLY[name](LEAF)
        assert set(np.geterr().values()) == {"raise"}


def test_the_context_of_jax_has_64_bits_and_ends():
    jnp = pytest.importorskip("jax.numpy", reason="JAX is not installed")
    with agclip.get_backend("jax").context():
        assert jnp.asarray([1.1], dtype="float64").dtype == np.float64
    assert jnp.asarray([1.1]).dtype == np.float32


# --- the list ----------------------------------------------------------------------------------


def test_the_list_is_sorted_and_names_our_own_backends():
    names = [info.name for info in agclip.backends()]
    assert names == sorted(names)
    assert {"cupy", "dask", "jax", "mlx", "numpy", "tensorflow", "torch"} <= set(names)


def test_our_own_backends_come_in_by_the_same_door():
    assert {row(name).source for name in ("numpy", "torch", "jax")} == {"agclip"}


@pytest.mark.parametrize("name", ["numpy", "torch", "jax", "dask"])
def test_an_installed_library_is_usable_and_has_a_version(name):
    module = pytest.importorskip(name, reason=f"{name} is not installed")
    found = row(name)
    assert (found.usable, found.reason) == (True, "")
    assert found.version == module.__version__


def test_a_usable_row_gives_no_reason_and_another_does():
    assert [info.name for info in agclip.backends() if info.usable == bool(info.reason)] == []


# --- the caches --------------------------------------------------------------------------------


def test_what_has_been_loaded_is_kept(toylib):
    x = toylib.array([3.0, 4.0])
    assert _registry.resolve(x) is _registry.resolve(toylib.array([1.0]))
    assert _registry.resolve(x) is agclip.get_backend("toylib")


def test_forgetting_looks_again(registry):
    with pytest.raises(ValueError, match="must be one of"):
        agclip.get_backend("toylib")
    registry.install("agclip-toy", VALUE, {"toylib": TOY, "agclip_toy": ADAPTER})
    assert agclip.get_backend("toylib").name == "toylib"


def test_nothing_of_the_tests_above_is_left():
    assert "toylib" not in [info.name for info in agclip.backends()]
    assert not [entry for entry in sys.path if "distributions" in entry]
