"""Fixtures of the model tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread_one_seed() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        yield
    torch.set_num_threads(threads)


@pytest.fixture
def unet_factory(monkeypatch: pytest.MonkeyPatch) -> str:
    """A factory string that can be imported."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return "unet_of_a_user:make_unet"
