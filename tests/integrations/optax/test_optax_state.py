"""The state of a rule that is a transformation: what is in it, under which names, for how long."""

import math

import pytest

pytest.importorskip("optax", reason="optax is not installed")

import jax
import jax.numpy as jnp
import numpy as np
import optax

import agclip
from agclip.integrations.optax import ClipState, as_gradient_transformation
from agclip.rules._rule import Steps
from integrations.optax.combinators import described, stepped

GRADS = {"layers": [{"w": jnp.asarray([3.0, 0.0]), "b": jnp.asarray([4.0])}]}
PATHS = ["layers.0.b", "layers.0.w"]


def taken(rule, grads=GRADS, **options):
    tx = as_gradient_transformation(rule, **options)
    return tx.update(grads, tx.init(grads), grads)


def test_the_record_is_in_the_state_of_the_optimizer():
    tx = optax.chain(as_gradient_transformation(agclip.ClipByGlobalNorm(1.0)), optax.adam(0.1))
    state = tx.init(GRADS)
    _, state = jax.jit(tx.update)(GRADS, state)
    found = {name: optax.tree.get(state, name) for name in agclip.ClipInfo._fields}
    assert float(found["norm"]) == 5.0
    assert float(found["scale"]) == pytest.approx(0.2)
    assert float(found["threshold"]) == 1.0
    assert bool(found["clipped"])
    assert not bool(found["nonfinite"])
    assert not bool(found["skip"])
    assert found["leaf_norms"] == {}


def test_the_record_before_the_first_step():
    tx = as_gradient_transformation(agclip.ClipByGlobalNorm(1.0))
    info = tx.init(GRADS).info.to_host()
    assert info == agclip.ClipInfo(0.0, 1.0, math.inf, False, False, {}, False)


def test_no_array_of_a_state_is_another():
    rule = agclip.PerGroup({"*.w": agclip.AdaGC(), "*": None})
    tx = optax.apply_if_finite(as_gradient_transformation(rule, leaf_norms=True), 3)
    grads = {"a": GRADS, "b": GRADS}
    state = tx.init(grads)
    for _ in range(2):  # eager, then compiled: the second step takes the first one's arrays
        leaves = jax.tree.leaves(state.inner_state)
        assert len({leaf.unsafe_buffer_pointer() for leaf in leaves}) == len(leaves)
        _, state = tx.update(grads, state)
    jax.jit(tx.update, donate_argnums=1)(grads, state)
    _, alone = taken(rule, grads, leaf_norms=True)
    leaves = jax.tree.leaves(alone)
    assert len({leaf.unsafe_buffer_pointer() for leaf in leaves}) == len(leaves)


def test_the_norm_of_each_leaf():
    _, state = taken(agclip.AdaGC(), leaf_norms=True)
    assert {path: float(norm) for path, norm in state.info.leaf_norms.items()} == {
        "layers.0.b": 4.0,
        "layers.0.w": 3.0,
    }


def test_a_leaf_that_no_rule_looks_at_has_no_norm():
    rule = agclip.PerGroup({"*.b": None, "*": agclip.AdaGC()})
    tx = as_gradient_transformation(rule, leaf_norms=True)
    stepped(tx, GRADS, [GRADS, GRADS])
    norms = taken(rule, leaf_norms=True)[1].info.leaf_norms
    assert math.isnan(norms["layers.0.b"])
    assert float(norms["layers.0.w"]) == 3.0


def test_without_a_record():
    _, state = taken(agclip.ZClip(), info=False)
    assert state.info is None
    assert len(jax.tree.leaves(state)) == 4


def test_a_record_that_is_not_kept_is_not_computed():
    """Of a clip by value the record takes norms, which the clip does not."""

    def operations(*, info):
        tx = as_gradient_transformation(agclip.ClipByValue(-1.0, 1.0), info=info)
        program = jax.jit(tx.update).lower(GRADS, tx.init(GRADS)).compile()
        return program.cost_analysis()["flops"]

    assert operations(info=False) < operations(info=True) / 2


