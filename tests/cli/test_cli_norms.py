"""`agclip norms`: the numbers, the table and the JSON."""

import json
import math

import numpy as np
import pytest

from agclip.cli import main
from agclip.cli.files import measure


@pytest.fixture
def grads(tmp_path):
    path = tmp_path / "grads.npz"
    np.savez(path, w=np.full((2, 2), 1.5, np.float32), b=np.asarray([4.0]), ids=np.arange(3))
    return path


@pytest.fixture
def spoilt(tmp_path):
    path = tmp_path / "grads.npz"
    np.savez(path, a=np.asarray([1.0, np.nan, np.inf, -np.inf]), b=np.asarray([3.0, 4.0]))
    return path


def document(capsys, *arguments):
    assert main(["norms", "--json", *map(str, arguments)]) == 0
    return json.loads(capsys.readouterr().out)


def test_table(grads, capsys):
    assert main(["norms", str(grads)]) == 0
    captured = capsys.readouterr()
    rows = [line.split() for line in captured.out.splitlines()]
    assert rows[:5] == [
        ["array", "dtype", "shape", "norm", "share", "NaN", "inf"],
        ["w", "float32", "2×2", "3", "36.00", "%", "0", "0"],
        ["b", "float64", "1", "4", "64.00", "%", "0", "0"],
        ["ids", "int64", "3", "–", "–", "–", "–"],
        ["all", "5", "0", "0"],
    ]
    assert "norm: l2, in float64; share: of the squared norm." in captured.out
    assert "1 without a norm: integers, booleans or text." in captured.out
    assert captured.err == ""


def test_json(grads, capsys):
    found = document(capsys, grads)
    assert (found["norm"], found["nan"], found["inf"], found["ord"]) == (5.0, 0, 0, 2.0)
    assert found["arrays"][0] == {
        "name": "w", "dtype": "float32", "shape": [2, 2], "norm": 3.0, "share": 0.36,
        "nan": 0, "inf": 0,
    }  # fmt: skip
    assert found["arrays"][2]["norm"] is None


@pytest.mark.parametrize(("order", "norm"), [("1", 10.0), ("inf", 4.0), ("3", 77.5 ** (1 / 3))])
def test_other_orders(order, norm, grads, capsys):
    assert document(capsys, grads, "--ord", order)["norm"] == pytest.approx(norm, rel=1e-12)


def test_what_is_not_finite_is_counted(spoilt, capsys):
    found = document(capsys, spoilt)
    assert (found["norm"], found["nan"], found["inf"]) == (None, 1, 2)
    assert [row["nan"] for row in found["arrays"]] == [1, 0]
    assert [row["share"] for row in found["arrays"]] == [None, None]


def test_table_of_what_is_not_finite(spoilt, capsys):
    assert main(["norms", str(spoilt)]) == 0
    out = capsys.readouterr().out
    assert "NaN or infinities: the norm of all is not finite, and nobody has a share." in out


def test_wrong_order(grads, capsys):
    assert main(["norms", str(grads), "--ord", "0"]) == 2
    assert capsys.readouterr().err == (
        "agclip norms: error: `--ord` must be a number > 0, such as 1, 2 or inf; got '0'.\n"
    )


@pytest.fixture(params=[1e-200, 1.0, 1e200])
def size(request):
    return request.param


@pytest.fixture(params=[2.0, 1.0, 3.0, math.inf])
def order(request):
    return request.param


def test_norm_in_pieces_is_the_norm_at_any_size(size, order, monkeypatch):
    monkeypatch.setattr(measure, "PIECE", 7)
    values = np.random.default_rng(0).normal(size=50)
    wanted = float(np.linalg.norm(values, order)) * size
    assert measure.measure(values * size, order).norm == pytest.approx(wanted, rel=1e-12)


def test_infinity_beside_nan_does_not_hide_it():
    parts = [measure.Measured(math.inf, 0, 1), measure.Measured(math.nan, 1, 0)]
    assert math.isnan(measure.combined(parts).norm)
