"""Collects the figures of the fault tests; ``DANCE_FAULTS_OUT`` names the file that they are written to."""

from __future__ import annotations

import os
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
