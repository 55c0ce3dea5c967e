"""Sparse leaves take part in no norm over ranks, and every rank is told."""

import re

import numpy as np
import pytest

import agclip
from ranks.thread_ranks import together

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

CALLS = {
    "global_norm": lambda grads, comm: agclip.global_norm(grads, comm=comm),
    "clip_by_global_norm": lambda grads, comm: agclip.clip_by_global_norm(grads, 1.0, comm=comm),
    "clip_by_global_norm_": lambda grads, comm: agclip.clip_by_global_norm_(grads, 1.0, comm=comm),
    "a rule": lambda grads, comm: agclip.ClipByGlobalNorm(1.0, comm=comm).update(grads, ()),
    "a rule with memory": lambda grads, comm: agclip.ZClip(comm=comm).update(grads, ()),
}


@pytest.mark.parametrize("name", CALLS)
def test_sparse_leaves_are_an_error_on_every_rank(name):
    def program(rank, met):
        x = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
        grads = [x.to_sparse() if rank else x]
        try:
            CALLS[name](grads, met.communicator(rank))
        except (TypeError, RuntimeError) as error:
            values = grads[0].to_dense().numpy()
            np.testing.assert_array_equal(values, [[3.0, 0.0], [0.0, 4.0]])
            return f"{type(error).__name__}: {error}"
        return "nothing"

    other, sparse = together(2, program)
    assert other.startswith("RuntimeError: ")
    wanted = r"TypeError: `(t_list|grads)` must hold dense arrays for a norm over several ranks; "
    assert re.match(wanted, sparse)
