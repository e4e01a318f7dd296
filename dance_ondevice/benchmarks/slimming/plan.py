"""The plan of one call of ``bench slimming``, which is written as JSON for the process of each variant."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from dance_ondevice.benchmarks.slimming.recipes import Protocol, Setting
from dance_ondevice.files import write_whole
from dance_ondevice.training.precision import Precision

#: Splits for evaluation by data set, where their labels are published; none is trained on.
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
    """Options of one call, which are the same for all of its variants.

    Attributes:
        dataset: Name of the data set.
        root: Folder of the data set.
        sequences: Sequences to train on; all of the training split when empty.
        architecture: Name in the registry; the name on its card for a model that the user brought.
        setting: "scratch", or "finetune" from the weights in ``init``.
        init: Folder of the checkpoint to start from; "" from scratch.
        protocol: Length of the training, "quick" or "full".
        seed: Seed of the weights, the order and the augmentation.
        device: "cpu" or "cuda".
        precision: Precision of the convolutions in training.
        size: (height, width) that images are fitted to.
        work: Folder for the state from which a killed run resumes.
        conditions: Conditions of the data set to use; all when empty.
        by_drive: Whether the drives of the training split are divided into those to train on and those to
            evaluate on, see ``images.drives``; other splits are then not read.
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
    by_drive: bool = False

    @property
    def evaluated(self) -> tuple[str, ...]:
        """Splits for evaluation."""
        return ("val",) if self.by_drive else EVALUATED[self.dataset]

    def folder(self, variant: str) -> Path:
        """Folder of a variant's state and result."""
        return self.work / variant

    def trained_file(self, variant: str) -> Path:
        """File of a variant's result, which exists once its training is done."""
        return self.folder(variant) / "trained.json"


@dataclass(frozen=True, kw_only=True)
class Point:
    """Scores after some epochs of a training.

    Attributes:
        epoch: Epochs done.
        seconds: CPU (GPU: wall) seconds of training so far.
        macs: Multiply-accumulates of training so far.
        miou: mIoU by split, in [0, 1].
    """

    epoch: int
    seconds: float
    macs: int
    miou: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The costs and results of a variant's training.

    Attributes:
        about: Description of the variant.
        epochs: Passes over the chosen samples.
        samples_seen: Images trained on, repetitions counted.
        train_seconds: CPU (GPU: wall) seconds of choosing samples, slimming and training, without evaluation.
        train_macs: Multiply-accumulates, without those of choosing samples.
        train_joules: Joules of the whole machine including its idle power; None without a meter.
        meter: Name of the meter of the joules; "" without one.
        peak_bytes: Peak memory of the process (GPU: of its allocator).
        miou: mIoU by split, in [0, 1].
        iou_per_class: IoU by split and class, in [0, 1]; None for a class in neither labels nor masks.
        inference_scales: Scale -> share of the evaluated images.
        infer_macs: Multiply-accumulates of one image, the mean over the evaluated ones.
        macs: Multiply-accumulates of one image at full size.
        parameters: Parameters that inference uses.
        curve: Scores during the training, the last of them the final ones.
        widths: Layer -> (output channels before slimming, and after); 0 after where its branch was removed.
        removed_branches: Names of the multi-scale branches that were removed.
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
    """Write a value as JSON; the file is complete or not there at all.

    Raises:
        OSError: The file cannot be written.
    """
    write_whole(path, msgspec.json.encode(value, enc_hook=str))


def read_plan(path: Path) -> Plan:
    """Read a plan that :func:`write_json` wrote."""
    return msgspec.json.decode(path.read_bytes(), type=Plan, dec_hook=lambda kind, value: kind(value))


def read_trained(path: Path) -> Trained:
    """Read a variant's result that :func:`write_json` wrote."""
    return msgspec.json.decode(path.read_bytes(), type=Trained)
