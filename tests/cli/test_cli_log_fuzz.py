"""Malformed logs: one clear line and status 2, whatever is wrong with them."""

import json
import random

import pytest
from test_cli_log_events import event, record, simple

from agclip.cli import main
from agclip.cli.logs.readers import LogError, read_log

ROWS = [(step, norm) for step, norm in enumerate((1.5, 4.0, 2.25, float("nan"), 3.0), start=1)]
DICTS = [{"step": step, "loss": 0.5, "grad_norm": norm} for step, norm in ROWS]
SEEDS = {
    "document": json.dumps({"epoch": 1, "log_history": DICTS}, indent=1).encode(),
    "column-wise": json.dumps({"step": [1, 2, 3], "grad_norm": [1.5, 2.5, 3.5]}).encode(),
    "JSON lines": "\n".join(map(json.dumps, DICTS)).encode(),
    "CSV": b"step,loss,grad_norm\n" + b"".join(b"%d,0.5,%.2f\n" % row for row in ROWS),
    "text": b"".join(
        b" iteration %d/ 9 | lm loss: 1.2E+00 | grad norm: %.3f |\n" % r for r in ROWS
    ),
    "dicts": "".join(f"{row}\n" for row in DICTS).encode(),
    "events": record(b"\x09" + b"\0" * 8)
    + b"".join(event(step, "grad_norm", simple(norm)) for step, norm in ROWS),
}
CRAFTED = {
    "deep lists": b"[" * 200_000,
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "deep objects that are cut off": b'{"a":' * 100_000,
    "a deep line": b'{"grad_norm": ' + b"[" * 100_000 + b"\n" + b'{"x": 1}\n',
    "braces": b"{" * 300_000,
    "quotes": b'"' * 300_000,
    "an endless word": b"grad_norm" * 100_000,
    "endless spaces": b"grad_norm: " + b" " * 300_000 + b"x\n",
    "an endless key": b"norm " + b"a.b/" * 100_000 + b":\n",
    "total after total": b"total " * 100_000 + b"norm\n",
    "a number of 5000 digits": b'{"grad_norm": ' + b"9" * 5000 + b"}",
    "surrogates": b'{"grad_norm\\ud800": "\\udfff", "max_grad_norm\\ud800": 1}\n',
    "NUL bytes": b"step,grad_norm\n" + b"\0" * 5000,
    "a million commas": b"," * 1_000_000,
    "half a pair of surrogates": b"\xff\xfe" + b"\x00\xd8" * 100,
    "an endless field": b'step,grad_norm\n"' + b"1" * 300_000 + b"\n",
    "1e400": b'{"grad_norm": 1e400}',
    "an event of no length": record(b""),
    "an endless varint": record(b"\xff" * 100),
}


@pytest.fixture(params=CRAFTED)
def crafted(request, tmp_path):
    path = tmp_path / "log"
    path.write_bytes(CRAFTED[request.param])
    return path


def test_crafted_log_is_one_clear_line(crafted, capsys):
    assert main(["suggest", str(crafted)]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(
        "agclip suggest: error: `LOG` must be a log with gradient norms;"
    )
    assert captured.err.count("\n") == 1
    assert len(captured.err) < 2000
    assert captured.out == ""


def mutated(data, rng):
    """Return data with a few bytes changed, taken out, doubled or put in, or cut off."""
    data = bytearray(data)
    for _ in range(rng.randrange(1, 5)):
        place = rng.randrange(len(data))
        size = rng.randrange(1, 20)
        kind = rng.randrange(5)
        if kind == 0:
            data[place] = rng.randrange(256)
        elif kind == 1:
            del data[place : place + size]
        elif kind == 2:
            data[place:place] = data[place : place + size]
        elif kind == 3:
            data[place:place] = rng.choice([b"{", b"]", b'"', b"\n", b"-", b"1e999", b"\0", b","])
        else:
            del data[max(place, 1) :]
        data = data or bytearray(b"\n")
    return bytes(data)


@pytest.fixture(params=SEEDS)
def seed(request):
    return request.param


@pytest.mark.parametrize("part", range(4))
def test_mutated_log_is_read_or_refused(seed, part, tmp_path):
    rng = random.Random(f"{seed} {part}")
    path = tmp_path / "log"
    outcomes = {True: 0, False: 0}
    for _ in range(60):
        path.write_bytes(mutated(SEEDS[seed], rng))
        try:
            history = read_log(path, None)
        except LogError:
            outcomes[False] += 1
        else:
            assert history.norms
            assert len(history.steps) == len(history.norms)
            assert all(0 <= norm < float("inf") for norm in history.norms)
            outcomes[True] += 1
    # Columns in one line are lost with any bracket; of rows some are left.
    assert sum(outcomes.values()) == 60
    assert outcomes[True] > (-1 if seed == "column-wise" else 10)
