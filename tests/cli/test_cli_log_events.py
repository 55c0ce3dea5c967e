"""Event files of TensorBoard, read without TensorBoard and without TensorFlow."""

import json
import struct
import subprocess
import sys

import pytest

from agclip.cli import main
from agclip.cli.logs.readers import LogError, read_log
from agclip.cli.logs.readers._events import _masked_crc

FIRST = bytes.fromhex("1800000000000000a37f4b22092a5cafc33a9dd8411a0d627261696e2e4576656e743a32")
"""The length, its checksum and the data of the record that begins each event file."""


def varint(number):
    parts = []
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def record(data):
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", _masked_crc(length)) + data + b"\0\0\0\0"


def simple(number):
    return b"\x15" + struct.pack("<f", number)


def tensor(dtype, code, number):
    """The scalar of TensorFlow 2, as its kernel for summaries writes it."""
    return field(8, bytes([8, dtype]) + field(2, b"") + field(4, struct.pack(code, number)))


def packed(number):
    """The scalar of TensorFlow 2, as its functions for eager tensors write it."""
    return field(8, b"\x08\x01" + field(2, b"") + field(5, struct.pack("<f", number)))


def event(step, tag, value):
    summary = field(1, field(1, tag.encode()) + value)
    return record(b"\x09" + struct.pack("<d", 1e9) + b"\x10" + varint(step) + field(5, summary))


SCALARS = {
    "simple_value": simple,
    "float_val": packed,
    "float32 content": lambda number: tensor(1, "<f", number),
    "float64 content": lambda number: tensor(2, "<d", number),
    "float16 content": lambda number: tensor(19, "<e", number),
}


@pytest.fixture(params=SCALARS)
def scalar(request):
    return SCALARS[request.param]


@pytest.fixture
def events(tmp_path):
    def write(*records, name="events.out.tfevents.1.host"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(record(b"\x09" + struct.pack("<d", 1e9)) + b"".join(records))
        return path

    return write


def test_checksum_of_a_file_that_tensorboard_wrote(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(FIRST + b"\0\0\0\0" + event(300, "grad_norm", simple(2.5)))
    history = read_log(path, None)
    assert (history.norms, history.steps) == ((2.5,), (300,))


def test_each_way_to_write_a_scalar(scalar, events):
    rows = [event(s, "train/grad_norm", scalar(n)) for s, n in ((0, 1.5), (127, 4.0), (128, 2.25))]
    history = read_log(events(*rows, event(5, "loss", simple(1.0))), None)
    assert (history.norms, history.steps) == ((1.5, 4.0, 2.25), (0, 127, 128))
    assert (history.column, history.format) == ("train/grad_norm", "event file of TensorBoard")


def test_content_decides_and_not_the_name(events):
    assert read_log(events(event(1, "grad_norm", simple(2.5)), name="x.csv"), None).norms == (2.5,)


def test_tensors_that_are_no_scalars_are_passed_over(events):
    vector = field(8, b"\x08\x01" + field(4, struct.pack("<2f", 1, 2)))
    text = field(8, b"\x08\x07" + field(8, b"words"))
    path = events(event(1, "a", vector), event(1, "b", text), event(2, "gnorm", simple(2.5)))
    assert read_log(path, None).norms == (2.5,)


@pytest.mark.parametrize("missing", [1, 5, 20, 45])
def test_cut_off_file_is_read_to_its_end(missing, events):
    path = events(event(1, "grad_norm", simple(1.5)), event(2, "grad_norm", simple(2.5)))
    path.write_bytes(path.read_bytes()[:-missing])
    history = read_log(path, None)
    assert (history.norms, history.unread, history.unread_at) == ((1.5,), 1, "event 3")


def test_length_that_cannot_be_is_damage(events):
    wrong = struct.pack("<QI", 1 << 60, 0)
    history = read_log(events(event(1, "grad_norm", simple(1.5)), wrong, b"x" * 99), None)
    assert (history.norms, history.unread) == ((1.5,), 1)


def test_folder_of_a_run_in_order(events, tmp_path):
    events(event(2, "grad_norm", simple(2.5)), name="run/events.out.tfevents.2")
    events(event(1, "grad_norm", simple(1.5)), name="run/events.out.tfevents.1")
    assert read_log(tmp_path, None).norms == (1.5, 2.5)


def test_folder_of_several_runs(events, tmp_path):
    events(name="a/events.out.tfevents.1")
    events(name="b/events.out.tfevents.1")
    with pytest.raises(LogError, match="name one of the runs in it: "):
        read_log(tmp_path, None)


def test_folder_with_another_log(tmp_path):
    (tmp_path / "trainer_state.json").write_text("{}")
    with pytest.raises(LogError, match=r"name the file: there is 'trainer_state\.json'"):
        read_log(tmp_path, None)


def test_neither_tensorboard_nor_tensorflow_is_imported(events):
    path = events(event(1, "grad_norm", simple(1.5)))
    code = (
        "import sys; from agclip.cli import main; main(['suggest', sys.argv[1], '--json']);"
        "print([m for m in sys.modules if m.startswith('tensor')], file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["norms"] == 1
    assert done.stderr == "[]\n"


def test_file_without_scalars(events, capsys):
    assert main(["suggest", str(events())]) == 2
    assert "it has no column 'grad_norm' but none; name it" in capsys.readouterr().err
