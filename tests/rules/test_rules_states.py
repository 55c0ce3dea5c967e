"""States of rules with memory: steps without gradients, leaves that join, what does not fit."""

import math

import numpy as np
import pytest

import agclip
import arrays
from thinned import with_libraries

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

RULES = {
    "zclip": agclip.ZClip(warmup=1, max_norm=None),
    "autoclip": agclip.AutoClip(50.0, window=3),
    "quantile": agclip.QuantileClip(1.0),
    "adagc": agclip.AdaGC(warmup=1),
    "spike": agclip.SpikeClip(4.0, 0.5, 1),
    "scheduled": agclip.Scheduled(agclip.ClipByGlobalNorm, lambda step: 4.0 / (1 + step)),
    "chain": agclip.Chain(agclip.ZClip(warmup=1), agclip.QuantileClip(1.0)),
    "per group": agclip.PerGroup({"a": agclip.AdaGC(warmup=1), "b": agclip.SpikeClip(4.0, 0.5, 1)}),
}
OF_LEAVES = {
    "adagc": agclip.AdaGC(relative=1.5, absolute=100.0, decay=0.5, warmup=2),
    "spike": agclip.SpikeClip(2.0, 0.5, 2),
}
COMPILED = ("zclip", "spike", "per group")
"""The rules whose steps `make test` has JAX compile."""


@pytest.fixture(params=arrays.LIBRARIES)
def lib(request):
    return arrays.library(request.param)


@pytest.fixture(params=RULES, ids=lambda name: name.replace(" ", "-"))
def rule(request):
    return RULES[request.param]


@pytest.fixture(params=OF_LEAVES)
def of_leaves(request):
    return OF_LEAVES[request.param]


def tree(lib, scale):
    return {"a": lib.array([3.0 * scale, 0.5]), "b": lib.array([[2.0], [-scale]])}


def values(lib, clipped):
    return {key: lib.entries(leaf).tolist() for key, leaf in clipped.items()}


# --- steps without gradients -------------------------------------------------------------------


@pytest.mark.parametrize("grads", [[None], {"a": None, "b": None}, ()], ids=str)
def test_no_state_is_made_of_a_tree_without_arrays(rule, grads):
    if not isinstance(rule, agclip.PerGroup | agclip.Chain):
        assert rule.init(grads) == ()
    with pytest.warns(UserWarning, match="holds no array"):
        _, state, _ = rule.update(grads, ())
    assert state == ()


@with_libraries("rule", RULES, COMPILED)
def test_the_first_step_may_be_one_without_gradients(lib, rule):
    late, wanted = agclip.Clipper(rule), agclip.Clipper(rule)
    with pytest.warns(UserWarning, match="holds no array"):
        late({"a": None, "b": None})
    assert late.state is None
    for scale in (1.0, 4.0):
        got, other = late(tree(lib, scale)), wanted(tree(lib, scale))
    assert values(lib, got[0]) == values(lib, other[0])
    assert late.state_dict()["state"] == wanted.state_dict()["state"]


@with_libraries("rule", RULES, COMPILED)
def test_a_state_that_is_not_made_yet_is_made_in_the_step(lib, rule):
    made = rule.update(tree(lib, 1.0), ())
    wanted = rule.update(tree(lib, 1.0), rule.init(tree(lib, 1.0)))
    assert values(lib, made[0]) == values(lib, wanted[0])
    assert made[2].to_host() == wanted[2].to_host()
    _, state, info = rule.update(tree(lib, 4.0), made[1])
    _, other, expected = rule.update(tree(lib, 4.0), wanted[1])
    assert info.to_host() == expected.to_host()
    assert arrays_of(state).keys() == arrays_of(other).keys()


def arrays_of(state, path=""):
    if isinstance(state, dict):
        return {k: v for key in state for k, v in arrays_of(state[key], f"{path}/{key}").items()}
    return {path: state}


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        (agclip.AdaGC(absolute=100.0, warmup=0), "average"),
        (agclip.SpikeClip(2.0, 0.5, 0), "second_moment"),
    ],
    ids=OF_LEAVES,
)
def test_updates_may_take_turns(lib, rule, name):
    clipper = agclip.Clipper(rule)
    alone = {"a": agclip.Clipper(rule), "b": agclip.Clipper(rule)}
    for scale in (1.0, 2.0):
        for key, other in (("a", "b"), ("b", "a")):
            clipper({key: tree(lib, scale)[key], other: None})
            alone[key]({key: tree(lib, scale)[key]})
    wanted = {key: one.state_dict()["state"][name][key] for key, one in alone.items()}
    assert clipper.state_dict()["state"][name] == wanted


