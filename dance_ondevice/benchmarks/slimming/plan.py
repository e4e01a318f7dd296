"""What one call of ``bench slimming`` measures: written as JSON for the process of each variant."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from dance_ondevice.benchmarks.slimming.recipes import Protocol, Setting
from dance_ondevice.files import write_whole
from dance_ondevice.training.precision import Precision

#: Splits that are evaluated on, as far as their labels are published; never trained on.
EVALUATED: dict[str, tuple[str, ...]] = {
    "camvid": ("val", "test"),
    "camvid32": ("val", "test"),
    "cityscapes": ("val",),
    "bdd100k": ("val",),
    "acdc": ("val",),
    "idd_lite": ("val",),
}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One call; the same for all its variants.

    Attributes:
        dataset: name of the data set.
        root: its folder.
        sequences: train on these alone; all of the training split when empty.
        architecture: name in the registry; of a model that the user brought, what its card calls it.
        setting: from scratch, or from the weights in ``init``.
        init: a checkpoint; "" from scratch.
        protocol: how long.
        seed: of the weights, the order and the augmentation.
        device: "cpu" or "cuda".
        precision: of the convolutions in training.
        size: (height, width) that images are fitted to.
        work: folder for what a killed run goes on from.
        conditions: of the data set, to take these alone; all when empty.
    """

    dataset: str
    root: Path
    sequences: tuple[str, ...]
    architecture: str
    setting: Setting
    init: str
    protocol: Protocol
    seed: int
    device: str
    precision: Precision
    size: tuple[int, int]
    work: Path
    conditions: tuple[str, ...] = ()

    @property
    def evaluated(self) -> tuple[str, ...]:
        """Splits that are evaluated on."""
        return EVALUATED[self.dataset]

    def folder(self, variant: str) -> Path:
        """Where a variant keeps its state and its result."""
        return self.work / variant

    def trained_file(self, variant: str) -> Path:
        """What a variant's training came to; there once it is done."""
        return self.folder(variant) / "trained.json"


@dataclass(frozen=True, kw_only=True)
class Point:
    """Scores somewhere along a training.

    Attributes:
        epoch: epochs done.
        seconds: CPU (GPU: wall) seconds of training so far.
        macs: multiply-accumulates of training so far.
        miou: by split, in [0, 1].
    """

    epoch: int
    seconds: float
    macs: int
    miou: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A variant's training and what came of it.

    Attributes:
        about: the variant in words.
        epochs: passes over the samples chosen.
        samples_seen: images trained on, repetitions counted.
        train_seconds: CPU (GPU: wall) seconds: choosing samples, slimming and training; not evaluating.
        train_macs: multiply-accumulates, choosing samples excluded.
        train_joules: where a meter exists, of the whole machine above nothing; else None.
        meter: what measured the joules; "" for nothing.
        peak_bytes: most memory of the process (GPU: of its allocator).
        miou: by split, in [0, 1].
        iou_per_class: by split and class.
        inference_scales: scale -> share of the evaluated images.
        infer_macs: of one image, the mean over the evaluated ones.
        macs: of one image at full size.
        parameters: that inference uses.
        curve: scores along the way, the last of them the final ones.
        widths: layer -> (output channels built with, left); 0 left where its branch is gone.
        removed_branches: names of multi-scale branches that are gone.
    """

    about: str
    epochs: int
    samples_seen: int
    train_seconds: float
    train_macs: int
    train_joules: float | None
    meter: str
    peak_bytes: int
    miou: dict[str, float]
    iou_per_class: dict[str, dict[str, float | None]]
    inference_scales: dict[str, float]
    infer_macs: int
    macs: int
    parameters: int
    curve: tuple[Point, ...]
    widths: dict[str, tuple[int, int]]
    removed_branches: tuple[str, ...] = ()


def write_json(path: Path, value: object) -> None:
    """Write a value; the file appears whole or not at all."""
    write_whole(path, msgspec.json.encode(value, enc_hook=str))


def read_plan(path: Path) -> Plan:
    """Read what :func:`write_json` wrote of a plan."""
    return msgspec.json.decode(path.read_bytes(), type=Plan, dec_hook=lambda kind, value: kind(value))


def read_trained(path: Path) -> Trained:
    """Read what :func:`write_json` wrote of a trained variant."""
    return msgspec.json.decode(path.read_bytes(), type=Trained)
