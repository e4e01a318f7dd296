"""Samples, the part of a daemon that takes labels, and the command."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from label_imports import Import, add
from tool_scene import IDS, NAMES

from dance_ondevice.daemon.control.labels import import_through, undo_through
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths, sample_id


@pytest.fixture
def ids(store: Store) -> list[str]:
    """Three stored frames without labels."""
    return [add(store, sample_id("front", 1_700_000_000.0 + seq, seq), "front") for seq in range(3)]


@pytest.fixture
def scene(store: Store) -> tuple[str, ...]:
    """The images of the fixtures, without labels."""
    return tuple(add(store, each, "cam") for each in IDS)


@pytest.fixture
def daemon(store: Store, serve: Callable[..., None]) -> None:
    """The part of a daemon that takes labels; it takes no frames, and needs to take none."""
    serve(
        {
            "import_labels": partial(import_through, store, n_classes=len(NAMES), max_pixels=1 << 20),
            "undo_labels": partial(undo_through, store),
        }
    )


@pytest.fixture
def bring(run_json: Callable[..., Any], paths: StatePaths) -> Import:
    """Runs ``labels import`` and returns its JSON answer; ``code`` is the exit status that is expected."""

    def run(path: Path, *options: str, code: int = 0) -> Any:
        return run_json("labels", "import", str(path), "--state-dir", str(paths.root), *options, code=code)

    return run


@pytest.fixture
def refuse(run: Callable[..., Any], paths: StatePaths) -> Callable[..., str]:
    """Runs ``labels import`` that fails, and returns all that it says."""

    def fail(path: Path, *options: str) -> str:
        done = run("labels", "import", str(path), "--state-dir", str(paths.root), *options, code=1)
        return str(done.stdout + done.stderr)

    return fail


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "labels"
    made.mkdir()
    return made
