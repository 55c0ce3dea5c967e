"""Ray's actors: process groups of PyTorch in them, and Ray's own collectives by a function."""

import datetime as dt
import math
import sys

import numpy as np
import pytest

import agclip

ray = pytest.importorskip("ray", reason="Ray is not installed")

RANKS = 2
GRADS = [{"w": [3.0], "b": [1.0]}, {"w": [4.0]}]
NORM = math.sqrt(26)


class Worker:
    """What an actor does: it clips its part of the gradients."""

    def __init__(self, rank):
        self.rank = rank

    def by_torch(self, store):
        """Reduce over a process group of PyTorch that the actors form."""
        import torch
        import torch.distributed as dist

        limit = dt.timedelta(seconds=60)
        dist.init_process_group(
            "gloo", init_method=f"file://{store}", rank=self.rank, world_size=RANKS, timeout=limit
        )
        grads = {name: torch.tensor(values) for name, values in GRADS[self.rank].items()}
        clipped, norm = agclip.clip_by_global_norm(grads, 1.0, comm=dist.group.WORLD)
        dist.barrier()
        dist.destroy_process_group()
        return {name: leaf.tolist() for name, leaf in clipped.items()}, float(norm)

    def by_ray(self):
        """Reduce by Ray's own collectives, which need a name for the group."""
        from ray.util import collective
        from ray.util.collective.types import ReduceOp

        collective.init_collective_group(RANKS, self.rank, backend="gloo", group_name="clip")

        def comm(vector, op):
            made = np.array(vector)
            how = ReduceOp.SUM if op == "sum" else ReduceOp.MAX
            collective.allreduce(made, group_name="clip", op=how)
            return made

        grads = {name: np.float32(values) for name, values in GRADS[self.rank].items()}
        clipped, norm = agclip.clip_by_global_norm(grads, 1.0, comm=comm)
        largest = agclip.global_norm(grads, "inf", comm=comm)
        return {name: leaf.tolist() for name, leaf in clipped.items()}, float(norm), float(largest)


@pytest.fixture(scope="module")
def workers():
    # Tests are no package that a worker could import.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    ray.init(num_cpus=RANKS, include_dashboard=False, configure_logging=False, log_to_driver=False)
    actor = ray.remote(Worker)
    yield [actor.options(num_cpus=1).remote(rank) for rank in range(RANKS)]
    ray.shutdown()


def require(found):
    for grads, (clipped, norm) in zip(GRADS, found, strict=True):
        assert norm == pytest.approx(NORM)
        for name, values in grads.items():
            assert clipped[name] == pytest.approx([x / NORM for x in values])


@pytest.mark.slow
@pytest.mark.whole
def test_actors_reduce_over_a_process_group(workers, tmp_path):
    require(ray.get([one.by_torch.remote(str(tmp_path / "store")) for one in workers], timeout=60))


@pytest.mark.slow
@pytest.mark.whole
def test_actors_reduce_by_a_function(workers):
    found = ray.get([one.by_ray.remote() for one in workers], timeout=60)
    require([one[:2] for one in found])
    assert [one[2] for one in found] == [4.0] * RANKS
