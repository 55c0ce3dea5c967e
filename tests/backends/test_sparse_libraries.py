"""What is particular to each library's sparse arrays: compiled code, derivatives, huge shapes."""

import dataclasses
import importlib
import warnings

import numpy as np
import pytest

import agclip
import arrays

ROWS = 10**9
"""Rows of a table that no memory holds."""


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed")


@pytest.fixture(scope="module")
def jax():
    arrays.library("jax")
    return importlib.import_module("jax")


@pytest.fixture(scope="module")
def bcoo(jax):
    sparse = importlib.import_module("jax.experimental.sparse")

    def make(values, indices, shape, **options):
        pair = jax.numpy.asarray(values), jax.numpy.asarray(indices)
        return sparse.BCOO(pair, shape=shape, **options)

    return make


@pytest.fixture(scope="module")
def tf():
    arrays.library("tensorflow")
    return importlib.import_module("tensorflow")


@pytest.fixture(scope="module")
def pydata():
    return pytest.importorskip("sparse", reason="sparse is not installed")


# --- never made dense --------------------------------------------------------------------------


def _torch_table(rows, values):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    return torch.sparse_coo_tensor(
        torch.tensor([rows]), torch.from_numpy(values), (ROWS, 8), check_invariants=True
    )


def _jax_table(rows, values):
    jnp = arrays.library("jax") and importlib.import_module("jax.numpy")
    sparse = importlib.import_module("jax.experimental.sparse")
    return sparse.BCOO((jnp.asarray(values), jnp.asarray(rows)[:, None]), shape=(ROWS, 8))


def _tf_table(rows, values):
    tf = arrays.library("tensorflow") and importlib.import_module("tensorflow")
    return tf.IndexedSlices(tf.constant(values), tf.constant(rows), tf.constant([ROWS, 8]))


def _pydata_table(rows, values):
    library = pytest.importorskip("sparse", reason="sparse is not installed")
    places = [[row, column] for row in rows for column in range(8)]
    return library.COO(np.array(places).T, values.ravel(), shape=(ROWS, 8))


