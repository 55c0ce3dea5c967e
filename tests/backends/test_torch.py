"""PyTorch: autograd through the clips, torch.compile, torch.func, and the memory in place."""

import math

import pytest

import agclip

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from agclip_backends.torch import sums  # noqa: E402 - PyTorch is optional

FUNCTIONS = {
    "norm": lambda v: agclip.clip_by_norm(v, 1.0),
    "norm of order 1": lambda v: agclip.clip_by_norm(v, 1.0, ord=1),
    "norm of order 0.5": lambda v: agclip.clip_by_norm(v, 1.0, ord=0.5),
    "norm of order 3": lambda v: agclip.clip_by_norm(v, 1.0, ord=3),
    "largest entry": lambda v: agclip.clip_by_norm(v, 1.0, ord=math.inf),
    "norm along axes": lambda v: agclip.clip_by_norm(v, 1.0, axes=-1),
    "average norm": lambda v: agclip.clip_by_average_norm(v, 0.5),
    "rms": lambda v: agclip.clip_by_rms(v, 0.5),
    "global norm": lambda v: agclip.clip_by_global_norm([v], 1.0)[0][0],
    "adaptive": lambda v: agclip.adaptive_grad_clip(v, v * 0 + 1, 0.5, unit_axes="out_in"),
    "per example": lambda v: agclip.clip_per_example(v, 1.0)[0],
    "value": lambda v: agclip.clip_by_value(v, -1.0, 1.0),
}
IN_PLACE = {
    "norm": lambda v: agclip.clip_by_norm_(v, 1.0),
    "average norm": lambda v: agclip.clip_by_average_norm_(v, 0.5),
    "rms": lambda v: agclip.clip_by_rms_(v, 0.5),
    "global norm": lambda v: agclip.clip_by_global_norm_([v], 1.0)[0][0],
    "adaptive": lambda v: agclip.adaptive_grad_clip_(v, v * 0 + 1, 0.5, unit_axes="out_in"),
    "value": lambda v: agclip.clip_by_value_(v, -1.0, 1.0),
}


@pytest.fixture(params=FUNCTIONS, ids=lambda name: name.replace(" ", "-"))
def clip(request):
    return FUNCTIONS[request.param]


@pytest.fixture(params=IN_PLACE, ids=lambda name: name.replace(" ", "-"))
def clip_in_place(request):
    return IN_PLACE[request.param]


@pytest.fixture
def compiled():
    """Compile without a graph break, from a cold start."""
    torch._dynamo.reset()
    yield lambda function: torch.compile(function, fullgraph=True, backend="eager")
    torch._dynamo.reset()


def test_a_compiled_call_has_no_graph_break_and_the_same_result(clip, compiled):
    x = torch.tensor([[3.0, -4.0], [0.5, 0.25]])
    assert torch.allclose(compiled(clip)(x), clip(x), rtol=1e-6)


@pytest.mark.parametrize("bound", [0.5, 0.75])
def test_a_number_may_be_traced_as_a_symbol(bound):
    """With `dynamic=True`, and after a number has changed, Dynamo passes symbols for floats."""

    def clip(v, number):
        return agclip.clip_by_global_norm([v], number, number + 4, loss_scale=number + 1)

    torch._dynamo.reset()
    x = torch.tensor([3.0, -4.0])
    compiled = torch.compile(clip, fullgraph=True, backend="eager", dynamic=True)
    got, wanted = compiled(x, bound), clip(x, bound)
    torch._dynamo.reset()
    assert torch.allclose(got[0][0], wanted[0][0], rtol=1e-6)
    assert got[1] == wanted[1] == bound + 4


def test_a_compiled_call_in_place_writes_the_same(clip_in_place, compiled):
    x, y = (torch.tensor([[3.0, -4.0], [0.5, 0.25]]) for _ in range(2))
    compiled(clip_in_place)(x)
    assert torch.allclose(x, clip_in_place(y), rtol=1e-6)


def test_a_compiled_step_is_compiled_once(compiled):
    graphs = []

    def counting(graph, _):
        graphs.append(graph)
        return graph

    agclip.clip_by_norm(torch.ones(2), 1.0)
    step = torch.compile(
        lambda grads: agclip.clip_by_global_norm(grads, 1.0), fullgraph=True, backend=counting
    )
    for k in range(4):
        step({"w": torch.ones(3) * k, "b": None})
    assert len(graphs) == 1


