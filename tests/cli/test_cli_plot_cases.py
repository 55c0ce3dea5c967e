"""`agclip plot` on all kinds of norms: no warnings, gaps, marks, formats, overwriting."""

import math
import random
from pathlib import Path

import pytest

from agclip.cli import main
from agclip.cli.logs.points import PLOTTED, isolated, marks, series, stairs
from agclip.cli.logs.readers import History

NAN = math.nan
RNG = random.Random(0)
CASES = {
    "one": [2.5],
    "two": [1.0, 2.0],
    "five": [1.0, 4.0, 2.0, 3.0, 2.25],
    "zeros": [0.0] * 10,
    "some zeros": [0.0 if i % 3 else 1.0 + i for i in range(200)],
    "all of float64": [1e-300, 2.6e300, 1.0, NAN, 5.0, 1e10, NAN, 3.0],
    "subnormal": [5e-324, 1e-310],
    "the largest": [1.7e308, 1.79e308, 1.6e308],
    "NaN steps": [NAN if i % 4 == 0 else 1.0 + i % 7 for i in range(300)],
    "constant": [1.0] * 50,
    "long": [RNG.lognormvariate(0, 0.5) for _ in range(PLOTTED + 5)],
}


@pytest.fixture(params=CASES)
def norms(request):
    return CASES[request.param]


@pytest.fixture
def plot(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")

    def run(norms, name="norms.png", *options, column="grad_norm"):
        log = tmp_path / "cost$1$ 日本.csv"
        rows = "".join(f"{10 * i},{norm!r}\n" for i, norm in enumerate(norms))
        log.write_text(f"step,{column}\n{rows}", encoding="utf-8")
        return main(["plot", str(log), "-o", str(tmp_path / name), *options])

    return run


def test_pictures_are_drawn_without_a_warning(norms, plot, tmp_path, capsys, caplog):
    assert plot(norms) == 0
    assert (tmp_path / "norms.png").stat().st_size > 10_000
    assert capsys.readouterr().err == ""
    assert caplog.records == []


STARTS = {".png": b"\x89PNG\r\n", ".svg": b"<?xml", ".pdf": b"%PDF-1."}


@pytest.mark.parametrize("suffix", STARTS)
def test_formats_and_the_same_bytes_each_time(suffix, plot, tmp_path):
    assert plot([1.0, NAN, 3.0], f"a{suffix}") == 0
    assert plot([1.0, NAN, 3.0], f"b{suffix}") == 0
    first, second = ((tmp_path / f"{name}{suffix}").read_bytes() for name in "ab")
    assert first.startswith(STARTS[suffix])
    assert first == second


@pytest.mark.parametrize("column", ["grad_norm $x", "grad_norm ノルム", "grad_norm" + "x" * 500])
def test_names_that_are_hard_to_draw(column, plot):
    assert plot([1.0, 2.0], column=column) == 0


def test_picture_that_is_there_is_kept_unless_forced(plot, tmp_path, capsys):
    path = tmp_path / "norms.png"
    path.write_bytes(b"old")
    assert plot([1.0, 2.0]) == 2
    assert capsys.readouterr().err == (
        f"agclip plot: error: `--output` must be a new file; got {str(path)!r}. Name another, or "
        f"add --force.\n"
    )
    assert path.read_bytes() == b"old"
    assert plot([1.0, 2.0], "norms.png", "--force") == 0
    assert path.read_bytes().startswith(STARTS[".png"])


def test_svg_says_what_is_marked(plot, tmp_path):
    assert plot([1.0, NAN, 3.0, 0.0, 2.0], "norms.svg") == 0
    text = Path(tmp_path / "norms.svg").read_text(encoding="utf-8")
    assert "NaN or infinite: 1 step" in text
    assert "norm 0: 1 step" in text


def history(norms, gaps=()):
    steps = tuple(float(step) for step in range(len(norms)))
    return History("CSV", "grad_norm", None, steps, tuple(norms), tuple(gaps))


def test_line_breaks_where_a_norm_is_missing_or_zero():
    x, y = series(history([1.0, 0.0, 3.0], [(2, 1.5)]))
    assert x == [0.0, 1.0, 1.5, 2.0]
    assert [value if value == value else None for value in y] == [1.0, None, None, 3.0]


def test_points_between_gaps_stand_alone():
    assert isolated([0, 1, 2, 3, 4], [1.0, NAN, 2.0, NAN, NAN]) == ([0, 2], [1.0, 2.0])
    assert isolated([0, 1], [1.0, 2.0]) == ([], [])


def test_long_curves_keep_their_highest_and_lowest_points():
    norms = [1.0 + (i % 5) / 10 for i in range(10 * PLOTTED)]
    norms[777], norms[5555] = 99.0, 0.25
    x, y = series(history(norms))
    assert len(x) <= PLOTTED
    assert (max(y), x[y.index(99.0)]) == (99.0, 777.0)
    assert (min(y), x[y.index(0.25)]) == (0.25, 5555.0)


def test_many_marks_keep_the_highest():
    points = [(float(i), 1.0 + i % 3) for i in range(2 * PLOTTED)]
    points[123] = (123.0, 9.0)
    x, y = marks(points)
    assert len(x) <= PLOTTED
    assert (123.0, 9.0) in zip(x, y, strict=True)


def test_stairs_fall_from_all_to_none():
    assert stairs([1.0, 2.0, 2.0, 4.0]) == (
        [1.0, 1.0, 2.0, 2.0, 4.0],
        [100.0, 75.0, 50.0, 25.0, 0.0],
    )
