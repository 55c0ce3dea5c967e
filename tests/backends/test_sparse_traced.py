"""Sparse leaves where PyTorch compiles, has no values or differentiates, and in optax."""

import importlib

import numpy as np
import pytest

import agclip
import arrays

pytestmark = pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta:UserWarning")


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed")


def coo(torch):
    indices, values = torch.tensor([[1, 1, 0]]), torch.tensor([[3.0], [3.0], [8.0]])
    return torch.sparse_coo_tensor(indices, values, (4, 1), check_invariants=True)


def coalesced(torch):
    return coo(torch).coalesce()


def compressed(torch):
    return torch.tensor([[0.0, 6.0], [8.0, 0.0]]).to_sparse_csr()


FORMATS = {"coo": coo, "coalesced": coalesced, "csr": compressed}
formats = pytest.mark.parametrize("make", FORMATS.values(), ids=FORMATS)


def clip(x):
    return agclip.clip_by_global_norm([x], 5.0)


# --- torch.compile -----------------------------------------------------------------------------


@formats
def test_dynamo_refuses_them_in_a_whole_graph(torch, make):
    """By itself (torch 2.13): once it does not, the graph is worth a test."""
    torch._dynamo.reset()
    whole = torch.compile(clip, backend="eager", fullgraph=True)
    with pytest.raises(torch._dynamo.exc.Unsupported, match="does not support sparse Tensors"):
        whole(make(torch))


@pytest.mark.whole
@formats
def test_compiled_code_breaks_its_graph_for_them(torch, make):
    torch._dynamo.reset()
    [clipped], norm = torch.compile(clip, backend="eager")(make(torch))
    assert float(norm) == 10.0
    assert clipped.layout is make(torch).layout
    np.testing.assert_array_equal(clipped.to_dense(), make(torch).to_dense() / 2)


# --- FakeTensorMode ----------------------------------------------------------------------------


@formats
def test_fake_ones_are_refused(torch, make):
    from torch._subclasses.fake_tensor import FakeTensorMode

    mode = FakeTensorMode()
    x = mode.from_tensor(make(torch))
    with mode, pytest.raises(TypeError) as caught:
        clip(x)
    assert str(caught.value) == (
        f"`t_list` must hold dense arrays; got one that is a FakeTensor and has the layout "
        f"{x.layout} at t_list[0]. Convert it first."
    )


# --- derivatives -------------------------------------------------------------------------------

DENSE = [[0.0, 3.0], [4.0, 0.0]]
FUNCTIONS = {
    "norm": lambda x: agclip.clip_by_norm(x, 2.5),
    "global": lambda x: agclip.clip_by_global_norm([x], 2.5)[0][0],
    "within": lambda x: agclip.clip_by_global_norm([x], 6.0)[0][0],
    "average": lambda x: agclip.clip_by_average_norm(x, 0.25),
    "value": lambda x: agclip.clip_by_value(x, -3.5, 3.5),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_csr_leaves_have_the_derivatives_of_dense_ones(torch, name):
    """PyTorch has none of the other compressed layouts (2.13)."""
    sparse = torch.tensor(DENSE).to_sparse_csr().requires_grad_()
    dense = torch.tensor(DENSE, requires_grad=True)
    FUNCTIONS[name](sparse).values().square().sum().backward()
    FUNCTIONS[name](dense).square().sum().backward()
    np.testing.assert_allclose(sparse.grad.to_dense(), dense.grad * (dense != 0), rtol=1e-5)


def test_a_norm_of_csr_leaves_is_differentiated(torch):
    sparse = torch.tensor(DENSE).to_sparse_csr().requires_grad_()
    agclip.global_norm([sparse]).backward()
    np.testing.assert_allclose(sparse.grad.to_dense(), np.asarray(DENSE) / 5, rtol=1e-6)


# --- optax -------------------------------------------------------------------------------------

HALVED, WHOLE = [1.5, 1.5, 4.0], [3.0, 3.0, 8.0]


@pytest.fixture(scope="module")
def optax():
    pytest.importorskip("optax", reason="optax is not installed")
    arrays.library("jax")
    return importlib.import_module("agclip.integrations.optax")


TRANSFORMATIONS = {
    "global norm": (lambda lib: lib.clip_by_global_norm(5.0), HALVED),
    "within": (lambda lib: lib.clip_by_global_norm(20.0), WHOLE),
    "value": (lambda lib: lib.clip(1.0), [1.0, 0.0, 1.0]),
    "block rms": (lambda lib: lib.clip_by_block_rms(2.5), HALVED),
    "rule": (
        lambda lib: lib.as_gradient_transformation(
            agclip.PerGroup({"w": agclip.ClipByNorm(5.0), "*": None}), leaf_norms=True
        ),
        HALVED,
    ),
    "memory": (lambda lib: lib.as_gradient_transformation(agclip.ZClip(max_norm=5.0)), HALVED),
}


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_bcoo_gradients_stay_bcoo_in_optax(optax, name, compiled):
    jax, jnp = importlib.import_module("jax"), importlib.import_module("jax.numpy")
    sparse = importlib.import_module("jax.experimental.sparse")
    make, expected = TRANSFORMATIONS[name]
    indices = jnp.asarray([[1], [1], [0]])
    grads = {
        "w": sparse.BCOO((jnp.asarray(WHOLE), indices), shape=(4,)),
        "b": jnp.zeros(2),
    }
    params = {"w": jnp.zeros(4), "b": jnp.zeros(2)}
    tx = make(optax)
    update = jax.jit(tx.update) if compiled else tx.update
    new, _ = update(grads, tx.init(params), params)
    assert type(new["w"]) is sparse.BCOO
    np.testing.assert_allclose(new["w"].data, expected, rtol=1e-6)
    np.testing.assert_array_equal(new["w"].indices, indices)


def test_bcoo_gradients_are_refused_where_norms_are_along_axes(optax):
    jnp = importlib.import_module("jax.numpy")
    sparse = importlib.import_module("jax.experimental.sparse")
    tx, params = optax.adaptive_grad_clip(0.1), {"w": jnp.ones((4, 2))}
    grads = {"w": sparse.BCOO.fromdense(jnp.ones((4, 2)))}
    with pytest.raises(TypeError, match=r"a sparse one \(BCOO\) at updates\['w'\]"):
        tx.update(grads, tx.init(params), params)