def test_autograd_agrees_with_finite_differences(clip):
    x = torch.tensor([[3.0, -4.0], [0.5, 0.25]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(clip, (x,))


def test_the_derivative_at_zero_is_the_identity(clip):
    x = torch.zeros(2, 2, requires_grad=True)
    clip(x).sum().backward()
    assert x.grad.tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_a_second_derivative_exists():
    x = torch.tensor([3.0, 4.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda v: agclip.clip_by_norm(v, 1.0), (x,))


def test_within_the_bound_a_tensor_that_requires_grad_is_returned_itself():
    x = torch.ones(2, requires_grad=True)
    assert agclip.clip_by_norm(x, 10.0) is x


def test_the_bound_may_be_learned():
    bound = torch.tensor(1.0, requires_grad=True)
    agclip.clip_by_norm(torch.tensor([3.0, 4.0]), bound).sum().backward()
    assert bound.grad.item() == pytest.approx(1.4, abs=1e-6)


def test_vmap_and_grad_of_torch_func():
    rows = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
    clipped = torch.func.vmap(lambda v: agclip.clip_by_norm(v, 1.0))(rows)
    assert torch.allclose(clipped, torch.tensor([[0.6, 0.8], [0.3, 0.4]]))
    gradient = torch.func.grad(lambda v: agclip.clip_by_norm(v, 1.0).sum())(torch.zeros(2))
    assert gradient.tolist() == [1.0, 1.0]


def test_nothing_is_read_from_a_device(clip):
    # A meta tensor has no values: whatever tries to read one fails.
    assert clip(torch.ones(3, 4, device="meta")).device.type == "meta"


def test_nothing_is_read_from_a_device_in_place(clip_in_place):
    x = torch.ones(3, 4, device="meta")
    assert clip_in_place(x) is x


def test_gradients_of_parameters_are_clipped_in_their_own_memory():
    layer = torch.nn.Linear(3, 2)
    layer(torch.ones(4, 3)).sum().backward()
    before = [p.grad.data_ptr() for p in layer.parameters()]
    _, norm = agclip.clip_by_global_norm_([p.grad for p in layer.parameters()], 1.0)
    assert [p.grad.data_ptr() for p in layer.parameters()] == before
    clipped = torch.cat([p.grad.flatten() for p in layer.parameters()])
    assert float(norm) == pytest.approx(math.sqrt(3 * 2 * 16 + 2 * 16))
    assert clipped.norm().item() == pytest.approx(1.0)


def test_the_norm_is_right_where_torch_sums_in_float32():
    x = torch.full((10**7,), 0.1)
    assert agclip.global_norm([x]).item() == pytest.approx(math.sqrt(1e7) * 0.1, rel=1e-7)


@pytest.mark.parametrize("few", [0, 1000], ids=["all threads", "one thread"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64, torch.complex64])
def test_large_tensors_are_summed_by_one_thread_or_by_all(monkeypatch, few, dtype):
    monkeypatch.setattr(sums, "_FEW", few)
    x = torch.randn(700_001, generator=torch.Generator().manual_seed(1), dtype=dtype)[1:]
    squares = torch.view_as_real(x.to(torch.complex128)).square().flatten()
    exact = math.sqrt(math.fsum(squares.tolist()))
    precision = 2.0**-51 if dtype == torch.float64 else 2.0**-23
    assert agclip.global_norm([x]).item() == pytest.approx(exact, rel=precision)
    strided = x.reshape(700, 1000)[:, ::2]
    assert agclip.global_norm([strided, strided]).item() == pytest.approx(
        agclip.global_norm([strided.contiguous()]).item() * math.sqrt(2), rel=precision
    )


@pytest.mark.parametrize("layout", ["transposed", "channels last", "strided"])
def test_strided_memory_is_clipped_in_place(layout):
    base = torch.arange(1.0, 241.0).reshape(2, 3, 8, 5)
    x = {
        "transposed": base.transpose(0, 3),
        "channels last": base.to(memory_format=torch.channels_last),
        "strided": base[:, :, ::2, ::3],
    }[layout]
    expected, strides = x / x.norm(), x.stride()
    agclip.clip_by_norm_(x, 1.0)
    assert torch.allclose(x, expected)
    assert x.stride() == strides


def test_a_warning_free_call_with_inference_tensors():
    with torch.inference_mode():
        x = torch.tensor([3.0, 4.0])
        assert agclip.clip_by_norm_(x, 1.0).tolist() == pytest.approx([0.6, 0.8])
