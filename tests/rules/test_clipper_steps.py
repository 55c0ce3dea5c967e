"""Clipper: generators, steps that are counted, beginning anew, and code that is compiled."""

import functools
import importlib

import numpy as np
import pytest

import agclip
import arrays
from thinned import thinned, with_libraries

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

RULES = {
    "global": agclip.ClipByGlobalNorm(1.0),
    "zclip": agclip.ZClip(warmup=1),
    "autoclip": agclip.AutoClip(50.0, window=3),
    "quantile": agclip.QuantileClip(1.0),
    "adagc": agclip.AdaGC(warmup=1),
    "spike": agclip.SpikeClip(4.0, 0.5, 1),
    "scheduled": agclip.Scheduled(agclip.ClipByGlobalNorm, lambda step: 2.0 / (1 + step)),
    "chain": agclip.Chain(agclip.QuantileClip(1.0), agclip.ClipByNorm(0.5)),
    "per group": agclip.PerGroup({"0": agclip.ZClip(warmup=1), "1": agclip.ClipByNorm(0.5)}),
}
MEMORY = {name: rule for name, rule in RULES.items() if name != "global"}


COMPILED = ("zclip", "adagc", "per group")
"""The rules whose steps `make test` has JAX compile."""


def dashed(name):
    return name.replace(" ", "-")


@pytest.fixture(params=arrays.LIBRARIES)
def lib(request):
    return arrays.library(request.param)


@pytest.fixture(params=RULES, ids=dashed)
def rule(request):
    return RULES[request.param]


@pytest.fixture(params=MEMORY, ids=dashed)
def memory(request):
    return MEMORY[request.param]


def grads(lib, scale=1.0):
    return [lib.array([3.0 * scale, 4.0]), lib.array([scale])]


def lists(lib, clipped):
    return [lib.entries(leaf).tolist() for leaf in clipped]


# --- generators --------------------------------------------------------------------------------


@with_libraries("rule", RULES, COMPILED)
def test_a_generator_is_clipped_as_the_list_of_it(lib, rule):
    by_list, by_generator = agclip.Clipper(rule), agclip.Clipper(rule)
    for scale in (1.0, 4.0):
        wanted, _ = by_list(grads(lib, scale))
        clipped, _ = by_generator(leaf for leaf in grads(lib, scale))
        assert isinstance(clipped, list)
        assert lists(lib, clipped) == lists(lib, wanted)
    assert by_generator.state_dict() == by_list.state_dict()


@pytest.mark.parametrize("name", arrays.WRITABLE)
def test_in_place_a_generator_comes_back_as_the_list_of_its_leaves(name, rule):
    lib = arrays.library(name)
    wanted = lists(lib, agclip.Clipper(rule)(grads(lib))[0])
    leaves = grads(lib)
    clipped, _ = agclip.Clipper(rule, inplace=True)(leaf for leaf in leaves)
    assert isinstance(clipped, list)
    assert all(one is leaf for one, leaf in zip(clipped, leaves, strict=True))
    assert lists(lib, leaves) == wanted


@with_libraries("memory", MEMORY, COMPILED)
def test_a_state_may_be_begun_with_a_generator(lib, memory):
    begun, wanted = agclip.Clipper(memory), agclip.Clipper(memory)
    begun.init(leaf for leaf in grads(lib))
    wanted.init(grads(lib))
    assert begun.state_dict()["state"] == wanted.state_dict()["state"]


# --- steps -------------------------------------------------------------------------------------


def test_steps_are_counted_and_shown(rule):
    clipper = agclip.Clipper(rule)
    for _ in range(3):
        clipper(grads(arrays.library("numpy")))
    assert clipper.step == 3
    assert repr(clipper) == f"Clipper({clipper.rule!r}, step=3)"


@with_libraries("memory", MEMORY, COMPILED)
def test_a_clipper_begins_anew(lib, memory):
    clipper, fresh = agclip.Clipper(memory), agclip.Clipper(memory)
    for _ in range(3):
        clipper(grads(lib, 4.0))
    clipper.reset()
    assert (clipper.state, clipper.step) == (None, 0)
    assert clipper(grads(lib))[1].to_host() == fresh(grads(lib))[1].to_host()
    assert clipper.state_dict() == fresh.state_dict()


