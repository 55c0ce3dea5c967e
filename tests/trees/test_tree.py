"""Containers: taken apart, named in messages, and put together again as they were."""

import collections
import contextlib
import dataclasses
import functools
import importlib
import json
import operator
import re
import threading
import types
import typing
import warnings

import numpy as np
import pytest

import agclip
import arrays

CLIPPED = pytest.approx([0.6, 0.8])
NUMERIC = {
    "clip_by_value": lambda t: agclip.clip_by_value(t, -1.0, 1.0),
    "clip_by_norm": lambda t: agclip.clip_by_norm(t, 1.0),
    "clip_by_average_norm": lambda t: agclip.clip_by_average_norm(t, 0.5),
    "clip_by_rms": lambda t: agclip.clip_by_rms(t, 0.5),
    "clip_by_global_norm": lambda t: agclip.clip_by_global_norm(t, 1.0)[0],
    "adaptive_grad_clip": lambda t: agclip.adaptive_grad_clip(t, t, unit_axes="out_in"),
}
PER_EXAMPLE = {"clip_per_example": lambda t: agclip.clip_per_example(t, 1.0)[0]}
IN_PLACE = {
    "clip_by_value_": lambda t: agclip.clip_by_value_(t, -1.0, 1.0),
    "clip_by_norm_": lambda t: agclip.clip_by_norm_(t, 1.0),
    "clip_by_average_norm_": lambda t: agclip.clip_by_average_norm_(t, 0.5),
    "clip_by_rms_": lambda t: agclip.clip_by_rms_(t, 0.5),
    "clip_by_global_norm_": lambda t: agclip.clip_by_global_norm_(t, 1.0)[0],
    "adaptive_grad_clip_": lambda t: agclip.adaptive_grad_clip_(t, t, unit_axes="out_in"),
}
FUNCTIONAL = {**NUMERIC, **PER_EXAMPLE}


class Pair(typing.NamedTuple):
    w: typing.Any
    b: typing.Any = None


class Single(Pair):
    """A namedtuple that is made of less than its fields."""

    def __new__(cls, w):
        return super().__new__(cls, w, None)


class Two(tuple):
    """A tuple that is made of arguments, not of a list."""

    __slots__ = ()

    def __new__(cls, first, second):
        return super().__new__(cls, (first, second))


class Row(list):
    """A list with something besides its items."""

    name = "unnamed"


class Triple(tuple):
    __slots__ = ()


class Loud(dict):
    """A dictionary whose update does something of its own."""

    def update(self, *_, **__):
        msg = "update was called"
        raise AssertionError(msg)


class Box:
    def __init__(self, left, right, label):
        self.left, self.right, self.label = left, right, label


def x():
    return np.asarray([3.0, 4.0], dtype=np.float32)


@pytest.fixture(params=FUNCTIONAL)
def functional(request):
    return FUNCTIONAL[request.param]


@pytest.fixture(params=[name for name in FUNCTIONAL if not name.startswith("adaptive")])
def of_one_tree(request):
    return FUNCTIONAL[request.param]


@pytest.fixture(params=NUMERIC)
def numeric(request):
    return NUMERIC[request.param]


@pytest.fixture(params=IN_PLACE)
def in_place(request):
    return IN_PLACE[request.param]


@pytest.fixture
def registry(tmp_path):
    with arrays.registry(tmp_path) as lent:
        yield lent


@pytest.fixture
def boxes(registry):
    """Boxes are containers, whose children have names."""
    agclip.register_container(
        Box,
        lambda box: ((box.left, box.right), box.label, ("left", "right")),
        lambda label, children: Box(*children, label),
    )
    return registry


# --- containers come out as they went in -------------------------------------------------------

