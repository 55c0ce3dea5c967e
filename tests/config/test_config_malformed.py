"""Files of settings that are damaged or written to harm: one line, in bounded time and memory."""

import random
import subprocess
import sys
import tomllib

import pytest

import agclip
from agclip.cli import main
from agclip.config import _toml

pytestmark = pytest.mark.usefixtures("project")

PARTS = "a key of more than 32 parts"
DEEP = "values that are nested too deep"
DIGITS = "an integer that is too long"

BROKEN = {
    "arrays, deep": ("threads = " + "[" * 100_000, DEEP),
    "arrays, deep and closed": ("a = " + "[" * 5_000 + "]" * 5_000, DEEP),
    "tables, deep": ("a = " + "{a = " * 50_000, DEEP),
    "a key, deep": ("a." * 400_000 + "a = 1", PARTS),
    "a quoted key, deep": ('"=".' * 100_000 + "a = 1", PARTS),
    "a spaced key, deep": ("a . " * 100_000 + "a = 1", PARTS),
    "a header, deep": ("[" + "a." * 400_000 + "a]", PARTS),
    "a header of an array, deep": ("[[" + "'a'." * 100_000 + "a]]", PARTS),
    "a key in a table, deep": ("clip = { rule = 'a', " + "a." * 100_000 + "a = 1 }", PARTS),
    "a key in the last line, deep": ("x = '''\n'''\n" + "a." * 100 + "a = 1", PARTS),
    "digits without end": ("threads = " + "9" * 100_000, DIGITS),
    "an open string": ('backend = "' + "\\\\" * 100_000, "Unterminated string"),
    "an open text": ('backend = """' + '\\"' * 100_000, "Unterminated string"),
    "a byte of zero": ('backend = "\0"', "Illegal character '\\x00'"),
    "no key": ("= 1", "Invalid statement"),
    "the same twice": ("strict = true\nstrict = true", "Cannot overwrite a value"),
}


@pytest.fixture(params=["agclip.toml", "pyproject.toml"])
def file(request, project):
    """A function that writes a file of settings, and returns its path."""
    path = project / request.param

    def write(content):
        header = "" if path.name == "agclip.toml" else "[tool.agclip]\n"
        path.write_bytes(header.encode() + content)
        return path

    return write


@pytest.mark.parametrize("kind", BROKEN)
def test_a_file_that_is_broken_is_one_line_with_its_name(file, kind):
    text, reason = BROKEN[kind]
    path = file(text.encode())
    with pytest.raises(ValueError, match="must be valid TOML; got: ") as caught:
        agclip.clip_by_norm([1.0], 1.0)
    message = str(caught.value)
    assert message.startswith(f"{path} must be valid TOML; got: {reason}")
    assert message.endswith(". Mend that place.")
    assert "\n" not in message
    assert len(message) < len(str(path)) + 200


ODD = {
    "a name too long": ("x" * 100_000 + " = 1", ValueError, "a setting must be one of backend, "),
    "a backend with a name too long": (
        f"backend = '{'x' * 100_000}'",
        ValueError,
        '`backend` must be "auto", or one or several of ',
    ),
    "a rule with a name too long": (
        f"clip = ['{'x' * 100_000}']",
        TypeError,
        "`clip` must be a table, or an array of tables",
    ),
    "a value without end": ("threads = inf", TypeError, "`threads` must be an integer"),
    "a date": ("strict = 1979-05-27", TypeError, "`strict` must be true or false; got "),
    "a table that is deep": (
        "clip = {rule = 'norm', a = " + "[" * 40 + "]" * 40 + "}",
        ValueError,
        "`clip` must be nested at most 32 deep; got {'rule': 'norm', 'a': [[",
    ),
}


@pytest.mark.parametrize("kind", ODD)
def test_a_value_that_is_odd_is_one_short_line_with_the_place(file, kind):
    text, error, words = ODD[kind]
    path = file(text.encode())
    with pytest.raises(error) as caught:
        agclip.get_config()
    message = str(caught.value)
    assert message.startswith(words)
    assert f"({path}: " in message
    assert "\n" not in message
    assert len(message) < 1_500


def cycle():
    found = {"rule": "norm"}
    found["again"] = [found, found]
    return found


def nested(depth):
    found = {"rule": "norm"}
    for _ in range(depth):
        found = {"rule": "norm", "inner": found}
    return found


@pytest.mark.parametrize(
    "table", [cycle(), nested(33), nested(100_000)], ids=["cycle", "33", "1e5"]
)
def test_a_table_that_a_program_nests_too_deep_is_refused(table):
    with pytest.raises(ValueError, match=r"^`clip` must be nested at most 32 deep; got ") as caught:
        agclip.set_config(clip=table)
    assert len(str(caught.value)) < 500