# --- leaves that get their first gradient later ------------------------------------------------


def test_a_leaf_joins_as_in_a_rule_of_its_own(lib, of_leaves):
    """The bound on the global norm is out of reach, so that leaves do not touch each other."""
    clipper, alone = agclip.Clipper(of_leaves), agclip.Clipper(of_leaves)
    for _ in range(3):
        clipper({"a": lib.array([1.0]), "b": None})
    for entry in (1.0, 1.0, 32.0, 0.5):
        clipped, _ = clipper({"a": lib.array([1.0]), "b": lib.array([entry])})
        wanted, _ = alone({"b": lib.array([entry])})
        assert lib.entries(clipped["b"]).tolist() == lib.entries(wanted["b"]).tolist()
        assert lib.entries(clipped["a"]).tolist() == [1.0]
    name = "average" if isinstance(of_leaves, agclip.AdaGC) else "second_moment"
    got, other = (one.state_dict()["state"] for one in (clipper, alone))
    assert got[name]["b"] == other[name]["b"]
    assert got["joined"] == {"b": 3}


@pytest.mark.parametrize(
    ("name", "entries", "wanted"),
    [("adagc", (1.0, 1.0, 32.0), 1.5), ("spike", (1.0, 1.0, 32.0), math.sqrt(1.5))],
)
def test_the_warm_up_of_a_leaf_that_joins_is_its_own(name, entries, wanted):
    clipper = agclip.Clipper(OF_LEAVES[name])
    for _ in range(9):
        clipper({"a": np.ones(1), "b": None})
    for entry in entries:
        clipped, _ = clipper({"a": np.ones(1), "b": np.asarray([entry])})
    assert clipped["b"] == pytest.approx([wanted])


def test_leaves_that_are_known_from_the_beginning_do_not_join(lib, of_leaves):
    state = of_leaves.init(tree(lib, 1.0))
    _, state, _ = of_leaves.update({"a": tree(lib, 1.0)["a"], "b": None}, state)
    _, state, _ = of_leaves.update(tree(lib, 1.0), state)
    assert "joined" not in state


def test_a_leaf_may_join_in_compiled_code(of_leaves):
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    lib = arrays.library("jax")
    traces = []

    @jax.jit
    def step(grads, state):
        traces.append(1)
        return of_leaves.update(grads, state)

    eager, state = agclip.Clipper(of_leaves), of_leaves.init({"a": lib.array([1.0])})
    for scale in (1.0, 1.0, 1.0, 1.0, 32.0):
        grads = {"a": lib.array([1.0])}
        grads |= {} if len(traces) == 0 else {"b": lib.array([scale])}
        clipped, state, info = step(grads, state)
        wanted, other = eager(grads)
    assert len(traces) == 3  # without it, where it joins, and once for all steps from then on
    assert info.to_host() == other.to_host()
    assert values(lib, clipped) == values(lib, wanted)


# --- states that do not fit --------------------------------------------------------------------

PAIRS = [("numpy", "torch"), ("torch", "numpy"), ("torch", "jax"), ("jax", "numpy")]


@pytest.mark.parametrize(("kept", "given"), PAIRS, ids="-".join)
def test_gradients_of_another_library_are_refused(rule, kept, given):
    before, now = arrays.library(kept), arrays.library(given)
    _, state, _ = rule.update(tree(before, 1.0), ())
    grads = tree(now, 1.0)
    with arrays.unchanged(grads), pytest.raises(TypeError) as error:
        rule.update(grads, state)
    assert str(error.value).startswith(
        f"`state` must hold arrays of {given}, as `grads` does; got one of {kept} at state['"
    )
    assert str(error.value).endswith(
        "Convert it, make a new one with init(params), or load the state_dict() of a Clipper into "
        "a new one, which goes on in any library."
    )


