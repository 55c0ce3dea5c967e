"""Inductor, the default of torch.compile: the C++ that it generates gives the bits of eager calls.

`conformance/test_bits.py` compares eager PyTorch with NumPy. Here are few programs, because each
one takes long to compile; and what Inductor does to IEEE arithmetic, as
`backends/test_canaries.py` has it of XLA.
"""

import functools
import itertools
import os
import shutil
import sys

import numpy as np
import pytest

import agclip
from agclip._numerics import exact
from thinned import thinned

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

CXX = os.environ.get("CXX", {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++"))
COUNT = 20_000
# What PyTorch 2.11 has not, and 2.13 has; 2.12 was not looked at.
OLD = torch.__version__ < (2, 13)
ANEW = "PyTorch 2.11 compiles a value clip anew for each bound, or loss scale, that is a number"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which(CXX) is None, reason=f"Inductor needs a C++ compiler, and there is no {CXX}"
    ),
    # torch 2.13 warns of itself when Inductor is imported, in torch/utils/mkldnn.py.
    pytest.mark.filterwarnings(
        "ignore:`torch.jit.script_method` is deprecated:DeprecationWarning:torch.jit"
    ),
]


@pytest.fixture(autouse=True, scope="module")
def _registers_of_the_processor():
    """Take the compiler to know them: Inductor compiles six programs to find out."""
    with torch._inductor.config.patch({"cpp.vec_isa_ok": True}):
        yield


@pytest.fixture
def compiled():
    """Compile a function without a graph break, from a cold start."""
    torch._dynamo.reset()
    yield functools.partial(torch.compile, fullgraph=True, backend="inductor")
    torch._dynamo.reset()


def of_many_sizes(seed, dtype, shape):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape) * np.exp(rng.uniform(-8, 1, shape))
    return torch.from_numpy(x).to(getattr(torch, dtype))


def bits(result):
    """Return the bytes of every tensor of a result."""
    if isinstance(result, (list, tuple)):
        return [piece for part in result for piece in bits(part)]
    return [result.reshape(-1).view(torch.uint8).numpy().tobytes()]


def norm(leaves, _):
    return agclip.global_norm(leaves, reproducible=True)


def clip(leaves, bound):
    return agclip.clip_by_global_norm(leaves, bound, strict=True, loss_scale=3.0, reproducible=True)


# 33 rows: one register of a vector, and a rest.
PROGRAMS = {
    "clip": (clip, ("float32", "bfloat16"), (33, 7)),
    "norm": (norm, ("float64",), (33, 7)),
}


@pytest.mark.parametrize(("function", "dtypes", "shape"), PROGRAMS.values(), ids=PROGRAMS)
def test_generated_code_gives_the_bits_of_eager_calls(compiled, function, dtypes, shape):
    program, found = compiled(function), []
    for seed in range(100):
        leaves = [of_many_sizes(seed, dtype, shape) for dtype in dtypes]
        size = float(agclip.global_norm(leaves)) / 3.0
        bound = torch.tensor(size * np.linspace(0.01, 1.2, 100)[seed], dtype=torch.float64)
        if bits(program(leaves, bound)) != bits(function(leaves, bound)):
            found.append(seed)
    assert found == []


def test_a_number_that_changes_becomes_a_symbol(compiled):
    """The first one is a constant; the second is compiled for as an input."""
    program, x = compiled(lambda x, c: agclip.global_norm(x, loss_scale=c)), torch.ones(9)
    torch._dynamo.utils.counters.clear()
    assert [program(x, c).item() for c in (0.5, 1.0, 1.5, 2.0, 3.0)] == [6.0, 3.0, 2.0, 1.5, 1.0]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2


@pytest.mark.skipif(OLD, reason=ANEW)
@pytest.mark.parametrize("dtype", thinned(["float16", "float64"], keep=["float16"]))
def test_bounds_of_a_value_clip_that_change_are_rounded_as_in_eager_calls(compiled, dtype):
    def step(x, c):
        return agclip.clip_by_value(x, -c, c / 3)

    program, x = compiled(step), of_many_sizes(1, dtype, (33, 7))
    torch._dynamo.utils.counters.clear()
    bounds = np.exp(np.linspace(-9, 1, 40)).tolist()
    assert [bits(program(x, c)) for c in bounds] == [bits(step(x, c)) for c in bounds]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2


IN_PLACE = {
    "global": agclip.clip_by_global_norm_,
    "leaf": agclip.clip_by_norm_,
    "value": lambda leaves, c: agclip.clip_by_value_(leaves, -c, c),
    "value, divided": lambda leaves, c: agclip.clip_by_value_(leaves, -1.0, 1.0, loss_scale=c),
    "value, whole": lambda leaves, c: agclip.clip_by_value_(leaves, None, round(10 * c)),
    "value, arrays": lambda leaves, c: agclip.clip_by_value(leaves, leaves[0] - c, leaves[0] + c),
    "twice": lambda leaves, c: agclip.clip_by_global_norm_([*leaves, *leaves], c),
    "value, twice": lambda leaves, c: agclip.clip_by_value_([*leaves, *leaves], -1.0, 1.0 / c),
}


BOUNDS = {"same": (0.3,) * 5, "new": (0.3, 0.7, 1.9, 0.2, 2.6)}


