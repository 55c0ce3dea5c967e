"""What a process has seen before, or sees later, is no matter to a function that is compiled.

Dynamo rebuilds a table that compiled code reads, key by key, and guards the code by what it finds:
so keys of other libraries must not be in its way (PyTorch 2.11 cannot hash NumPy's dtypes), and
what is entered during the trace must not be read in it.
"""

import subprocess
import sys

import pytest

from thinned import thinned

pytest.importorskip("torch", reason="PyTorch is not installed")

HEAD = """
import sys
import warnings

import agclip

warnings.simplefilter("ignore")  # of PyTorch's own imports
"""

BEFORE = {
    "nothing": "",
    "numpy": """
import numpy as np

for name in ("float16", "float32", "float64", "complex64"):
    agclip.global_norm([np.ones(3, name)], reproducible=True)
""",
    "strict": """
import array_api_strict as xp

agclip.clip_by_global_norm([xp.ones(3), xp.ones(3, dtype=xp.float32)], 0.5)
""",
    "jax": """
import jax.numpy as jnp

agclip.clip_by_global_norm([jnp.ones(3), jnp.ones(3, dtype="bfloat16")], 0.5)
""",
    "torch": """
import torch

agclip.clip_by_global_norm([torch.ones(3)], 0.5)
""",
}
EACH_AND_ALL = {name: (name,) for name in BEFORE} | {"all": tuple(BEFORE)}
"""What has been called before, in this order."""

STEP = """
import torch

graphs = []

def counting(graph, _):
    graphs.append(graph)
    return graph

def step(grads, bound):
    grads, norm = agclip.clip_by_global_norm(grads, bound, strict=True)
    grads = agclip.clip_by_norm(grads, bound / 2, ord=1)
    grads = agclip.clip_by_rms(grads, bound, nonfinite="zero", loss_scale=2.0)
    return agclip.clip_by_value(grads, -0.25, 0.25), norm

def drawn(k):
    # No Parameter: Dynamo cannot ask its class for its module or its bases (PyTorch 2.13).
    double = torch.ones(2, dtype=torch.float64)
    return {"a": [torch.ones(3) * k, torch.ones(2)], "b": (torch.ones(2).bfloat16(), double)}

compiled = torch.compile(step, fullgraph=True, backend=counting)
norms = [float(compiled(drawn(k), 0.5)[1]) for k in range(1, 4)]
wanted = [float(step(drawn(k), 0.5)[1]) for k in range(1, 4)]
print(len(graphs), all(abs(a - b) < 1e-6 * b for a, b in zip(norms, wanted, strict=True)))
"""

NORMS = """
import torch

for reproducible in (False, True):
    f = lambda t: agclip.global_norm([t], reproducible=reproducible)
    g = torch.compile(f, fullgraph=True, backend="eager")
    x = torch.ones(1003) / 3
    print(f(x).item() == g(x).item())
"""


def run(program):
    done = subprocess.run(
        [sys.executable, "-c", HEAD + program], capture_output=True, text=True, check=False,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("before", thinned(EACH_AND_ALL, keep=("all",)))
def test_first_compiled_call_of_a_process_compiles_once(before):
    for name in set(EACH_AND_ALL[before]) - {"nothing"}:
        module = {"strict": "array_api_strict"}.get(name, name)
        pytest.importorskip(module, reason=f"{module} is not installed")
    assert run("".join(BEFORE[name] for name in EACH_AND_ALL[before]) + STEP) == "1 True\n"


def test_compiled_norms_are_those_of_eager_code_after_other_libraries():
    pytest.importorskip("jax", reason="JAX is not installed")
    pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")
    others = BEFORE["numpy"] + BEFORE["strict"] + BEFORE["jax"]
    assert run(others + NORMS) == "True\nTrue\n"
