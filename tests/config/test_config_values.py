"""What a setting may be, wherever it is said, and the text of every mistake."""

import re

import pytest

import agclip
from agclip import config

UNKNOWN = (
    "a setting must be one of backend, device, on_foreign, accelerate, threads, nonfinite, "
    "reproducible, strict, clip; got {}"
)
NONFINITE = '`nonfinite` must be one of "propagate", "error", "zero", "skip"; got {}'
BACKEND = (
    "`backend` must be the name of a backend, a list of names (the first usable one counts), or "
    '"auto"; got {} (set_config).'
)
NAMES = '`backend` must be "auto", or one or several of cupy, dask, jax, numpy, torch; got {}'
DEVICE = '`device` must be the name of a device, such as "cpu" or "cuda:0", or "auto"; got {}'
THREADS = '`threads` must be an integer from 1 to 1024, or "auto"; got {}'
TABLES = (
    "`clip` must be a table, or an array of tables, each with the name of a `rule`; got {} "
    "(set_config).{}"
)


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
    "plain code": ("accelerate", "off", "off"),
    "threads": ("threads", 3, 3),
    "any number of threads": ("threads", "auto", None),
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


WRONG = {
    "an unknown key": (
        {"bakend": "numpy"},
        ValueError,
        UNKNOWN.format("'bakend' (set_config). Did you mean 'backend'?"),
    ),
    "a key like none": ({"colour": None}, ValueError, UNKNOWN.format("'colour' (set_config).")),
    "a backend misspelt": (
        {"backend": "tocrh"},
        ValueError,
        NAMES.format("'tocrh' (set_config). Did you mean 'torch'?"),
    ),
    "a backend like none": (
        {"backend": ["numpy", "abacus"]},
        ValueError,
        NAMES.format("['numpy', 'abacus'] (set_config)."),
    ),
    "auto in a list": (
        {"backend": ["torch", "auto"]},
        ValueError,
        NAMES.format("['torch', 'auto'] (set_config). Did you mean 'auto'?"),
    ),
    "a module that follows no standard": (
        {"backend": "colorsys"},
        ValueError,
        NAMES.format("'colorsys' (set_config)."),
    ),
    "no backends": ({"backend": []}, TypeError, BACKEND.format("[]")),
    "a number for a backend": ({"backend": 3}, TypeError, BACKEND.format("3")),
    "a number among backends": (
        {"backend": ["torch", 3]},
        TypeError,
        BACKEND.format("['torch', 3]"),
    ),
    "a number for a device": ({"device": 0}, TypeError, DEVICE.format("0 (set_config).")),
    "an empty device": ({"device": ""}, TypeError, DEVICE.format("'' (set_config).")),
    "another way with arrays": (
        {"on_foreign": "Convert"},
        ValueError,
        (
            '`on_foreign` must be one of "error", "convert"; got \'Convert\' (set_config). Did you '
            "mean 'convert'?"
        ),
    ),
    "another implementation": (
        {"accelerate": "cython"},
        ValueError,
        '`accelerate` must be one of "auto", "numba", "off"; got \'cython\' (set_config).',
    ),
    "a policy that is no word": (
        {"nonfinite": 0},
        TypeError,
        NONFINITE.format("0 (set_config)."),
    ),
    "no thread": ({"threads": 0}, ValueError, THREADS.format("0 (set_config).")),
    "more threads than any machine starts": (
        {"threads": 200_000},
        ValueError,
        THREADS.format("200000 (set_config)."),
    ),
    "half a thread": ({"threads": 1.5}, TypeError, THREADS.format("1.5 (set_config).")),
    "a true thread": ({"threads": True}, TypeError, THREADS.format("True (set_config).")),
    "a truth that is a number": (
        {"reproducible": 1},
        TypeError,
        "`reproducible` must be true or false; got 1 (set_config).",
    ),
    "a truth in words": (
        {"strict": "yes"},
        TypeError,
        "`strict` must be true or false; got 'yes' (set_config).",
    ),
    "a rule without a table": ({"clip": "norm"}, TypeError, TABLES.format("'norm'", "")),
    "a list of rules": ({"clip": ["norm"]}, TypeError, TABLES.format("['norm']", "")),
    "a table without a rule": (
        {"clip": {"rules": "norm"}},
        ValueError,
        TABLES.format("{'rules': 'norm'}", " Did you mean 'rule'?"),
    ),
    "a rule that is no name": (
        {"clip": [{"rule": "norm"}, {"rule": 2}]},
        ValueError,
        TABLES.format("[{'rule': 'norm'}, {'rule': 2}]", " Did you mean 'rule'?"),
    ),
    "an empty table": ({"clip": {}}, ValueError, TABLES.format("{}", "")),
}


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_answered_with_what_may_be(kind):
    settings, error, text = WRONG[kind]
    with pytest.raises(error, match=f"^{re.escape(text)}$"):
        agclip.set_config(**settings)
    with pytest.raises(error, match=f"^{re.escape(text.replace('set_config', 'config_context'))}$"):
        agclip.config_context(**settings)
    assert agclip.get_config() == config.Settings()


