"""MLX: modules and optimizers in the place of gradients, and NaN in leaves of float64."""

import importlib
import math

import pytest

import agclip
import arrays
import mlx_devices


@pytest.fixture(scope="module")
def mx():
    arrays.library("mlx")
    return importlib.import_module("mlx.core")


@pytest.fixture(scope="module")
def nn(mx):
    return importlib.import_module("mlx.nn")


PLACES = {
    "alone": (lambda x: x, ""),
    "in a list": (lambda x: [x], "[0]"),
    "in a dict": (lambda x: {"a": x}, "['a']"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("function", [agclip.clip_by_global_norm, agclip.clip_by_global_norm_])
def test_a_module_is_refused(nn, function, place):
    put, path = PLACES[place]
    model = nn.Linear(2, 1)
    with pytest.raises(TypeError) as caught:
        function(put(model), 0.1)
    assert str(caught.value) == (
        f"`t_list` must hold gradients; got a module (Linear) at t_list{path}. Pass the gradients, "
        f"as `mlx.nn.value_and_grad` returns them; where the parameters themselves are meant, "
        f"`model.trainable_parameters()`."
    )


def test_a_module_of_ones_own_is_refused(nn):
    class Mine(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(2, 1)

    with pytest.raises(TypeError, match=r"got a module \(Mine\) at grads"):
        agclip.Clipper(agclip.ZClip())(Mine())


def test_an_optimizer_is_refused(mx):
    optimizer = importlib.import_module("mlx.optimizers").SGD(0.1)
    with pytest.raises(TypeError, match=r"got an optimizer \(SGD\) at t_list\[0\]"):
        agclip.clip_by_global_norm([optimizer], 0.1)


def test_the_parameters_of_a_module_are_taken(mx, nn):
    model = nn.Linear(2, 1)
    grads = nn.value_and_grad(model, lambda x: model(x).sum())(mx.ones((1, 2)))[1]
    rule = agclip.AdaptiveGradClip(0.1, unit_axes=())
    clipped, _, _ = rule.update(grads, (), model.trainable_parameters())
    assert set(clipped) == {"weight", "bias"}


class Attributes(dict):
    """A dict of another's making."""


def test_other_dicts_are_trees(mx):
    tree = Attributes(w=mx.array([3.0, 4.0]))
    clipped = agclip.clip_by_norm(tree, 2.5)
    assert type(clipped) is Attributes
    assert clipped["w"].tolist() == [1.5, 2.0]


@pytest.mark.parametrize(("value", "word"), [(math.nan, "NaN"), (math.inf, "an infinity")])
def test_what_is_not_finite_in_float64_is_named_where_the_device_has_none(mx, value, word):
    # Made first: the constructor asks for no device.
    leaves = [mx.array([1.0]), mx.array([value, 1.0], dtype=mx.float64)]
    real, asked = mx.isnan, []

    def isnan(x):
        asked.append((x.dtype, mx.default_device().type))
        return real(x)

    with pytest.MonkeyPatch.context() as patch, mlx_devices.without_float64():
        patch.setattr(mx, "isnan", isnan)
        with pytest.raises(FloatingPointError) as caught:
            agclip.clip_by_global_norm(leaves, 1.0, nonfinite="error")
    assert str(caught.value).startswith(f"`t_list` must be finite; got {word} at t_list[1].")
    assert (mx.float64, mx.cpu) in asked
    assert (mx.float64, mx.gpu) not in asked