@pytest.mark.parametrize("x64", [False, True])
def test_numbers_are_of_the_precision_that_is_set(x64):
    wanted = {"float64" if x64 else "float32", "int32", "bool"}
    with jax.enable_x64(x64):
        tx = as_gradient_transformation(agclip.AdaGC(), leaf_norms=True)
        state = tx.init(GRADS)
        assert {leaf.dtype.name for leaf in jax.tree.leaves(state)} == wanted
        _, after = jax.jit(tx.update)(GRADS, state)
        assert described(after) == described(state)


def test_parameters_of_a_narrower_dtype_than_the_gradients():
    params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), GRADS)
    for rule in (agclip.AdaGC(), agclip.ZClip(), agclip.SpikeClip()):
        stepped(as_gradient_transformation(rule, leaf_norms=True), params, [GRADS, GRADS])


# --- which leaves there are --------------------------------------------------------------------


def test_none_masked_nodes_and_integers_have_no_state():
    params = {"n": jnp.asarray(3), "m": optax.MaskedNode(), "o": None, "w": jnp.ones(2)}
    grads = {**params, "n": None}
    tx = as_gradient_transformation(agclip.AdaGC(), leaf_norms=True)
    state = tx.init(params)
    assert list(state.memory["average"]) == ["w"]
    new, after = jax.jit(tx.update)(grads, state, params)
    assert described(after) == described(state)
    assert new["n"] is None
    assert new["m"] == optax.MaskedNode()
    assert new["w"].tolist() == pytest.approx([0.5**0.5, 0.5**0.5])


def test_derivatives_by_integers_are_kept():
    nothing = np.zeros((), jax.dtypes.float0)
    params = {"n": jnp.asarray(3), "w": jnp.ones(2)}
    rule = agclip.AdaptiveGradClip(0.1, unit_axes="in_out")
    tx = as_gradient_transformation(rule)
    new, _ = tx.update({"n": nothing, "w": jnp.ones(2)}, tx.init(params), params)
    assert new["n"] is nothing
    assert new["w"].tolist() == pytest.approx([0.1, 0.1])


def test_an_empty_tree_says_nothing_and_changes_nothing():
    for tree in ({}, None, {"w": optax.MaskedNode()}):
        tx = as_gradient_transformation(agclip.AdaGC())
        state = tx.init(tree)
        assert tx.update(tree, state) == (tree, state)


def test_an_array_alone():
    new, state = taken(agclip.ClipByGlobalNorm(1.0), jnp.asarray([3.0, 4.0]), leaf_norms=True)
    assert new.tolist() == pytest.approx([0.6, 0.8])
    assert float(state.info.leaf_norms[""]) == 5.0


class Boxed:
    def __init__(self, value):
        self.value = value


jax.tree_util.register_pytree_with_keys(
    Boxed,
    lambda box: (((jax.tree_util.GetAttrKey("value"), box.value),), None),
    lambda _, children: Boxed(*children),
)


def test_parameters_in_boxes_and_bare_gradients():
    tx = as_gradient_transformation(agclip.AdaGC(), leaf_norms=True)
    state = tx.init(jax.tree.map(Boxed, GRADS))
    assert list(state.memory["average"]) == PATHS
    _, after = tx.update(GRADS, state)
    assert described(after) == described(state)
    new, _ = tx.update(jax.tree.map(Boxed, GRADS), state)
    assert new["layers"][0]["b"].value.tolist() == pytest.approx([0.8])


ODD = {
    "dots": {"a.b": jnp.ones(1), "a": {"b": jnp.ones(1)}},
    "brackets": {"c[": jnp.ones(1), "c]": jnp.ones(1)},
    "numbers": {0: jnp.ones(1), 1: {"0": jnp.ones(1), "": jnp.ones(1)}},
    "value": {"value": jnp.ones(1), "": {"value": jnp.ones(1)}},
}


@pytest.mark.parametrize("grads", ODD.values(), ids=ODD)
def test_keys_that_read_alike(grads):
    tx = as_gradient_transformation(agclip.AdaGC(), leaf_norms=True)
    (new,) = stepped(tx, grads, [grads])
    size = len(jax.tree.leaves(grads))
    assert len(tx.init(grads).memory["average"]) == size
    assert all(float(x[0]) == pytest.approx(size**-0.5) for x in jax.tree.leaves(new))


