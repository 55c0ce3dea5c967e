"""What a file is, whatever its name: it is said, and what can be read is read."""

import gzip
import json
import struct

import numpy as np
import pytest

import agclip
from agclip.cli import main


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="torch is not installed")


def clip(source, output, *arguments):
    return main(["clip", str(source), "-o", str(output), *arguments])


OTHERS = {
    "Git LFS": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        "it is a pointer of Git LFS, not the file: run `git lfs pull`.",
    ),
    "web page": (b"<!DOCTYPE html><html>", "it is a web page, not the file: download it anew."),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(99), "it is an HDF5 file."),
    "gzip": (gzip.compress(b"x"), "it is compressed by gzip: unpack it."),
    "tar": (bytes(257) + b"ustar" + bytes(250), "it is a tar archive: unpack it."),
    "pickle": (b"\x80\x04}.", "it is a pickle, which could run code."),
    "empty": (b"", "it is empty."),
}


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".safetensors", ".pt", ".ckpt", ".bin", ".h5"])
@pytest.mark.parametrize("kind", OTHERS)
def test_file_of_another_kind_is_named(kind, suffix, tmp_path, capsys):
    content, words = OTHERS[kind]
    path = tmp_path / f"grads{suffix}"
    path.write_bytes(content)
    assert main(["norms", str(path)]) == 2
    assert capsys.readouterr().err.endswith(f"got {str(path)!r}: {words}\n")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", ["a.ckpt", "a.bin", "a.pth.tar", "a.PTH", "a.model"])
def test_checkpoint_under_another_name_is_clipped(name, zipped, torch, tmp_path):
    source, output = tmp_path / name, tmp_path / f"out-{name}"
    torch.save({"w": torch.ones(4)}, source, _use_new_zipfile_serialization=zipped)
    assert clip(source, output, "--clip-norm", "1") == 0
    assert torch.load(output, weights_only=True)["w"].tolist() == [0.5] * 4


def test_output_ends_as_the_whole_of_the_input(torch, tmp_path, capsys):
    source = tmp_path / "a.pth.tar"
    torch.save({"w": torch.ones(4)}, source)
    assert clip(source, tmp_path / "out.tar", "--clip-norm", "1") == 2
    assert "`--output` must end in .pth.tar, as IN does; got" in capsys.readouterr().err


# --- what is passed over -------------------------------------------------------------------------


@pytest.fixture
def structured(tmp_path):
    path = tmp_path / "in.npz"
    table = np.asarray([(1.5, 2)], dtype=[("größe", "f4"), ("y", "i8")])
    np.savez(path, w=np.ones(4), table=table, ids=np.arange(2))
    return path


@pytest.mark.filterwarnings("ignore:Stored array in format 3.0:UserWarning")
def test_structured_array_is_named_and_copied(structured, capsys):
    output = structured.with_stem("out")
    assert clip(structured, output, "--clip-norm", "1") == 0
    with np.load(structured) as before, np.load(output) as after:
        assert after["w"].tolist() == [0.5] * 4
        assert after["table"].dtype == before["table"].dtype
        assert after["table"].tobytes() == before["table"].tobytes()
    err = capsys.readouterr().err
    assert "note: integers, booleans and text are no gradients, and are copied: ids.\n" in err
    assert "agclip does not clip these dtypes, and copies the arrays: table, structured (" in err


def exotic_safetensors(path, code, numbers, shape):
    header = {
        "w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
        "s": {"dtype": code, "shape": shape, "data_offsets": [16, 16 + len(numbers)]},
    }
    text = json.dumps(header).encode()
    content = np.ones(4, np.float32).tobytes() + numbers
    path.write_bytes(struct.pack("<Q", len(text)) + text + content)


EXOTIC = {
    "F8_E8M0": (b"\x7f\x80", [2], "float8_e8m0fnu"),
    "F4": (b"\x12\x34", [4], "F4"),
    "F6_E2M3": (b"\x12\x34\x56", [4], "F6_E2M3"),
}


@pytest.mark.parametrize("code", EXOTIC)
def test_one_exotic_tensor_does_not_keep_the_others_from_being_read(code, tmp_path, capsys):
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    numbers, shape, dtype = EXOTIC[code]
    source, output = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    exotic_safetensors(source, code, numbers, shape)
    assert clip(source, output, "--clip-norm", "1") == 0
    content = source.read_bytes()
    half = np.full(4, 0.5, np.float32).tobytes()
    assert output.read_bytes() == content[: -16 - len(numbers)] + half + numbers
    assert f"these dtypes, and copies the arrays: s, {dtype}.\n" in capsys.readouterr().err
    assert main(["norms", str(source)]) == 0
    out = capsys.readouterr().out
    assert f"1 without a norm, of dtypes that agclip does not clip: s, {dtype}.\n" in out


@pytest.mark.parametrize("code", ["F8_E4M3FNUZ", "F8_E5M2FNUZ"])
def test_float8_of_other_devices_is_clipped(code, tmp_path):
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    source, output = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    one = {"F8_E4M3FNUZ": 0x40, "F8_E5M2FNUZ": 0x40}[code]
    exotic_safetensors(source, code, bytes([one] * 12), [12])
    assert clip(source, output, "--clip-norm", "2") == 0
    # 16 ones have the norm 4, so that every one becomes a half.
    half = {"F8_E4M3FNUZ": 0x38, "F8_E5M2FNUZ": 0x3C}[code]
    assert output.read_bytes()[-12:] == bytes([half] * 12)


# --- tied tensors --------------------------------------------------------------------------------


