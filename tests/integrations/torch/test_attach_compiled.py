"""Steps of optimizers that are compiled, with something attached."""

import os
import shutil

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import agclip  # noqa: E402 - PyTorch is optional, here and below
from agclip.integrations.torch import attach  # noqa: E402
from integrations.torch import training  # noqa: E402

CXX = os.environ.get("CXX", "g++")
pytestmark = [
    pytest.mark.slow,
    # torch 2.13 warns of itself when Inductor is imported, in torch/utils/mkldnn.py.
    pytest.mark.filterwarnings(
        "ignore:`torch.jit.script_method` is deprecated:DeprecationWarning:torch.jit"
    ),
]
COMPILERS = [
    "aot_eager",
    pytest.param(
        "inductor",
        marks=pytest.mark.skipif(
            shutil.which(CXX) is None,
            reason=f"Inductor needs a C++ compiler, and there is no {CXX}",
        ),
    ),
]


@pytest.fixture(autouse=True)
def _anew():
    torch.compiler.reset()


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("name", ["adamw", "momentum"])
@pytest.mark.parametrize("fused", [True, False])
def test_a_step_that_is_compiled_clips(name, fused, compiler):
    make_rule, bounds_of = training.RULES["zclip"]
    make, steps = training.OPTIMIZERS[name], training.gradients(bad=4)
    ours, theirs = training.parameters(), training.parameters()
    attached = attach(one := make(ours, fused=fused), make_rule(nonfinite="skip"))
    compiled = torch.compile(one.step, backend=compiler)
    for grads in steps:
        for p, g in zip(ours, grads, strict=True):
            p.grad = g.clone()
        compiled()
    training.by_hand(make(theirs, fused=fused), theirs, steps, bounds_of, "skip", scaled=False)
    training.close(ours, theirs, 1e-6)
    assert attached.step == training.STEPS
    assert attached.folded == fused


def test_a_graph_without_breaks_cannot_hold_what_a_clipper_keeps():
    ps = training.parameters()
    attached = attach(optimizer := torch.optim.SGD(ps, lr=0.1), agclip.ClipByGlobalNorm(1.0))
    for p in ps:
        p.grad = torch.ones_like(p)
    before = [p.detach().clone() for p in ps]
    with pytest.raises(torch._dynamo.exc.Unsupported, match="disable"):
        torch.compile(optimizer.step, backend="aot_eager", fullgraph=True)()
    assert all(map(torch.equal, before, ps))
    assert attached.step == 0
