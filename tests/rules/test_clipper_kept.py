"""A clipper keeps numbers where they can be read for nothing: nobody can tell it from arrays."""

import copy
import pickle

import numpy as np
import pytest

import agclip
import arrays
from agclip.rules import _kept

RULES = {
    "zclip": agclip.ZClip(warmup=2),
    "quantile": agclip.QuantileClip(0.5, 0.75, 0.25),
    "window": agclip.AutoClip(40.0, 4),
    "all": agclip.AutoClip(40.0),
    "adagc": agclip.AdaGC(1.1, 2.0, 0.7, warmup=3),
}
NORMS = [float(x) for x in np.random.default_rng(3).lognormal(size=40)]


@pytest.fixture(params=["numpy", "torch"])
def lib(request):
    return arrays.library(request.param)


@pytest.fixture(params=RULES)
def rule(request):
    return RULES[request.param]


@pytest.fixture
def steps(lib):
    return [lib.array([norm * 0.6, norm * 0.8], dtype="float32") for norm in NORMS]


def flat(state):
    """Yield the arrays of a state with their keys, and those by path."""
    for key, value in state.items():
        if isinstance(value, dict):
            yield from flat(value)
        else:
            yield key, value


def bits(state, info):
    """Return a state and the numbers of a record as bytes, with their keys, dtypes and shapes."""
    found = [*flat(state), *zip(info._fields[:5], info[:5], strict=True)]
    return [(key, str(x.dtype), tuple(x.shape), np.asarray(x).tobytes()) for key, x in found]


def by_update(rule, steps):
    """Return the bits after each step of the rule itself, whose states are arrays."""
    state, found = rule.init(steps[0]), []
    for grads in steps:
        _, state, info = rule.update(grads, state)
        found.append(bits(state, info))
    return found


def test_the_states_of_a_clipper_are_those_of_the_rule(rule, steps):
    clipper, found = agclip.Clipper(rule), []
    for grads in steps:
        _, info = clipper(grads)
        found.append(bits(clipper.state, info))
    assert found == by_update(rule, steps)


def test_a_state_that_nobody_looked_at_is_the_same(rule, steps):
    clipper = agclip.Clipper(rule)
    infos = [clipper(grads)[1] for grads in steps]
    assert type(clipper._state) is _kept.Kept
    assert type(clipper.state) is dict
    assert bits(clipper.state, infos[-1]) == by_update(rule, steps)[-1]


def test_the_arrays_of_a_state_are_the_same_at_every_look(rule, steps):
    clipper = agclip.Clipper(rule)
    clipper(steps[0])
    first, second = (dict(flat(clipper.state)) for _ in range(2))
    assert all(first[key] is second[key] for key in first)


def test_what_is_written_to_a_state_is_gone_on_with(lib, steps):
    clipper = agclip.Clipper(agclip.QuantileClip(0.5, 0.75, 0.25))
    clipper(steps[0])
    clipper.state["threshold"][...] = 0.125
    assert float(clipper(steps[1])[1].threshold) == 0.125


def test_a_step_that_fails_leaves_the_state(rule, steps):
    clipper = agclip.Clipper(rule)
    infos = [clipper(grads)[1] for grads in steps[:9]]
    with pytest.MonkeyPatch.context() as patch:
        for module in (agclip.rules._memory, agclip.rules.adagc):
            patch.setattr(module, "taken", fails)
        with pytest.raises(OSError, match="late"):
            clipper(steps[9])
    wanted = by_update(rule, steps)
    assert bits(clipper.state, infos[-1]) == wanted[8]
    infos = [clipper(grads)[1] for grads in steps[9:]]
    assert bits(clipper.state, infos[-1]) == wanted[-1]


def fails(*_, **__):
    message = "late"
    raise OSError(message)


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_goes_on_by_itself(rule, steps, way):
    clipper = agclip.Clipper(rule)
    for grads in steps[:9]:
        clipper(grads)
    other = way(clipper)
    clipper(steps[0])
    infos = [other(grads)[1] for grads in steps[9:]]
    assert bits(other.state, infos[-1]) == by_update(rule, steps)[-1]


def test_a_loss_scale_of_any_kind_is_divided_by(lib, steps):
    scale = lib.array(1.0, dtype="float32")
    if lib.name == "torch":
        scale.requires_grad_()  # the arithmetic stays in arrays
    found = []
    for given in (None, scale):
        clipper = agclip.Clipper(agclip.ZClip(warmup=2))
        for grads in steps[:9]:
            clipper(grads)
        clipper.rule = agclip.ZClip(warmup=2, loss_scale=given)
        clipper(steps[9])
        found.append({key: float(value) for key, value in clipper.state.items()})
    assert found[0] == found[1]


@pytest.mark.parametrize("compiled", [lambda i: i > 3, lambda i: i % 2 == 1], ids=["then", "often"])
def test_steps_that_are_compiled_too_are_compiled_once_for_all_numbers(compiled):
    torch = pytest.importorskip("torch")
    rule, count = agclip.ZClip(warmup=3), 0
    steps = [torch.tensor([norm * 0.6, norm * 0.8]) for norm in NORMS[:20]]

    def backend(graph, _):
        nonlocal count
        count += 1
        return graph.forward

    clipper = agclip.Clipper(rule)
    step = torch.compile(lambda grads: clipper([grads])[1], backend=backend, fullgraph=True)
    infos = [step(x) if compiled(i) else clipper([x])[1] for i, x in enumerate(steps)]
    assert bits(clipper.state, infos[-1]) == by_update(rule, steps)[-1]
    assert count <= 2, "as of a clipper that begins with a step that is compiled"


def test_another_library_is_refused_as_before(rule):
    clipper = agclip.Clipper(rule)
    clipper([np.ones(2, np.float32)])
    with pytest.raises(TypeError, match="`state` must hold arrays of torch"):
        clipper([arrays.library("torch").array([1.0], dtype="float32")])