def tied(torch):
    weight = torch.ones(4, 4)
    parameter = torch.nn.Parameter(torch.ones(2))
    return {
        "a": weight, "same": weight, "turned": weight.T, "part": weight[:2],
        "p": parameter, "q": [parameter], "wide": torch.ones(1).expand(3),
    }  # fmt: skip


def test_tied_tensors_stay_tied(torch, tmp_path):
    source, output = tmp_path / "in.pt", tmp_path / "out.pt"
    torch.save(tied(torch), source)
    assert clip(source, output, "--rule", "value", "--clip-value-max", "0.5") == 0
    got = torch.load(output, weights_only=True)
    assert got["a"] is got["same"]
    assert got["p"] is got["q"][0]
    assert isinstance(got["p"], torch.nn.Parameter)
    assert got["a"].data_ptr() == got["turned"].data_ptr() == got["part"].data_ptr()
    assert (got["turned"].stride(), got["wide"].stride()) == ((1, 4), (0,))
    assert [bool((t == 0.5).all()) for t in (got["a"], got["part"], got["p"], got["wide"])] == (
        [True] * 4
    )


# --- norms beyond float64 ------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 4])
def test_finite_numbers_with_a_norm_beyond_float64_are_clipped(size, tmp_path, capsys):
    source, output = tmp_path / "in.npz", tmp_path / "out.npz"
    np.savez(source, **{f"w{i}": np.full(4 // size, 1e308) for i in range(size)})
    assert clip(source, output, "--clip-norm", "1") == 0
    with np.load(output) as got:
        assert np.concatenate(list(got.values())).tolist() == [0.5] * 4
    assert "and their norm above the largest float64: inf stands for it." in capsys.readouterr().err


@pytest.mark.parametrize(("policy", "wanted"), [("zero", 0.0), ("skip", 3.0)])
def test_infinite_entry_beside_an_array_counts_for_it(policy, wanted, tmp_path):
    source, output = tmp_path / "in.npz", tmp_path / "out.npz"
    np.savez(source, a=np.asarray([3.0]), b=np.asarray([np.inf]))
    assert clip(source, output, "--clip-norm", "1", "--nonfinite", policy) == 0
    with np.load(output) as got:
        assert got["a"].tolist() == [wanted]


# --- what the command line says and takes --------------------------------------------------------


@pytest.fixture
def mixed(tmp_path):
    rng = np.random.default_rng(0)
    grads = {
        "w": rng.normal(size=(20, 10)).astype(np.float32),
        "h": rng.normal(size=7).astype(np.float16),
        "d": rng.normal(size=(3, 3)),
    }
    np.savez(tmp_path / "in.npz", **grads)
    return tmp_path / "in.npz", grads


STRICT = {
    "global_norm": lambda g: agclip.clip_by_global_norm(g, 1.0, strict=True)[0],
    "norm": lambda g: agclip.clip_by_norm(g, 1.0, strict=True),
    "average_norm": lambda g: agclip.clip_by_average_norm(g, 1.0, strict=True),
}


@pytest.mark.parametrize("rule", STRICT)
def test_strict_is_that_of_the_functions(rule, mixed):
    source, grads = mixed
    output, twice = source.with_stem("out"), source.with_stem("twice")
    options = ["--rule", rule, "--clip-norm", "1", "--strict"]
    assert clip(source, output, *options) == 0
    with np.load(output) as got:
        assert {k: v.tobytes() for k, v in got.items()} == (
            {k: v.tobytes() for k, v in STRICT[rule](grads).items()}
        )
    assert clip(output, twice, *options) == 0
    assert twice.read_bytes() == output.read_bytes()


def test_one_array_is_one_array(tmp_path, capsys):
    source, output = tmp_path / "in.npy", tmp_path / "out.npy"
    np.save(source, np.asarray([3.0, 4.0]))
    assert clip(source, output, "--clip-norm", "1") == 0
    assert capsys.readouterr().out == (
        f"{source}: 1 array, norm 5\n{output}: 1 clipped by global_norm, norm 1\n"
    )


# --- rules in files ------------------------------------------------------------------------------

GROUPS = """
[clip]
rule = "per_group"
[clip.groups]
"*.bias" = "off"
"head.*" = { rule = "value", clip_value_max = 1.0 }
"*" = [{ rule = "value", clip_value_min = -8.0 }, { rule = "global_norm", clip_norm = 1.0 }]
"""


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "in.npz"
    arrays = {"layers.0.weight": [3.0, 4.0], "layers.0.bias": [9.0], "head.weight": [2.0, -2.0]}
    np.savez(path, **{name: np.asarray(array) for name, array in arrays.items()})
    return path


def by_config(model, text, *arguments):
    config = model.with_name("agclip.toml")
    config.write_text(text)
    return clip(model, model.with_stem("out"), "--config", str(config), *arguments)


def test_groups_of_a_file(model):
    assert by_config(model, GROUPS) == 0
    with np.load(model.with_stem("out")) as got:
        assert {name: array.tolist() for name, array in got.items()} == {
            "layers.0.weight": [3 * (1 / 5), 4 * (1 / 5)],
            "layers.0.bias": [9.0],
            "head.weight": [1.0, -2.0],
        }


@pytest.mark.parametrize(
    ("key", "wanted"), [("clip_value_min", [2.5, 2.5]), ("clip_value_max", [2.0, -2.0])]
)
def test_one_bound_is_enough(key, wanted):
    clipper = agclip.Clipper.from_config({"rule": "value", key: 2.5})
    assert clipper(np.asarray([2.0, -2.0]))[0].tolist() == wanted


def test_rule_with_memory_is_told_of(model, capsys):
    assert by_config(model, '[clip]\nrule = "autoclip"\n') == 0
    err = capsys.readouterr().err
    assert "a file is a single step, the first one for a rule with memory: AutoClip." in err
