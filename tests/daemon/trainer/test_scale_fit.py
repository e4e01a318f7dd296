"""What a candidate loses on smaller images is learnt from samples, and says when it does not know."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dance_ondevice.daemon.children import jobs
from dance_ondevice.daemon.trainer.scale_fit import with_scale_loss
from dance_ondevice.daemon.trainer.serving import Serving
from dance_ondevice.images.codec import encode_png
from dance_ondevice.learnt_loss import LossWeights
from dance_ondevice.models.card import ModelCard

CARD = ModelCard(classes=("dark", "bright"), macs_at=(48, 64), scale_loss=None)


def bright_or_dark() -> nn.Module:
    """Tells each pixel by its own brightness: what it loses on smaller images are fine stripes alone."""
    layer = nn.Conv2d(3, 2, 1)
    with torch.no_grad():
        layer.weight[0], layer.weight[1] = -1.0, 1.0
        layer.bias.zero_()
    return layer.eval()


def striped(folder: Path, number: int, share: float) -> jobs.JobSample:
    """An image whose upper part has stripes of a pixel, and whose label is what is bright."""
    bright = np.zeros((48, 64), np.uint8)
    bright[:, 32:] = 1
    rows = round(48 * share)
    bright[:rows] = np.arange(64) % 2
    folder.mkdir(exist_ok=True)
    image, label = folder / f"{number}.png", folder / f"{number}.label.png"
    image.write_bytes(encode_png(np.repeat(bright[:, :, None] * 255, 3, axis=2)))
    label.write_bytes(encode_png(bright))
    return jobs.JobSample(id=str(number), image=str(image), label=str(label))


def job(folder: Path, samples: list[jobs.JobSample], groups: list[int]) -> jobs.Job:
    paths = dict.fromkeys(("live", "frozen", "out", "checkpoint", "precision_cache"), "")
    return jobs.Job(
        **paths,
        round="r7",
        n_classes=2,
        train=(),
        rehearsal=(),
        gate=(),
        target_macs=None,
        size=(48, 64),
        steps=1,
        batch_size=2,
        learning_rate=0.1,
        precision="fp32",
        threads=1,
        seed=0,
        scale_fit=jobs.ScaleFit(samples=tuple(samples), groups=tuple(groups), scales=(0.5, 0.75)),
    )


def samples(folder: Path, count: int) -> list[jobs.JobSample]:
    return [striped(folder, n, share) for n, share in enumerate(np.linspace(0, 0.8, count)[::-1])]


def test_stripes_are_learnt_to_be_lost_and_a_missing_file_costs_itself(tmp_path: Path) -> None:
    found = samples(tmp_path, 40)
    Path(found[3].image).unlink()
    Path(found[4].label).write_bytes(b"no label")
    fit = with_scale_loss(CARD, bright_or_dark(), job(tmp_path, found, [n % 5 for n in range(40)]), Serving())
    assert fit.scale_loss is not None
    assert (fit.scale_loss.frames, fit.scale_loss.origin) == (38, "r7")
    assert fit.scale_loss.agreement == pytest.approx(1.0, abs=0.05)
    assert fit.scale_loss.better_than_chance


def test_too_few_samples_or_times_leave_what_the_parent_knew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = LossWeights(scales=(0.5,), weights=((0.0,),), bias=(0.0,), typical=(0.0,), spread=(1.0,))
    card = ModelCard(classes=CARD.classes, macs_at=(48, 64), scale_loss=earlier)
    found = samples(tmp_path, 30)
    for few, groups in ((found[:20], list(range(20))), (found, [0] * 15 + [1] * 15)):
        assert with_scale_loss(card, bright_or_dark(), job(tmp_path, few, groups), Serving()) is card
        assert "needed are 24 of 3" in capsys.readouterr().err
