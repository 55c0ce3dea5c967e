"""Replicas of a `tf.distribute.MirroredStrategy`: each clips its own, as with TensorFlow's clips.

Logical devices are made before TensorFlow is used, so all of it is computed by one other process.
"""

import json
import subprocess
import sys

import numpy as np
import pytest

CODE = """
import json, warnings
import numpy as np, tensorflow as tf, agclip

(cpu, *_) = tf.config.list_physical_devices("CPU")
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    weights, large = tf.Variable([1.0, 1.0]), tf.Variable(tf.ones([1 << 16]))

def of_replica(context):
    return tf.constant([3.0, 4.0]) * (1.0 + context.replica_id_in_sync_group)

inputs = strategy.experimental_distribute_values_from_function(of_replica)

def grads(x):
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(weights * x) + tf.reduce_sum(large) * x[0] * 0.0
    return tape.gradient(loss, [weights, large])

def own(x, clip):
    (first, second), norm = clip(grads(x), 2.5)
    return first, tf.reduce_max(tf.abs(second)), norm

def together(x, clip):
    summed = tf.distribute.get_replica_context().all_reduce("sum", grads(x))
    (first, second), norm = clip(summed, 2.5)
    return first, tf.reduce_max(tf.abs(second)), norm

def held(x, clip):
    return clip([weights, large], 1.0)[1], agclip.clip_by_norm(weights, weights[0])

def local(found):
    return [[one.numpy().tolist() for one in strategy.experimental_local_results(x)] for x in found]

clips = {"tensorflow": tf.clip_by_global_norm, "agclip": agclip.clip_by_global_norm}
found = {}
for step in (own, together, held):
    for name, clip in clips.items():
        run = lambda x: strategy.run(step, args=(x, clip))
        for mode, call in (("eager", run), ("function", tf.function(run, autograph=False))):
            found[f"{step.__name__} {name} {mode}"] = local(call(inputs))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(need_backend):
    need_backend("tensorflow")
    pytest.importorskip("tensorflow")
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, check=False, timeout=300, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


pytestmark = pytest.mark.whole  # a process that imports TensorFlow takes seconds


@pytest.fixture(params=["eager", "function"])
def mode(request):
    return request.param


def test_each_replica_clips_its_own(found, mode):
    first, second, norms = found[f"own agclip {mode}"]
    assert norms == [5.0, 10.0]
    assert np.allclose(first, [[1.5, 2.0], [1.5, 2.0]])
    assert second == [0.0, 0.0]


def test_after_an_all_reduce_all_clip_the_same(found, mode):
    first, _, norms = found[f"together agclip {mode}"]
    assert norms == [15.0, 15.0]
    assert np.allclose(first, [[1.5, 2.0], [1.5, 2.0]])


def test_a_mirrored_variable_is_read_in_each(found, mode):
    norms, clipped = found[f"held agclip {mode}"]
    assert norms == pytest.approx([np.sqrt(2 + (1 << 16))] * 2, rel=1e-7)
    assert np.allclose(clipped, np.sqrt([[0.5, 0.5]] * 2))


@pytest.mark.parametrize("step", ["own", "together", "held"])
def test_tensorflow_does_the_same(found, mode, step):
    ours, theirs = found[f"{step} agclip {mode}"], found[f"{step} tensorflow {mode}"]
    for one, other in zip(ours, theirs, strict=True):
        assert np.allclose(one, other, 1e-6)
