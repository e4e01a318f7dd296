"""The pages that tell where things are name files that are there, and link to pages that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])


@pytest.mark.parametrize("page", ["architecture.md", "decisions.md"])
def test_every_module_that_a_page_names_exists(page: str) -> None:
    named = set(re.findall(r"`([a-z_/]+/[a-z_]+\.py)`", (ROOT / "docs" / page).read_text()))
    roots = [ROOT / part for part in (".", "daemon", "policies", "dance_ondevice")]
    missing = sorted(name for name in named if not any((root / name).is_file() for root in roots))
    assert named
    assert not missing


@pytest.mark.parametrize(
    "room", sorted(p.name for p in (ROOT / "daemon").iterdir() if (p / "__init__.py").is_file())
)
def test_every_room_of_the_daemon_is_in_the_table(room: str) -> None:
    assert f"`{room}/`" in (ROOT / "docs" / "architecture.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    text = page.read_text()
    links = [
        link
        for link in re.findall(r"\]\(([^)\s]+)\)", text)
        if "://" not in link and not link.startswith("#")
    ]
    broken = sorted(link for link in links if not (page.parent / link.partition("#")[0]).exists())
    assert not broken
