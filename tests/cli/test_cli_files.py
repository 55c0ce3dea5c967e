"""Files of arrays: what is read, what a copy keeps, and what is said of a bad one."""

import sys

import numpy as np
import pytest

from agclip.cli import main
from agclip.cli.files.readers import FileError, open_file

ml_dtypes = pytest.importorskip("ml_dtypes", reason="bfloat16 in NumPy needs ml_dtypes")
safetensors_numpy = pytest.importorskip(
    "safetensors.numpy", reason="safetensors is not installed"
)  # fmt: skip

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def named_arrays():
    """One of everything that a format has to keep."""
    rng = np.random.default_rng(0)
    return {
        "layers.0.weight": rng.normal(size=(3, 4)).astype(np.float32),
        "half": rng.normal(size=5).astype(np.float16),
        "scalar": np.float64(3.5),
        "empty": np.zeros((0, 2), dtype=np.float32),
        "ids": np.arange(4),
    }


def write_npz(path):
    np.savez_compressed(path, **named_arrays(), fortran=np.asfortranarray(np.eye(3)))


def write_npy(path):
    np.save(path, np.arange(6.0, dtype=">f4").reshape(2, 3))


def write_safetensors(path):
    arrays = {name: np.asarray(array) for name, array in named_arrays().items()}
    arrays["brain"] = np.asarray([1.5, -2.0, 0.25], dtype=BFLOAT16)
    safetensors_numpy.save_file(arrays, path, metadata={"format": "pt", "note": "für später"})


def write_pt(path):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    weight = torch.arange(6.0).reshape(2, 3)
    tree = {
        "step": 3,
        "model": torch.nn.Linear(2, 2).state_dict(),
        "list": [weight.T, weight.bfloat16(), None, "words"],
        "pair": (torch.nn.Parameter(weight), torch.ones(2, dtype=torch.float8_e4m3fn)),
    }
    torch.save(tree, path)


WRITERS = {
    ".npz": write_npz,
    ".npy": write_npy,
    ".safetensors": write_safetensors,
    ".pt": write_pt,
}


@pytest.fixture(params=WRITERS)
def file(request, tmp_path):
    path = tmp_path / f"grads{request.param}"
    WRITERS[request.param](path)
    return path


def contents(path):
    with open_file(path) as source:
        return {leaf.name: source.read(place) for place, leaf in enumerate(source.leaves)}


def write_copy(path, copy):
    with open_file(path) as source, copy.open("wb") as file:
        source.write(file, source.read)


# --- what is read ------------------------------------------------------------------------------


def test_leaves_say_what_is_read(file):
    with open_file(file) as source:
        arrays = [source.read(place) for place in range(len(source.leaves))]
        said = [(leaf.dtype, leaf.shape, leaf.size) for leaf in source.leaves]
    assert said == [(array.dtype.name, array.shape, array.size) for array in arrays]


def test_copy_has_the_same_numbers_names_and_dtypes(file, tmp_path):
    copy = tmp_path / f"copy{file.suffix}"
    write_copy(file, copy)
    before, after = contents(file), contents(copy)
    assert list(before) == list(after)
    assert [a.dtype for a in before.values()] == [a.dtype for a in after.values()]
    assert [a.tobytes() for a in before.values()] == [a.tobytes() for a in after.values()]


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".safetensors"])
def test_copy_is_the_same_byte_for_byte(suffix, tmp_path):
    path, copy = tmp_path / f"grads{suffix}", tmp_path / f"copy{suffix}"
    WRITERS[suffix](path)
    write_copy(path, copy)
    assert copy.read_bytes() == path.read_bytes()


def test_copy_of_a_pt_file_keeps_what_is_no_tensor(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    path, copy = tmp_path / "grads.pt", tmp_path / "copy.pt"
    write_pt(path)
    write_copy(path, copy)
    tree = torch.load(copy, weights_only=True)
    assert (tree["step"], tree["list"][2:]) == (3, [None, "words"])
    assert tree["model"]._metadata == {"": {"version": 1}}
    assert tree["list"][0].stride() == (1, 3)
    assert isinstance(tree["pair"], tuple)
    assert isinstance(tree["pair"][0], torch.nn.Parameter)


def test_bfloat16_of_safetensors_is_bfloat16(tmp_path):
    path = tmp_path / "grads.safetensors"
    write_safetensors(path)
    array = contents(path)["brain"]
    assert array.dtype == BFLOAT16
    assert array.tolist() == [1.5, -2.0, 0.25]


# --- bad files ---------------------------------------------------------------------------------


@pytest.fixture(params=[0, 0.02, 0.5, 0.99])
def cut_off(request, file):
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * request.param)])
    return file


def test_cut_off_file_is_refused(cut_off, capsys):
    assert main(["norms", str(cut_off)]) == 2
    err = capsys.readouterr().err
    assert err.startswith(
        f"agclip norms: error: `FILE` must be a readable {cut_off.suffix} file; "
        f"got {str(cut_off)!r}: "
    )
    assert err.count("\n") == 1