def is_quick(cell):
    """Tell whether `make test` compiles: where the bound changes, the arrays are new as well."""
    name, bounds = cell
    often = ("leaf", "value, arrays", "twice") if bounds == "new" else ()
    return name in ("global", "value", *often)


@pytest.mark.parametrize(
    ("name", "bounds"),
    thinned(
        itertools.product(IN_PLACE, BOUNDS),
        is_quick,
        ids=lambda cell: "-".join(cell).replace(", ", "-"),
        tuples=True,
    ),
)
def test_new_arrays_in_each_step_are_not_compiled_for_anew(name, bounds):
    """Dynamo alone: a guard on which arrays they are, or on a number, shows before Inductor."""
    bounds = BOUNDS[bounds]
    if OLD and name.startswith("value") and name != "value, arrays" and len(set(bounds)) > 1:
        pytest.skip(ANEW)
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    clip = IN_PLACE[name]
    program = torch.compile(clip, fullgraph=True, backend=counter)
    for seed, bound in enumerate(bounds):
        leaves, others = ([of_many_sizes(seed + k, "float32", 5) for k in (0, 9)] for _ in "ab")
        clip(others, bound)
        program(leaves, bound)
        assert bits(leaves) == bits(others)
    torch._dynamo.reset()
    assert counter.frame_count == len(set(bounds[:2]))


# What Inductor does to IEEE arithmetic.


def normal(seed):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(COUNT))


ANCHOR = 1.5 * 2.0**30
SINGLE = torch.tensor(0.1234567)
X, Y, D = normal(0), normal(1), torch.tensor(3.7, dtype=torch.float64)
SUBNORMAL = X * 1e-310


def steps(x, y, d, half, subnormal, anchor):
    """Return by name what the reproducible norm, and the clip after it, are made of."""
    return {
        "cut": (x + anchor) - anchor,
        "fenced": torch.maximum(x * x, torch.full_like(d, exact._FENCE)) + y,
        "divided": x / d,
        "divided by a constant": x / 3.0,
        "in turn": (x * 3.3) * (1 - 2.0**-49),
        "narrowed": x.float().double(),
        "half": (half.float() * SINGLE).bfloat16(),
        "subnormal": subnormal * 0.5,
        "unfenced": x * y + x,
        "cut by a constant": (x + ANCHOR) - ANCHOR,
        "product of halves": (half * half).double(),
    }


@pytest.fixture(scope="module")
def share():
    """A function that says how many results of a step differ from those of eager PyTorch."""
    torch._dynamo.reset()
    given = (X, Y, D, X.bfloat16(), SUBNORMAL, torch.tensor(ANCHOR, dtype=torch.float64))
    wanted = steps(*given)
    got = torch.compile(steps, fullgraph=True)(*given)
    yield lambda name: (got[name] != wanted[name]).double().mean().item()
    torch._dynamo.reset()


MEANINGS = {
    "cut": "folds (x + c) - c for run-time c: agclip._backends.exact_sums.cut gives wrong norms",
    "fenced": "contracts max(x * x, tiny) + y: sums of float64 squares differ",
    "divided": "divides by the reciprocal: coefficients differ",
    "divided by a constant": "divides by the reciprocal of constants",
    "in turn": "turns (x * a) * b into x * (a * b): coefficients of strict= differ",
    "narrowed": "leaves out the rounding to float32: leaves made by other code differ",
    "half": "leaves out a rounding of half(single(x) * c): clipped halves differ",
    "subnormal": "flushes subnormal numbers: state the limit that JAX has",
    "unfenced": "contracts x * y + x: from here on the fence of agclip._numerics.exact is needed",
    "cut by a constant": "folds (x + c) - c for a constant: anchors must stay at run time",
}


@pytest.mark.parametrize("step", MEANINGS, ids=lambda step: step.replace(" ", "-"))
def test_generated_code_computes_as_eager_pytorch_does(share, step):
    if OLD and step == "narrowed":
        pytest.skip(f"Inductor of PyTorch 2.11 {MEANINGS[step]}")
    assert share(step) == 0, f"Inductor {MEANINGS[step]}"


def test_generated_code_does_not_round_halves_between_operations(share):
    assert share("product of halves") > 0, (
        "Inductor rounds the results of half operations that it fuses: lift the documented limit "
        "on leaves that are computed in the same compiled function"
    )


def test_an_option_of_inductor_makes_it_round_them(compiled):
    def widened(half):
        return (half * half).double()

    half = X.bfloat16()
    program = compiled(widened, options={"emulate_precision_casts": True})
    assert torch.equal(program(half), widened(half)), (
        "emulate_precision_casts no longer rounds the results of half operations: the "
        "documentation names it"
    )


def test_the_mended_square_root_is_correctly_rounded_in_generated_code(compiled):
    adapter = pytest.importorskip("agclip_backends.torch")
    x = np.ldexp(1 + 3 * np.random.default_rng(2).random(COUNT), np.arange(COUNT) % 400 * 2 - 400)
    root = compiled(functools.partial(adapter.backend.sqrt, adapter.backend.xp))
    assert np.array_equal(root(torch.from_numpy(x)).numpy(), np.sqrt(x)), (
        "the square root of agclip's adapter of PyTorch is not correctly rounded in generated code"
    )