TREES = {
    "array": lambda: (x(), "t"),
    "list": lambda: ([x(), None], "t[0]"),
    "tuple": lambda: ((None, x()), "t[1]"),
    "subclass of tuple": lambda: (Triple([x(), None, None]), "t[0]"),
    "namedtuple": lambda: (Pair(x()), "t.w"),
    "namedtuple of fewer arguments": lambda: (Single(x()), "t.w"),
    "collections.namedtuple": lambda: (collections.namedtuple("P", "a b")(None, x()), "t.b"),
    "dict": lambda: ({"z": None, "a": x()}, "t['a']"),
    "dict with numbers": lambda: ({2: x(), (1, 2): None}, "t[2]"),
    "OrderedDict": lambda: (collections.OrderedDict(z=x(), a=None), "t['z']"),
    "defaultdict": lambda: (collections.defaultdict(list, k=x()), "t['k']"),
    "Counter": lambda: (collections.Counter({"k": x()}), "t['k']"),
    "subclass of dict": lambda: (Loud(k=x()), "t['k']"),
    "subclass of list": lambda: (Row([x()]), "t[0]"),
    "nested": lambda: ({"a": [Pair(None, ({"b": x()},))]}, "t['a'][0].b[0]['b']"),
}


@pytest.fixture(params=TREES)
def tree(request):
    """A tree with one array, and its path."""
    return TREES[request.param]()


def replaced(tree, leaf):
    """A plain copy of a tree with another leaf."""
    if isinstance(tree, dict):
        return [(key, replaced(child, leaf)) for key, child in tree.items()]
    if isinstance(tree, (list, tuple)):
        return [replaced(child, leaf) for child in tree]
    return tree if tree is None else leaf


def classes(tree):
    """The class of a tree and of everything in it, in order."""
    if isinstance(tree, dict):
        return [type(tree), [(key, classes(child)) for key, child in tree.items()]]
    if isinstance(tree, (list, tuple)):
        return [type(tree), [classes(child) for child in tree]]
    return type(tree)


def test_a_tree_keeps_its_structure(tree, numeric):
    given, _ = tree
    assert classes(numeric(given)) == classes(given)


def test_a_tuple_of_arguments_comes_out_once_it_is_said_how(numeric, tmp_path):
    given = Two(x(), x())
    with pytest.raises(TypeError, match="a Two must be made of its items") as caught:
        numeric(given)
    said = re.search(r"agclip\.register_container\(.*\)(?=\.$)", str(caught.value))
    with arrays.registry(tmp_path):
        eval(said[0])
        assert classes(numeric(given)) == classes(given)


def test_a_tree_keeps_its_structure_in_place(tree, in_place):
    given, _ = tree
    before = classes(given)
    assert in_place(given) is given
    assert classes(given) == before


def test_only_the_leaf_is_replaced(tree):
    given, _ = tree
    with arrays.unchanged(given):
        clipped = agclip.clip_by_norm(given, 1.0)
    assert replaced(clipped, 0) == replaced(given, 0)


def test_the_path_of_a_leaf_is_how_it_is_reached(tree):
    given, path = tree
    leaf = eval(path, {"t": given})
    assert isinstance(leaf, np.ndarray)
    leaf[1] = np.nan
    with pytest.raises(FloatingPointError, match=re.escape(f"got NaN at {path}.")):
        agclip.clip_by_norm(given, 1.0, nonfinite="error")


def test_a_dict_keeps_the_order_of_insertion():
    grads = {"z": x(), "a": x(), "m": None}
    clipped, norm = agclip.clip_by_global_norm(grads, 1.0)
    assert list(clipped) == ["z", "a", "m"]
    assert norm == np.float32(50**0.5)


def test_an_ordered_dict_keeps_what_was_moved():
    grads = collections.OrderedDict(a=x(), b=x())
    grads.move_to_end("a")
    assert list(agclip.clip_by_norm(grads, 1.0)) == ["b", "a"]


def test_a_defaultdict_keeps_its_factory():
    grads = collections.defaultdict(list, w=x())
    clipped = agclip.clip_by_norm(grads, 1.0)
    assert clipped["w"].tolist() == CLIPPED
    assert clipped["new"] == []
    assert list(grads) == ["w"]


def test_a_subclass_of_list_keeps_its_attributes():
    row = Row([x(), x()])
    row.name = "first"
    clipped = agclip.clip_by_norm(row, 1.0)
    assert clipped.name == "first"
    assert clipped is not row
    assert [leaf.tolist() for leaf in clipped] == [CLIPPED, CLIPPED]
    assert row[0].tolist() == [3.0, 4.0]


