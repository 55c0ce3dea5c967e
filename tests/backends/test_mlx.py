"""MLX: lazy calls, traces, derivatives, arrays assigned to, and devices without float64."""

import math
import threading

import numpy as np
import pytest

import agclip
import mlx_devices
from agclip._backends import listing

mx = pytest.importorskip("mlx.core", reason="MLX is not installed")
nn = pytest.importorskip("mlx.nn", reason="MLX is not installed")
optimizers = pytest.importorskip("mlx.optimizers", reason="MLX is not installed")


@pytest.fixture
def tree():
    return {"w": mx.array([[3.0, 0.0], [0.0, 4.0]]), "layers": [{"b": mx.array([12.0])}, None]}


def numbers(x):
    return np.array(x).tolist()


def pending(*shape):
    """An array that nobody has computed yet."""
    return mx.ones(shape) * 2.0


# --- nothing is computed -----------------------------------------------------------------------

RULES = {
    "ClipByGlobalNorm": agclip.ClipByGlobalNorm(1.0),
    "ZClip": agclip.ZClip(warmup=1),
    "AutoClip": agclip.AutoClip(window=4),
    "AdaGC": agclip.AdaGC(),
    "SpikeClip": agclip.SpikeClip(),
    "QuantileClip": agclip.QuantileClip(1.0),
}


LAZY = {
    "clip_by_value": lambda x: agclip.clip_by_value(x, -1.0, 1.0),
    "clip_by_norm": lambda x: agclip.clip_by_norm(x, 1.0),
    "clip_by_norm, axes": lambda x: agclip.clip_by_norm(x, 1.0, axes=1),
    "clip_by_global_norm": lambda x: agclip.clip_by_global_norm([x], 1.0),
    "clip_by_global_norm, within": lambda x: agclip.clip_by_global_norm([x], 1e9),
    "an array as bound": lambda x: agclip.clip_by_global_norm([x], mx.array(1.0) * 2.0),
    "reproducible": lambda x: agclip.clip_by_global_norm([x], 1.0, reproducible=True),
    "strict, order 3": lambda x: agclip.clip_by_global_norm([x], 1.0, strict=True, ord=3),
    "zero": lambda x: agclip.clip_by_norm(x, 1.0, nonfinite="zero", loss_scale=2.0),
    "in place": lambda x: agclip.clip_by_norm_(x, 1.0),
    "global_norm": lambda x: agclip.global_norm([x]),
    "clip_per_example": lambda x: agclip.clip_per_example([x], 1.0),
    "adaptive": lambda x: agclip.adaptive_grad_clip(x, x, unit_axes="out_in"),
    **{name: lambda x, rule=rule: stepped_on(rule, x) for name, rule in RULES.items()},
}


def stepped_on(rule, x):
    return rule.update([x], rule.init([x]))


@pytest.mark.parametrize("name", LAZY)
def test_a_call_computes_nothing(name):
    x = pending(512, 512)
    before = mx.get_active_memory()
    made = LAZY[name](x)
    assert mx.get_active_memory() - before < x.nbytes / 2
    assert made is not None
    mx.eval(x)
    assert mx.get_active_memory() - before > x.nbytes / 2, "x was pending, and would be seen"


# --- trees and arrays --------------------------------------------------------------------------


def test_the_gradients_of_a_module_are_a_tree(tree):
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    _, grads = nn.value_and_grad(model, lambda x: model(x).sum())(mx.ones((4, 3)))
    flat = [np.array(g) for layer in grads["layers"] for g in layer.values()]
    size = math.sqrt(sum(float((g.astype("float64") ** 2).sum()) for g in flat))
    clipped, norm = agclip.clip_by_global_norm(grads, size / 2)
    assert norm.item() == pytest.approx(size, rel=2e-7)
    for layer, new in zip(grads["layers"], clipped["layers"], strict=True):
        assert layer.keys() == new.keys()
        for key, old in layer.items():
            np.testing.assert_allclose(np.array(new[key]), np.array(old) / 2, rtol=3e-7)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "complex64"])
