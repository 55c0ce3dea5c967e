"""The console examples in the documentation show what the program prints."""

import json
import math
import random
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from agclip.cli import main

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("command_line.md", "choose_a_threshold.md")
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def write_log(path):
    """A thousand norms that fall and then stay, with spikes, and one that is no number."""
    rng = random.Random(0)
    norms = []
    for step in range(1000):
        norm = rng.lognormvariate(0, 0.5) * (1 + 3 / (1 + step / 50))
        norms.append(norm * (12 if rng.random() < 0.01 else 1))
    norms[400] = math.nan
    entries = [{"step": step, "grad_norm": norm} for step, norm in enumerate(norms, start=1)]
    path.write_text(json.dumps({"log_history": entries}))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The files that the pages speak of."""
    monkeypatch.chdir(tmp_path)
    w, b = np.full((2, 2), 1.5, np.float32), np.asarray([4.0], np.float32)
    np.savez("grads.npz", w=w, b=b, ids=np.arange(3))
    np.savez("bad.npz", w=np.asarray([1.0, np.nan]))
    table = '[clip]\nrule = "global_norm"\nclip_norm = 1.0\n'
    Path("agclip.toml").write_text(f'nonfinite = "zero"\n\n{table}')
    write_log(Path("trainer_state.json"))
    return tmp_path


@pytest.fixture(params=PAGES)
def page(request):
    return "".join(BLOCK.findall((DOCS / request.param).read_text(encoding="utf-8")))


def said(capsys, line):
    main(shlex.split(line.removeprefix("$ agclip ")))
    captured = capsys.readouterr()
    return f"{line}\n{captured.out}{captured.err}"


@pytest.mark.usefixtures("folder")
def test_console_examples_are_what_is_printed(page, capsys):
    pytest.importorskip("matplotlib", reason="one of the examples draws a picture")
    lines = [line for line in page.splitlines() if line.startswith("$ ")]
    assert lines
    assert "".join(said(capsys, line) for line in lines) == page


def test_every_command_is_in_the_table(capsys):
    main(["--help"])
    commands = re.findall(r"^    (\w+)  ", capsys.readouterr().out, re.MULTILINE)
    text = (DOCS / "command_line.md").read_text(encoding="utf-8")
    assert commands
    assert [name for name in commands if f"| `agclip {name}" not in text] == []
