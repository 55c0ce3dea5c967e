"""Logs of every kind that people have: what is taken of them, and what is left out."""

import io
import json
import math
from types import SimpleNamespace

import pytest

from agclip.cli import main
from agclip.cli.logs.readers import LogError, _source, read_log

RLLIB = {
    "info": {"learner": {"default_policy": {"learner_stats": {"var_gnorm": 9.0}}}},
    "config": {"max_grad_norm": 0.5, "grad_clip_by": "global_norm"},
}


def rllib(norm, iteration):
    row = json.loads(json.dumps({**RLLIB, "training_iteration": iteration}))
    row["info"]["learner"]["default_policy"]["learner_stats"]["grad_gnorm"] = norm
    return json.dumps(row)


FAIRSEQ = (
    '2021-03-08 12:31:36 | INFO | train_inner | {"epoch": 1, "num_updates": "%d", "gnorm": "%s"}'
)
MEGATRON = (
    " iteration %8d/  500000 | consumed samples: 768 | learning rate: 1.406E-07 | lm loss: 12.0 | "
    "loss scale: 1.0 | grad norm: %s | number of nan iterations:   0 |"
)
MMCV = '{"mode": "train", "epoch": 1, "iter": %d, "lr": 0.02, "loss": 1.2, "grad_norm": %s}'
TQDM = "  1%%|     | %d/1000 [00:05<08:20,  2it/s]\r{'loss': 2.3, 'grad_norm': %s, 'lr': 5e-05}"
TORCHTITAN = "[titan] INFO - \x1b[31mstep: %2d  \x1b[32mloss:  8.1  \x1b[34mgrad_norm: %s \x1b[0m"
SWIN = (
    "Train: [0/300][%d/1251]\teta 3:22:17 lr 0.000001\tloss 6.9 (6.9)\tgrad_norm %s (3.2)\tmem 9MB"
)
COLUMNS = {"step": [10, 20, 30], "grad_norm": [1.5, 4.0, 2.25], "name": "run"}

KINDS = {
    "mmcv .log.json": ('{"env_info": "x", "seed": 0}', MMCV, '{"mode": "val", "mAP": 0.3}'),
    "fairseq": ("loading", FAIRSEQ, "done"),
    "Megatron": ("setting up", MEGATRON, " [after] time (ms): 3"),
    "torchtitan": ("start", TORCHTITAN, ""),
    "key=value": ("start", "step=%d lr=3.00e-04 gnorm=%s", "step=3 val_loss=3.1"),
    "tensor(…)": ("", "step %d | grad_norm: tensor(%s, device='cuda:0')", ""),
    "strings": ("", "{'step': '%d', 'grad_norm': '%s'}", ""),
    "CSV": ("epoch,step,loss,grad_norm", "0,%d,0.5,%s", "1,40,0.5,"),
    "tabs": ("step\tgrad_norm", "%d\t%s", ""),
    "semicolons": ("step;grad_norm", "%d;%s", ""),
    "columns of text": ("step   grad_norm", "%d      %s", ""),
}  # fmt: skip


@pytest.fixture(params=KINDS)
def lines(request):
    head, row, tail = KINDS[request.param]
    rows = [row % pair for pair in ((10, "1.5"), (20, "4.0"), (30, "2.25"))]
    return "\n".join([head, *rows, tail, ""])


