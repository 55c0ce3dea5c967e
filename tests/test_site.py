"""The documentation's pages: every public name has its place, every rule its picture."""

import ast
import inspect
import re
import sys
import textwrap
from pathlib import Path

import pytest

import agclip

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PACKAGE = Path(agclip.__file__).parent
PAGES = sorted(page for page in DOCS.rglob("*.md") if not {"_tables", "_build"} & set(page.parts))
RULES = sorted(page for page in DOCS.glob("rules/*.md") if page.stem != "index")


def relative(page):
    return page.relative_to(ROOT).as_posix()


def public_names(module):
    """Return the public names of a module, without importing what it goes with."""
    path = PACKAGE.joinpath(*module.split(".")[1:])
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    nodes = ast.parse(source.read_text(encoding="utf-8")).body
    for node in nodes:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    defined = {n.name for n in nodes if isinstance(n, ast.ClassDef | ast.FunctionDef)}
    return {name for name in defined if not name.startswith("_")}


def described():
    """Return the names that the reference has, with their modules."""
    found, module = set(), ""
    for page in sorted((DOCS / "reference").glob("*.md")):
        for line in page.read_text(encoding="utf-8").splitlines():
            if there := re.match(r"\.\. currentmodule:: (\S+)", line):
                module = there[1]
            elif there := re.match(
                r"\.\. (?:auto)?(?:function|class|exception|data):: (\w+)", line
            ):
                found.add((module, there[1]))
    return found


MODULES = [
    "agclip",
    "agclip.adapters",
    "agclip.config",
    "agclip.distributed",
    "agclip.testing",
    "agclip.integrations.accelerate",
    "agclip.integrations.keras",
    "agclip.integrations.lightning",
    "agclip.integrations.optax",
    "agclip.integrations.torch",
    "agclip.integrations.transformers",
]


@pytest.mark.parametrize("module", MODULES)
def test_the_reference_has_every_public_name(module):
    there = {name for where, name in described() if where == module}
    if module in {"agclip.config", "agclip.adapters"}:  # what is in the package too is there
        there |= {name for where, name in described() if where == "agclip"}
    assert public_names(module) - there == set()


def test_every_public_module_of_the_integrations_is_asked():
    names = {path.stem for path in (PACKAGE / "integrations").iterdir() if path.stem[0] != "_"}
    assert {f"agclip.integrations.{name}" for name in names} <= set(MODULES)


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_page_begins_with_a_title(page):
    first = next(line for line in page.read_text(encoding="utf-8").splitlines() if line)
    assert re.match(r"# \S|```\{include\}|---$", first)


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_link_to_a_file_of_the_repository_leads_there(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    targets = re.findall(r"\]\(([^)\s#]+\.(?:md|png|py|svg))", text)
    relative_ones = [target for target in targets if "://" not in target]
    assert [t for t in relative_ones if not (page.parent / t).exists()] == []


def constructor(rule):
    """Return the call of a class with its defaults, as the pages have it."""
    parts, keyword_only = [], False
    for each in inspect.signature(rule).parameters.values():
        if each.kind is each.KEYWORD_ONLY and not keyword_only:
            parts.append("*")
            keyword_only = True
        stars = {each.VAR_POSITIONAL: "*", each.VAR_KEYWORD: "**"}.get(each.kind, "")
        default = "" if each.default is each.empty else f"={each.default!r}"
        parts.append(f"{stars}{each.name}{default}")
    head = f"agclip.{rule.__name__}("
    lines = textwrap.wrap(f"{head}{', '.join(parts)})", 92, subsequent_indent=" " * len(head))
    return "\n".join(lines)


@pytest.fixture(params=RULES, ids=lambda page: page.stem)
def page(request):
    return request.param


def test_the_page_of_a_rule_has_its_constructor(page):
    text = page.read_text(encoding="utf-8")
    rule = getattr(agclip, re.match(r"# (\w+)", text)[1])
    assert f"```py\n{constructor(rule)}\n```" in text


def test_the_page_of_a_rule_has_a_picture_a_formula_a_source_and_a_link_to_the_reference(page):
    text = page.read_text(encoding="utf-8")
    name = re.match(r"# (\w+)", text)[1]
    assert f"(../pictures/rule-{page.stem}.png)" in text
    assert "\n$$\n" in text
    assert "**Source.**" in text
    assert f"(../reference/rules.md#{name.lower()})" in text
    assert f"\n### {name}\n" in (DOCS / "reference" / "rules.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def draw():
    pytest.importorskip("matplotlib")
    sys.path.insert(0, str(DOCS))
    try:
        import draw
    finally:
        sys.path.remove(str(DOCS))
    return draw


def test_every_picture_is_drawn_by_the_script_and_is_there(draw):
    there = {path.stem for path in (DOCS / "pictures").glob("*.png")}
    assert there == {*draw.pictures(), "training"}


def test_a_picture_is_drawn(draw, tmp_path):
    draw.main(["rule-global_norm"], tmp_path)
    (path,) = tmp_path.iterdir()
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["zclip", "global_norm", "norm", "value", "rms", "adagc"])
def test_a_picture_shows_a_rule_that_cuts_the_spikes_and_leaves_most_steps(draw, name):
    before, after, _ = draw.run(draw.SCENES[name])
    assert all(there <= here * (1 + 1e-9) for here, there in zip(before, after, strict=True))
    spike = max(draw.SPIKES, key=draw.SPIKES.get)
    assert after[spike] < before[spike] / 3


# --- what the reference shows of a record --------------------------------------------------------


def fields_without_a_word(source):
    """The fields of named tuples and dataclasses that neither they nor their class describe."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ClassDef):
            continue
        described = re.findall(r"^ +(\w+): ", ast.get_docstring(node) or "", re.MULTILINE)
        for field, after in zip(node.body, [*node.body[1:], None], strict=True):
            told = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            if isinstance(field, ast.AnnAssign) and not told and field.target.id not in described:
                found.append(f"{node.name}.{field.target.id}")
    return found


def records():
    from agclip import adapters, distributed

    public = [getattr(adapters, name) for name in adapters.__all__] + [distributed.Holding]
    return [one for one in public if inspect.isclass(one) and hasattr(one, "_fields")]


@pytest.mark.parametrize("record", records(), ids=lambda record: record.__name__)
def test_every_field_of_a_named_tuple_is_described(record):
    assert fields_without_a_word(textwrap.dedent(inspect.getsource(record))) == []


def test_the_check_of_fields_can_fail():
    code = (
        'class A(NamedTuple):\n    """A.\n\n    Attributes:\n        c: C.\n    """\n'
        '    a: int\n    b: int\n    """B."""\n    c: int'
    )
    assert fields_without_a_word(code) == ["A.a"]
