"""torch.compile around norms over ranks: one graph, the reduction in it."""

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import agclip  # noqa: E402


@pytest.fixture(scope="module")
def group():
    dist = torch.distributed
    if not dist.is_available():
        pytest.skip("PyTorch is built without torch.distributed")
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield dist.group.WORLD
    dist.destroy_process_group()


OPTIONS = {
    "order 2": {},
    "order 3": {"ord": 3},
    "order inf": {"ord": "inf"},
    "reproducible": {"reproducible": True},
}


def close(got, wanted):
    torch.testing.assert_close(got, wanted, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    "name", ["order 2", *(pytest.param(n, marks=pytest.mark.whole) for n in list(OPTIONS)[1:])]
)
def test_a_process_group_is_reduced_over_in_the_graph(name, group):
    grads = [torch.arange(1.0, 5.0), torch.ones(2, dtype=torch.float64)]

    def clip(grads):
        return agclip.clip_by_global_norm(grads, 1.0, comm=group, **OPTIONS[name])

    torch._dynamo.reset()
    graph = torch._dynamo.export(clip, same_signature=False)(grads).graph_module.code
    # A graph cannot read what its peak is: it says so in the first of three.
    vectors = {"order 2": 1, "order inf": 1, "order 3": 2, "reproducible": 3}[name]
    assert graph.count("all_reduce") == vectors
    got, norm = torch.compile(clip, fullgraph=True, backend="eager")(grads)
    wanted, value = agclip.clip_by_global_norm(grads, 1.0, **OPTIONS[name])
    close(got, wanted)
    close(norm, value)


@pytest.mark.parametrize("inplace", [False, True])
def test_dtensors_are_clipped_in_one_graph(inplace, group):
    tensor = pytest.importorskip("torch.distributed.tensor", reason="PyTorch has no DTensors")
    mesh = tensor.init_device_mesh("cpu", (1,))
    wholes = [torch.arange(1.0, 5.0), torch.ones(2)]
    grads = [tensor.distribute_tensor(x, mesh, [tensor.Shard(0)]) for x in wholes]
    function = agclip.clip_by_global_norm_ if inplace else agclip.clip_by_global_norm
    torch._dynamo.reset()
    got, norm = torch.compile(lambda t: function(t, 1.0), fullgraph=True, backend="eager")(grads)
    wanted, value = agclip.clip_by_global_norm([x.clone() for x in wholes], 1.0)
    close([x.full_tensor() for x in got], wanted)
    close(norm, value)
    if inplace:
        close([x.full_tensor() for x in grads], wanted)