@pytest.mark.parametrize("suffix", WRITERS)
def test_text_in_a_file_of_arrays_is_refused(suffix, tmp_path, capsys):
    if suffix == ".pt":
        pytest.importorskip("torch", reason="torch is not installed")
    path = tmp_path / f"grads{suffix}"
    path.write_text("loss,grad_norm\n1,2\n" * 20)
    assert main(["norms", str(path)]) == 2
    assert f"`FILE` must be a readable {suffix} file; got" in capsys.readouterr().err


def test_damaged_member_of_a_zip_is_found_out(tmp_path, capsys):
    path = tmp_path / "grads.npz"
    np.savez(path, a=np.ones(1000))
    content = bytearray(path.read_bytes())
    content[4000] ^= 255
    path.write_bytes(content)
    assert main(["norms", str(path)]) == 2
    assert "'a.npy' in it is damaged (Bad CRC-32 for file 'a.npy')." in capsys.readouterr().err


def write_raw_bytes(path):
    np.savez(path, w=np.ones(2, dtype=BFLOAT16))


def write_objects(path):
    np.savez(path, w=np.asarray([{}], dtype=object))


def write_nothing(path):
    np.savez(path)


REFUSED = {
    "bfloat16": (
        write_raw_bytes,
        (
            "the array 'w' has the dtype |V2, bytes without a meaning: NumPy's files lose the name "
            "of bfloat16 and float8. Save such arrays as .safetensors."
        ),
    ),
    "objects": (
        write_objects,
        "the array 'w' holds Python objects, which can run code when they are read.",
    ),
    "nothing": (write_nothing, "it holds no arrays."),
}


@pytest.fixture(params=REFUSED)
def refused(request, tmp_path):
    write, message = REFUSED[request.param]
    path = tmp_path / "grads.npz"
    write(path)
    return path, message


def test_npz_that_cannot_be_told_is_refused(refused, capsys):
    path, message = refused
    assert main(["norms", str(path)]) == 2
    assert capsys.readouterr().err == (
        f"agclip norms: error: `FILE` must be a readable .npz file; got {str(path)!r}: {message}\n"
    )


def test_pt_file_that_could_run_code_is_refused(tmp_path, capsys):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    path = tmp_path / "grads.pt"
    torch.save({"f": np.savez}, path)
    assert main(["norms", str(path)]) == 2
    assert (
        "PyTorch does not read it with weights_only=True: it is damaged, or holds more than "
        "tensors, numbers, strings and containers, and so could run code."
    ) in capsys.readouterr().err


def test_sparse_tensor_is_refused(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    path = tmp_path / "grads.pt"
    torch.save({"w": torch.eye(2).to_sparse()}, path)
    with pytest.raises(FileError, match=r"'w' is of the layout torch.sparse_coo, and only dense"):
        open_file(path)


def test_two_arrays_of_one_name_are_refused(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    path = tmp_path / "grads.pt"
    torch.save({"a.b": torch.ones(1), "a": {"b": torch.ones(1)}}, path)
    with pytest.raises(FileError, match=r"it holds 2 arrays of the name 'a\.b'"):
        open_file(path)


@pytest.mark.parametrize(
    ("suffix", "module", "message"),
    [
        (".safetensors", "safetensors", 'pip install "agclip[safetensors]"'),
        (".pt", "torch", "PyTorch is needed to read it: pip install torch"),
    ],
)
def test_missing_library_is_named_with_the_pip_line(
    suffix, module, message, tmp_path, monkeypatch, capsys
):
    path = tmp_path / f"grads{suffix}"
    WRITERS[suffix](path)
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["norms", str(path)]) == 1
    assert message in capsys.readouterr().err


def test_missing_file(tmp_path, capsys):
    path = tmp_path / "none.npz"
    assert main(["norms", str(path)]) == 2
    assert capsys.readouterr().err == (
        f"agclip norms: error: `FILE` must be a file; got {str(path)!r}, where there is no file. "
        f"Check the path.\n"
    )


def test_folder_for_a_file(tmp_path, capsys):
    path = tmp_path / "folder.npz"
    path.mkdir()
    assert main(["norms", str(path)]) == 2
    assert "where there is a folder. Check the path." in capsys.readouterr().err


def test_unknown_format(tmp_path, capsys):
    path = tmp_path / "grads.h5"
    path.write_bytes(b"x")
    assert main(["norms", str(path)]) == 2
    assert capsys.readouterr().err == (
        "agclip norms: error: `FILE` must be a readable .npz, .npy, .safetensors, .pt, .pth, "
        f".pth.tar, .ckpt or .bin file; got {str(path)!r}: it is of none of the formats that are "
        "read.\n"
    )
