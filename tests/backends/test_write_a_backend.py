"""The page that shows a whole package for ndonnx, followed to the letter."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from agclip.testing import Library
from agclip.testing._report import fixed_checks, report_on

PAGE = Path(__file__).parents[2] / "docs" / "backends.md"
FILES = ("agclip_ndonnx.py", "pyproject.toml", "test_agclip_ndonnx.py")
REASON = "installed by `make test-all`"


def blocks(language):
    """Return the blocks of code of the page."""
    text = PAGE.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """Write the package for ndonnx as the page has it, as if pip had installed it."""
    for name in ("ndonnx", "onnxruntime"):
        pytest.importorskip(name, reason=REASON)
    folder = tmp_path_factory.mktemp("package")
    found = {block.splitlines()[0].removeprefix("# "): block for block in blocks("(?:py|toml)")}
    for name in FILES:
        (folder / name).write_text(found[name], encoding="utf-8")
    project = tomllib.loads(found["pyproject.toml"])["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    ((group, entries),) = project["entry-points"].items()
    lines = [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items()), ""]
    (info / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n",
        encoding="utf-8",
    )
    return folder


def run(folder, *arguments):
    paths = [str(folder), *filter(None, sys.path)]
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.whole
def test_the_suite_of_the_package_is_green(package):
    words = "zero or many or refused or idempotent"  # the whole takes ten minutes
    done = run(package, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", ".", "-k", words, ".")
    assert done.returncode == 0, done.stdout[-3000:]
    assert " failed" not in done.stdout


PROGRAM = """
import agclip, ndonnx, numpy as np, onnxruntime
x = ndonnx.argument(shape=(2,), dtype=ndonnx.float32)
clipped, norm = agclip.clip_by_global_norm([x], 1.0)
model = ndonnx.build({"x": x}, {"y": clipped[0], "norm": norm})
session = onnxruntime.InferenceSession(model.SerializeToString())
print(session.run(None, {"x": np.asarray([3, 4], np.float32)}))
grad = ndonnx.asarray([3.0, 4.0])
print(agclip.clip_by_norm(grad, 10.0) is grad)
print([row.source for row in agclip.backends(load=False) if row.name == "ndonnx"])
"""


@pytest.mark.whole
def test_the_package_is_found_by_its_entry_point_and_programs_are_written_down(package):
    done = run(package, "-c", PROGRAM)
    assert done.returncode == 0, done.stderr[-2000:]
    program, same, source = done.stdout.splitlines()
    assert re.search(r"0\.6.*0\.8.*5\.", program)
    assert same == "True"
    assert source == "['agclip-ndonnx']"


def test_a_dtype_that_a_library_lacks_cannot_be_refused():
    """A check whose occasion is such an array is left out: it was taken for a failure."""
    strict = pytest.importorskip("array_api_strict")

    class Namespace:
        def __getattr__(self, name):
            if name.startswith("complex"):
                raise AttributeError(name)
            return getattr(strict, name)

    library = Library("array_api_strict", xp=Namespace(), ignored_warnings=(RuntimeWarning,))
    checks = [
        check
        for check in fixed_checks()
        if check.name.startswith("refused [") and "complex" in check.name
    ]
    report = report_on(library, checks)
    assert report.of("failed") == []
    assert len(report.of("skipped")) >= 2