# --- what is said in a file --------------------------------------------------------------------

FILES = {
    "no TOML": (
        "agclip.toml",
        b"threads = 1\nbackend = torch\n",
        ValueError,
        "{path} must be valid TOML; got: Invalid value (at line 2, column 11). Mend that place.",
    ),
    "no UTF-8": (
        "agclip.toml",
        b"# \xff\n",
        ValueError,
        "{path} must be text in UTF-8; got byte 2 that is not. Save it as such.",
    ),
    "an unknown key": (
        "agclip.toml",
        b'bakend = "numpy"',
        ValueError,
        UNKNOWN.format("'bakend' ({path}: bakend). Did you mean 'backend'?"),
    ),
    "a wrong value": (
        "pyproject.toml",
        b'[tool.agclip]\nnonfinite = "zeor"',
        ValueError,
        NONFINITE.format("'zeor' ({path}: tool.agclip.nonfinite). Did you mean 'zero'?"),
    ),
    "a truth in words": (
        "agclip.toml",
        b'strict = "yes"',
        TypeError,
        "`strict` must be true or false; got 'yes' ({path}: strict).",
    ),
    "no table": (
        "pyproject.toml",
        b"[tool]\nagclip = 3",
        TypeError,
        "`tool.agclip` must be a table; got 3 ({path}).",
    ),
}


@pytest.mark.parametrize("kind", FILES)
def test_an_error_names_the_file_and_the_place(project, kind):
    name, content, error, text = FILES[kind]
    path = project / name
    path.write_bytes(content)
    with pytest.raises(error, match=f"^{re.escape(text.format(path=path))}$"):
        agclip.clip_by_norm([1.0], 1.0)


def test_an_error_is_no_less_one_the_second_time(project):
    write(project / "agclip.toml", "threads = 0")
    for_both = pytest.raises(ValueError, match="`threads` must be an integer from 1 to 1024")
    with for_both:
        agclip.get_config()
    with for_both:
        agclip.get_config()


@pytest.mark.usefixtures("project")
def test_a_named_file_must_be_there(monkeypatch, tmp_path):
    path = tmp_path / "gone.toml"
    monkeypatch.setenv("AGCLIP_CONFIG", str(path))
    text = f'must name a file, or be "none" for no files; got {path}, which is none.'
    with pytest.raises(FileNotFoundError, match=f"^`AGCLIP_CONFIG` {re.escape(text)}$"):
        agclip.get_config()


@pytest.mark.usefixtures("project")
def test_a_loaded_file_must_be_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.toml"):
        agclip.load_config(tmp_path / "gone.toml")


@pytest.mark.usefixtures("project")
def test_a_pyproject_that_is_loaded_must_have_the_table(tmp_path):
    path = write(tmp_path / "pyproject.toml", "[project]")
    text = f"{path} must have a table [tool.agclip]; got none. Add it, or name another file."
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        agclip.load_config(path)
