"""Rounds of a few steps: most tests ask what becomes of a round, and not how much it has learnt."""

from __future__ import annotations

import pytest

from dance_ondevice.daemon.planning import job

USUAL = job.MIN_STEPS


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "MIN_STEPS", 12)


@pytest.fixture
def many_steps(monkeypatch: pytest.MonkeyPatch, _few_steps: None) -> None:
    """As many as usual: for rounds that must have learnt, or be still at work when they are disturbed."""
    monkeypatch.setattr(job, "MIN_STEPS", USUAL)