def test_none_stays_where_it_is(functional):
    grads = {"a": None, "b": [None, x(), {"c": None}], "d": (None,)}
    clipped = functional(grads)
    assert replaced(clipped, 0) == replaced(grads, 0)


def test_none_alone_is_an_empty_tree():
    with pytest.warns(UserWarning, match="holds no array"):
        assert agclip.clip_by_norm(None, 1.0) is None


@pytest.mark.parametrize("depth", [50, 200])
def test_a_tree_may_be_deep(depth):
    grads = functools.reduce(lambda tree, _: [tree], range(depth), x())
    clipped = agclip.clip_by_norm(grads, 1.0)
    leaf = functools.reduce(lambda tree, _: tree[0], range(depth), clipped)
    assert leaf.tolist() == CLIPPED


def test_a_deep_path_is_named_in_full():
    grads = functools.reduce(lambda tree, _: {"k": [tree]}, range(20), "abc")
    path = "t" + "['k'][0]" * 20
    with pytest.raises(TypeError, match=re.escape(f"got str at {path}.")):
        agclip.clip_by_norm(grads, 1.0)


# --- what is materialised once -----------------------------------------------------------------

ITERATORS = {
    "generator": lambda leaves: (leaf for leaf in leaves),
    "iterator": iter,
    "map": lambda leaves: map(operator.itemgetter(0), zip(leaves, strict=True)),
    "values": lambda leaves: dict(enumerate(leaves)).values(),
}


@pytest.fixture(params=ITERATORS)
def iterable(request):
    # JAX has views of its own on iterators, which must not be asked for.
    with contextlib.suppress(ImportError):
        importlib.import_module("jax")
    return ITERATORS[request.param]


def test_an_iterator_comes_back_as_a_list(iterable, of_one_tree):
    clipped = of_one_tree(iterable([x(), None, x()]))
    assert type(clipped) is list
    assert replaced(clipped, 0) == [0, None, 0]


def test_gradients_and_parameters_may_both_be_iterators(iterable):
    grads, params = iterable([x(), None]), iterable([x(), None])
    clipped = agclip.adaptive_grad_clip(grads, params, 1.0, unit_axes="out_in")
    assert type(clipped) is list
    assert clipped[0].tolist() == [3.0, 4.0]


def test_an_iterator_in_a_tree_comes_back_as_a_list(iterable):
    clipped = agclip.clip_by_norm({"w": iterable([x()])}, 1.0)
    assert type(clipped["w"]) is list
    assert clipped["w"][0].tolist() == CLIPPED


def test_an_iterator_is_read_once():
    reads = []

    def leaves():
        reads.append(1)
        yield x()
        yield x()

    _, norm = agclip.clip_by_global_norm(leaves(), 1.0)
    assert norm == np.float32(50**0.5)
    assert reads == [1]


def test_the_arrays_of_an_iterator_are_clipped_in_place(iterable):
    leaves = [x(), x()]
    agclip.clip_by_norm_(iterable(leaves), 1.0)
    assert [leaf.tolist() for leaf in leaves] == [CLIPPED, CLIPPED]


@pytest.mark.parametrize("leaves", [[], [None, None]], ids=["empty", "None only"])
@pytest.mark.filterwarnings("ignore:.*holds no array:UserWarning")
def test_an_iterator_without_arrays_comes_back_as_a_list_too(functional, leaves):
    assert functional(leaf for leaf in leaves) == leaves


def test_the_leaves_of_an_iterator_have_paths(iterable):
    with pytest.raises(TypeError, match=r"got str at t\[1\]\."):
        agclip.clip_by_norm(iterable([x(), "abc"]), 1.0)


# --- containers that are registered ------------------------------------------------------------


@pytest.mark.usefixtures("boxes")
def test_a_registered_container_is_rebuilt(functional):
    clipped = functional([Box(x(), None, "first")])[0]
    assert (type(clipped), clipped.label, clipped.right) == (Box, "first", None)
    assert isinstance(clipped.left, (np.ndarray, np.generic))


@pytest.mark.usefixtures("boxes")
def test_the_children_of_a_registered_container_have_names():
    with pytest.raises(TypeError, match=re.escape("got str at t[0]['right'].")):
        agclip.clip_by_norm([Box(x(), "abc", None)], 1.0)


