"""What a release says of itself: one version, links that work on PyPI, one place for the owner."""

import re
import sys
import tomllib
from pathlib import Path

import pytest

import agclip

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")])


def test_the_citation_has_the_version():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {agclip.__version__}\n" in text


def test_all_addresses_of_the_project_begin_with_the_repository():
    urls = PROJECT["urls"]
    owner = re.fullmatch(r"https://github\.com/([\w-]+)/agclip", urls["Repository"])[1]
    for name in ("Issues", "Changelog"):
        assert urls[name].startswith(urls["Repository"])
    assert owner.lower() in urls["Documentation"].lower()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_owner_is_named_in_one_place(page):
    repository = PROJECT["urls"]["Repository"]
    assert repository not in page.read_text(encoding="utf-8")


def links(text):
    return re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_every_link_of_a_page_at_the_root_leads_somewhere(name):
    relative = [x for x in links((ROOT / name).read_text(encoding="utf-8")) if "://" not in x]
    missing = [x for x in relative if not (ROOT / x.partition("#")[0]).exists()]
    assert missing == []


def test_no_link_of_the_readme_on_pypi_is_relative():
    pytest.importorskip("hatchling", reason="the build's own package, which only a build installs")
    sys.path.insert(0, str(ROOT))
    try:
        import hatch_build
    finally:
        sys.path.remove(str(ROOT))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    text = hatch_build.absolute(readme, "https://example.org/agclip")
    assert [x for x in links(text) if not x.startswith("https://")] == []
    assert "(https://example.org/agclip/raw/HEAD/docs/pictures/training.png)" in text
    assert 'src="https://example.org/agclip/raw/HEAD/docs/_static/logo.svg"' in text
    assert "(https://example.org/agclip/blob/HEAD/docs/lightning.md)" in text
