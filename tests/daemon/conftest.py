"""A store and a model small enough to run whole rounds in seconds."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from store_fixtures import new_sample

from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.versions import first_model
from dance_ondevice.datasets.street import StreetCamera

SIZE = (48, 64)


@pytest.fixture(scope="session")
def written_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., None]:
    """Writes a fresh first model as the daemon does, by a process of its own, for each configuration once."""
    really, kept = first_model._write_fresh, dict[str, Path]()

    def write(config: Config, out: Path, weights: Path | None = None) -> None:
        what = f"{config.model} {config.training.seed} {weights}"
        if what not in kept:
            folder = tmp_path_factory.mktemp("first") / "model"
            really(config, folder, weights)
            kept[what] = folder
        shutil.copytree(kept[what], out)

    return write


@pytest.fixture
def first_models_at_hand(written_once: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Spares each test of rounds the seconds in which a process imports torch to write the same model."""
    monkeypatch.setattr(first_model, "_write_fresh", written_once)


@pytest.fixture(scope="session")
def add_street() -> Callable[..., list[str]]:
    """Stores labelled frames of the synthetic street, one second apart."""

    def add(
        store: Store, count: int, *, start: int = 0, condition: str = "day", labelled: bool = True
    ) -> list[str]:
        camera = StreetCamera(seed=1, height=SIZE[0], width=SIZE[1])
        futures = []
        for index in range(start, start + count):
            image, label = camera.render(index, condition)
            futures.append(store.add_sample(new_sample(index, image, label if labelled else None)))
        return [future.result(30).id for future in futures]

    return add