def test_a_table_may_be_nested():
    agclip.set_config(clip=nested(20))
    assert agclip.get_config().clip == (nested(20),)


@pytest.mark.parametrize("dots", [31, 32])
def test_a_key_may_have_a_few_parts(dots):
    assert len(_toml.document("a." * dots + "a = 1")) == 1


def test_dots_that_are_no_key_are_not_counted():
    text = "\n".join(
        [
            "# " + "a." * 50,
            "a = '" + "a." * 50 + "'",
            'b = "' + "a." * 50 + '\\" a."',
            "c = '''" + "a.\n" * 50 + "'''",
            'd = """' + "a.\n" * 50 + '\\""""',
            "e = [" + "1.5," * 50 + "]",
        ]
    )
    assert _toml.document(text) == tomllib.loads(text)


def test_a_mark_of_the_byte_order_is_passed_over(file):
    path = file(b"")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes() + b"threads = 3\n")
    assert agclip.get_config().threads == 3


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_a_file_in_another_encoding_is_said_to_be(project, encoding):
    path = project / "agclip.toml"
    path.write_bytes("threads = 3\n".encode(encoding))
    with pytest.raises(
        ValueError, match=r"must be text in UTF-8; got byte 0 that is not\. Save it"
    ):
        agclip.get_config()


def test_a_file_that_is_too_large_is_not_read_to_its_end(file):
    path = file(b"# agclip")
    with path.open("r+b") as opened:
        opened.truncate(1 << 40)
    text = f"{path} must have at most 1048576 bytes; got more. Name another file."
    with pytest.raises(ValueError, match="must have at most") as caught:
        agclip.get_config()
    assert str(caught.value) == text


def test_a_named_path_that_is_too_long_or_of_nobody_is_said_to_be_none(monkeypatch):
    for name in ("x" * 5_000, "~nobody-of-that-name/agclip.toml"):
        monkeypatch.setenv("AGCLIP_CONFIG", name)
        with pytest.raises(FileNotFoundError, match=r"^`AGCLIP_CONFIG` must name a file") as caught:
            agclip.get_config()
        assert len(str(caught.value)) < 500


@pytest.mark.parametrize("arguments", [["backends"], ["config"]])
@pytest.mark.parametrize("kind", ["arrays, deep", "a key, deep", "no key"])
def test_the_command_says_it_in_one_line(file, kind, arguments, capsys):
    path = file(BROKEN[kind][0].encode())
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"agclip {arguments[0]}: error: {path} must be valid TOML; got: ")
    assert (said.out, said.err.count("\n")) == ("", 1)


# --- mutations ---------------------------------------------------------------------------------

WHOLE = b"""\
# Settings of a run.
backend = ["numpy", "auto"]
threads = 4
strict = true
nonfinite = "zero"

[[clip]]
rule = "norm"
clip_norm = 1.5
axes = [0, -1]

[[clip]]
rule = "adaptive"
clipping = 1e-2
unit_axes.a.b = '''out'''
"""
PIECES = (b"[", b"]", b"{", b"}", b'"', b"'", b".", b"=", b"\n", b"\0", b"\xff", b"9", b"-", b"_")


def mutated(content, source):
    """Cut, repeat, replace or insert a piece, up to three times."""
    for _ in range(source.randint(1, 3)):
        a, b = sorted(source.choices(range(len(content) + 1), k=2))
        middle = source.choice(
            (b"", content[a:b] * 2, source.choice(PIECES) * source.choice((1, 2, 5_000)))
        )
        content = content[:a] + middle + content[b if source.random() < 0.5 else a :]
    return content


@pytest.mark.parametrize("seed", range(20))
def test_a_mutation_is_read_or_refused_in_one_line(project, seed):
    path = project / "mutated.toml"
    source = random.Random(seed)
    for _ in range(20):
        path.write_bytes(mutated(WHOLE, source))
        try:
            text = repr(agclip.load_config(path))
        except (TypeError, ValueError) as error:
            text = str(error)
        assert text.startswith("Settings(") or (str(path) in text and len(text) < 1_500)
        assert "\n" not in text


BOUNDED = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (1 << 31, 1 << 31))
import agclip
try:
    agclip.get_config()
except ValueError as error:
    print(error)
"""


def test_a_deep_key_takes_neither_time_nor_memory(project):
    project.joinpath("agclip.toml").write_text("a." * 500_000 + "a = 1")
    environment = {"PATH": "", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", BOUNDED],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert PARTS in done.stdout