@pytest.fixture
def log(tmp_path):
    def write(text, name="anything.at.all"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_rows_under_any_name(lines, log):
    history = read_log(log(lines), None)
    assert (history.norms, history.steps) == ((1.5, 4.0, 2.25), (10, 20, 30))
    assert (history.nonfinite, history.wrong, history.unread) == (0, 0, 0)


@pytest.mark.parametrize("row", [TQDM, SWIN], ids=["Trainer's printed dicts", "Swin"])
def test_rows_without_steps_are_numbered(row, log):
    history = read_log(log("".join(row % pair + "\n" for pair in ((10, 1.5), (20, 4.0)))), None)
    assert (history.norms, history.steps, history.counter) == ((1.5, 4.0), (1, 2), None)


NESTED = [{"metrics": {"step": s, "grad_norm": n}} for s, n in ((10, 1.5), (20, 4.0), (30, 2.25))]
DOCUMENTS = {
    "column-wise": COLUMNS,
    "column-wise, nested": {"model": "m", "history": {"train": COLUMNS}},
    "rows, nested": {"run": [{"history": NESTED}]},
    "pandas, columns": {k: dict(enumerate(v)) for k, v in COLUMNS.items() if k != "name"},
    "pandas, split": {
        "columns": ["step", "grad_norm"],
        "index": [0, 1, 2],
        "data": [[10, 1.5], [20, 4.0], [30, 2.25]],
    },
    "a chart of TensorBoard": [[1e9, 10, 1.5], [1e9, 20, 4.0], [1e9, 30, 2.25]],
}


@pytest.fixture(params=DOCUMENTS)
def document(request):
    return DOCUMENTS[request.param]


@pytest.fixture(params=[None, 2], ids=["one line", "indented"])
def indent(request):
    return request.param


def test_json_documents(document, indent, log):
    history = read_log(log(json.dumps(document, indent=indent)), None)
    assert (history.norms, history.steps) == ((1.5, 4.0, 2.25), (10, 20, 30))


def test_result_json_of_rllib(log):
    text = "\n".join([rllib(40.0, 1), rllib(math.nan, 2), rllib(30.5, 3), ""])
    history = read_log(log(text, "result.json"), None)
    assert history.column == "info/learner/default_policy/learner_stats/grad_gnorm"
    assert (history.norms, history.steps) == ((40.0, 30.5), (1, 3))
    assert (history.gaps, history.counter) == (((1, 2.0),), "training_iteration")


@pytest.mark.parametrize("text", ["1.5\n4\n2.25\n", "[1.5, 4, 2.25]"], ids=["lines", "JSON"])
def test_numbers_without_a_name(text, log):
    history = read_log(log(text), None)
    assert (history.norms, history.column) == ((1.5, 4.0, 2.25), "value")


def test_csv_of_a_chart_of_tensorboard(log):
    history = read_log(log("Wall time,Step,Value\n1e9,5,1.5\n1e9,6,2.5\n"), None)
    assert (history.norms, history.steps, history.column) == ((1.5, 2.5), (5, 6), "Value")


def test_decimal_commas(log):
    assert read_log(log("step;grad_norm\n1;2,5\n2;3,25\n"), None).norms == (2.5, 3.25)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks(encoding, log):
    assert read_log(log("step,grad_norm\n1,2.5\n".encode(encoding)), None).norms == (2.5,)


def test_one_wrong_byte_refuses_nothing(log):
    assert read_log(log(b"note,grad_norm\nT\xe4st,2.5\nb,3.5\n"), None).norms == (2.5, 3.5)


# --- rows that are not right -------------------------------------------------------------------


def test_repeated_headers_are_no_rows(log):
    text = "step,grad_norm\n1,2.5\nstep,grad_norm\n2,3.5\nstep,loss,grad_norm\n3,0.1,4.5\n"
    history = read_log(log(text), None)
    assert (history.norms, history.steps, history.wrong) == ((2.5, 3.5, 4.5), (1, 2, 3), 0)


CUT = {
    "CSV": "step,grad_norm,loss\n1,2.5,1\n2,3.5,1\n3,4.",
    "CSV, last cell": "step,grad_norm\n1,2.5\n2,3.5\n3,4.",
    "JSON lines": '{"step": 1, "grad_norm": 2.5}\n{"step": 2, "grad_norm": 3.5}\n{"step": 3, "g',
    "dicts": "{'step': 1, 'grad_norm': 2.5}\n{'step': 2, 'grad_norm': 3.5}\n{'grad_norm': 4.",
    "document": '{"log_history": [{"step": 1, "grad_norm": 2.5}, {"step": 2, "grad_norm": 3.5}, {',
}  # fmt: skip


@pytest.fixture(params=CUT)
def cut(request):
    return CUT[request.param]


def test_cut_off_end_is_left_out_and_said(cut, log, capsys):
    path = log(cut)
    history = read_log(path, None)
    assert (history.norms, history.steps, history.unread) == ((2.5, 3.5), (1, 2), 1)
    assert main(["suggest", str(path)]) == 0
    assert "Left out, being cut off or damaged: 1; " in capsys.readouterr().out


def test_bad_cells_are_left_out_and_said(log, capsys):
    path = log("step,grad_norm\n1,2.5\n2,oops\n3,-7\n4,3.5\n5,4.5\n")
    assert read_log(path, None).steps == (1, 4, 5)
    assert main(["suggest", str(path)]) == 0
    assert "Left out, being no norms: 2; line 3 has 'oops'.\n" in capsys.readouterr().out


def test_minus_one_is_an_overflow(log, capsys):
    path = log("step,grad_norm\n1,2.5\n2,-1\n3,nan\n4,-1.0\n5,4.5\n")
    history = read_log(path, None)
    assert history.gaps == ((1, 2.0), (1, 3.0), (1, 4.0))
    assert main(["suggest", str(path)]) == 0
    said = "Left out, being NaN or infinite: 3, 2 of them logged as -1.\n"
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("number", ["1e400", "1" + "0" * 400, "Infinity"])
def test_numbers_beyond_float64_are_infinite(number, log):
    text = f'{{"grad_norm": 1.5}}\n{{"grad_norm": {number}}}\n'
    history = read_log(log(text), None)
    assert (history.norms, history.nonfinite) == ((1.5,), 1)


# --- which column, and which steps -------------------------------------------------------------

WINS = {
    "total": ("grad_2.0_norm/layer.weight,grad_2.0_norm_total", "grad_2.0_norm_total"),
    "global": ("train/gradients_a_norm,train/global_grad_norm", "train/global_grad_norm"),
    "grad_norm": ("global_grad_norm,grad_norm", "grad_norm"),
    "not a bound": ("max_grad_norm,train/grad_norm", "train/grad_norm"),
    "not after clipping": ("grad_norm_clipped,my/grad/norm", "my/grad/norm"),
    "before clipping": ("grad_norm_after_clip,grad_norm_before_clip", "grad_norm_before_clip"),
    "not the norm of the weights": ("param_grad_norm_ratio,gnorm", "gnorm"),
}


@pytest.fixture(params=WINS)
def names(request):
    return WINS[request.param]


def test_of_many_columns_one_wins_and_the_others_are_named(names, log, capsys):
    header, winner = names
    place = header.split(",").index(winner)
    path = log(f"step,{header}\n1,1.5,2.5\n2,1.5,2.5\n")
    history = read_log(path, None)
    other = header.split(",")[1 - place]
    assert (history.column, history.norms) == (winner, ((1.5, 2.5)[place],) * 2)
    assert history.others == (other,)
    assert main(["suggest", str(path)]) == 0
    assert f"Left out, being other norms: {other!r}; --column takes" in capsys.readouterr().out


def test_bounds_alone_are_not_taken(log):
    with pytest.raises(LogError, match="by its name it has no norms before clipping, but bounds"):
        read_log(log("step,max_grad_norm\n1,1.0\n"), None)


@pytest.mark.parametrize("name", ["iter", "num_updates", "training_iteration", "global_step"])
def test_names_of_steps(name, log):
    history = read_log(log(f"{name},grad_norm\n50,1.5\n100,2.5\n"), None)
    assert (history.steps, history.counter) == ((50, 100), name)


def test_steps_that_start_again_are_numbered(log, capsys):
    path = log("iter,grad_norm\n50,1\n100,2\n50,3\n100,4\n50,5\n")
    assert read_log(path, None).steps == (1, 2, 3, 4, 5)
    assert main(["suggest", str(path)]) == 0
    said = "Read as a table; the norms are numbered, as the steps in the log go back 2 times.\n"
    assert said in capsys.readouterr().out


# --- standard input, and what is no log --------------------------------------------------------


@pytest.fixture
def stdin(monkeypatch):
    def put(data):
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(data)))

    return put


