"""`agclip clip`: files go in, clipped files come out, and nothing is half-written."""

import json
import tracemalloc

import numpy as np
import pytest

import agclip
from agclip.cli import main
from agclip.cli.files import clip_file

BACKENDS = ("numpy", "torch", "jax", "dask")


@pytest.fixture
def grads():
    rng = np.random.default_rng(0)
    return {
        "w": rng.normal(size=(20, 10)).astype(np.float32),
        "h": rng.normal(size=7).astype(np.float16),
        "d": rng.normal(size=(3, 3)),
    }


@pytest.fixture
def source(tmp_path, grads):
    path = tmp_path / "in.npz"
    np.savez(path, **grads)
    return path


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out.npz"


def clip(source, output, *arguments):
    return main(["clip", str(source), "-o", str(output), *map(str, arguments)])


def load(path):
    with np.load(path) as archive:
        return dict(archive)


def same(got, wanted):
    """Whether two dicts of arrays agree in names, dtypes and bits."""
    return [(k, v.dtype, v.tobytes()) for k, v in got.items()] == [
        (k, v.dtype, v.tobytes()) for k, v in wanted.items()
    ]


# --- the rules ---------------------------------------------------------------------------------


def test_global_norm_of_a_file_is_that_of_the_tree(source, output, grads, capsys):
    assert clip(source, output, "--clip-norm", 1) == 0
    assert same(load(output), agclip.clip_by_global_norm(grads, 1.0)[0])
    captured = capsys.readouterr()
    before, after = (float(agclip.global_norm(tree)) for tree in (grads, load(output)))
    assert captured.out.splitlines() == [
        f"{source}: 3 arrays, norm {before:.6g}",
        f"{output}: 3 of them clipped by global_norm, norm {after:.6g}",
    ]
    assert captured.err == ""


RULES = {
    "norm": (["--clip-norm", "0.5"], lambda g: agclip.clip_by_norm(g, 0.5)),
    "norm of order 1": (
        ["--clip-norm", "2", "--ord", "1"],
        lambda g: agclip.clip_by_norm(g, 2, ord=1),
    ),
    "average_norm": (["--clip-norm", "0.05"], lambda g: agclip.clip_by_average_norm(g, 0.05)),
    "rms": (["--clip-rms", "0.5"], lambda g: agclip.clip_by_rms(g, 0.5)),
    "value": (
        ["--clip-value-min=-0.5", "--clip-value-max", "0.25"],
        lambda g: agclip.clip_by_value(g, -0.5, 0.25),
    ),
    "global_norm of order inf": (
        ["--clip-norm", "1", "--ord", "inf"],
        lambda g: agclip.clip_by_global_norm(g, 1, ord=float("inf"))[0],
    ),
}  # fmt: skip


@pytest.fixture(params=RULES)
def rule(request):
    options, function = RULES[request.param]
    return ["--rule", request.param.split()[0], *options], function


def test_rule_does_what_its_function_does(rule, source, output, grads):
    options, function = rule
    assert clip(source, output, *options) == 0
    assert same(load(output), function(grads))


def test_adaptive_rule_compares_with_the_parameters(source, output, grads, tmp_path):
    params = {name: np.asarray(10 * array, array.dtype) for name, array in grads.items()}
    np.savez(tmp_path / "params.npz", **params)
    options = ["--params", tmp_path / "params.npz", "--unit-axes", "out_in", "--clipping", "0.05"]
    assert clip(source, output, "--rule", "adaptive", *options) == 0
    wanted = agclip.adaptive_grad_clip(grads, params, 0.05, unit_axes="out_in")
    assert same(load(output), wanted)


def test_clipper_of_a_file(source, output, grads, tmp_path):
    config = tmp_path / "agclip.toml"
    config.write_text('[[clip]]\nrule = "value"\nclip_value_min = -1.0\nclip_value_max = 1.0\n'
                      '[[clip]]\nrule = "global_norm"\nclip_norm = 1.0\n')  # fmt: skip
    assert clip(source, output, "--config", config) == 0
    wanted = agclip.clip_by_global_norm(agclip.clip_by_value(grads, -1.0, 1.0), 1.0)[0]
    assert same(load(output), wanted)


# --- backends ----------------------------------------------------------------------------------


@pytest.fixture(params=BACKENDS)
def backend(request, need_backend):
    need_backend(request.param)
    return request.param


def save_brain(path, grads):
    save = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    brain = np.linspace(-2, 2, 50).astype(ml_dtypes.bfloat16)
    save.save_file({**grads, "brain": brain}, path, metadata={"format": "pt"})


def test_every_backend_writes_the_same_file(backend, tmp_path, grads):
    source, output, wanted = (tmp_path / f"{name}.safetensors" for name in ("in", "out", "wanted"))
    save_brain(source, grads)
    assert clip(source, wanted, "--clip-norm", 1, "--backend", "numpy") == 0
    assert clip(source, output, "--clip-norm", 1, "--backend", backend) == 0
    assert output.read_bytes() == wanted.read_bytes()


