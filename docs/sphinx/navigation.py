"""The navigation is read from the lists of ``docs/index.md``, which a forge shows as they are."""

from __future__ import annotations

import posixpath
import re

from sphinx.application import Sphinx

INDEX, LIBRARY = "docs/index", "docs/library"
SECTION = re.compile(r"^## (?P<caption>.+)\n(?P<body>(?:(?!## ).*\n?)*)", re.MULTILINE)
LINK = re.compile(r"^- \[[^\]]+\]\((?P<page>[^)#\s]+)\.md\)", re.MULTILINE)


def toctrees(text: str) -> str:
    """Return a hidden table of contents for each section of the page: the pages that its list links to."""
    trees = []
    for section in SECTION.finditer(text):
        pages = [
            "/" + posixpath.normpath(posixpath.join("docs", link["page"]))
            for link in LINK.finditer(section["body"])
        ]
        if pages:
            options = f":hidden:\n:caption: {section['caption']}\n"
            trees.append("\n```{toctree}\n" + options + "\n" + "\n".join(pages) + "\n```\n")
    return "".join(trees)


def add_toctrees(_: Sphinx, name: str, source: list[str]) -> None:
    """Append them to the text of the index."""
    if name == INDEX:
        source[0] += toctrees(source[0])
    elif name == LIBRARY:  # its pages are made at the build
        source[0] += "\n```{toctree}\n:glob:\n:maxdepth: 1\n\n/api/*\n```\n"


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("source-read", add_toctrees)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