def test_every_dtype_is_kept(dtype):
    x = mx.array([3.0, 4.0]).astype(getattr(mx, dtype))
    clipped, norm = agclip.clip_by_global_norm([x], 2.5)
    assert clipped[0].dtype == x.dtype
    assert norm.dtype == (mx.float64 if dtype == "float64" else mx.float32)
    assert norm.item() == 5.0
    assert clipped[0].tolist() == [1.5, 2.0]


def test_numpys_float64_stays_one():
    with agclip.config_context(backend="mlx", on_foreign="convert"):
        made = agclip.asarray(np.array([1e300, 0.1]))
        clipped = agclip.clip_by_norm(np.array([3e200, 4e200]), 1.0)
    assert made.dtype == mx.float64
    assert made.tolist() == [1e300, 0.1]
    assert clipped.dtype == np.float64
    np.testing.assert_allclose(clipped, [0.6, 0.8], rtol=1e-15)


def test_a_device_is_one_that_is_here():
    with agclip.config_context(backend="mlx", device="cpu"):
        assert numbers(agclip.clip_by_norm([3.0, 4.0], 2.5)) == [1.5, 2.0]
    named = agclip.get_backend("mlx").named_device
    assert named(None, "cpu") == mx.Device(mx.cpu, 0)
    assert (named(None, "gpu") is None) == (not mx.is_available(mx.gpu))
    assert named(None, "tpu") is None


def test_the_list_of_backends_has_its_version():
    assert listing.version("mlx") == mx.__version__  # of `mlx.core`: `mlx` itself says none


# --- in place ----------------------------------------------------------------------------------


def test_an_array_that_is_written_is_the_same_object_with_other_elements(tree):
    w, b = tree["w"], tree["layers"][0]["b"]
    returned, norm = agclip.clip_by_global_norm_(tree, 6.5)
    assert returned is tree
    assert tree["w"] is w
    assert tree["layers"][0]["b"] is b
    assert (numbers(w), numbers(b), norm.item()) == ([[1.5, 0.0], [0.0, 2.0]], [6.0], 13.0)


@pytest.mark.parametrize("look", [np.array, lambda x: x[:2], lambda x: x.reshape(2, 2)])
def test_what_was_made_of_it_before_keeps_its_elements(look):
    x = mx.array([3.0, 0.0, 0.0, 4.0])
    seen = look(x)
    before = np.array(seen)
    agclip.clip_by_norm_(x, 2.5)
    mx.eval(x)
    assert numbers(x) == [1.5, 0.0, 0.0, 2.0]
    np.testing.assert_array_equal(np.array(seen), before)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("policy", ["propagate", "zero"])
def test_writing_keeps_the_dtype(dtype, policy):
    x = mx.array([3.0, 4.0]).astype(getattr(mx, dtype))
    agclip.clip_by_norm_(x, 2.5, nonfinite=policy)
    assert (x.dtype, x.tolist()) == (getattr(mx, dtype), [1.5, 2.0])


def test_an_array_that_is_there_twice_is_written_once():
    x = mx.array([3.0, 4.0])
    agclip.clip_by_norm_([x, {"again": x}], 2.5)
    assert numbers(x) == [1.5, 2.0]


def test_nothing_is_written_if_a_leaf_is_wrong():
    x = mx.array([3.0, 4.0])
    with pytest.raises(TypeError, match=r"int32 at t\[1\]"):
        agclip.clip_by_norm_([x, mx.array([1, 2])], 1.0)
    with pytest.raises(FloatingPointError, match=r"NaN at t\[1\]"):
        agclip.clip_by_norm_([x, mx.array([math.nan])], 1.0, nonfinite="error")
    assert numbers(x) == [3.0, 4.0]


# --- traces ------------------------------------------------------------------------------------

