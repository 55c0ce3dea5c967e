"""Where values cannot be read for nothing none is: traced, compiled, and on devices."""

import pytest

import agclip

pytest_plugins = ["host_fixtures"]


def step(grads, bound):
    """Clip in several ways, one after the other."""
    grads, norm = agclip.clip_by_global_norm(grads, bound, strict=True)
    grads = agclip.clip_by_norm(grads, bound / 2, ord=1)
    grads = agclip.clip_by_rms(grads, bound, nonfinite="zero", loss_scale=2.0)
    return agclip.clip_by_value(grads, -0.25, 0.25), norm


@pytest.fixture
def strict(monkeypatch):
    """An array library whose values cannot be read."""
    module = pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")
    cls = type(module.asarray(1.0))

    def refuse(*_):
        msg = "a value was read"
        raise AssertionError(msg)

    for name in ("__bool__", "__float__", "__int__", "__complex__", "__index__"):
        monkeypatch.setattr(cls, name, refuse)
    return module


@pytest.mark.parametrize("bound", [0.5, 100.0])
def test_nothing_is_read_where_reading_costs_something(strict, bound):
    clipped, norm = step([strict.ones(3), strict.ones((2, 2))], bound)
    assert (clipped[1].shape, norm.shape) == ((2, 2), ())


def test_nothing_is_read_in_place_either(strict):
    leaf = strict.ones(3)
    clipped, _ = agclip.clip_by_global_norm_([leaf], 0.5)
    assert clipped[0] is leaf


def test_a_value_that_is_read_would_be_noticed(strict):
    with pytest.raises(AssertionError, match="a value was read"):
        float(strict.ones(1)[0])


@pytest.fixture
def torch():
    module = pytest.importorskip("torch", reason="PyTorch is not installed")
    module._dynamo.reset()
    yield module
    module._dynamo.reset()


def test_with_kernels_at_hand_a_compiled_step_is_still_one_graph(accelerate, torch):
    graphs = []

    def counting(graph, _):
        graphs.append(graph)
        return graph

    compiled = torch.compile(step, fullgraph=True, backend=counting)
    results = [compiled([torch.ones(3) * k, torch.ones(2)], 0.5)[0][0] for k in range(1, 5)]
    wanted = [step([torch.ones(3) * k, torch.ones(2)], 0.5)[0][0] for k in range(1, 5)]
    assert len(graphs) == 1
    assert torch.allclose(torch.stack(results), torch.stack(wanted), rtol=1e-6)


def test_tensors_without_values_are_clipped(accelerate, torch):
    clipped, norm = step([torch.ones(3, device="meta"), torch.ones(2, device="meta")], 0.5)
    assert (clipped[0].device.type, norm.device.type) == ("meta", "meta")


def test_a_step_is_traced_once_whatever_the_numbers():
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    traces = []

    def counted(grads, bound):
        traces.append(1)
        return step(grads, bound)

    jitted = jax.jit(counted)
    norms = [float(jitted([jax.numpy.ones(4) * k], 0.5 * k)[1]) for k in range(5)]
    assert (len(traces), norms) == (1, [0.0, 2.0, 4.0, 6.0, 8.0])
