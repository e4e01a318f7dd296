"""Fixtures that every test may use."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from warm_python import WarmPython

# How long an example takes says nothing on a machine that is busy. 50 examples find in seconds most of what
# there is to find; ``HYPOTHESIS_PROFILE=nightly`` looks for the rest. Not ``default``, which loads by itself.
settings.register_profile("quick", settings(), deadline=None, max_examples=50)
settings.register_profile("nightly", settings(), deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

pytest_plugins = ["store_fixtures"]


def pytest_sessionstart() -> None:
    """Let Ctrl-C reach what tests start: in the background, a shell has them ignore SIGINT."""
    # Tests that import onnxruntime themselves report nothing to its maker either.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Look for no garbage while tests are collected: there is next to none."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish() -> None:
    """Exempt what was imported and collected from garbage collection: it stays, and a pass takes 0.2 s."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def uncounted(request: pytest.FixtureRequest) -> None:
    """Skip a test of memory or imports while lines are counted, which takes memory and imports modules."""
    if request.config.getoption("cov_source", None):
        pytest.skip("lines are counted, which takes memory and imports modules of its own")


@pytest.fixture(scope="session")
def warm_python() -> Iterator[WarmPython]:
    started = WarmPython()
    yield started
    started.close()


@pytest.fixture(autouse=True)
def _warm_children(warm_python: WarmPython, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spares each child that trains or loads a model the seconds in which it imports torch."""
    if "COVERAGE_PROCESS_CONFIG" not in os.environ:  # such children would not be measured
        monkeypatch.setattr(subprocess, "Popen", warm_python.popen)


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