@pytest.mark.usefixtures("registry")
def test_without_names_the_children_are_numbered():
    agclip.register_container(
        Box, lambda box: ((box.left, box.right), None), lambda _, new: Box(*new, None)
    )
    with pytest.raises(TypeError, match=re.escape("got str at t[1].")):
        agclip.clip_by_norm(Box(x(), "abc", None), 1.0)


@pytest.mark.usefixtures("boxes")
def test_a_subclass_of_a_registered_class_is_not_included():
    class Parcel(Box):
        pass

    with pytest.raises(TypeError, match=r"got Parcel at t\. .* agclip\.register_container"):
        agclip.clip_by_norm(Parcel(x(), None, None), 1.0)


@pytest.mark.usefixtures("registry")
def test_registering_a_class_goes_before_what_is_known_of_it():
    agclip.register_container(
        Row, lambda row: (list(row), row.name), lambda name, new: (name, *new)
    )
    name, leaf = agclip.clip_by_norm(Row([x()]), 1.0)
    assert (name, leaf.tolist()) == ("unnamed", CLIPPED)


@pytest.mark.usefixtures("registry")
def test_registering_again_replaces():
    agclip.register_container(Box, lambda _: ((), None), lambda _, __: None)
    agclip.register_container(Box, lambda b: ([b.left], b), lambda b, new: Box(*new, b, None))
    assert agclip.clip_by_norm(Box(x(), None, None), 1.0).left.tolist() == CLIPPED


def test_the_tests_above_left_no_container():
    with pytest.raises(TypeError, match="got Box at t"):
        agclip.clip_by_norm(Box(x(), None, None), 1.0)


# --- nodes of JAX and optree -------------------------------------------------------------------


@dataclasses.dataclass
class State:
    w: typing.Any
    b: typing.Any
    name: str = "state"


class Node:
    def __init__(self, w, b):
        self.w, self.b = w, b

    def tree_flatten(self):
        return (self.w, self.b), "aux"

    @classmethod
    def tree_unflatten(cls, aux, children):
        assert aux == "aux"
        return cls(*children)


@pytest.fixture(scope="module")
def jax():
    found = pytest.importorskip("jax", reason="JAX is not installed")
    found.tree_util.register_dataclass(State, data_fields=["w", "b"], meta_fields=["name"])
    found.tree_util.register_pytree_node_class(Node)
    return found


def test_a_dataclass_that_jax_knows_is_a_container(jax):
    clipped = agclip.clip_by_norm([State(x(), None, "mine")], 1.0)[0]
    assert jax.tree_util.tree_structure(clipped).num_leaves == 1
    assert (type(clipped), clipped.b, clipped.name) == (State, None, "mine")
    assert clipped.w.tolist() == CLIPPED


def test_a_dataclass_that_jax_knows_has_the_arrays_of_jax_in_it(jax):
    clipped, norm = agclip.clip_by_global_norm(State(jax.numpy.asarray([3.0, 4.0]), None), 1.0)
    assert isinstance(clipped.w, jax.Array)
    assert clipped.w.tolist() == CLIPPED
    assert float(norm) == 5.0


@pytest.mark.usefixtures("jax")
def test_a_node_class_of_jax_is_a_container():
    clipped = agclip.clip_by_norm({"n": Node([x(), None], (x(),))}, 1.0)["n"]
    assert type(clipped) is Node
    assert clipped.w[0].tolist() == CLIPPED
    assert (clipped.w[1], type(clipped.b)) == (None, tuple)


@pytest.mark.usefixtures("jax")
def test_the_fields_of_a_dataclass_that_jax_knows_have_names():
    with pytest.raises(TypeError, match=re.escape("got str at t['s'].b[1].")):
        agclip.clip_by_norm({"s": State(x(), [x(), "abc"])}, 1.0)


@pytest.mark.usefixtures("jax")
def test_the_children_of_a_node_class_of_jax_have_places():
    with pytest.raises(TypeError, match=re.escape("got str at t[0][<flat index 1>].")):
        agclip.clip_by_norm([Node(x(), "abc")], 1.0)


@pytest.mark.usefixtures("jax")
def test_the_arrays_in_a_node_of_jax_are_clipped_in_place():
    state = State(x(), x())
    assert agclip.clip_by_norm_(state, 1.0) is state
    assert [state.w.tolist(), state.b.tolist()] == [CLIPPED, CLIPPED]


