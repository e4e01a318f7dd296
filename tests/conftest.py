"""Fixtures that every test may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes says nothing on a machine that is busy. Not ``default``, which loads by itself.
settings.register_profile("untimed", settings(), deadline=None)
settings.load_profile("untimed")

pytest_plugins = ["store_fixtures"]

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture
def camvid_dir() -> Path:
    """The CamVid folder, or a skip that says where it was looked for."""
    candidates = [Path(os.environ["DANCE_CAMVID_DIR"])] if "DANCE_CAMVID_DIR" in os.environ else []
    candidates.append(REPOSITORY.parent / "shared" / "camvid")
    for folder in candidates:
        if (folder / "train").is_dir() and (folder / "trainannot").is_dir():
            return folder
    pytest.skip(f"no CamVid folder at {' or '.join(map(str, candidates))}; set DANCE_CAMVID_DIR")


@pytest.fixture
def one_thread_one_seed() -> Iterator[None]:
    """Torch on one thread, with the same random numbers for every test, and as it was afterwards."""
    import torch  # here, since most tests do without

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        yield
    torch.set_num_threads(threads)