def test_what_was_loaded_is_forgotten_too(memory):
    clipper, other = agclip.Clipper(memory), agclip.Clipper(memory)
    other(grads(arrays.library("numpy")))
    clipper.load_state_dict(other.state_dict())
    clipper.reset()
    assert clipper.state_dict() == agclip.Clipper(memory).state_dict()


def test_beginning_with_parameters_starts_the_count_again():
    clipper = agclip.Clipper(agclip.ZClip())
    clipper([np.ones(2)])
    clipper.init([np.ones(2)])
    assert clipper.step == 0
    assert clipper.state_dict()["state"]["count"] == 0


def test_gradients_are_named_as_they_were_passed(memory):
    with pytest.raises(TypeError, match=r"^`grads` must hold real or complex floating-point"):
        agclip.Clipper(memory)([np.asarray([1, 2])])


# --- compiled code -----------------------------------------------------------------------------

TRACED = (
    "`grads` must hold values where a clipper keeps the state; got traced arrays of {}. Inside of "
    "a compiled function call rule.update(grads, state), and pass the state through."
)


@pytest.mark.parametrize("steps", [0, 1], ids=["first", "later"])
@pytest.mark.parametrize("transform", ["jit", "grad", "vmap", "scan"])
def test_no_state_is_kept_from_traced_code(memory, transform, steps):
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    lib = arrays.library("jax")
    clipper = agclip.Clipper(memory)
    for _ in range(steps):
        clipper(grads(lib))
    before = clipper.state_dict()

    def step(leaf):
        clipped, _ = clipper([leaf, leaf[:1]])
        return clipped[0].sum()

    call = {
        "jit": jax.jit(step),
        "grad": jax.grad(step),
        "vmap": lambda x: jax.vmap(step)(x[None]),
        "scan": lambda x: jax.lax.scan(lambda c, _: (c, step(c)), x, None, length=2),
    }[transform]
    with pytest.raises(ValueError, match=r"call rule\.update") as error:
        call(lib.array([3.0, 4.0]))
    assert str(error.value) == TRACED.format("jax")
    assert clipper.state_dict() == before


@pytest.mark.parametrize("inplace", [False, True], ids=["new", "in-place"])
def test_no_state_is_kept_from_a_transform_of_functions(memory, inplace):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    clipper = agclip.Clipper(memory, inplace=inplace)
    clipper([torch.ones(2), torch.ones(1)])
    given = torch.tensor([[3.0, 4.0], [6.0, 8.0]])
    with pytest.raises(ValueError, match=r"call rule\.update") as error:
        torch.func.vmap(lambda x: clipper([x, x[:1]])[0][0])(given)
    assert str(error.value) == TRACED.format("torch")
    assert given.tolist() == [[3.0, 4.0], [6.0, 8.0]]
    assert clipper.step == 1


def test_rules_that_remember_nothing_may_be_compiled():
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    clipper = agclip.Clipper(agclip.Chain(agclip.ClipByNorm(10.0), agclip.ClipByGlobalNorm(1.0)))
    clipped = jax.jit(lambda x: clipper(x)[0])(jax.numpy.asarray([3.0, 4.0]))
    assert clipped.tolist() == pytest.approx([0.6, 0.8])
    assert clipper.step == 0


@pytest.mark.parametrize("name", thinned(RULES, keep=("per group",), ids=dashed))
def test_a_compiler_that_follows_assignments_keeps_the_state(name):
    rule = RULES[name]
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    testing = importlib.import_module("torch._dynamo.testing")
    lib = arrays.library("torch")
    torch._dynamo.reset()
    counter = testing.CompileCounterWithBackend("eager")
    compiled, eager = agclip.Clipper(rule), agclip.Clipper(rule)
    step = torch.compile(functools.partial(compiled), backend=counter, fullgraph=True)
    for scale in (1.0, 4.0, 0.5, 2.0):
        clipped, info = step(grads(lib, scale))
        wanted, other = eager(grads(lib, scale))
        assert lists(lib, clipped) == lists(lib, wanted)
        assert info.to_host() == other.to_host()
    torch._dynamo.reset()
    assert compiled.state_dict()["state"] == eager.state_dict()["state"]
    assert counter.frame_count <= 2
