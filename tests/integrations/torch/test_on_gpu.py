"""On a real GPU: PyTorch's four functions, folded steps, whole steps in CUDA graphs, and trainers.

Elsewhere `test_clip_grad_device.py` and `test_fold.py` show that nothing is read on a device.
"""

import copy
import math

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import agclip  # noqa: E402 - PyTorch is optional, here and below
from agclip.integrations.torch import (  # noqa: E402
    attach,
    clip_grad_norm_,
    clip_grad_value_,
    clip_grads_with_norm_,
    get_total_norm,
    installed,
)
from integrations.torch import training  # noqa: E402
from thinned import thinned  # noqa: E402

# PyTorch says so once in a process when it is first asked to tell of waits.
pytestmark = pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")

SHAPES = {"few": [(300, 100), (7,), (), (0, 3)], "many": [(64, 3), (5,)] * 100}
DTYPES = ("float32", "bfloat16", "float16", "float64")
ORDERS = (2.0, 1.0, 3.0, math.inf)
SCALERS = ("no scaler", "scaler", "unscale_")


@pytest.fixture
def gpu():
    if not torch.cuda.is_available():
        reason = "PyTorch is built without CUDA" if torch.version.cuda is None else "no GPU"
        pytest.skip(f"PyTorch cannot use a GPU here: {reason}")
    yield torch.device("cuda")
    torch.cuda.set_sync_debug_mode("default")


@pytest.fixture(params=sorted(SHAPES))
def shapes(request):
    return SHAPES[request.param]


def parameters(shapes, dtype, device):
    """Parameters with gradients, drawn on the host."""
    draw, found = torch.Generator().manual_seed(3), []
    for shape in shapes:
        grad = torch.randn(shape, generator=draw).to(getattr(torch, dtype)).to(device)
        found.append(torch.nn.Parameter(torch.zeros_like(grad)))
        found[-1].grad = grad
    return found


def moved(tensors, device):
    return [torch.nn.Parameter(t.detach().to(device)) for t in tensors]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_clip_on_a_gpu_is_one_on_the_host(gpu, shapes, dtype, order):
    there, here = (parameters(shapes, dtype, device) for device in (gpu, "cpu"))
    found, wanted = (clip_grad_norm_(ps, 0.5, order) for ps in (there, here))
    assert found.device.type == "cuda"
    torch.testing.assert_close(found.cpu(), wanted, rtol=4e-7, atol=0)
    for p, q in zip(there, here, strict=True):
        torch.testing.assert_close(p.grad.cpu(), q.grad, rtol=torch.finfo(q.dtype).eps, atol=1e-7)


@pytest.mark.parametrize("dtype", DTYPES)
def test_halves_and_values_on_a_gpu_are_those_on_the_host(gpu, shapes, dtype):
    there, here = (parameters(shapes, dtype, device) for device in (gpu, "cpu"))
    for ps in (there, here):
        clip_grads_with_norm_(ps, 0.5, get_total_norm([p.grad for p in ps]) * 2.0)
        clip_grad_value_(ps, 1e-3)
    for p, q in zip(there, here, strict=True):
        torch.testing.assert_close(p.grad.cpu(), q.grad, rtol=torch.finfo(q.dtype).eps, atol=1e-7)


@pytest.mark.parametrize("bound", [0.5, math.inf, "0.5", None])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_waits(gpu, shapes, dtype, order, bound):
    ps = parameters(shapes, dtype, gpu)
    torch.cuda.set_sync_debug_mode("error")
    clip_grad_norm_(ps, bound, order)
    clip_grads_with_norm_(ps, bound, get_total_norm([p.grad for p in ps], order))
    clip_grad_value_(ps, bound)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_clip_goes_into_a_graph(gpu, shapes, dtype, order):
    ps, fresh = (parameters(shapes, dtype, gpu) for _ in range(2))
    clip_grad_norm_(parameters(shapes, dtype, gpu), 0.5, order)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        norm = clip_grad_norm_(ps, 0.5, order)
    for p, q in zip(ps, fresh, strict=True):
        q.grad.mul_(3)
        p.grad.copy_(q.grad)
    graph.replay()
    assert torch.equal(norm, clip_grad_norm_(fresh, 0.5, order))
    assert all(torch.equal(p.grad, q.grad) for p, q in zip(ps, fresh, strict=True))