def test_pt_file(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    source, output = tmp_path / "in.pt", tmp_path / "out.pt"
    tree = {"step": 3, "grads": {"w": torch.randn(3, 3), "h": torch.randn(5).bfloat16()}}
    torch.save(tree, source)
    assert clip(source, output, "--clip-norm", "0.5") == 0
    got = torch.load(output, weights_only=True)
    wanted = agclip.clip_by_global_norm(tree["grads"], 0.5)[0]
    assert got["step"] == 3
    assert torch.equal(got["grads"]["w"], wanted["w"])
    assert torch.equal(got["grads"]["h"], wanted["h"])
    assert got["grads"]["h"].dtype is torch.bfloat16


# --- what it says ------------------------------------------------------------------------------


def test_json(source, output, grads, capsys):
    assert clip(source, output, "--clip-norm", 1, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["norm_before"] == pytest.approx(float(agclip.global_norm(grads)), rel=1e-12)
    assert found["norm_after"] == pytest.approx(1.0, rel=1e-3)
    assert (found["rule"], found["backend"], found["arrays"], found["changed"]) == (
        "global_norm", agclip.get_backend().name, 3, 3,
    )  # fmt: skip


def test_nothing_clipped_is_said(source, output, grads, capsys):
    assert clip(source, output, "--clip-norm", 1000) == 0
    assert same(load(output), grads)
    assert capsys.readouterr().err == (
        "agclip clip: note: nothing was clipped: every array was within the bound.\n"
    )


def test_what_is_no_gradient_is_copied(tmp_path, output, capsys):
    source = tmp_path / "in.npz"
    np.savez(source, w=np.asarray([3.0, 4.0]), ids=np.arange(3), mask=np.asarray([True]))
    assert clip(source, output, "--clip-norm", 1) == 0
    assert load(output)["ids"].tolist() == [0, 1, 2]
    assert load(output)["w"].tolist() == [0.6000000000000001, 0.8]
    note = "note: integers, booleans and text are no gradients, and are copied: ids, mask.\n"
    assert capsys.readouterr().err == f"agclip clip: {note}"


# --- NaN and infinities ------------------------------------------------------------------------


@pytest.fixture
def spoilt(tmp_path):
    path = tmp_path / "in.npz"
    np.savez(path, a=np.asarray([3.0, 4.0]), b=np.asarray([1.0, np.nan, np.inf]))
    return path


@pytest.mark.parametrize(
    ("policy", "wanted"),
    [
        ("propagate", [np.nan, np.nan]),
        ("zero", [0.0, 0.0]),
        ("skip", [3.0, 4.0]),
    ],
)
def test_policy(policy, wanted, spoilt, output, capsys):
    assert clip(spoilt, output, "--clip-norm", 1, "--nonfinite", policy) == 0
    assert np.array_equal(load(output)["a"], wanted, equal_nan=True)
    assert "note: IN holds 1 NaN and 1 infinity.\n" in capsys.readouterr().err


# --- the output --------------------------------------------------------------------------------


def test_force_replaces_the_output(source, output, grads):
    output.write_bytes(b"old")
    assert clip(source, output, "--clip-norm", 1, "--force") == 0
    assert same(load(output), agclip.clip_by_global_norm(grads, 1.0)[0])


def test_input_is_never_changed_but_on_demand(source, output, grads):
    content = source.read_bytes()
    assert clip(source, output, "--clip-norm", 1) == 0
    assert clip(source, source, "--clip-norm", 1) == 2
    assert source.read_bytes() == content
    assert clip(source, source, "--clip-norm", 1, "--force") == 0
    assert source.read_bytes() == output.read_bytes()


@pytest.fixture(params=[(OSError(28, "No space left on device"), 1), (KeyboardInterrupt(), 130)])
def failure(request, monkeypatch):
    """Fail at the second array, when the first is written; return the exit status."""
    calls = []

    def to_host(array, dtype, backend):
        calls.append(dtype)
        if len(calls) == 2:
            raise request.param[0]
        return array

    monkeypatch.setattr(clip_file, "to_host", to_host)
    return request.param[1]


def test_failure_leaves_the_old_output_and_no_rest(failure, source, output):
    output.write_bytes(b"old")
    assert clip(source, output, "--clip-norm", 1, "--force") == failure
    assert output.read_bytes() == b"old"
    assert sorted(output.parent.iterdir()) == [source, output]


def test_cut_off_input_leaves_no_output(tmp_path, output, capsys):
    source = tmp_path / "in.npz"
    np.savez(source, a=np.ones(5000), b=np.ones(5000))
    content = bytearray(source.read_bytes())
    content[-2000] ^= 255
    source.write_bytes(content)
    assert clip(source, output, "--clip-norm", 1) == 2
    assert "`IN` must be a readable .npz file; got" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [source]


# --- memory ------------------------------------------------------------------------------------

LEAVES, ENTRIES = 40, 200_000


@pytest.fixture(params=[".npz", ".safetensors"])
def large(request, tmp_path):
    path = tmp_path / f"in{request.param}"
    arrays = {f"layer{i}": np.full(ENTRIES, 0.5, np.float32) for i in range(LEAVES)}
    if request.param == ".npz":
        np.savez(path, **arrays)
    else:
        save = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
        save.save_file(arrays, path)
    return path


def test_memory_is_bounded_by_the_largest_array(large):
    output = large.with_stem("out")
    tracemalloc.start()
    try:
        assert clip(large, output, "--clip-norm", 1) == 0
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert output.stat().st_size == large.stat().st_size
    assert peak < 10 * ENTRIES * 4 < LEAVES * ENTRIES * 4


# --- mistakes ----------------------------------------------------------------------------------
