"""Compiled kernels on disk: found again, and done without where there is no place for them."""

import pytest

from agclip_backends._cuda import driver, images

ASKED = ("source", ("--std=c++17",), (9, 0), 12)


@pytest.fixture
def compiler(monkeypatch):
    """A compiler that counts what it is asked for."""
    made = []

    def compile_source(*asked):
        made.append(asked)
        return repr(asked).encode()

    monkeypatch.setattr(driver, "compile_source", compile_source)
    monkeypatch.setattr(driver, "compiler_version", lambda major: (major, 4))
    return made


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(images.VARIABLE, str(tmp_path))
    return tmp_path / "cuda"


def test_an_image_is_compiled_once(compiler, folder):
    assert images.compiled(*ASKED) == images.compiled(*ASKED) == repr(ASKED).encode()
    assert len(compiler) == 1
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize(
    "other",
    [
        ("another source", *ASKED[1:]),
        (ASKED[0], ("-DONLY=1",), *ASKED[2:]),
        (*ASKED[:2], (8, 0), 12),
        (*ASKED[:3], 13),
    ],
    ids=["source", "options", "architecture", "compiler"],
)
def test_an_image_is_found_by_all_that_it_depends_on(compiler, folder, other):
    images.compiled(*ASKED)
    assert images.compiled(*other) == repr(other).encode()
    assert len(compiler) == 2


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"", lambda d: d + b"x"])
def test_a_damaged_image_is_compiled_again(compiler, folder, damage):
    images.compiled(*ASKED)
    (path,) = folder.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    for _ in range(2):
        assert images.compiled(*ASKED) == repr(ASKED).encode()
    assert len(compiler) == 2


def test_a_folder_that_cannot_be_made_is_done_without(compiler, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(images.VARIABLE, str(tmp_path / "file"))
    for _ in range(2):
        assert images.compiled(*ASKED) == repr(ASKED).encode()
    assert len(compiler) == 2


def test_a_file_that_cannot_take_its_name_is_taken_away(compiler, folder, monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(images.Path, "replace", refuse)
    assert images.compiled(*ASKED) == repr(ASKED).encode()
    assert list(folder.iterdir()) == []


def test_nothing_is_kept_if_that_is_asked_for(compiler, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv(images.VARIABLE, "none")
    images.compiled(*ASKED)
    images.compiled(*ASKED)
    assert len(compiler) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif("sys.platform == 'win32'", reason="Windows has a folder of its own for that")
def test_the_users_folder_is_taken_if_none_is_named(compiler, tmp_path, monkeypatch):
    monkeypatch.delenv(images.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    images.compiled(*ASKED)
    assert len(list((tmp_path / "agclip" / "cuda").iterdir())) == 1
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    images.compiled(*ASKED)
    assert len(list((tmp_path / ".cache" / "agclip" / "cuda").iterdir())) == 1


def test_no_home_is_no_folder(compiler, monkeypatch):
    def homeless():
        raise RuntimeError

    for name in (images.VARIABLE, "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(images.Path, "home", homeless)
    assert images.compiled(*ASKED) == repr(ASKED).encode()