def make_scaler(kind):
    # No power of two, so that a scale that is forgotten or applied twice shows.
    return None if kind == "no scaler" else torch.amp.GradScaler("cuda", init_scale=1000.0)


@pytest.mark.parametrize("bad", [None, 4])
@pytest.mark.parametrize("policy", ["propagate", "skip", "zero"])
@pytest.mark.parametrize("kind", SCALERS)
@pytest.mark.parametrize("optimizer", sorted(training.OPTIMIZERS))
@pytest.mark.parametrize("name", ["global", "zclip"])
@pytest.mark.parametrize("fold", [False, "auto"])
def test_a_step_on_a_gpu_is_one_by_hand(gpu, fold, name, optimizer, kind, policy, bad):
    if optimizer == "adagrad":
        pytest.skip("PyTorch has no fused Adagrad on CUDA (torch 2.13)")
    make_rule, bounds_of = training.RULES[name]
    make = training.OPTIMIZERS[optimizer]
    steps = training.gradients(bad=bad)
    there = [[g.to(gpu) for g in grads] for grads in steps]
    ours, theirs = moved(training.parameters(), gpu), training.parameters()
    attached = attach(one := make(ours, fused=True), make_rule(nonfinite=policy), fold=fold)
    training.train(one, ours, there, make_scaler(kind), unscale=kind == "unscale_")
    training.by_hand(
        make(theirs, fused=True), theirs, steps, bounds_of, policy, scaled=kind != "no scaler"
    )
    training.close([p.cpu() for p in ours], theirs)
    assert attached.folded == (fold == "auto" and policy != "zero")
    assert not {"grad_scale", "found_inf"} & set(vars(one))


@pytest.mark.parametrize("policy", ["propagate", "skip", "zero"])
@pytest.mark.parametrize("name", ["global", "zclip", "autoclip", "quantile", "scheduled"])
@pytest.mark.parametrize("optimizer", ["adamw", "adam"])
def test_steps_wait_for_nothing(gpu, optimizer, name, policy):
    make_rule, _ = training.RULES[name]
    ours = moved(training.parameters(), gpu)
    steps = [[g.to(gpu) for g in grads] for grads in training.gradients(bad=4)]
    attach(one := training.OPTIMIZERS[optimizer](ours, fused=True), make_rule(nonfinite=policy))
    training.train(one, ours, steps[:1])
    torch.cuda.set_sync_debug_mode("error")
    training.train(one, ours, steps[1:])


@pytest.mark.parametrize("fold", [False, "auto"])
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", ["adamw", "adam"])
def test_a_whole_step_goes_into_a_graph(gpu, name, fused, fold):
    """Forward, backward, clip and step, captured once and replayed on other numbers."""
    models = [torch.nn.Linear(16, 8).to(gpu)]
    models.append(copy.deepcopy(models[0]))
    made = [training.OPTIMIZERS[name](m.parameters(), fused=fused, capturable=True) for m in models]
    for optimizer in made:
        attach(optimizer, agclip.ClipByGlobalNorm(0.1), fold=fold)
    x = torch.randn(32, 16, device=gpu)

    def step(model, optimizer):
        optimizer.zero_grad(set_to_none=True)
        model(x).square().mean().backward()
        optimizer.step()

    aside = torch.cuda.Stream()
    with torch.cuda.stream(aside):
        for _ in range(3):
            step(models[0], made[0])
    torch.cuda.current_stream().wait_stream(aside)
    for _ in range(3):
        step(models[1], made[1])
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step(models[0], made[0])
    for seed in range(4):
        x.copy_(torch.randn(32, 16, generator=torch.Generator().manual_seed(seed)))
        graph.replay()
        step(models[1], made[1])
    pairs = zip(models[0].parameters(), models[1].parameters(), strict=True)
    for p, q in pairs:
        torch.testing.assert_close(p, q)