def test_in_place_gradients_of_another_library_are_left_alone():
    torch = arrays.library("torch")
    rule = agclip.ZClip(warmup=0)
    _, state, _ = rule.update([torch.array([1.0])], ())
    grads = [np.asarray([3.0, 4.0])]
    with arrays.unchanged(grads), pytest.raises(TypeError, match="got one of torch at state"):
        rule.update_(grads, state)


def test_a_clipper_goes_on_in_another_library_by_its_saved_state(rule):
    numpy, torch = arrays.library("numpy"), arrays.library("torch")
    stays, moves = agclip.Clipper(rule), agclip.Clipper(rule)
    for clipper in (stays, moves):
        clipper(tree(numpy, 1.0))
    with pytest.raises(TypeError, match="`state` must hold arrays of torch"):
        moves(tree(torch, 4.0))
    moves.load_state_dict(moves.state_dict())
    wanted, got = stays(tree(numpy, 4.0))[1].to_host(), moves(tree(torch, 4.0))[1].to_host()
    assert got.threshold == pytest.approx(wanted.threshold, rel=1e-6)
    assert moves.step == 2


def test_numbers_in_a_state_are_no_arrays(lib):
    state = {"count": 1, "seen": 1, "mean": 1.0, "variance": 0.0}
    with pytest.raises(TypeError, match=r"got int at state\['count'\]\. Convert it"):
        agclip.ZClip().update(lib.array([1.0]), state)


def test_a_leaf_of_another_shape_has_no_second_moments(lib):
    rule = agclip.SpikeClip()
    _, state, _ = rule.update({"w": lib.array([1.0, 2.0])}, ())
    grads = {"w": lib.array([[1.0, 2.0]])}
    with arrays.unchanged(grads), pytest.raises(ValueError, match="must have the shapes") as error:
        rule.update(grads, state)
    assert str(error.value) == (
        "`grads` must have the shapes that the state was made for; got (1, 2) at grads['w'] and "
        "(2,) at state['second_moment']['w']. Make a new state with init(params)."
    )


@pytest.mark.parametrize("name", ["zclip", "autoclip", "adagc", "spike"])
def test_a_state_of_another_rule_is_refused(name):
    with pytest.raises(ValueError, match=r"with the keys 'count'") as error:
        RULES[name].update([np.ones(2)], agclip.QuantileClip().init([np.ones(2)]))
    assert str(error.value).endswith("got 'threshold'. Begin with init(params).")


@pytest.mark.parametrize(
    ("name", "keys"), [("chain", "'0', '1'"), ("per group", "'a', 'b'")], ids=["chain", "per-group"]
)
def test_members_refuse_the_states_of_others(name, keys):
    with pytest.raises(ValueError, match="with the keys") as error:
        RULES[name].update(tree(arrays.library("numpy"), 1.0), {"head": ()})
    assert str(error.value) == (
        "`state` must be what init(params) or the last step of this rule returned, with the keys "
        f"{keys}; got 'head'. Begin with init(params)."
    )


def test_a_state_of_one_that_forgets_is_none_of_one_that_does_not():
    state = agclip.AutoClip(window=3).init([np.ones(2)])
    with pytest.raises(ValueError, match="keys 'count', 'seen', 'history'; got 'count', 'seen', "):
        agclip.AutoClip().update([np.ones(2)], state)


def test_a_state_follows_the_leaves_to_another_device(rule):
    strict = pytest.importorskip("array_api_strict", reason="array_api_strict is not installed")
    there = strict.Device("device1")
    _, state, _ = rule.update(
        {"a": strict.ones(2, device=there), "b": strict.ones((2, 1), device=there)}, ()
    )
    grads = {"a": strict.ones(2), "b": strict.ones((2, 1))}
    clipped, _, info = rule.update(grads, state)
    assert info.norm.device == clipped["a"].device == strict.Device("CPU_DEVICE")


def test_second_moments_take_the_width_of_the_leaf(lib):
    rule = agclip.SpikeClip(warmup=0)
    _, state, _ = rule.update([lib.array([1.0], "float32")], ())
    clipped, state, _ = rule.update([lib.array([1.0], "float64")], state)
    assert "float64" in str(clipped[0].dtype)
    assert "float64" in str(state["second_moment"]["0"].dtype)