class Frame:
    def __init__(self, w, b):
        self.w, self.b = w, b


@pytest.fixture(scope="module")
def optree():
    found = pytest.importorskip("optree", reason="optree is not installed")
    found.register_pytree_node(
        Frame,
        lambda frame: ((frame.w, frame.b), "aux", ("w", "b")),
        lambda aux, children: Frame(*children),
        namespace=found.registry.__GLOBAL_NAMESPACE,  # it has no public name (optree 0.20)
    )
    return found


@pytest.mark.usefixtures("optree")
def test_a_node_of_optree_is_a_container():
    clipped = agclip.clip_by_norm([Frame(x(), None)], 1.0)[0]
    assert (type(clipped), clipped.b) == (Frame, None)
    assert clipped.w.tolist() == CLIPPED


@pytest.mark.usefixtures("optree")
def test_the_children_of_a_node_of_optree_have_names():
    with pytest.raises(TypeError, match=re.escape("got str at t[0]['b'].")):
        agclip.clip_by_norm([Frame(x(), "abc")], 1.0)


@pytest.mark.usefixtures("optree")
def test_a_deque_is_a_container_where_optree_is_imported():
    clipped = agclip.clip_by_norm(collections.deque([x(), None], maxlen=3), 1.0)
    assert (type(clipped), clipped.maxlen, clipped[1]) == (collections.deque, 3, None)
    assert clipped[0].tolist() == CLIPPED


# --- what is no container ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "found", [{1.0}, {"a": 1.0}.keys(), range(2), types.MappingProxyType({}), "ab", Pair, object()]
)
def test_what_is_no_container_is_named(found):
    name = "the class Pair" if found is Pair else re.escape(type(found).__name__)
    with pytest.raises(TypeError, match=rf"got {name} at t\['w'\]\[1\]\. Take it out"):
        agclip.clip_by_norm({"w": (x(), found)}, 1.0)


# --- empty trees -------------------------------------------------------------------------------

EMPTY = {
    "list": [],
    "tuple": (),
    "dict": {},
    "nested": {"a": [], "b": (None, {})},
    "None": [None],
    "namedtuple": Pair(None),
}


@pytest.fixture(params=EMPTY)
def empty(request):
    return EMPTY[request.param]


def line_of(function):
    return function.__code__.co_firstlineno


def test_an_empty_tree_comes_back_with_a_warning(empty, functional):
    with pytest.warns(UserWarning, match="holds no array: nothing is clipped"):
        result = functional(empty)
    assert (result, type(result)) == (empty, type(empty))


def test_an_empty_tree_in_place_is_returned_itself(empty, in_place):
    with pytest.warns(UserWarning, match="holds no array: nothing is clipped"):
        assert in_place(empty) is empty


def test_the_warning_points_at_the_line_that_called(functional):
    with pytest.warns(UserWarning, match="holds no array") as caught:
        functional([])
    (warning,) = caught
    assert warning.filename == __file__
    assert warning.lineno == line_of(functional)


def test_the_warning_points_at_the_line_that_called_in_place(in_place):
    with pytest.warns(UserWarning, match="holds no array") as caught:
        in_place([])
    (warning,) = caught
    assert (warning.filename, warning.lineno) == (__file__, line_of(in_place))


def test_the_warning_of_the_norm_points_at_the_line_that_called():
    norm = lambda: agclip.global_norm([])  # noqa: E731 - the call has to be on the first line
    with pytest.warns(UserWarning, match="holds no array") as caught:
        assert norm() == 0
    assert (caught[0].filename, caught[0].lineno) == (__file__, line_of(norm))


def test_a_call_from_a_thread_warns_too():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        thread = threading.Thread(target=agclip.clip_by_norm, args=([], 1.0))
        thread.start()
        thread.join()
    assert [str(warning.message)[:18] for warning in caught] == ["`t` holds no array"]


def test_the_norm_of_nothing_is_zero():
    with pytest.warns(UserWarning, match="`t_list` holds no array"):
        tree, norm = agclip.clip_by_global_norm({"a": None}, 1.0)
    assert tree == {"a": None}
    assert (float(norm), norm.dtype, norm.shape) == (0.0, np.float64, ())


