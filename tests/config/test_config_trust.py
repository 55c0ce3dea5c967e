"""What a file of settings may have imported: nothing but what agclip or a distribution lists."""

import os
import re
import subprocess
import sys

import pytest

import agclip
import arrays

pytestmark = pytest.mark.usefixtures("project")

EVIL = "from pathlib import Path\nPath(__file__).with_suffix('.ran').touch()\n"
STANDARD = f"{EVIL}__array_namespace_info__ = None\n"
ADVICE = "A file can name no other library: set_config and AGCLIP_BACKEND can."


@pytest.fixture(autouse=True)
def evil(project, monkeypatch):
    """A module beside the program that must not be imported."""
    project.joinpath("evilmod.py").write_text(STANDARD)
    monkeypatch.syspath_prepend(str(project))
    yield project / "evilmod.ran"
    sys.modules.pop("evilmod", None)


PLACES = {
    "agclip.toml": "",
    "pyproject.toml": "[tool.agclip]\n",
    "../agclip.toml": "",
    "../home/agclip/config.toml": "",
    "named.toml": "",
}


@pytest.fixture(params=PLACES)
def place(request, project, monkeypatch):
    """A file that is found, or named by a variable, and the line its settings begin with."""
    if request.param == "../agclip.toml":
        project.joinpath(".git").rmdir()
    if request.param == "named.toml":
        monkeypatch.setenv("AGCLIP_CONFIG", str(project / request.param))
    path = project / request.param
    path.parent.mkdir(parents=True, exist_ok=True)
    return path, PLACES[request.param]


VALUES = ['"evilmod"', '["numpy", "evilmod"]', '"evilmod.inner"', '"__main__"']


@pytest.mark.parametrize("value", VALUES)
def test_a_file_has_no_module_imported(place, evil, value):
    path, header = place
    path.write_text(f"{header}backend = {value}\n")
    with pytest.raises(ValueError, match=r"^`backend` must be .*: (tool\.agclip\.)?backend\)\."):
        agclip.clip_by_norm([3.0, 4.0], 1.0)
    assert not evil.exists()


def test_the_error_says_who_may_name_it(project):
    path = project / "agclip.toml"
    path.write_text('backend = "evilmod"\n')
    text = (
        '`backend` must be "auto", or one or several of cubed, cupy, dask, jax, mlx, numpy, '
        "tensorflow, torch; "
        f"got 'evilmod' ({path}: backend). {ADVICE}"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        agclip.get_config()


def test_a_file_that_is_loaded_or_makes_a_clipper_is_trusted_no_more(project, evil):
    path = project / "mine.toml"
    path.write_text('backend = "evilmod"\n[clip]\nrule = "norm"\nclip_norm = 1.0\n')
    with pytest.raises(ValueError, match=re.escape(ADVICE)):
        agclip.load_config(path)
    with pytest.raises(ValueError, match=re.escape(ADVICE)):
        agclip.Clipper.from_config(path)
    assert not evil.exists()


def test_the_command_runs_nothing_that_a_folder_names(project, evil):
    project.joinpath("agclip.toml").write_text('backend = "evilmod"\n')
    environment = {key: value for key, value in os.environ.items() if key != "AGCLIP_CONFIG"}
    done = subprocess.run(
        [sys.executable, "-m", "agclip", "backends"],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, evil.exists()) == (2, False)
    assert done.stderr.startswith("agclip backends: error: `backend` must be")
    assert done.stderr.count("\n") == 1


@pytest.fixture
def registry(tmp_path):
    with arrays.registry(tmp_path) as lent:
        yield lent


def test_a_file_may_name_what_a_distribution_brings(project, registry):
    registry.install("agclip-toy", {"toylib": "toy:backend"}, {"toy": "1 / 0"})
    project.joinpath("agclip.toml").write_text('backend = ["toylib", "numpy"]\n')
    assert agclip.get_backend().name == "numpy"


def test_a_file_may_name_what_has_been_registered(project, registry):
    agclip.register_backend(agclip.Backend(name="abacus", xp=agclip.get_backend("numpy").xp))
    project.joinpath("agclip.toml").write_text('backend = "abacus"\n')
    assert agclip.get_backend().name == "abacus"
    assert registry.folder.is_dir()


def test_a_file_may_name_a_library_that_agclip_lists(project):
    strict = pytest.importorskip("array_api_strict", reason="array_api_strict is not installed")
    project.joinpath("agclip.toml").write_text('backend = "array_api_strict"\n')
    assert agclip.namespace() is strict


EXPLICIT = {
    "set_config": lambda _: agclip.set_config(backend="evilmod"),
    "config_context": lambda _: agclip.config_context(backend="evilmod"),
    "get_backend": lambda _: agclip.get_backend("evilmod"),
    "a variable": lambda patch: (patch.setenv("AGCLIP_BACKEND", "evilmod"), agclip.get_config()),
}


@pytest.mark.parametrize("way", EXPLICIT)
def test_what_a_user_types_may_be_any_library_of_the_standard(way, evil, monkeypatch):
    EXPLICIT[way](monkeypatch)
    assert evil.exists()


@pytest.mark.parametrize("way", EXPLICIT)
def test_a_library_that_breaks_when_it_is_imported_is_an_error_that_says_so(
    way, project, monkeypatch
):
    project.joinpath("evilmod.py").write_text("1 / 0")
    text = (
        "the library 'evilmod' must load; got ZeroDivisionError: division by zero. Mend it first."
    )
    with pytest.raises(ImportError, match=f"^{re.escape(text)}$"):
        EXPLICIT[way](monkeypatch)
