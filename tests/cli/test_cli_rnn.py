"""The demo's network and text: gradients against finite differences, entropies, windows."""

import contextlib
import importlib
import math
from random import Random

import pytest

import agclip
from agclip.cli.demo.rnn import backward, forward, init_params
from agclip.cli.demo.text import Corpus

# --- the network -------------------------------------------------------------------------------


@pytest.fixture(params=["numpy", "torch", "jax", "array_api_strict"])
def double_precision(request):
    """A namespace that computes in float64."""
    pytest.importorskip(request.param, reason=f"{request.param} is not installed")
    modules = {"numpy": "array_api_compat.numpy", "torch": "array_api_compat.torch"}
    wide = contextlib.nullcontext()
    if request.param == "jax":
        wide = importlib.import_module("jax").enable_x64(True)
    with wide:
        module = {**modules, "jax": "jax.numpy"}.get(request.param, request.param)
        yield importlib.import_module(module)


@pytest.fixture(params=["W_in", "W_rec", "b", "W_out", "c"])
def parameter(request):
    return request.param


def test_back_propagation_agrees_with_finite_differences(double_precision, parameter):
    xp, rng, batch = double_precision, Random(1), 2
    params = init_params(xp, rng, 5, 3, 1.4, dtype=xp.float64)
    params["W_out"] = params["W_out"] * 10  # or the signal from the output would be faint
    codes = [rng.randrange(5) for _ in range(5 * batch)]
    _, trace = forward(xp, params, codes, batch)
    gradient = backward(xp, params, trace)[parameter]
    value = params[parameter]
    places = xp.arange(math.prod(value.shape), dtype=xp.int32)
    step = 1e-5

    def slope(place):
        bump = xp.reshape(xp.astype(places == place, xp.float64) * step, value.shape)
        ahead, _ = forward(xp, {**params, parameter: value + bump}, codes, batch)
        behind, _ = forward(xp, {**params, parameter: value - bump}, codes, batch)
        return (float(ahead) - float(behind)) / (2 * step)

    expected = [slope(place) for place in range(math.prod(value.shape))]
    flat = xp.reshape(gradient, (-1,))
    found = [float(flat[place]) for place in range(math.prod(value.shape))]
    assert gradient.dtype == xp.float64
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.fixture
def small():
    """A small network in the default backend, and a batch of two windows for it."""
    xp = agclip.get_backend().xp
    return xp, init_params(xp, Random(0), 5, 3, 1.0), [0, 1, 2, 3, 4, 0]


def test_gradient_has_the_keys_and_shapes_of_the_parameters(small):
    xp, params, codes = small
    loss, trace = forward(xp, params, codes, 2)
    grads = backward(xp, params, trace)
    assert (loss.shape, loss.dtype) == ((), xp.float32)
    assert {k: v.shape for k, v in grads.items()} == {k: v.shape for k, v in params.items()}


def test_loss_of_zero_weights_is_the_uniform_entropy(small):
    xp, params, codes = small
    loss, _ = forward(xp, {**params, "W_out": 0 * params["W_out"]}, codes, 2)
    assert float(loss) == pytest.approx(math.log(5))


def test_loss_does_not_overflow(small):
    xp, params, codes = small
    loss, _ = forward(xp, {**params, "W_out": 1e6 * params["W_out"]}, codes, 2)
    assert 100 < float(loss) < math.inf


# --- the text ----------------------------------------------------------------------------------


def test_unigram_entropy_of_two_equally_frequent_characters_is_ln_2():
    assert Corpus.of("abab").unigram_entropy() == pytest.approx(math.log(2))


def test_unigram_entropy_weighs_by_frequency():
    expected = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert Corpus.of("aaab").unigram_entropy() == pytest.approx(expected)


def test_windows_hold_consecutive_characters_time_first():
    codes = Corpus.of("abcdefgh").windows(Random(0), 3, 2)
    assert len(codes) == 6
    assert [codes[i + 2] - codes[i] for i in range(4)] == [1, 1, 1, 1]


def test_a_window_may_be_the_whole_text():
    assert Corpus.of("abc").windows(Random(0), 3, 1) == [0, 1, 2]
