"""`agclip clip`: files go in, clipped files come out, and nothing is half-written."""

import dataclasses
import json
import tracemalloc
import types

import numpy as np
import pytest

import agclip
from agclip._backends import registry
from agclip.cli import main
from agclip.cli.files import clip_file
from agclip.cli.files.readers.transfer import to_backend

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


def test_parameters_must_have_every_name(source, output, grads, tmp_path, capsys):
    np.savez(tmp_path / "params.npz", w=grads["w"])
    options = ["--params", tmp_path / "params.npz", "--unit-axes", "out_in"]
    assert clip(source, output, "--rule", "adaptive", *options) == 1
    assert capsys.readouterr().err == (
        "agclip clip: error: `--params` must hold an array for each of IN; got none called 'h' in "
        f"{str(tmp_path / 'params.npz')!r}. Give the file of the same model.\n"
    )
    assert not output.exists()


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


def test_what_is_not_finite_is_an_error(spoilt, output, capsys):
    assert clip(spoilt, output, "--clip-norm", 1) == 1
    assert capsys.readouterr().err == (
        "agclip clip: error: `IN` must hold finite numbers; got 'b' (1 NaN, 1 inf). Choose what "
        "becomes of them: --nonfinite propagate, zero or skip.\n"
    )
    assert list(output.parent.iterdir()) == [spoilt]


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


def test_output_that_is_there_is_refused(source, output, capsys):
    output.write_bytes(b"old")
    assert clip(source, output, "--clip-norm", 1) == 2
    assert capsys.readouterr().err == (
        f"agclip clip: error: `--output` must be a new file; got {str(output)!r}. Name another, or "
        f"add --force.\n"
    )
    assert output.read_bytes() == b"old"


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


