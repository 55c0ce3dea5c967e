"""Files of settings: where they are found, when they are read, and what is wrong with them."""

import os
import subprocess
import sys

import pytest

import agclip


def threads():
    settings = agclip.get_config()
    return settings.threads, settings.source("threads")


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


# --- where they are found ----------------------------------------------------------------------


def test_the_nearest_file_counts(project, monkeypatch):
    write(project / "agclip.toml", "threads = 1")
    near = write(project / "a/agclip.toml", "threads = 2")
    project.joinpath("a/b").mkdir()
    monkeypatch.chdir(project / "a/b")
    assert threads() == (2, f"{near}: threads")


def test_a_file_further_up_says_nothing_beside_the_nearest(project, monkeypatch):
    write(project / "agclip.toml", "threads = 1")
    write(project / "a/agclip.toml", "strict = true")
    monkeypatch.chdir(project / "a")
    assert threads() == (None, "default")


def test_the_search_ends_with_the_repository(project, tmp_path, monkeypatch):
    write(tmp_path / "agclip.toml", "threads = 1")
    assert threads() == (None, "default")
    project.joinpath(".git").rmdir()
    agclip.load_config()
    assert threads()[0] == 1


def test_a_work_tree_ends_the_search_too(project, tmp_path):
    write(tmp_path / "agclip.toml", "threads = 1")
    project.joinpath(".git").rmdir()
    write(project / ".git", "gitdir: elsewhere")
    assert threads() == (None, "default")


def test_pyproject_has_a_table_of_its_own(project):
    path = write(project / "pyproject.toml", "[tool.agclip]\nthreads = 3\n")
    assert threads() == (3, f"{path}: tool.agclip.threads")


def test_agclip_toml_counts_more_than_pyproject_beside_it(project):
    write(project / "pyproject.toml", "[tool.agclip]\nthreads = 3\n")
    write(project / "agclip.toml", "threads = 4")
    assert threads()[0] == 4


@pytest.mark.parametrize(
    "text",
    ["[project]\nname = 'x'", "[tool.other]\nuses = 'agclip'", "tool = 'agclip'", "broken but not"],
)
def test_a_pyproject_of_others_is_passed_by(project, monkeypatch, text):
    write(project / "agclip.toml", "threads = 1")
    write(project / "a/pyproject.toml", text)
    monkeypatch.chdir(project / "a")
    assert threads()[0] == 1


