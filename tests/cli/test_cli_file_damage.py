"""Malformed files: one clear line, exit status 2, and neither time nor memory."""

import io
import random
import struct
import warnings
import zipfile

import numpy as np
import pytest

from agclip.cli import main
from agclip.cli.files.readers import FileError, open_file

TOKENS = (
    b"\xff\xff\xff\xff", b"\xff" * 8, b"\0" * 4, b"|S0", b"|O8", b"(1000000000000,)", b"-1", b"{",
    b"}", b"'", b"9" * 20, b"\x7f\xff\xff\xff", b"M8[ns]", b"<f3", b"True", b"\x80\x05", b"q\xff",
    b"r\xff\xff\xff\x7f", b"X\xff\xff\xff\x7f", b"1e999", b"null",
)  # fmt: skip


def npy_bytes(descr, shape, numbers=b"", version=(1, 0)):
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode("latin1")
    length = struct.pack("<H" if version == (1, 0) else "<I", len(header))
    return b"\x93NUMPY" + bytes(version) + length + header + numbers


def npz_bytes(content, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("w.npy", content)
    return file.getvalue()


def safetensors_bytes(header, numbers=b""):
    return struct.pack("<Q", len(header)) + header + numbers


HEADERS = {
    "no shape": npy_bytes("'<f4'", "7"),
    "negative": npy_bytes("'<f4'", "(-1,)"),
    "more than there is": npy_bytes("'<f4'", "(10000000000000,)", bytes(8)),
    "one entry more than there is": npy_bytes("'<f4'", "(3,)", bytes(8)),
    "without width and without end": npy_bytes("'|S0'", "(1000000000000000,)"),
    "wide text": npy_bytes("'<U500000000'", "(5,)", bytes(8)),
    "no dtype": npy_bytes("'<f3'", "(2,)", bytes(8)),
    "odd escape": npy_bytes("'<f4\\d'", "(2,)", bytes(8)),
    "deep": npy_bytes("'<f4'", "(" * 3000 + ")" * 3000),
    "objects": npy_bytes("'|O'", "(1,)", b"cos\nsystem\n(S'true'\ntR."),
    "subarray": npy_bytes("('<f4', (2,))", "(1,)", bytes(8)),
    "another version": npy_bytes("'<f4'", "(2,)", bytes(8), (9, 0)),
    "long header": b"\x93NUMPY\x02\0\xff\xff\xff\x7f" + b" " * 100,
}


def judged(tmp_path, suffix, content):
    """Write a file and have it measured; return the status and the lines that it takes to say."""
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(content)
    return main(["norms", str(path)])


@pytest.fixture(params=[".npy", ".npz", "compressed .npz"])
def wrapped(request):
    """How a `.npy` file is wrapped, and the suffix of the whole."""
    return {
        ".npy": (bytes, ".npy"),
        ".npz": (npz_bytes, ".npz"),
        "compressed .npz": (lambda content: npz_bytes(content, zipfile.ZIP_DEFLATED), ".npz"),
    }[request.param]


@pytest.mark.parametrize("header", HEADERS)
def test_header_that_makes_no_sense_is_one_line(header, wrapped, tmp_path, capsys):
    wrap, suffix = wrapped
    assert judged(tmp_path, suffix, wrap(HEADERS[header])) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"agclip norms: error: `FILE` must be a readable {suffix} file; got ")
    assert err.count("\n") == 1
    assert len(err) < 1000