def test_full_disk_is_said(monkeypatch, source, output, capsys):
    def to_host(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(clip_file, "to_host", to_host)
    assert clip(source, output, "--clip-norm", 1) == 1
    assert capsys.readouterr().err == (
        f"agclip clip: error: the file {str(output)!r} could not be written: No space left on "
        "device. Make room or name another place with --output FILE.npz.\n"
    )


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

USAGE = {
    "negative": (["--clip-norm", "-1"], "`--clip-norm` must be a finite number >= 0; got '-1'."),
    "NaN": (["--clip-norm", "nan"], "`--clip-norm` must be a finite number >= 0; got 'nan'."),
    "words": (["--clip-norm", "one"], "`--clip-norm` must be a finite number >= 0; got 'one'."),
    "absent": (
        [],
        (
            "`--clip-norm` must be given with --rule global_norm; got none. The rule takes "
            "--clip-norm, --ord, --strict."
        ),
    ),
    "of another rule": (
        ["--rule", "rms", "--clip-rms", "1", "--ord", "1"],
        (
            "`--ord` must be left out with --rule rms; got both. The rule takes --clip-rms, "
            "--strict."
        ),
    ),
    "unknown rule": (
        ["--rule", "globalnorm", "--clip-norm", "1"],
        (
            "`--rule` must be one of adaptive, average_norm, global_norm, norm, rms, value; got "
            "'globalnorm'. Did you mean 'global_norm'?"
        ),
    ),
    "rule with memory": (
        ["--rule", "zclip"],
        (
            "`--rule` must be a rule without memory: value, norm, average_norm, rms, global_norm, "
            "adaptive; got 'zclip', which learns from past steps, and a file is a single one."
        ),
    ),
    "bounds the wrong way": (
        ["--rule", "value", "--clip-value-min", "1", "--clip-value-max", "0"],
        "`--clip-value-min` must be at most --clip-value-max; got 1 and 0. Swap them.",
    ),
    "unknown policy": (
        ["--clip-norm", "1", "--nonfinite", "ignore"],
        "`--nonfinite` must be one of error, propagate, skip, zero; got 'ignore'.",
    ),
    "unknown axes": (
        ["--rule", "adaptive", "--unit-axes", "in_in"],
        "`--unit-axes` must be one of in_out, out_in; got 'in_in'.",
    ),
}  # fmt: skip


@pytest.fixture(params=USAGE)
def mistake(request):
    return USAGE[request.param]


def test_mistake(mistake, source, output, capsys):
    arguments, message = mistake
    assert clip(source, output, *arguments) == 2
    captured = capsys.readouterr()
    assert captured.err == f"agclip clip: error: {message}\n"
    assert captured.out == ""
    assert not output.exists()


def test_output_of_another_format(source, tmp_path, capsys):
    output = tmp_path / "out.safetensors"
    assert clip(source, output, "--clip-norm", 1) == 2
    assert capsys.readouterr().err == (
        f"agclip clip: error: `--output` must end in .npz, as IN does; got {str(output)!r}. "
        f"Formats are kept.\n"
    )


def test_output_in_a_folder_that_is_not_there(source, tmp_path, capsys):
    output = tmp_path / "none" / "out.npz"
    assert clip(source, output, "--clip-norm", 1) == 1
    assert capsys.readouterr().err == (
        f"agclip clip: error: `--output` must be a file that can be written; got {str(output)!r}: "
        "No such file or directory. Name another with --output FILE.npz.\n"
    )


def test_missing_input(tmp_path, output, capsys):
    assert clip(tmp_path / "none.npz", output, "--clip-norm", 1) == 2
    assert "`IN` must be a file; got" in capsys.readouterr().err


def test_unknown_option(source, output, capsys):
    assert clip(source, output, "--clipnorm", 1) == 2
    assert capsys.readouterr().err == (
        "agclip clip: error: unrecognized arguments: --clipnorm 1. Did you mean '--clip-norm'? "
        "`agclip clip --help` shows what there is.\n"
    )


def test_unknown_backend(source, output, capsys):
    assert clip(source, output, "--clip-norm", 1, "--backend", "nunpy") == 2
    err = capsys.readouterr().err
    assert err.startswith("agclip clip: error: `--backend` must be one of ")
    assert err.endswith("got 'nunpy'. Did you mean 'numpy'?\n")


def test_dtype_that_a_backend_lacks(need_backend):
    need_backend("torch")
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    array = np.ones(2, dtype=ml_dtypes.float8_e3m4)
    with pytest.raises(TypeError, match="arrays of float8_e3m4 cannot be made with torch: "):
        to_backend(array, agclip.get_backend("torch"))


def test_dtype_that_a_backend_changes():
    narrow = types.SimpleNamespace(asarray=lambda array: array.astype(np.float32))
    backend = dataclasses.replace(agclip.get_backend("numpy"), name="narrow", xp=narrow)
    message = "arrays of float64 cannot be made with narrow: they became float32"
    with pytest.raises(TypeError, match=message):
        to_backend(np.ones(2), backend)


@pytest.mark.skipif(
    np.dtype(np.longdouble) == np.dtype(np.float64), reason="long doubles are doubles here"
)
def test_dtype_that_agclip_lacks(tmp_path, capsys):
    source, output = tmp_path / "in.npy", tmp_path / "out.npy"
    np.save(source, np.ones(2, dtype=np.longdouble))
    assert clip(source, output, "--clip-norm", 1) == 1
    assert capsys.readouterr().err == (
        "agclip clip: error: `IN` must hold dtypes that agclip clips; got "
        f"{np.dtype(np.longdouble).name} in 'array'. Convert it to float64.\n"
    )


def test_unusable_backend_says_why(monkeypatch, source, output, capsys):
    def missing(entry):
        return f'{entry.name} is not installed. Run: pip install "agclip[{entry.name}]"'

    monkeypatch.setattr(registry, "_missing", missing)
    assert clip(source, output, "--clip-norm", 1, "--backend", "jax") == 1
    assert capsys.readouterr().err == (
        "agclip clip: error: the backend 'jax' must be installed; got: jax is not installed. Run: "
        'pip install "agclip[jax]"\n'
    )


def test_config_beside_options(source, output, tmp_path, capsys):
    config = tmp_path / "agclip.toml"
    config.write_text('[clip]\nrule = "global_norm"\nclip_norm = 1.0\n')
    assert clip(source, output, "--config", config, "--clip-norm", 1) == 2
    assert capsys.readouterr().err == (
        "agclip clip: error: `--clip-norm` must be left out with --config; got both. The file "
        "decides.\n"
    )


def test_config_that_is_not_there(source, output, tmp_path, capsys):
    assert clip(source, output, "--config", tmp_path / "none.toml") == 2
    assert "`--config` must be a file; got" in capsys.readouterr().err


@pytest.fixture(
    params=[
        ('[clip]\nrule = "globalnorm"\nclip_norm = 1.0\n', "'globalnorm'"),
        ('[clip]\nrule = "global_norm"\nclipnorm = 1.0\n', "clipnorm"),
        ('[clip]\nrule = "global_norm"\nclip_norm = -1.0\n', "-1.0"),
        ("clip = [\n", "must be valid TOML"),
        ("", "the settings must have a table [clip] to make a clipper of; got none"),
    ],
    ids=["rule", "key", "value", "syntax", "empty"],
)
def wrong_config(request, tmp_path):
    path = tmp_path / "agclip.toml"
    path.write_text(request.param[0])
    return path, request.param[1]


def test_wrong_config(wrong_config, source, output, capsys):
    path, words = wrong_config
    assert clip(source, output, "--config", path) == 2
    err = capsys.readouterr().err
    assert err.startswith("agclip clip: error: `--config` must describe a clipper: ")
    assert words in err
    assert err.count("\n") == 1
    assert not output.exists()
