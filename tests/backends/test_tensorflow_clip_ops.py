"""Code written for TensorFlow's clip functions runs after `tf.` has become `agclip.`."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow_cases as cases

import agclip
from thinned import thinned

MODES = ("eager", "function", "XLA")
BY_XLA = ("value: NaN stays", "norm: above", "norm: rows", "average: above", "global: above")
"""What `make test` compiles of the cases that both return."""


def named(case):
    return case.name


def in_modes(chosen, by_xla=lambda case: True):
    """Parametrise by all pairs of a case and a mode, of which XLA's are thinned."""
    return pytest.mark.parametrize(
        ("case", "mode"),
        thinned(
            itertools.product(chosen, MODES),
            lambda cell: cell[1] != "XLA" or by_xla(cell[0]),
            ids=lambda cell: f"{cell[0].name}-{cell[1]}",
            tuples=True,
        ),
    )


@pytest.fixture(scope="module")
def tf(need_backend):
    need_backend("tensorflow")
    return pytest.importorskip("tensorflow")


@pytest.fixture
def theirs(tf):
    return SimpleNamespace(
        clip_by_value=tf.clip_by_value,
        clip_by_norm=tf.clip_by_norm,
        clip_by_average_norm=tf.compat.v1.clip_by_average_norm,
        clip_by_global_norm=tf.clip_by_global_norm,
        global_norm=tf.linalg.global_norm,
    )


def called(tf, case, library, mode="eager"):
    """What a case returns, as NumPy arrays."""

    def call():
        return case.call(tf, library)

    if mode != "eager":
        call = tf.function(call, autograph=False, jit_compile=mode == "XLA")
    found = call()
    return list(map(read, found)) if isinstance(found, (list, tuple)) else read(found)


def read(x):
    return None if x is None else np.asarray(x.numpy())


def agree(got, wanted, dtype):
    """Whether results are those of a case, to a few units in the last place."""
    if wanted is None or got is None:
        return wanted is got
    if isinstance(got, list):
        return len(got) == len(wanted) and all(
            agree(one, other, dtype) for one, other in zip(got, wanted, strict=True)
        )
    expected = np.asarray(wanted, np.complex128 if dtype.startswith("complex") else np.float64)
    close = {"float16": 2e-3, "bfloat16": 2e-2}.get(dtype, 3e-7)
    wide = got.astype(expected.dtype)
    return got.dtype.name == dtype and np.allclose(wide, expected, close, 0, equal_nan=True)


@in_modes(cases.SAME, lambda case: case.name in BY_XLA)
def test_agclip_returns_what_tensorflow_documents(tf, case, mode):
    assert agree(called(tf, case, agclip, mode), case.result, case.dtype)


@pytest.mark.parametrize("case", cases.SAME, ids=named)
def test_tensorflow_returns_the_same(tf, theirs, case):
    assert agree(called(tf, case, theirs), case.result, case.dtype)


@in_modes(cases.FAULTS)
def test_agclip_is_right_where_tensorflow_is_not(tf, case, mode):
    assert agree(called(tf, case, agclip, mode), case.result, case.dtype)


@pytest.mark.parametrize("case", cases.FAULTS, ids=named)
def test_tensorflow_is_wrong_there(tf, theirs, case):
    try:
        found = called(tf, case, theirs)
    except (AttributeError, TypeError, ValueError, tf.errors.InvalidArgumentError):
        return
    assert not agree(found, case.result, case.dtype)


def shape_error(tf, lib):
    return lib.clip_by_value(tf.zeros([2, 3, 1]), tf.zeros([2]), 1.0)


def vector_bound(tf, lib):
    return lib.clip_by_norm(tf.zeros([2, 3]), tf.zeros([2]))


def float_bounds(tf, lib):
    return lib.clip_by_value(tf.constant([1, 2]), 0.5, 1.5)


@pytest.mark.parametrize("call", [shape_error, vector_bound, float_bounds])
def test_what_tensorflow_refuses_is_refused(tf, theirs, call):
    refusals = (TypeError, ValueError, tf.errors.InvalidArgumentError)
    with pytest.raises(refusals):
        call(tf, theirs)
    with pytest.raises((TypeError, ValueError), match="must"):
        call(tf, agclip)


def test_a_negative_bound_is_refused_where_tensorflow_does_not_clip(tf):
    x = tf.constant([3.0, 4.0])
    assert tf.clip_by_global_norm([x], -1.0)[0][0].numpy().tolist() == [3.0, 4.0]
    with pytest.raises(ValueError, match="`clip_norm` must be a number >= 0"):
        agclip.clip_by_global_norm([x], -1.0)


def test_within_the_bound_no_bit_changes(tf):
    rng = np.random.default_rng(7)
    x = tf.constant(rng.standard_normal(10_000).astype(np.float32) * 1e-3)
    assert (tf.clip_by_norm(x, 0.3).numpy() != x.numpy()).any()
    assert agclip.clip_by_norm(x, 0.3) is x
    clipped = tf.function(agclip.clip_by_norm)(x, 0.3)
    assert (clipped.numpy() == x.numpy()).all()
