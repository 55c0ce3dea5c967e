"""Rows of TensorFlow's table in docs/compared.md that its own page does not have."""

from pathlib import Path

import numpy as np
import pytest

import agclip

LINES = (Path(__file__).parents[2] / "docs" / "compared.md").read_text("utf-8").splitlines()


@pytest.fixture(scope="module")
def tf(need_backend):
    need_backend("tensorflow")
    return pytest.importorskip("tensorflow")


@pytest.mark.parametrize(("bound", "percent"), [(0.3, 11), (5.0, 12)])
def test_within_the_bound_tensorflow_changes_a_tenth_of_all_values(tf, bound, percent):
    assert any("11 % of 10⁵ float32 values change at c = 0.3, 12 % at c = 5" in x for x in LINES)
    values = np.random.default_rng(0).standard_normal(10**5)
    x = tf.constant((values * bound / 2 / np.linalg.norm(values)).astype(np.float32))
    changed = (tf.clip_by_norm(x, bound).numpy() != x.numpy()).mean()
    assert 100 * changed == pytest.approx(percent, abs=0.6)
    assert agclip.clip_by_norm(x, bound) is x


def test_the_norm_of_no_tensors(tf):
    assert "| `global_norm` | no tensors | 0 | 0, and a warning |" in LINES
    assert float(tf.linalg.global_norm([])) == 0.0
    with pytest.warns(UserWarning, match="holds no array"):
        assert float(agclip.global_norm([])) == 0.0


@pytest.mark.parametrize("clip", ["clip_by_value", "clip_by_norm", "clip_by_global_norm"])
def test_tensorflow_takes_no_tree(tf, clip):
    assert "| all | container | a list or a single tensor | any tree |" in LINES
    tree = {"a": [tf.constant([3.0, 4.0])]}
    bounds = (-1.0, 1.0) if clip == "clip_by_value" else (1.0,)
    with pytest.raises((TypeError, ValueError)):
        getattr(tf, clip)(tree, *bounds)
    clipped = getattr(agclip, clip)(tree, *bounds)
    kept = clipped[0] if clip == "clip_by_global_norm" else clipped
    assert list(kept) == ["a"]
    assert isinstance(kept["a"], list)
