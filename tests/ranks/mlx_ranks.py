"""One rank of MLX's ring: it prints what it gets, as JSON.

MLX_RANK=0 MLX_HOSTFILE=hosts.json python mlx_ranks.py
"""

import json
import sys

import mlx.core as mx
import numpy as np

import agclip

GRADS = ({"w": [3.0], "b": [1.0]}, {"w": [4.0]})


def main():
    world = mx.distributed.init(backend="ring", strict=True)

    def comm(vector, op):
        with mx.stream(mx.cpu):  # where MLX has float64
            made = mx.array(np.asarray(vector, np.float64), dtype=mx.float64)
            reduce = mx.distributed.all_sum if op == "sum" else mx.distributed.all_max
            return reduce(made, group=world).tolist()

    found = {}
    for name, make in {"mlx": mx.array, "numpy": np.float32}.items():
        grads = {key: make(values) for key, values in GRADS[world.rank()].items()}
        clipped, norm = agclip.clip_by_global_norm(grads, 1.0, comm=comm)
        exact = agclip.global_norm(grads, comm=comm, reproducible=True) if name == "numpy" else norm
        largest = agclip.global_norm(grads, "inf", comm=comm)
        new = {key: np.array(leaf).tolist() for key, leaf in clipped.items()}
        found[name] = new, float(norm), float(exact), float(largest)
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