TABLES = {
    "torch": (_torch_table, lambda x: x._values()),
    "jax": (_jax_table, lambda x: x.data),
    "tensorflow": (_tf_table, lambda x: x.values),
    "sparse": (_pydata_table, lambda x: x.data),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_no_memory_holds(name):
    make, values_of = TABLES[name]
    values = np.zeros((3, 8), np.float32)
    values[:, 0] = 3.0, 3.0, 8.0
    table = make([ROWS - 1, ROWS - 1, 0], values)
    assert float(agclip.global_norm([table])) == 10.0
    (clipped,), norm = agclip.clip_by_global_norm([table], 5.0)
    assert float(norm) == 10.0
    halved = np.sort(np.asarray(values_of(clipped)).ravel() * 2)
    assert halved.tolist() == np.sort(np.asarray(values_of(table)).ravel()).tolist()
    between = np.asarray(values_of(agclip.clip_by_value(table, -2, 2)))
    assert between.sum() == 4.0
    share = 10.0 / (ROWS * 8)
    averaged = np.asarray(values_of(agclip.clip_by_average_norm(table, share / 2)))
    assert averaged.sum() == pytest.approx(7.0, rel=3e-7)


# --- PyTorch -----------------------------------------------------------------------------------


def test_more_sparse_axes_than_one_and_a_scalar(torch):
    places = torch.tensor([[1, 1], [2, 2], [0, 0]])
    values = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    x = torch.sparse_coo_tensor(places, values, (2, 3, 4, 2), check_invariants=True)
    assert agclip.global_norm([x]).item() == 5.0
    scalar = torch.sparse_coo_tensor(
        torch.zeros((0, 2), dtype=torch.int64), torch.tensor([3.0, 4.0]), (), check_invariants=True
    )
    assert agclip.global_norm([scalar]).item() == 7.0


def test_a_batch_of_matrices(torch):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
        x = torch.tensor([[[3.0, 0.0]], [[0.0, 4.0]]]).to_sparse_csr()
    assert agclip.global_norm([x]).item() == 5.0
    clipped = agclip.clip_by_norm(x, 2.5)
    assert clipped.layout is torch.sparse_csr
    assert clipped.to_dense().ravel().tolist() == [1.5, 0.0, 0.0, 2.0]


def test_a_coalesced_tensor_stays_one(torch):
    x = torch.tensor([0.0, 3.0, 4.0]).to_sparse()
    assert agclip.clip_by_norm(x, 1.0).is_coalesced()
    assert agclip.clip_by_value(x, -1, 1).is_coalesced()


def test_a_derivative_goes_through_entries_that_are_added_up(torch):
    def clipped(entries, function):
        x = torch.sparse_coo_tensor(torch.tensor([[1, 1, 0]]), entries, (2,), check_invariants=True)
        return function(x).to_dense() @ torch.tensor([1.0, 2.0], dtype=torch.float64)

    def dense(entries):
        x = torch.stack([entries[2], entries[0] + entries[1]])
        return agclip.clip_by_norm(x, 5.0) @ torch.tensor([1.0, 2.0], dtype=torch.float64)

    entries = torch.tensor([3.0, 3.0, 8.0], dtype=torch.float64, requires_grad=True)
    got = clipped(entries, lambda x: agclip.clip_by_norm(x, 5.0))
    wanted = dense(entries)
    assert got.item() == pytest.approx(wanted.item())
    (mine,) = torch.autograd.grad(got, entries)
    (right,) = torch.autograd.grad(wanted, entries)
    assert mine.tolist() == pytest.approx(right.tolist())


def test_values_in_one_memory_are_not_overwritten(torch):
    values = torch.tensor([3.0]).expand(2)
    x = torch.sparse_coo_tensor(torch.tensor([[0, 1]]), values, (2,), check_invariants=True)
    with pytest.raises(TypeError, match="several elements in the same memory"):
        agclip.clip_by_norm_(x, 1.0)


# --- JAX ---------------------------------------------------------------------------------------


def test_a_compiled_call_counts_no_padding(jax, bcoo):
    x = bcoo([3.0, 3.0, 8.0, np.nan], [[1], [1], [0], [10]], (10,))
    traces = []

    @jax.jit
    def clip(x):
        traces.append(x)
        return agclip.clip_by_global_norm({"w": x, "b": jax.numpy.zeros(2)}, 5.0)

    for _ in range(2):
        clipped, norm = clip(x)
    assert len(traces) == 1
    assert float(norm) == 10.0
    assert clipped["w"].data[:3].tolist() == [1.5, 1.5, 4.0]
    assert clipped["w"].indices.tolist() == x.indices.tolist()
    assert clipped["w"].indices.dtype == x.indices.dtype


def test_traced_bounds_leave_alone_what_is_not_stored(jax, bcoo):
    x = bcoo([3.0, 3.0, 8.0, 1.0], [[1], [1], [0], [10]], (10,))
    clipped = jax.jit(agclip.clip_by_value)(x, 1.0, 7.0)
    assert clipped.todense().tolist() == [7.0, 6.0, *[0.0] * 8]


def test_entries_before_the_first_row_are_those_from_the_end(bcoo):
    x = bcoo([3.0, 1.0], [[-1], [4]], (5,))
    assert x.todense().tolist() == [0.0, 0.0, 0.0, 0.0, 4.0]
    assert float(agclip.global_norm([x])) == 4.0


def test_values_and_places_that_a_batch_has_in_common(bcoo):
    x = bcoo(np.full((1, 3), 60000.0, np.float16), np.zeros((4, 3, 1), np.int32), (4, 5))
    assert float(agclip.global_norm([x])) == 360000.0


def test_unique_places_are_taken_as_they_are(bcoo):
    x = bcoo([3.0, 4.0, 9.0], [[1], [0], [5]], (5,), unique_indices=True)
    assert float(agclip.global_norm([x])) == 5.0
    assert agclip.clip_by_norm(x, 2.5).unique_indices


@pytest.mark.whole
def test_the_derivative_of_jax_goes_through_entries_that_are_added_up(jax, bcoo):
    jnp = jax.numpy
    places, weights = jnp.asarray([[1], [1], [0]]), jnp.asarray([1.0, 2.0])

    def sparsely(entries):
        return agclip.clip_by_norm(bcoo(entries, places, (2,)), 5.0).todense() @ weights

    def densely(entries):
        x = jnp.stack([entries[2], entries[0] + entries[1]])
        return agclip.clip_by_norm(x, 5.0) @ weights

    entries = jnp.asarray([3.0, 3.0, 8.0])
    got, wanted = jax.grad(sparsely)(entries), jax.grad(densely)(entries)
    assert got.tolist() == pytest.approx(wanted.tolist(), rel=1e-5)


def test_a_sparse_leaf_within_a_node_is_no_node(jax, bcoo):
    @jax.tree_util.register_dataclass
    @dataclasses.dataclass
    class Layer:
        w: object

    layer = Layer(bcoo([3.0, 4.0], [[1], [0]], (5,)))
    clipped = agclip.clip_by_norm(layer, 2.5)
    assert clipped.w.data.tolist() == [1.5, 2.0]
    assert clipped.w.indices.tolist() == [[1], [0]]


# --- TensorFlow --------------------------------------------------------------------------------


@pytest.fixture
def slices(tf):
    return tf.constant([[3.0], [3.0], [8.0]]), tf.constant([1, 1, 0])


def test_rows_of_unknown_number_in_a_function(tf, slices):
    signature = [tf.TensorSpec([None, None]), tf.TensorSpec([None], tf.int32)]

    @tf.function(input_signature=signature)
    def clip(values, indices):
        x = tf.IndexedSlices(values, indices)
        clipped, norm = agclip.clip_by_global_norm([x, tf.zeros(2)], 5.0)
        return clipped[0].values, clipped[0].indices, norm

    values, indices, norm = clip(*slices)
    assert float(norm) == 10.0
    assert values.numpy().ravel().tolist() == [1.5, 1.5, 4.0]
    assert indices.numpy().tolist() == [1, 1, 0]


def test_the_derivative_of_tensorflow_goes_through_rows_that_are_added_up(tf, slices):
    values, indices = slices
    weights = tf.constant([[1.0], [2.0]])

    def gradient(function):
        with tf.GradientTape() as tape:
            tape.watch(values)
            loss = function()
        return tape.gradient(loss, values).numpy().ravel().tolist()

    def sparsely():
        x = agclip.clip_by_norm(tf.IndexedSlices(values, indices), 5.0)
        return tf.reduce_sum(x.values * tf.gather(weights, indices))

    def densely():
        x = tf.stack([values[2], values[0] + values[1]])
        return tf.reduce_sum(agclip.clip_by_norm(x, 5.0) * weights)

    assert gradient(sparsely) == pytest.approx(gradient(densely), rel=1e-5)


def test_the_gradient_of_a_gather(tf):
    table = tf.Variable(tf.ones((5, 2)))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.gather(table, [1, 1, 2]) ** 2)
    grad = tape.gradient(loss, table)
    assert isinstance(grad, tf.IndexedSlices)
    (clipped,), norm = agclip.clip_by_global_norm([grad], 1.0)
    assert float(norm) == pytest.approx(40**0.5)
    assert float(tf.norm(tf.convert_to_tensor(clipped))) == pytest.approx(1.0)
    assert float(tf.norm(tf.convert_to_tensor(tf.clip_by_global_norm([grad], 1.0)[0][0]))) > 1.2


