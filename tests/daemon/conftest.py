"""A store and a model small enough to run whole rounds in seconds."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.store.samples import NewSample
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import sample_id
from dance_ondevice.daemon.versions import first_model
from dance_ondevice.datasets.street import StreetCamera
from dance_ondevice.images import codec as images

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


@pytest.fixture
def add_street() -> Callable[..., list[str]]:
    """Stores labelled frames of the synthetic street, one second apart."""

    def add(store: Store, count: int, *, start: int = 0, condition: str = "day") -> list[str]:
        camera = StreetCamera(seed=1, height=SIZE[0], width=SIZE[1])
        futures = []
        for index in range(start, start + count):
            image, label = camera.render(index, condition)
            at = 1_700_000_000.0 + index
            futures.append(
                store.add_sample(
                    NewSample(
                        id=sample_id("front", at, index),
                        camera="front",
                        seq=index,
                        captured_at=at,
                        received_at=at,
                        data=images.encode_jpeg(image),
                        format="jpg",
                        width=SIZE[1],
                        height=SIZE[0],
                        native_width=SIZE[1],
                        native_height=SIZE[0],
                        score=0.5,
                        quantile=0.5,
                        scale=1.0,
                        weight=1.0,
                        reason="test",
                        label=images.encode_png(label),
                        label_source="wire",
                        classes=tuple(sorted({int(c) for c in label.ravel()})),
                    )
                )
            )
        return [future.result(30).id for future in futures]

    return add
