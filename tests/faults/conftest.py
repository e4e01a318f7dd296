"""Collects the figures of the fault tests; ``DANCE_FAULTS_OUT`` names the file that they are written to."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from figures import Figures

_FIGURES = pytest.StashKey[Figures]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_FIGURES] = Figures()


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> Figures:
    """Where a test leaves what it measured."""
    return pytestconfig.stash[_FIGURES]


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts a file system of so many MiB, whose folder is returned; it is skipped where nobody may."""
    folder = tmp_path / "disk"

    def mount(mebibytes: int) -> Path:
        if os.geteuid() != 0:
            pytest.skip("only root can mount a small tmpfs")
        folder.mkdir()
        found = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", folder],
            capture_output=True,
            text=True,
            check=False,
        )
        if found.returncode != 0:
            pytest.skip(f"no small tmpfs here: {found.stderr.strip()}")
        return folder

    yield mount
    if folder.is_mount():
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]
    report = yield
    if _FIGURES in item.config.stash and (report.when == "call" or report.outcome != "passed"):
        item.config.stash[_FIGURES].tests[report.outcome] += 1
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    out = os.environ.get("DANCE_FAULTS_OUT")
    if out and _FIGURES in session.config.stash:
        session.config.stash[_FIGURES].write(Path(out), os.environ.get("DANCE_FAULTS_NOTE", ""))