def test_the_norm_of_nothing_goes_where_a_python_float_goes():
    with pytest.warns(UserWarning, match="`t_list` holds no array"):
        norm = agclip.global_norm([None])
    assert isinstance(norm, float)
    assert json.dumps({"grad_norm": norm}) == '{"grad_norm": 0.0}'


def test_nobody_is_counted_in_an_empty_batch():
    with pytest.warns(UserWarning, match="`grads` holds no array"):
        total, count = agclip.clip_per_example([], 1.0)
    assert (total, int(count)) == ([], 0)


def test_an_empty_array_is_an_array():
    clipped, norm = agclip.clip_by_global_norm([np.zeros((0, 3)), x()], 1.0)
    assert clipped[0].shape == (0, 3)
    assert clipped[1].tolist() == CLIPPED
    assert norm == 5.0


# --- leaves of a special kind ------------------------------------------------------------------


def test_an_array_held_twice_is_clipped_once_in_place():
    leaf = x()
    agclip.clip_by_norm_({"a": leaf, "b": [leaf]}, 1.0)
    assert leaf.tolist() == CLIPPED


def test_an_array_held_twice_counts_twice_and_is_multiplied_once():
    leaf = x()
    _, norm = agclip.clip_by_global_norm_([leaf, leaf], 1.0)
    assert norm == np.float32(50**0.5)
    assert leaf.tolist() == pytest.approx([3 / 50**0.5, 4 / 50**0.5])


def test_an_array_held_twice_is_divided_once_by_the_loss_scale():
    leaf = x() / 100
    agclip.clip_by_value_([leaf, leaf], -1.0, 1.0, loss_scale=2.0)
    assert leaf.tolist() == pytest.approx([0.015, 0.02])


@pytest.mark.parametrize("name", arrays.WRITABLE)
def test_an_array_held_twice_is_written_as_if_held_once(name, in_place):
    lib = arrays.library(name)
    once, twice = lib.array([[0.0, 300.0]]), lib.array([[0.0, 300.0]])
    halved = lib.array([[0.0, 300.0]])
    in_place([once, halved])
    in_place([twice, twice])
    assert lib.entries(twice).tolist() == lib.entries(once).tolist()


@pytest.mark.parametrize("name", arrays.WRITABLE)
def test_a_bound_that_is_a_leaf_too_is_read_before_it_is_written(name):
    lib = arrays.library(name)
    bound, leaf = lib.array([4.0, 8.0]), lib.array([100.0, 100.0])
    agclip.clip_by_value_([bound, leaf], None, bound, loss_scale=2.0)
    assert [lib.entries(x).tolist() for x in (bound, leaf)] == [[2.0, 4.0], [4.0, 8.0]]


@pytest.mark.parametrize("side", ["clip_value_min", "clip_value_max"])
@pytest.mark.parametrize("name", arrays.WRITABLE)
def test_a_bound_that_lies_in_the_memory_of_a_leaf_is_read_before_it_is_written(name, side):
    lib = arrays.library(name)
    leaf, same = lib.array([1.0, 7.0, 3.0, 5.0]), lib.array([1.0, 7.0, 3.0, 5.0])
    bounds = {"clip_value_min": None, "clip_value_max": None}
    right = agclip.clip_by_value([same, same], **{**bounds, side: same[1:2]})
    agclip.clip_by_value_([leaf, leaf], **{**bounds, side: leaf[1:2]})
    assert lib.entries(leaf).tolist() == lib.entries(right[0]).tolist()


@pytest.mark.parametrize("name", ["numpy", "array_api_strict"])
def test_a_bound_that_is_a_leaf_backwards_is_read_before_it_is_written(name):
    lib = arrays.library(name)
    leaf = lib.array([1.0, 7.0, 3.0, 5.0])
    agclip.clip_by_value_(leaf, None, leaf[::-1])
    assert lib.entries(leaf).tolist() == [1.0, 3.0, 3.0, 1.0]


