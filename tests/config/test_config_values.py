"""What a setting may be, wherever it is said, and the text of every mistake."""

import pytest

import agclip


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


# --- what is said in a program -----------------------------------------------------------------

RIGHT = {
    "a backend": ("backend", "numpy", "numpy"),
    "backends": ("backend", ["torch", "numpy"], ("torch", "numpy")),
    "a tuple of backends": ("backend", ("numpy",), ("numpy",)),
    "a library of the standard": ("backend", "array_api_strict", "array_api_strict"),
    "no backend": ("backend", "auto", "auto"),
    "a device": ("device", "cuda:0", "cuda:0"),
    "no device": ("device", "auto", None),
    "to convert": ("on_foreign", "convert", "convert"),
    "shards that are whole": ("on_shard", "whole", "whole"),
    "plain code": ("accelerate", "off", "off"),
    "threads": ("threads", 3, 3),
    "any number of threads": ("threads", "auto", None),
    "agclip's own threads": ("threads", "own", "own"),
    "a policy": ("nonfinite", "skip", "skip"),
    "yes": ("reproducible", True, True),
    "no": ("strict", False, False),
    "a table": ("clip", {"rule": "norm"}, ({"rule": "norm"},)),
    "tables": ("clip", [{"rule": "a"}, {"rule": "b"}], ({"rule": "a"}, {"rule": "b"})),
    "no tables": ("clip", [], ()),
}


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("kind", RIGHT)
def test_what_is_right_is_kept(kind):
    key, given, kept = RIGHT[kind]
    if given == "array_api_strict":
        pytest.importorskip(given, reason=f"{given} is not installed")
    agclip.set_config(**{key: given})
    assert getattr(agclip.get_config(), key) == kept
    assert agclip.get_config().source(key) == "set_config"


# --- what is said in a file --------------------------------------------------------------------


def test_an_error_is_no_less_one_the_second_time(project):
    write(project / "agclip.toml", "threads = 0")
    for_both = pytest.raises(ValueError, match="`threads` must be an integer from 1 to 1024")
    with for_both:
        agclip.get_config()
    with for_both:
        agclip.get_config()


@pytest.mark.usefixtures("project")
def test_a_loaded_file_must_be_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.toml"):
        agclip.load_config(tmp_path / "gone.toml")
