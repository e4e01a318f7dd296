"""A network, samples and options so small that they train in a moment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dance_ondevice.images.codec import encode_jpeg, encode_png
from dance_ondevice.images.labels import IGNORE
from dance_ondevice.models.card import Normalisation
from dance_ondevice.training.batches import TrainingSample
from dance_ondevice.training.trainer import TrainingOptions

SIZE = (48, 64)
NORMALISATION = Normalisation()


class TinyNet(nn.Module):
    """Two convolutions with normalisation, dropout, and an auxiliary output while training."""

    def __init__(self, classes: int = 3, *, auxiliary: bool = True) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2)
        )
        self.deep = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Conv2d(8, classes, 1)
        self.auxiliary = nn.Conv2d(8, classes, 1) if auxiliary else None

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        shallow = self.body(x)
        logits = self.head(self.deep(shallow))
        if self.training and self.auxiliary is not None:
            return logits, self.auxiliary(shallow)
        return logits


def tiny(seed: int = 0, **arguments: bool) -> TinyNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TinyNet(**arguments).eval()


def rectangles(
    folder: Path, name: str, seed: int, size: tuple[int, int] = SIZE, **fields: Any
) -> TrainingSample:
    """Red and blue rectangles (classes 1 and 2) on green noise (class 0), with a border to ignore."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 60, (*size, 3), dtype=np.uint8)
    image[..., 1] += 120
    label = np.zeros(size, np.uint8)
    for class_id, channel in ((1, 2), (2, 0)):
        top, left = rng.integers(0, size[0] // 2), rng.integers(0, size[1] // 2)
        box = np.s_[top : top + size[0] // 3, left : left + size[1] // 3]
        image[box] = rng.integers(0, 60, image[box].shape, dtype=np.uint8)
        image[(*box, channel)] += 150
        label[box] = class_id
    label[:2] = IGNORE
    (folder / f"{name}.jpg").write_bytes(encode_jpeg(image))
    (folder / f"{name}.png").write_bytes(encode_png(label))
    return TrainingSample(folder / f"{name}.jpg", folder / f"{name}.png", **fields)


def options(**fields: Any) -> TrainingOptions:
    return replace(TrainingOptions(steps=6, num_classes=3, batch_size=4, learning_rate=0.02), **fields)


def state_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