TRACES = {
    "compile": lambda f: mx.compile(f)(mx.array([3.0, 4.0])),
    "vmap": lambda f: mx.vmap(f)(mx.array([[3.0, 4.0]]))[0],
    "grad": lambda f: mx.grad(lambda x: f(x).sum())(mx.array([3.0, 4.0])),
    "compiled grad": lambda f: mx.compile(mx.grad(lambda x: f(x).sum()))(mx.array([3.0, 4.0])),
}


@pytest.mark.parametrize("way", TRACES)
def test_traced_arrays_are_known_without_reading_them(way):
    access = agclip.get_backend("mlx").access
    plain, seen = mx.array(0.0), []

    def asked(x):
        seen.append(access(x))
        return x * 2.0

    TRACES[way](asked)
    assert (seen, access(plain)) == (["never"], "sync")


def test_each_thread_has_traces_of_its_own():
    access, seen = agclip.get_backend("mlx").access, []

    def outside():
        seen.append(access(mx.array(0.0)))

    def traced(x):
        thread = threading.Thread(target=outside)
        thread.start()
        thread.join()
        return x

    mx.compile(traced)(mx.array(1.0))
    assert seen == ["sync"]


def test_where_nothing_is_compiled_arrays_are_read():
    mx.disable_compile()
    try:
        bad = mx.array([3.0, math.nan])
        with pytest.raises(FloatingPointError, match="NaN at t"):
            mx.compile(lambda x: agclip.clip_by_norm(x, 1.0, nonfinite="error"))(bad)
    finally:
        mx.enable_compile()


@pytest.mark.parametrize("way", TRACES)
def test_what_needs_values_is_refused_in_a_trace(way):
    with pytest.raises(ValueError, match='must not be "error" for traced arrays'):
        TRACES[way](lambda x: agclip.clip_by_norm(x, 1.0, nonfinite="error"))


def test_a_clipper_keeps_no_traced_state():
    clipper = agclip.Clipper(agclip.ZClip(warmup=1))
    with pytest.raises(ValueError, match="traced arrays of mlx"):
        mx.compile(lambda x: clipper([x])[0])(mx.array([3.0, 4.0]))


