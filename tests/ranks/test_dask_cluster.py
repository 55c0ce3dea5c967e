"""Dask arrays on a cluster of processes: they are whole, so a norm needs no communicator."""

import numpy as np
import pytest

import agclip

distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")
da = pytest.importorskip("dask.array", reason="dask is not installed")


@pytest.mark.slow
@pytest.mark.whole
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_norm_stays_lazy_and_is_that_of_all_workers():
    cluster = distributed.LocalCluster(
        n_workers=2, processes=True, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
    )
    with cluster, distributed.Client(cluster):
        x = np.arange(1.0, 9.0, dtype=np.float32)
        grads = {"w": da.from_array(x, chunks=3), "b": da.from_array(x[:2], chunks=1)}
        clipped, norm = agclip.clip_by_global_norm(grads, 1.0)
        assert isinstance(norm, da.Array)
        wanted, value = agclip.clip_by_global_norm({"w": x, "b": x[:2]}, 1.0)
        assert float(norm.compute()) == float(value)
        for key, leaf in clipped.items():
            np.testing.assert_allclose(leaf.compute(), wanted[key], rtol=3e-7)
