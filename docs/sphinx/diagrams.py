"""Mermaid diagrams become SVG at the build, so that a page needs neither a script nor an address."""

from __future__ import annotations

import hashlib

import mmdr
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)


def draw(source: str) -> str:
    """Return the SVG of a diagram in Mermaid's language, with ids of its own.

    Raises:
        ValueError: The text is no diagram.
    """
    svg = str(mmdr.render(source).svg())
    # Several drawings in one page must not share their ids, which their styles and arrows refer to.
    return svg.replace("merman", f"d{hashlib.sha256(source.encode()).hexdigest()[:8]}")


def replace_fences(app: Sphinx, tree: nodes.document) -> None:
    """Put the drawing in place of each block of code whose language is ``mermaid``."""
    if app.builder.format != "html":
        return
    for block in list(tree.findall(nodes.literal_block)):
        if block.get("language") != "mermaid":
            continue
        try:
            svg = draw(block.astext())
        except (ValueError, RuntimeError) as error:
            logger.warning("no Mermaid diagram: %s", error, location=block)
            continue
        block.replace_self(nodes.raw("", f'<div class="diagram">{svg}</div>', format="html"))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("doctree-read", replace_fences)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
