"""A copy of agclip without the metadata of its distribution finds its own adapters.

So it is on `PYTHONPATH`, and in an application that has been frozen.
"""

import json
import os
import subprocess
import sys
import sysconfig
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import agclip
import agclip_backends
import arrays
from agclip._backends import entry_points
from thinned import thinned

ROOT = Path(__file__).parents[2]
TABLES = {
    "agclip.backends": agclip_backends.BACKENDS,
    "agclip.communicators": agclip_backends.COMMUNICATORS,
    "agclip.containers": agclip_backends.CONTAINERS,
}


@pytest.fixture
def no_metadata(monkeypatch):
    """The registry of a program in which no distribution has metadata."""
    monkeypatch.setattr(entry_points, "entry_points", lambda **_: ())
    entry_points.forget()
    yield
    monkeypatch.undo()
    entry_points.forget()


@pytest.fixture(scope="module")
def project():
    file = ROOT / "pyproject.toml"
    if not file.exists():
        pytest.skip("the package is tested without its pyproject.toml")
    return tomllib.loads(file.read_text(encoding="utf-8"))["project"]


@pytest.mark.parametrize("group", TABLES)
def test_the_tables_are_what_the_distribution_advertises(project, group):
    assert TABLES[group] == project["entry-points"][group]


def test_the_extras_are_those_of_the_distribution(project):
    wanted = {
        name: tuple(
            extra
            for extra in project["optional-dependencies"]
            if extra == name or extra.startswith(f"{name}-")
        )
        for name in agclip_backends.BACKENDS
    }
    found = {name: agclip_backends.EXTRAS.get(name, (name,)) for name in agclip_backends.BACKENDS}
    assert found == wanted


@pytest.mark.usefixtures("no_metadata")
@pytest.mark.parametrize(
    "name", thinned(arrays.LIBRARIES, lambda name: name not in ("jax", "tensorflow"))
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_every_library_is_clipped_by_its_own_adapter(name):
    lib = arrays.library(name)
    known = agclip.get_backend(name)
    assert known.name == name
    clipped = agclip.clip_by_norm(lib.array([3.0, 4.0]), 1.0)
    assert lib.entries(clipped).tolist() == pytest.approx([0.6, 0.8])


@pytest.mark.usefixtures("no_metadata")
def test_a_backend_is_ours_and_what_brings_its_library_is_named(monkeypatch):
    sources = {
        entry.name: entry_points.source(entry)
        for entry in entry_points.advertised("agclip.backends").values()
    }
    assert sources == dict.fromkeys(agclip_backends.BACKENDS, "agclip")
    monkeypatch.setattr(entry_points, "installed", lambda _: False)
    with pytest.raises(ModuleNotFoundError, match=r'Run: pip install "agclip\[dask\]"'):
        agclip.get_backend("dask")
    with pytest.raises(ModuleNotFoundError, match=r'"agclip\[cupy-cuda12x\]" or "agclip\[cupy-'):
        agclip.get_backend("cupy")


def test_another_distribution_with_one_of_our_names_is_the_same_error(tmp_path, monkeypatch):
    with arrays.registry(tmp_path) as lent:
        lent.install("agclip-other", {"dask": "other:backend"}, {"other": ""})
        ours = metadata.entry_points(group="agclip.backends")
        kept = [entry for entry in ours if entry.value not in agclip_backends.BACKENDS.values()]
        monkeypatch.setattr(entry_points, "entry_points", lambda **_: kept)
        with pytest.raises(ImportError, match=r"'dask'.* got agclip-other .* and agclip "):
            entry_points.advertised("agclip.backends")


PROGRAM = """
import json
from importlib import metadata
import numpy as np
import agclip
import dask.array as da
found = agclip.clip_by_norm([da.ones(4), da.ones(9)], 1.0)
text = agclip.clip_by_norm(np.asarray([3.0, 4.0]), 1.0).tolist()
print(json.dumps([
    [entry.value for entry in metadata.entry_points(group="agclip.backends")],
    agclip.get_backend("dask").acc_dtype is not agclip.Backend(name="x", xp=np).acc_dtype,
    text,
    found[0].compute().tolist(),
]))
"""


def test_a_program_without_metadata_has_the_adapters(tmp_path):
    pytest.importorskip("dask.array", reason="Dask is not installed")
    for place in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(place).iterdir():
            if "agclip" not in entry.name.lower():
                (tmp_path / entry.name).symlink_to(entry)
    packages = [str(Path(module.__file__).parents[1]) for module in (agclip, agclip_backends)]
    path = os.pathsep.join([*packages, str(tmp_path)])
    # Without `site`, which would bring back what is installed.
    done = subprocess.run(
        [sys.executable, "-S", "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    advertised, own, clipped, lazy = json.loads(done.stdout)
    assert (advertised, own, clipped, lazy) == ([], True, [0.6000000000000001, 0.8], [0.5] * 4)