@pytest.mark.parametrize("name", arrays.WRITABLE)
def test_two_bounds_that_are_leaves_are_both_read_before_they_are_written(name):
    lib = arrays.library(name)
    low, high, leaf = (lib.array(values) for values in ([1.0, 2.0], [3.0, 4.0], [9.0, 0.0]))
    agclip.clip_by_value_([high, leaf, low], low, high, loss_scale=8.0)
    right = [[1.0, 2.0], [1.125, 2.0], [1.0, 2.0]]
    assert [lib.entries(x).tolist() for x in (high, leaf, low)] == right


def test_an_array_held_twice_comes_back_twice():
    leaf = x()
    first, second = agclip.clip_by_norm([leaf, leaf], 1.0)
    assert (first.tolist(), second.tolist()) == (CLIPPED, CLIPPED)
    assert leaf.tolist() == [3.0, 4.0]


def test_a_list_of_numpy_scalars_is_a_list_of_leaves():
    clipped = agclip.clip_by_norm([np.float32(3.0), np.float64(-4.0)], 1.0)
    assert clipped == [1.0, -1.0]
    assert [type(leaf) for leaf in clipped] == [np.float32, np.float64]


@pytest.mark.parametrize("scalar", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("value", [3.0, 1e-3, float("nan")])
def test_a_numpy_scalar_comes_back_as_one(numeric, value, scalar):
    (leaf,) = numeric([scalar(value)])
    assert type(leaf) is scalar


@pytest.mark.parametrize("scalar", [np.complex64, np.complex128])
@pytest.mark.parametrize("name", [name for name in NUMERIC if name != "clip_by_value"])
def test_a_complex_numpy_scalar_comes_back_as_one(name, scalar):
    leaf = NUMERIC[name](scalar(3 + 4j))
    assert type(leaf) is scalar


@pytest.mark.parametrize("scalar", [np.int8, np.int64, np.uint64])
def test_an_integer_of_numpy_comes_back_as_one(scalar):
    leaf = agclip.clip_by_value(scalar(5), 0, 3)
    assert (type(leaf), leaf) == (scalar, 3)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4", ">f8"])
@pytest.mark.parametrize("value", [3.0, 1e-3])
def test_an_array_of_numpy_without_axes_comes_back_as_one(numeric, value, dtype):
    (leaf,) = numeric([np.asarray(value, dtype=dtype)])
    assert (type(leaf), leaf.shape, leaf.dtype) == (np.ndarray, (), np.dtype(dtype))


def test_a_sum_of_numbers_is_an_array_without_axes():
    total, count = agclip.clip_per_example(x(), 1.0)
    assert (type(total), total.shape, total.dtype) == (np.ndarray, (), np.float32)
    assert (type(count), count.shape, count.dtype) == (np.ndarray, (), np.int32)


KEEPS_ORDER = {
    **FUNCTIONAL,
    "clip_by_value above": lambda t: agclip.clip_by_value(t, None, 1.0),
    "clip_by_value below": lambda t: agclip.clip_by_value(t, 1.0, None),
    "clip_by_value without bounds": lambda t: agclip.clip_by_value(t, None, None),
    "clip_by_value, arrays": lambda t: agclip.clip_by_value(t, np.zeros(2), np.ones(2)),
    "clip_by_value, loss_scale": lambda t: agclip.clip_by_value(t, -1, 1, loss_scale=2.0),
    "clip_by_norm, axes": lambda t: agclip.clip_by_norm(t, 1.0, 1),
    "clip_by_norm, no axes": lambda t: agclip.clip_by_norm(t, 1.0, ()),
    "clip_by_norm, axes, zero": lambda t: agclip.clip_by_norm(t, 1.0, 0, nonfinite="zero"),
    "clip_by_norm, ord": lambda t: agclip.clip_by_norm(t, 1.0, ord=3),
    "clip_by_norm, reproducible": lambda t: agclip.clip_by_norm(t, 1.0, 0, reproducible=True),
    "clip_per_example, zero": lambda t: agclip.clip_per_example(t, 1.0, nonfinite="zero")[0],
}
KEEPS_ORDER_IN_PLACE = {
    **IN_PLACE,
    "clip_by_norm_, axes": lambda t: agclip.clip_by_norm_(t, 1.0, 1),
    "clip_by_value_, arrays": lambda t: agclip.clip_by_value_(t, np.zeros(2), np.ones(2)),
}


@pytest.fixture(params=[">f2", ">f4", ">f8"])
def swapped(request):
    """A matrix whose bytes come in the other order."""
    return np.asarray([[3.0, -4.0], [0.25, 300.0]], dtype=request.param)


@pytest.mark.parametrize("name", KEEPS_ORDER)
def test_the_order_of_bytes_is_kept(name, swapped):
    native = swapped.astype(swapped.dtype.newbyteorder("="))
    clipped, right = KEEPS_ORDER[name]([swapped])[0], KEEPS_ORDER[name]([native])[0]
    assert (clipped.dtype, clipped.shape) == (swapped.dtype, right.shape)
    assert clipped.tolist() == right.tolist()


@pytest.mark.parametrize("name", KEEPS_ORDER_IN_PLACE)
def test_the_order_of_bytes_is_kept_in_place(name, swapped):
    native = swapped.astype(swapped.dtype.newbyteorder("="))
    given = swapped.dtype
    KEEPS_ORDER_IN_PLACE[name]([swapped])
    KEEPS_ORDER_IN_PLACE[name]([native])
    assert swapped.dtype == given
    assert swapped.tolist() == native.tolist()


def test_the_order_of_bytes_of_integers_is_kept():
    clipped = agclip.clip_by_value(np.asarray([3, -4], dtype=">i4"), -1, 1)
    assert (clipped.dtype, clipped.tolist()) == (np.dtype(">i4"), [1, -1])


@pytest.mark.parametrize("policy", ["zero", "skip"])
def test_a_numpy_scalar_that_is_not_finite_comes_back_as_one(policy):
    (leaf,) = agclip.clip_by_norm([np.float32("nan")], 1.0, nonfinite=policy)
    assert type(leaf) is np.float32


@pytest.mark.parametrize("name", arrays.LIBRARIES)
def test_a_leaf_without_axes_stays_one(name):
    lib = arrays.library(name)
    (leaf,) = agclip.clip_by_norm([lib.array(-3.0)], 1.0)
    assert type(leaf) is type(lib.array(1.0))
    assert (lib.entries(leaf).shape, float(lib.entries(leaf))) == ((), -1.0)


@pytest.mark.parametrize("name", arrays.WRITABLE)
def test_a_leaf_without_axes_is_clipped_in_place(name):
    lib = arrays.library(name)
    leaf = lib.array(-3.0)
    agclip.clip_by_norm_([leaf], 1.0)
    assert float(lib.entries(leaf)) == -1.0


# --- Python numbers ----------------------------------------------------------------------------


def test_a_list_of_numbers_is_one_array():
    clipped = agclip.clip_by_norm([[3.0, 0], [0, 4]], 1)
    assert (clipped.shape, clipped.dtype) == ((2, 2), np.float32)
    assert clipped.ravel().tolist() == pytest.approx([0.6, 0, 0, 0.8])


def test_a_list_of_numbers_is_a_list_of_tensors_where_tensors_are_listed():
    clipped, norm = agclip.clip_by_global_norm([3.0, 4], 1.0)
    assert type(clipped) is list
    assert [float(leaf) for leaf in clipped] == CLIPPED
    assert [leaf.shape for leaf in clipped] == [(), ()]
    assert norm == 5.0


def test_numbers_beside_arrays_are_arrays_of_their_library():
    clipped = agclip.clip_by_norm({"w": x(), "b": [3.0, 4.0], "c": 5}, 1.0)
    assert clipped["b"].tolist() == CLIPPED
    assert (clipped["b"].dtype, clipped["c"].shape, float(clipped["c"])) == (np.float32, (), 1.0)


def test_numbers_beside_tensors_are_tensors():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    clipped = agclip.clip_by_norm([torch.asarray([3.0, 4.0]), [3.0, 4.0]], 1.0)
    assert [type(leaf) for leaf in clipped] == [torch.Tensor, torch.Tensor]
    assert clipped[1].tolist() == CLIPPED


def test_integers_stay_integers_in_a_value_clip():
    clipped = agclip.clip_by_value([1, 5, -7], -2, 2)
    assert clipped.tolist() == [1, 2, -2]
    assert clipped.dtype.kind == "i"