def test_a_rule_with_a_memory_is_refused_in_a_graph(gpu):
    model = torch.nn.Linear(16, 8).to(gpu)
    optimizer = torch.optim.AdamW(model.parameters(), capturable=True)
    attach(optimizer, agclip.ZClip())
    model(torch.randn(4, 16, device=gpu)).sum().backward()
    optimizer.step()
    before = [p.clone() for p in model.parameters()]
    torch.cuda.synchronize()
    with (
        pytest.raises(ValueError, match="while a CUDA graph is captured"),
        torch.cuda.graph(torch.cuda.CUDAGraph()),
    ):
        optimizer.step()
    torch.cuda.synchronize()
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Inductor's own
@pytest.mark.parametrize("dtype", thinned(["float32", "bfloat16"], keep=("float32",)))
def test_a_compiled_clip_on_a_gpu(gpu, dtype):
    ps = parameters(SHAPES["few"][:3], dtype, gpu)
    other = parameters(SHAPES["few"][:3], dtype, gpu)
    compiled = torch.compile(lambda: clip_grad_norm_(ps, 0.5), fullgraph=True)
    torch.testing.assert_close(compiled(), clip_grad_norm_(other, 0.5))
    for p, q in zip(ps, other, strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=torch.finfo(q.dtype).eps, atol=1e-7)


# --- trainers -------------------------------------------------------------------------------------


def rows():
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(64, 16, generator=draw)
    return torch.utils.data.TensorDataset(x, 20 * x.sum(1, keepdim=True))


def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1))


@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_accelerate_trains(gpu, precision):
    accelerate = pytest.importorskip("accelerate", reason="Accelerate is not installed")
    from agclip.integrations.accelerate import clip_gradients

    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = accelerate.Accelerator(mixed_precision=precision)
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    loader = torch.utils.data.DataLoader(rows(), batch_size=16)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    clipper, norms = agclip.Clipper(agclip.ZClip(warmup=2)), []
    for _ in range(3):
        for x, y in loader:
            optimizer.zero_grad()
            accelerator.backward(torch.nn.functional.mse_loss(model(x), y))
            norms.append(clip_gradients(accelerator, model, clipper).norm)
            optimizer.step()
    norms = torch.stack(norms).cpu()
    assert norms.isfinite().any()
    assert all(p.isfinite().all() and p.is_cuda for p in model.parameters())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_lightning_trains(gpu, tmp_path, precision):
    lightning = pytest.importorskip("lightning", reason="Lightning is not installed")
    from agclip.integrations.lightning import ClipGradients

    class Net(ClipGradients, lightning.LightningModule):
        gradient_clip_rule = agclip.ZClip(warmup=2)

        def __init__(self):
            super().__init__()
            self.net = net()

        def training_step(self, batch, _):
            x, y = batch
            return torch.nn.functional.mse_loss(self.net(x), y)

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), lr=1e-2)

    trainer = lightning.Trainer(
        accelerator="gpu", devices=1, precision=precision, max_epochs=2, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=tmp_path,
    )  # fmt: skip
    model = Net()
    trainer.fit(model, torch.utils.data.DataLoader(rows(), batch_size=16))
    assert torch.isfinite(trainer.callback_metrics["grad_2.0_norm_total"])
    assert all(p.isfinite().all() for p in model.parameters())


@pytest.mark.filterwarnings("ignore")
def test_transformers_trains(gpu, tmp_path):
    transformers = pytest.importorskip("transformers", reason="Transformers is not installed")
    pytest.importorskip("accelerate", reason="Accelerate is not installed")

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net()

        def forward(self, x, y):
            return {"loss": torch.nn.functional.mse_loss(self.net(x), y)}

    data = [{"x": x, "y": y} for x, y in rows()]
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), max_steps=6, logging_steps=1, max_grad_norm=0.5, bf16=True,
        report_to=[], save_strategy="no", per_device_train_batch_size=8, disable_tqdm=True,
    )  # fmt: skip
    trainer = transformers.Trainer(Net(), arguments, train_dataset=data)
    with installed():
        trainer.train()
    norms = [row["grad_norm"] for row in trainer.state.log_history if "grad_norm" in row]
    assert len(norms) == 6
    assert all(math.isfinite(n) and n > 0.5 for n in norms)
