"""Make the site: ``python docs/sphinx/build.py OUT``. A broken link or a missing docstring fails."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import api
from sphinx.cmd.build import build_main

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
#: A site is opened at its top, the pages lie where the repository has them.
ENTRANCE = """<!doctype html>
<meta charset="utf-8">
<meta http-equiv="refresh" content="0; url=docs/index.html">
<title>dance-ondevice</title>
<a href="docs/index.html">dance-ondevice</a>
"""


def build(out: Path, work: Path) -> int:
    """Write the site into ``out`` and return 0, or 1 if a page is wrong; ``work`` keeps what was read."""
    missing = api.missing_docstrings(ROOT / "dance_ondevice")
    if missing:
        print("\n".join(missing), file=sys.stderr)
        return 1
    source = work / "source"
    shutil.rmtree(source / "docs", ignore_errors=True)
    shutil.copytree(ROOT / "docs", source / "docs", ignore=shutil.ignore_patterns("__pycache__"))
    for page in PAGES:
        shutil.copy2(ROOT / page, source / page)
    api.write_pages(ROOT / "dance_ondevice", source / "api")
    words = ["-c", str(Path(__file__).parent), "-d", str(work / "doctrees"), "-b", "html", "-q", "-j", "auto"]
    status = build_main([*words, "--fail-on-warning", str(source), str(out)])
    if status == 0:
        (out / "index.html").write_text(ENTRANCE)
    return status


if __name__ == "__main__":
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "site"
    raise SystemExit(build(out.resolve(), ROOT / ".cache" / "docs"))