def test_without_a_variable_the_users_file_is_in_dot_config(project, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative/is/ignored")
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    path = write(tmp_path / "me/.config/agclip/config.toml", "threads = 5")
    assert threads() == (5, f"{path}: threads")


def test_a_named_file_may_be_relative_or_at_home(project, monkeypatch, tmp_path):
    write(project / "sub/mine.toml", "threads = 6")
    monkeypatch.setenv("AGCLIP_CONFIG", "sub/mine.toml")
    assert threads()[0] == 6
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    write(tmp_path / "me/mine.toml", "threads = 7")
    monkeypatch.setenv("AGCLIP_CONFIG", "~/mine.toml")
    agclip.load_config()
    assert threads()[0] == 7


def test_a_named_pyproject_is_read_by_its_table(project, monkeypatch, tmp_path):
    path = write(tmp_path / "else/pyproject.toml", "[tool.agclip]\nthreads = 8\n")
    monkeypatch.setenv("AGCLIP_CONFIG", str(path))
    assert threads() == (8, f"{path}: tool.agclip.threads")


@pytest.mark.parametrize("word", ["", "none", "None", " "])
def test_the_search_can_be_switched_off(project, monkeypatch, tmp_path, word):
    write(project / "agclip.toml", "threads = 1")
    write(tmp_path / "home/agclip/config.toml", "threads = 1")
    monkeypatch.setenv("AGCLIP_CONFIG", word)
    assert threads() == (None, "default")


def test_a_user_without_a_home_and_a_folder_that_is_gone_have_no_files(project, monkeypatch):
    def homeless(*_):
        raise RuntimeError

    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setattr("pathlib.Path.home", homeless)
    gone = project / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert threads() == (None, "default")
    monkeypatch.chdir(project)


def test_a_folder_that_is_closed_has_no_files(project, monkeypatch):
    write(project / "agclip.toml", "threads = 1")

    def closed(path):
        raise PermissionError(path)

    monkeypatch.setattr("pathlib.Path.is_file", closed)
    assert threads() == (None, "default")


# --- beside the program ------------------------------------------------------------------------

PROGRAM = "import agclip; print(agclip.get_config().threads)"


@pytest.fixture
def elsewhere(project, tmp_path):
    """A function that runs a script of the project in another folder, and returns its threads."""
    folder = tmp_path / "elsewhere"
    folder.joinpath(".git").mkdir(parents=True)
    script = write(project / "tools/train.py", PROGRAM)

    def run(*command):
        done = subprocess.run(
            [sys.executable, *(command or (str(script),))],
            cwd=folder,
            env={key: value for key, value in os.environ.items() if key != "AGCLIP_CONFIG"},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        return done.stdout.strip()

    run.folder = folder
    return run


@pytest.mark.parametrize("name", ["tools/agclip.toml", "agclip.toml", "tools/pyproject.toml"])
def test_a_file_beside_the_program_counts_wherever_it_is_started(project, elsewhere, name):
    header = "[tool.agclip]\n" if name.endswith("pyproject.toml") else ""
    write(project / name, f"{header}threads = 5\n")
    assert elsewhere() == "5"


def test_a_file_where_a_program_is_started_counts_more(project, elsewhere):
    write(project / "tools/agclip.toml", "threads = 5")
    write(elsewhere.folder / "agclip.toml", "threads = 6")
    assert elsewhere() == "6"


def test_a_file_above_the_repository_of_the_program_does_not_count(tmp_path, elsewhere):
    write(tmp_path / "agclip.toml", "threads = 5")
    assert elsewhere() == "None"


def test_a_script_that_is_linked_is_where_it_lies(project, elsewhere):
    write(project / "tools/agclip.toml", "threads = 5")
    link = elsewhere.folder / "link.py"
    link.symlink_to(project / "tools/train.py")
    assert elsewhere(str(link)) == "5"


def test_without_a_script_there_is_nothing_beside_it(elsewhere):
    assert elsewhere("-c", PROGRAM) == "None"


def test_an_installed_command_is_no_program_of_a_project(project, monkeypatch):
    write(project / "agclip.toml", "threads = 5")
    monkeypatch.chdir(project.parent)
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(project / "lib"))
    monkeypatch.setattr(
        sys.modules["__main__"], "__file__", str(project / "lib/pytest/main.py"), raising=False
    )
    assert threads() == (None, "default")
    monkeypatch.setattr(
        sys.modules["__main__"], "__file__", str(project / "train.py"), raising=False
    )
    agclip.load_config()
    assert threads()[0] == 5


# --- when they are read ------------------------------------------------------------------------

SPY = """\
import sys

opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
import agclip

assert not [name for name in opened if name.endswith(".toml")], opened
assert "tomllib" not in sys.modules
"""


def test_importing_agclip_reads_no_setting(project):
    write(project / "agclip.toml", "this is broken")
    environment = {**os.environ, "AGCLIP_BACKEND": "tocrh", "AGCLIP_STRCIT": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SPY],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_files_are_read_at_the_first_use_and_not_again(project):
    path = write(project / "agclip.toml", "threads = 1")
    assert threads()[0] == 1
    write(path, "threads = 2")
    agclip.set_config(strict=True)
    with agclip.config_context(strict=False):
        assert threads()[0] == 1
    assert agclip.load_config().threads == 2
    assert agclip.get_config().strict


def test_nothing_is_written(project, tmp_path):
    agclip.set_config(strict=True)
    agclip.clip_by_norm([1.0], 1.0)
    assert sorted(path.name for path in tmp_path.rglob("*")) == [".git", "project"]


def test_a_loaded_file_takes_the_place_of_all_others(project, monkeypatch, tmp_path):
    write(project / "agclip.toml", "threads = 1\nstrict = true")
    assert agclip.get_config().strict
    mine = write(tmp_path / "mine.toml", "threads = 9")
    settings = agclip.load_config(mine)
    assert settings is agclip.get_config()
    assert (settings.threads, settings.source("threads")) == (9, f"{mine}: threads")
    assert settings.strict is False
    monkeypatch.setenv("AGCLIP_THREADS", "2")
    assert agclip.load_config(str(mine)).threads == 2


def test_a_file_that_cannot_be_loaded_changes_nothing(project, tmp_path):
    agclip.load_config(write(tmp_path / "good.toml", "threads = 9"))
    with pytest.raises(ValueError, match="nonfinite"):
        agclip.load_config(write(tmp_path / "bad.toml", 'threads = 1\nnonfinite = "ignore"'))
    assert threads()[0] == 9