def test_standard_input(stdin, capsys):
    stdin(b"".join(b"step: %d grad_norm: %d.5\n" % (i, i) for i in range(3)))
    assert main(["suggest", "-", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["log"], found["norms"], found["format"]) == ("-", 3, "text")
    assert (found["column"], found["step_column"]) == ("grad_norm", "step")


BINARY = {
    b"\x1f\x8b\x08": "it is packed with gzip; unpack it first, or pipe it in: gunzip -c LOG",
    b"\xfd7zXZ\0": "it is packed with xz; ",
    b"\x28\xb5\x2f\xfd": "it is packed with zstd; ",
    b"BZh9": "it is packed with bzip2; ",
    b"PK\x03\x04": "it is a ZIP archive, as .npz, .pt and .xlsx are, and no log",
    b"PAR1": "it is a Parquet table; write it as CSV first",
    b"SQLite format 3\0": "it is an SQLite database",
    b"\x89HDF\r\n": "it is an HDF5 file",
    b":W&B\xbe\xe1": "it is W&B's own record of a run; export the chart as CSV",
    b"\x93NUMPY\x01": "it is an array (.npy), and no log",
    b"version https://git-lfs.github.com/spec/v1\n": "it is a pointer of Git LFS",
    b"\x7fELF\0\0\0": "it is no text, and no event file of TensorBoard",
}


@pytest.fixture(params=BINARY)
def binary(request):
    return request.param, BINARY[request.param]


def test_what_is_no_log_is_called_what_it_is(binary, log, capsys):
    start, message = binary
    path = log(start + b"\0" * 50)
    assert main(["suggest", str(path)]) == 2
    text = f"`LOG` must be a log with gradient norms; got {str(path)!r}: {message}"
    assert text in capsys.readouterr().err


def test_endless_line_is_passed_over(log, monkeypatch):
    monkeypatch.setattr(_source, "LINE", 1000)
    text = "step: 1 grad_norm: 1.5\n" + "x" * 5000 + " grad_norm: 9\nstep: 2 grad_norm: 2.5\n"
    assert read_log(log(text), None).norms == (1.5, 2.5)
