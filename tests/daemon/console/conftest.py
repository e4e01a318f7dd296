"""Where the console's browser tests find axe-core, and where they leave screenshots."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core; the test is skipped where it is not installed."""
    folders = [Path(os.environ["DANCE_AXE"])] if "DANCE_AXE" in os.environ else []
    folders.append(ROOT / ".cache" / "npm" / "node_modules" / "axe-core")
    for folder in folders:
        if (folder / "axe.min.js").is_file():
            return (folder / "axe.min.js").read_text(encoding="utf-8")
    pytest.skip("axe-core is not installed (npm install --prefix .cache/npm axe-core, or set DANCE_AXE)")


@pytest.fixture(scope="session")
def screenshots() -> Path | None:
    """Where screenshots for the docs go (DANCE_SCREENSHOTS); None to make none."""
    folder = os.environ.get("DANCE_SCREENSHOTS")
    return Path(folder) if folder else None