def test_tensorflow_clips_too_little_and_the_elements_one_by_one(tf, slices):
    x = tf.IndexedSlices(*slices, tf.constant([2, 1]))
    (theirs,), norm = tf.clip_by_global_norm([x], 5.0)
    assert float(norm) == pytest.approx(9.0554, abs=1e-4)
    assert float(tf.norm(tf.convert_to_tensor(theirs))) == pytest.approx(5.52, abs=1e-2)
    assert tf.convert_to_tensor(tf.clip_by_value(x, -2.0, 2.0)).numpy().ravel().tolist() == [2, 4]
    ours = tf.convert_to_tensor(agclip.clip_by_value(x, -2.0, 2.0))
    assert ours.numpy().ravel().tolist() == [2, 2]


# --- pydata/sparse -----------------------------------------------------------------------------


def test_each_class_stays_itself_beside_dense_arrays(pydata):
    coo = pydata.COO(np.array([[1, 1, 0]]), np.array([3.0, 3.0, 8.0]), shape=(4,))
    gcxs = pydata.GCXS.from_numpy(np.array([[0.0, 24.0], [0.0, 0.0]]))
    (one, other, dense), norm = agclip.clip_by_global_norm([coo, gcxs, np.zeros(3)], 13.0)
    assert type(norm) is np.ndarray
    assert float(norm) == 26.0
    assert (type(one), type(other)) == (pydata.COO, pydata.GCXS)
    assert one.todense().tolist() == [4.0, 3.0, 0.0, 0.0]
    assert other.todense().tolist() == [[0.0, 12.0], [0.0, 0.0]]
    assert dense.tolist() == [0.0, 0.0, 0.0]


def test_configured_by_its_own_name(pydata):
    x = pydata.COO(np.array([[0]]), np.array([4.0]), shape=(2,))
    with agclip.config_context(backend="sparse"):
        assert agclip.clip_by_norm(x, 1.0).todense().tolist() == [1.0, 0.0]


def test_nothing_is_converted_to_another_library(pydata, torch):
    del torch
    x = pydata.COO(np.array([[0]]), np.array([4.0]), shape=(2,))
    text = r"`t` must hold dense arrays; got one that is a sparse\.COO at t\."
    with (
        agclip.config_context(backend="torch", on_foreign="convert"),
        pytest.raises(TypeError, match=text),
    ):
        agclip.clip_by_norm(x, 1.0)