def test_what_map_params_takes_for_parameters():
    rule = agclip.PerGroup({"*.b": None, "*": agclip.Chain(agclip.SpikeClip(), agclip.AdaGC())})
    tx = optax.chain(as_gradient_transformation(rule, leaf_norms=True), optax.adam(0.1))
    state = tx.init(GRADS)
    mapped = optax.tree.map_params(tx, lambda x: x + 1, state)
    assert jax.tree.map(jnp.array_equal, mapped[0], state[0]) == jax.tree.map(
        lambda _: True, state[0]
    )
    assert mapped[1][0].mu["layers"][0]["b"].tolist() == [1.0]


# --- arguments ---------------------------------------------------------------------------------

BOUNDED = {
    "ClipByValue": lambda bound: agclip.ClipByValue(-bound, bound),
    "ClipByNorm": agclip.ClipByNorm,
    "ClipByAverageNorm": agclip.ClipByAverageNorm,
    "ClipByRMS": agclip.ClipByRMS,
    "ClipByGlobalNorm": agclip.ClipByGlobalNorm,
    "AdaptiveGradClip": lambda bound: agclip.AdaptiveGradClip(bound, unit_axes="in_out"),
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", BOUNDED)
def test_a_bound_is_injected_and_changed_without_compiling_anew(name, dtype):
    @optax.inject_hyperparams
    def make(bound):
        return as_gradient_transformation(BOUNDED[name](bound))

    tx, traces = make(bound=jnp.asarray(1.0, dtype)), []

    @jax.jit
    def update(grads, state, params):
        traces.append(1)
        return tx.update(grads, state, params)

    grads, params = jnp.asarray([30.0, 40.0]), jnp.ones(2)
    before, state = update(grads, tx.init(params), params)
    state.hyperparams["bound"] = jnp.asarray(0.5, dtype)
    after, _ = update(grads, state, params)
    assert (before / after).tolist() == pytest.approx([2.0, 2.0])
    assert len(traces) == 1


def test_other_numbers_of_rules_are_static():
    def make(z_threshold, factor):
        clipping = as_gradient_transformation(agclip.ZClip(z_threshold))
        return optax.chain(clipping, optax.scale(factor))

    with pytest.raises(TypeError, match="`z_threshold` must be a finite number"):
        optax.inject_hyperparams(make)(2.5, 1.0).init(GRADS)
    tx = optax.inject_hyperparams(make, static_args="z_threshold")(2.5, 1.0)
    stepped(tx, GRADS, [GRADS, GRADS])


def test_a_schedule_of_optax_is_one_of_a_rule():
    schedule = optax.linear_schedule(2.0, 1.0, 2)
    tx = as_gradient_transformation(agclip.Scheduled(agclip.ClipByGlobalNorm, schedule))
    results = stepped(tx, GRADS, [GRADS] * 3)
    assert [float(optax.tree.norm(one)) for one in results] == pytest.approx([2.0, 1.5, 1.0])


class Halving:
    """A rule of another's making, which counts."""

    def init(self, params):
        return {"count": jnp.zeros((), jnp.int32)}

    def update(self, grads, state, params=None):
        new, _, info = agclip.ClipByGlobalNorm(None).update(grads, ())
        return jax.tree.map(lambda x: x / 2, new), {"count": state["count"] + 1}, info


def test_a_rule_of_anothers_making():
    assert not isinstance(Halving(), Steps)
    tx = as_gradient_transformation(Halving())
    assert isinstance(tx.init(GRADS), ClipState)
    new = stepped(tx, GRADS, [GRADS, GRADS])[1]
    assert new["layers"][0]["b"].tolist() == [2.0]


def test_the_policy_that_is_configured():
    grads = {"w": jnp.asarray([1.0, math.nan])}
    with agclip.config_context(nonfinite="zero"):
        new, state = taken(agclip.ClipByGlobalNorm(1.0), grads)
    assert new["w"].tolist() == [0.0, 0.0]
    assert bool(state.info.nonfinite)