SAFETENSORS = {
    "rank": b'{"w":{"dtype":"F32","shape":[' + b"1," * 99 + b'1],"data_offsets":[0,4]}}',
    "wide and empty": (
        b'{"w":{"dtype":"F32","shape":[0,9223372036854775807],"data_offsets":[0,0]},'
        b'"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    ),
    "deep": b"[" * 100_000,
    "overlap": (
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        b'"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    ),
    "cut off": b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
}


@pytest.mark.parametrize("header", SAFETENSORS)
def test_header_of_safetensors_that_makes_no_sense_is_one_line(header, tmp_path, capsys):
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    content = safetensors_bytes(SAFETENSORS[header], bytes(4))
    assert judged(tmp_path, ".safetensors", content) == 2
    assert capsys.readouterr().err.count("\n") == 1


# --- crafted .pt ---------------------------------------------------------------------------------


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="torch is not installed")


def doubled(inner, times=40):
    for _ in range(times):
        inner = [inner, inner]
    return inner


def around(torch):
    tree = [torch.ones(2)]
    tree.append(tree)
    return tree


CRAFTED = {
    "expanded": (
        lambda torch: torch.as_strided(torch.ones(1), (10**13,), (0,)),
        "its tensors claim 40000000000000 bytes, and the file holds ",
    ),
    "held twice, forty times over": (lambda torch: doubled(torch.ones(2)), "tensors or more"),
    "holds itself": (around, "it is nested deeper than 100 levels, or holds itself."),
    "meta": (
        lambda torch: {"w": torch.ones(3), "m": torch.ones(3, device="meta")},
        "the tensor 'm' is on the device meta, and comes without its numbers.",
    ),
}


@pytest.mark.parametrize("kind", CRAFTED)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_crafted_pt_file_is_one_line(kind, zipped, torch, tmp_path, capsys):
    make, words = CRAFTED[kind]
    path = tmp_path / "bad.pt"
    torch.save(make(torch), path, _use_new_zipfile_serialization=zipped)
    assert main(["norms", str(path)]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


def test_containers_without_tensors_take_no_time(torch, tmp_path):
    path = tmp_path / "grads.pt"
    torch.save({"w": torch.ones(4), "log": doubled([])}, path)
    assert main(["clip", str(path), "-o", str(tmp_path / "out.pt"), "--clip-norm", "1"]) == 0
    assert torch.load(tmp_path / "out.pt", weights_only=True)["w"].tolist() == [0.5] * 4


@pytest.mark.parametrize(
    ("name", "shown"), [("a\nb", r"a\nb"), ("\x1b[31m", r"\x1b[31m"), ("\udc80", r"\udc80")]
)
def test_names_break_no_line(name, shown, torch, tmp_path, capsys):
    path = tmp_path / "grads.pt"
    torch.save({name: torch.ones(1), "ids": torch.ones(1).int()}, path)
    assert main(["norms", str(path)]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[0] == shown


# --- mutations -----------------------------------------------------------------------------------


def write_npy(path):
    np.save(path, np.arange(6, dtype=np.float32).reshape(2, 3))


def write_npz(path):
    np.savez(path, w=np.ones((2, 3), np.float32), ids=np.arange(3), s=np.asarray(["a", "bc"]))


def write_safetensors(path):
    save = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    save.save_file({"w": np.ones((2, 3), np.float32), "i": np.arange(2)}, path)


def write_pt(path, *, zipped=True):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    t = torch.arange(6.0)
    tree = {"m": {"w": t.reshape(2, 3), "b": t[:2].bfloat16()}, "l": [t, 3, None, "x"]}
    torch.save(tree, path, _use_new_zipfile_serialization=zipped)


def write_legacy_pt(path):
    write_pt(path, zipped=False)


def mutated(rng, content):
    """Return the content with one to eight places flipped, cut out, put in or written over."""
    new = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 3, 8])):
        place, token = rng.randrange(len(new) + 1), rng.choice(TOKENS)
        match rng.randrange(5):
            case 0:
                new[place : place + 1] = bytes([rng.randrange(256)])
            case 1:
                del new[place : place + rng.choice([1, 2, 4, 16, 100])]
            case 2:
                new[place:place] = token
            case 3:
                new[place : place + len(token)] = token
            case 4:
                new[place:place] = new[: rng.choice([1, 4, 16, 64])]
    return bytes(new)


def within(member):
    """Mutate a member of an archive, whose directory and checksums then are right."""

    def mutate(rng, content):
        file = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w") as new:
            for name in old.namelist():
                part = old.read(name)
                new.writestr(name, mutated(rng, part) if name.endswith(member) else part)
        return file.getvalue()

    return mutate


FORMATS = {
    "npy": (write_npy, ".npy", mutated),
    "npz": (write_npz, ".npz", mutated),
    "npz, a member": (write_npz, ".npz", within("w.npy")),
    "safetensors": (write_safetensors, ".safetensors", mutated),
    "pt": (write_pt, ".pt", mutated),
    "pt, its pickle": (write_pt, ".pt", within("data.pkl")),
    "pt, legacy": (write_legacy_pt, ".pt", mutated),
}


@pytest.mark.parametrize("kind", FORMATS)
def test_mutated_file_is_read_or_refused(kind, tmp_path):
    write, suffix, mutate = FORMATS[kind]
    path = tmp_path / f"grads{suffix}"
    write(path)
    content, rng = path.read_bytes(), random.Random(kind)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(200):
        path.write_bytes(mutate(rng, content))
        outcomes[outcome(path)] += 1
    # Not vacuous: most mutations are found out, and nothing but a refusal came of them.
    assert outcomes["refused"] > 50
    assert sum(outcomes.values()) == 200


def outcome(path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            with open_file(path) as source:
                for place, leaf in enumerate(source.leaves):
                    assert source.read(place).shape == leaf.shape
        except FileError as error:
            return "refused" if len(str(error).splitlines()) == 1 else "refused in many lines"
    return "read"