def test_vmap_clips_each_example_by_itself():
    rows = mx.array([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    clipped = mx.vmap(lambda g: agclip.clip_by_norm({"g": g}, 1.0)["g"])(rows)
    np.testing.assert_allclose(np.array(clipped), [[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]], rtol=2e-7)


def test_a_program_is_traced_once_for_all_steps():
    traced = []

    def step(grads, bound):
        traced.append(1)
        return agclip.clip_by_global_norm(grads, bound)

    program = mx.compile(step)
    for bound in (1.0, 2.0, 3.0):
        clipped, norm = program({"w": mx.array([3.0, 4.0])}, mx.array(bound))
    assert (len(traced), clipped["w"].shape, norm.shape) == (1, (2,), ())


# --- derivatives -------------------------------------------------------------------------------


def test_the_derivative_within_the_bound_is_one():
    for values in ([0.3, 0.4], [0.0, 0.0]):
        grad = mx.grad(lambda x: agclip.clip_by_norm(x, 1.0).sum())(mx.array(values))
        assert numbers(grad) == [1.0, 1.0]


def test_the_derivative_beyond_the_bound_is_that_of_x_over_its_norm():
    x, v = np.array([3.0, 4.0, 12.0]), np.array([1.0, -2.0, 0.5])
    norm = np.linalg.norm(x)
    wanted = 2.0 / norm * (v - x * (x @ v) / norm**2)
    weights = mx.array(v)
    grad = mx.grad(lambda y: (agclip.clip_by_norm(y, 2.0) * weights).sum())(mx.array(x))
    np.testing.assert_allclose(np.array(grad), wanted, rtol=1e-5)


def test_the_derivative_of_a_complex_clip_is_that_of_its_parts():
    weights = mx.array([[1.0, -2.0], [0.5, 3.0]])

    def of_parts(parts):
        clipped = agclip.clip_by_norm(parts, 2.0)
        return (clipped * weights).sum()

    def of_complex(parts):
        real, imaginary = parts
        clipped = agclip.clip_by_norm(real + imaginary * 1j, 2.0)
        return (mx.real(clipped) * weights[0] + mx.imag(clipped) * weights[1]).sum()

    parts = mx.array([[3.0, 4.0], [-12.0, 5.0]])
    wanted = mx.grad(of_parts)(parts)
    np.testing.assert_allclose(np.array(mx.grad(of_complex)(parts)), np.array(wanted), rtol=1e-5)


# --- training ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["ClipByGlobalNorm", "ZClip", "AutoClip", "AdaGC", "SpikeClip"])
def test_a_model_is_trained_through_a_spike(rule):
    mx.random.seed(0)
    model, optimizer = nn.Linear(4, 1), optimizers.SGD(0.05)
    x = mx.random.normal((32, 4))
    y = x @ mx.array([[1.0], [-2.0], [0.5], [3.0]])
    gradient = nn.value_and_grad(model, lambda scale: scale * ((model(x) - y) ** 2).mean())
    clipper, losses = agclip.Clipper(RULES[rule]), []
    for step in range(60):
        loss, grads = gradient(1e6 if step == 40 else 1.0)
        clipped, info = clipper(grads)
        optimizer.update(model, clipped)
        mx.eval(model.parameters(), optimizer.state)
        losses.append(loss.item())
    assert info.to_host().norm >= 0
    assert losses[39] < losses[0] / 3
    assert losses[-1] < losses[0]


@pytest.mark.whole  # MLX has a compiler of C++ make each program, some seconds long
def test_a_whole_step_is_compiled():
    model, optimizer = nn.Linear(2, 1), optimizers.SGD(0.1)
    state = [model.state, optimizer.state]
    x, y = mx.array([[30.0, 40.0]]), mx.array([[0.0]])
    gradient = nn.value_and_grad(model, lambda x: ((model(x) - y) ** 2).mean())

    def step():
        clipped, norm = agclip.clip_by_global_norm(gradient(x)[1], 1.0)
        optimizer.update(model, clipped)
        return norm

    def run(function):
        model.update({"weight": mx.array([[1.0, 2.0]]), "bias": mx.array([0.0])})
        norms = []
        for _ in range(3):
            norms.append(function())
            mx.eval(state, norms)
        return [norm.item() for norm in norms], numbers(model.weight)

    assert run(mx.compile(step, inputs=state, outputs=state)) == run(step)


# --- without float64 ---------------------------------------------------------------------------


@pytest.fixture
def on_gpu():
    with mlx_devices.without_float64():
        yield


@pytest.mark.usefixtures("on_gpu")
def test_sums_are_of_float32_where_there_is_no_more():
    acc_dtype = agclip.get_backend("mlx").acc_dtype
    narrow, wide = mx.array([1.0]), mx.array([1.0], dtype=mx.float64)
    assert (acc_dtype(mx, narrow), acc_dtype(mx, wide)) == (mx.float32, mx.float64)


@pytest.mark.usefixtures("on_gpu")
def test_float64_beside_float32_is_clipped_on_the_cpu():
    tree = [mx.array([3.0]), mx.array([4e300], dtype=mx.float64)]
    asked = []
    stream = mx.stream
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mx, "stream", lambda device: asked.append(device) or stream(device))
        clipped, norm = agclip.clip_by_global_norm(tree, 1.0)
    assert asked == [mx.cpu]
    assert norm.item() == 4e300
    assert clipped[1].tolist() == [1.0]
    assert (clipped[0].dtype, clipped[1].dtype) == (mx.float32, mx.float64)


@pytest.mark.usefixtures("on_gpu")
def test_reproducible_norms_need_float64():
    with pytest.raises(NotImplementedError, match="devices without float64"):
        agclip.clip_by_norm(mx.array([1.0]), 1.0, reproducible=True)
