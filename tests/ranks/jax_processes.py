"""One of two processes of `jax.distributed`, on the CPU: it prints what a jitted clip gives."""

import sys

import jax

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))

import numpy as np  # noqa: E402
from jax.sharding import AxisType, NamedSharding, PartitionSpec  # noqa: E402

import agclip  # noqa: E402

mesh = jax.make_mesh((2,), ("d",), axis_types=(AxisType.Auto,))
sharding = NamedSharding(mesh, PartitionSpec("d"))
x = np.array([3.0, 4.0], np.float32)
spread = jax.make_array_from_callback((2,), sharding, lambda index: x[index])
clipped, norm = jax.jit(lambda t: agclip.clip_by_global_norm(t, 1.0))([spread])
mapped = jax.jit(
    jax.shard_map(
        lambda a: agclip.global_norm([a]),
        mesh=mesh,
        in_specs=(PartitionSpec("d"),),
        out_specs=PartitionSpec(),
    )
)(spread)
mine = clipped[0].addressable_shards[0].data
sys.stdout.write(f"{float(norm)} {float(mapped)} {float(mine[0]):.6f}\n")
