"""The site of the documentation: built but for most of the library, with search, without addresses."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: What a browser fetches by itself; links that a reader follows are another matter.
FETCHED = re.compile(
    r"""(?:<(?:script|img|iframe|link)[^>]*?(?:src|href)=|url\(|@import )["']?(?:https?:)?//[^"')\s]+"""
)


@pytest.fixture(scope="module")
def build() -> ModuleType:
    pytest.importorskip("sphinx", reason="the site is made with Python 3.11 and the extra docs")
    pytest.importorskip("mmdr", reason="the site is made with Python 3.11 and the extra docs")
    sys.path.insert(0, str(ROOT / "docs" / "sphinx"))
    import build as made

    return made


def test_all_that_is_public_in_the_library_says_what_it_is(build: ModuleType) -> None:
    assert build.api.missing_docstrings(ROOT / "dance_ondevice") == []


def test_what_says_nothing_is_named(build: ModuleType) -> None:
    tree = ast.parse("class A:\n    def b(self): ...\n    def _c(self): ...\ndef d():\n    'Does.'")
    assert list(build.api.undocumented(tree)) == [(1, "A"), (2, "A.b")]


def test_every_page_is_in_the_navigation(build: ModuleType) -> None:
    import navigation

    listed = set(re.findall(r"^/(\S+)$", navigation.toctrees((ROOT / "docs" / "index.md").read_text()), re.M))
    pages = {str(page.relative_to(ROOT).with_suffix("")) for page in (ROOT / "docs").rglob("*.md")}
    pages -= {"docs/index"}
    assert pages <= listed, sorted(pages - listed)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of Sphinx's extensions to each other
def test_the_site_is_built_without_a_broken_link(
    build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build.api, "PACKAGES", ("complexity", "documents"))
    out = tmp_path / "site"
    assert build.build(out, tmp_path / "work") == 0
    assert "docs/index.html" in (out / "index.html").read_text()
    assert "detail" in (out / "api" / "complexity.html").read_text()
    assert (out / "searchindex.js").read_text().startswith("Search.setIndex(")
    drawn = (out / "docs" / "architecture.html").read_text()
    assert "<svg" in drawn
    assert drawn.count('role="graphics-document') == 2
    files = [path for path in out.rglob("*") if path.suffix in {".html", ".css"}]
    assert len(files) > 30
    assert {path.name: found[0] for path in files if (found := FETCHED.findall(path.read_text()))} == {}

    # A link that leads nowhere fails.
    page = tmp_path / "pages" / "docs"
    monkeypatch.setattr(build, "ROOT", page.parent)
    page.mkdir(parents=True)
    for name in build.PAGES:
        (page.parent / name).write_text(f"# {name}\n")
    (page / "index.md").write_text("# Index\n\n[nowhere](nothing.md)\n")
    (page.parent / "dance_ondevice").mkdir()
    monkeypatch.setattr(build.api, "PACKAGES", ())
    assert build.build(tmp_path / "broken", tmp_path / "other") == 1
