"""The slimming step of a round: branches by the size of the images, and fresh statistics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dance_ondevice.daemon.children.jobs import Job
from dance_ondevice.daemon.config.sections import Config, Model, NetworkSlimming
from dance_ondevice.daemon.planning import job as round_job
from dance_ondevice.daemon.trainer.slimming import slim_candidate
from dance_ondevice.images.codec import encode_png
from dance_ondevice.models import checkpoint
from dance_ondevice.models.card import CARD_FILE, ModelCard, Normalisation
from dance_ondevice.models.cost import count_macs
from dance_ondevice.models.registry import build
from dance_ondevice.policies.rounds.start import RoundPlan
from dance_ondevice.training.batches import TrainingSample

SIZE = (64, 96)
WIDTHS = {"downsample": [8, 8, 16], "bottlenecks": [16, 16, 256], "repeats": [1, 1, 1], "fusion": 16}


pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread_one_seed")]


def model() -> nn.Module:
    return build("fastscnn", 3, WIDTHS).eval()


def job(target_macs: int | None) -> Job:
    paths = dict.fromkeys(("round", "live", "frozen", "out", "checkpoint", "precision_cache"), "")
    return Job(
        **paths,
        n_classes=3,
        train=(),
        rehearsal=(),
        gate=(),
        target_macs=target_macs,
        size=SIZE,
        steps=1,
        batch_size=2,
        learning_rate=0.1,
        precision="fp32",
        threads=1,
        seed=0,
    )


@pytest.mark.parametrize("base_at", [(32, 48), (64, 96), (128, 160)])
def test_a_base_of_another_size_is_cut_by_its_step(tmp_path: Path, base_at: tuple[int, int]) -> None:
    """MACs are counted at the size that the base's card names, whatever model.size is."""
    config = Config(
        model=Model(classes=("a", "b", "c"), size=(96, 64)), network_slimming=NetworkSlimming(step=0.1)
    )
    folder = tmp_path / "live"
    base = ModelCard(
        version="v0001",
        architecture="fastscnn",
        arguments=WIDTHS,
        classes=config.model.classes,
        macs_at=base_at,
    )
    card = checkpoint.save(folder, model(), base)
    target = round_job.slim_target(config, json.loads((folder / CARD_FILE).read_bytes()), [])
    made = round_job.build(
        config,
        tmp_path / "rounds" / "r1",
        live=folder,
        frozen=folder,
        samples=lambda ids: (),
        plan=RoundPlan(train=(), rehearsal=(), gate=(), reason=""),
        steps=1,
        learning_rate=0.1,
        scales={},
        target_macs=target,
        seed=0,
    )
    candidate = checkpoint.load(folder)[0]

    done = slim_candidate(candidate, made, samples(tmp_path, 1.0), Normalisation())

    assert made.size == base_at
    assert done.macs_before == card.macs
    assert done.macs_after / done.macs_before == pytest.approx(0.9, abs=0.03)


def samples(folder: Path, scale: float, count: int = 4) -> list[TrainingSample]:
    random, found = np.random.default_rng(0), []
    for index in range(count):
        image, label = folder / f"{index}.png", folder / f"{index}.label.png"
        image.write_bytes(encode_png(random.integers(0, 256, (*SIZE, 3), dtype=np.uint8)))
        label.write_bytes(encode_png(np.zeros(SIZE, np.uint8)))
        found.append(TrainingSample(image=image, label=label, scale=scale))
    return found


def bins(found: nn.Module) -> list[int]:
    return [branch.conv.out_channels for branch in found.pyramid.branches]


def test_the_smaller_the_images_the_more_large_contexts_lose(tmp_path: Path) -> None:
    widths = {}
    for scale in (1.0, 0.5):
        candidate = model()
        target = round(0.6 * count_macs(candidate, *SIZE))
        done = slim_candidate(candidate, job(target), samples(tmp_path, scale), Normalisation())
        assert done.note == ""
        assert done.macs_after == count_macs(candidate, *SIZE) == pytest.approx(target, rel=0.03)
        widths[scale] = bins(candidate)
    # All alike but for the rounding of widths to multiples of 16.
    assert max(widths[1.0]) - min(widths[1.0]) <= 16
    assert widths[0.5] == sorted(widths[0.5])
    assert widths[0.5][0] < widths[1.0][0]
    assert widths[0.5][-1] > widths[1.0][-1]


def test_its_statistics_are_those_of_the_rounds_images(tmp_path: Path) -> None:
    candidate = model()
    target = round(0.7 * count_macs(candidate, *SIZE))
    taken = samples(tmp_path, 1.0)
    slim_candidate(candidate, job(target), taken, Normalisation())
    first = candidate.downsample[0]
    assert int(first.norm.num_batches_tracked) == 2  # four images in twos
    assert not torch.equal(first.norm.running_mean, torch.zeros_like(first.norm.running_mean))
    assert not candidate.training


def test_a_model_that_cannot_be_slimmed_is_left_as_it_is(tmp_path: Path) -> None:
    candidate = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    done = slim_candidate(candidate, job(1), samples(tmp_path, 1.0), Normalisation())
    assert done.note.startswith("trained unslimmed: ")
    assert done.macs_before == done.macs_after == count_macs(candidate, *SIZE)
    assert int(candidate[1].num_batches_tracked) == 0


CONFIG = Config(network_slimming=NetworkSlimming(target_macs_fraction=0.5, step=0.1))


def row(before: int, after: int | None, outcome: str) -> dict[str, Any]:
    return {"macs_before": before, "macs_after": after, "outcome": outcome}


@pytest.mark.parametrize(
    ("enabled", "published", "target"),
    [("auto", False, 900), ("auto", True, None), (True, True, 900), (False, False, None)],
)
def test_a_published_network_is_slimmed_where_that_is_asked_for(
    *, enabled: Any, published: bool, target: int | None
) -> None:
    config = Config(network_slimming=NetworkSlimming(enabled=enabled))
    card = {"macs": 1000, "class_map": {"base": ["road"]} if published else None}
    assert round_job.slim_target(config, card, []) == target


def test_the_next_step_follows_from_the_table_of_rounds() -> None:
    card = {"macs": 1000, "unslimmed_macs": 1000}

    def target(*past: dict[str, Any]) -> int | None:
        return round_job.slim_target(CONFIG, card, past)

    assert target() == 900
    assert target(row(1000, 895, "rejected")) is None  # it rests
    assert target(row(1000, 895, "rejected"), row(1000, 1000, "promoted")) == 950  # half of it
    assert target(row(1000, 895, "failed"), row(1000, None, "failed")) is None  # the second one never slimmed
    refused = [
        entry
        for after in (900, 950, 975, 987)
        for entry in (row(1000, after, "rejected"), row(1000, 1000, "rejected"))
    ]
    assert target(*refused[:6]) == 987
    assert target(*refused) is None  # none is tried twice on the same model
    assert target(*refused, row(1000, 1000, "promoted")) == 987
