"""Fixtures of the model tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _one_thread_one_seed(one_thread_one_seed: None) -> None:
    """All of these tests run models."""


@pytest.fixture
def unet_factory(monkeypatch: pytest.MonkeyPatch) -> str:
    """A factory string that can be imported."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return "unet_of_a_user:make_unet"
