"""torch.compile of steps that clip: no graph break of ours, one compilation, the same results."""

import copy

import pytest

from thinned import thinned

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
ours = pytest.importorskip("agclip.integrations.torch", reason="PyTorch is not installed")
testing = pytest.importorskip("torch._dynamo.testing", reason="PyTorch is not installed")

pytestmark = pytest.mark.filterwarnings(
    # torch 2.13 warns of itself when Inductor is imported, in torch/utils/mkldnn.py.
    "ignore:`torch.jit.script_method` is deprecated:DeprecationWarning:torch.jit"
)

CLIPS = {
    "norm": lambda library, ps: library.clip_grad_norm_(ps, 1.0),
    "norm of order 1": lambda library, ps: library.clip_grad_norm_(ps, 1.0, norm_type=1),
    "largest": lambda library, ps: library.clip_grad_norm_(ps, 1.0, norm_type="inf"),
    "value": lambda library, ps: library.clip_grad_value_(ps, 0.5),
    "halves": lambda library, ps: library.clip_grads_with_norm_(
        ps, 1.0, 2.0 * library.get_total_norm([p.grad for p in ps])
    ),
}
STEPS = 3


@pytest.fixture
def counter():
    torch._dynamo.reset()
    yield testing.CompileCounterWithBackend("eager")
    torch._dynamo.reset()


@pytest.fixture
def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))


def gradients(model, step):
    """Give each parameter the gradient of a step, in the tensor that it has: compiled code may be
    bound to that (PyTorch 2.13).
    """
    for p in model.parameters():
        p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        new = torch.randn(p.shape, generator=torch.Generator().manual_seed(step))
        p.grad.copy_(new * (1 + step))


@pytest.mark.parametrize("clip", thinned(sorted(CLIPS), keep=("norm", "value", "halves")))
def test_a_clip_is_one_graph_and_compiled_once(clip, model, counter):
    plain = copy.deepcopy(model)
    compiled = torch.compile(
        lambda: CLIPS[clip](ours, [*model.parameters()]), backend=counter, fullgraph=True
    )
    for step in range(STEPS):
        gradients(model, step)
        gradients(plain, step)
        returned, expected = compiled(), CLIPS[clip](ours, [*plain.parameters()])
        assert returned is expected or torch.equal(returned, expected)
        for p, q in zip(model.parameters(), plain.parameters(), strict=True):
            assert torch.equal(p.grad, q.grad)
    assert counter.frame_count == 1


@pytest.mark.parametrize("parameters", ["module", "generator", "pairs"])
def test_a_module_is_walked_in_the_graph(parameters, model, counter):
    ways = {
        "module": lambda: model,
        "generator": model.parameters,
        "pairs": model.named_parameters,
    }
    compiled = torch.compile(
        lambda: ours.clip_grad_norm_(ways[parameters](), 1.0), backend=counter, fullgraph=True
    )
    gradients(model, 1)
    expected = ours.get_total_norm([p.grad for p in model.parameters()])
    assert compiled() == expected
    assert ours.get_total_norm([p.grad for p in model.parameters()]) < 1.0001
    assert counter.frame_count == 1


def trained(model, library, counter):
    """Train with a compiled step of clip and optimizer; return the losses."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)

    def finish():
        library.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()

    compiled = torch.compile(finish, backend=counter)
    x = torch.randn(32, 8, generator=torch.Generator().manual_seed(1))
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad(set_to_none=False)
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        loss.backward()
        compiled()
        losses.append(loss.item())
    return losses


def test_a_step_with_its_optimizer_breaks_no_more_often_than_with_torchs_clip(model, counter):
    # The step of torch's optimizers breaks the graph by itself (2.13).
    other = copy.deepcopy(model)
    losses = trained(model, ours, counter)
    mine = counter.frame_count
    counter.clear()
    torch._dynamo.reset()
    expected = trained(other, torch.nn.utils, counter)
    assert mine == counter.frame_count
    assert losses == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
@pytest.mark.whole
def test_inductor_clips_as_eager_does(model):
    torch._dynamo.reset()
    plain = copy.deepcopy(model)
    compiled = torch.compile(lambda: ours.clip_grad_norm_(model.parameters(), 1.0), fullgraph=True)
    gradients(model, 1)
    gradients(plain, 1)
    assert torch.equal(compiled(), ours.clip_grad_norm_(plain.parameters(), 1.0))
    for p, q in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad)
