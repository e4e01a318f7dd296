"""The process of one variant: trains and evaluates it, and writes its result.

Runs as ``python -m dance_ondevice.benchmarks.slimming.variant_main WORK/plan.json VARIANT``. After a kill it
resumes from its last epoch. Each variant has a process of its own, whose peak memory and CPU seconds are
measured.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import torch
from torch import nn
from torch.nn import functional as F

from dance_ondevice.benchmarks.device import device_clock, peak_bytes
from dance_ondevice.benchmarks.slimming import images
from dance_ondevice.benchmarks.slimming.choices import Choices
from dance_ondevice.benchmarks.slimming.first_model import first_model
from dance_ondevice.benchmarks.slimming.plan import (
    Plan,
    Point,
    Trained,
    read_plan,
    read_trained,
    write_json,
)
from dance_ondevice.benchmarks.slimming.recipes import LEARNING_RATES, Recipe, recipe
from dance_ondevice.datasets.registry import open_dataset
from dance_ondevice.energy.choose import Machine, best_meter
from dance_ondevice.energy.reading import Meter
from dance_ondevice.images.codec import resize_area
from dance_ondevice.images.confusion import Matrix, iou_per_class, miou
from dance_ondevice.images.labels import IGNORE
from dance_ondevice.images.scaling import inference_size
from dance_ondevice.models import checkpoint
from dance_ondevice.models.branches import contexts_of, removable_branches, removed_branches
from dance_ondevice.models.card import ModelCard
from dance_ondevice.models.channels import removed_channels
from dance_ondevice.models.cost import count_macs, count_parameters
from dance_ondevice.models.forward import logits, to_tensor
from dance_ondevice.policies.rounds.network_slimming import branch_shares, branch_to_remove
from dance_ondevice.policies.stream.data_slimming import SlimmingRules
from dance_ondevice.runtime.heap import keep_freed
from dance_ondevice.slimming.importance import TaylorImportance, branch_scores
from dance_ondevice.training.batches import TrainingSample, image_size, read_image, read_label
from dance_ondevice.training.cooptimisation import CoTrainer
from dance_ondevice.training.decoded import Decoded
from dance_ondevice.training.evaluation import evaluate
from dance_ondevice.training.stages import BranchPlan, EpochDone
from dance_ondevice.training.trainer import TrainingOptions

#: Number of evaluations, evenly over the epochs.
_POINTS = 8
#: Limit of decoded images and labels in memory: all of CamVid's training set fits.
_DECODED_BYTES = 512 * 1024 * 1024


class _Spent(msgspec.Struct):
    """Costs of the training so far, summed over all processes that took part."""

    seconds: float = 0.0
    joules: float = 0.0
    peak_bytes: int = 0
    curve: list[Point] = []
    done: EpochDone | None = None


def main(arguments: Sequence[str]) -> int:
    """Train the variant unless that is done; returns the exit status."""
    plan, variant = read_plan(Path(arguments[0])), arguments[1]
    folder = plan.folder(variant)
    if plan.trained_file(variant).is_file():
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    keep_freed()
    torch.manual_seed(plan.seed)
    run = _Run(plan, variant)
    source = run.recipe.trained_as
    write_json(plan.trained_file(variant), run.take_over(source) if source else run.train())
    shutil.rmtree(folder / "state", ignore_errors=True)
    return 0


class _Run:
    """One variant's training; owns its model."""

    def __init__(self, plan: Plan, variant: str) -> None:
        self.plan = plan
        self.folder = plan.folder(variant)
        self.recipe: Recipe = recipe(variant, plan.protocol, plan.setting, plan.architecture)
        self.classes = open_dataset(plan.dataset, plan.root).classes
        self.train_samples = images.labelled(plan, "train")
        self.evaluated = {
            split: images.for_inference(
                images.labelled(plan, split), plan, self.recipe.inference_scales, self.train_samples
            )
            for split in plan.evaluated
        }
        self.meter: Meter | None = best_meter(Machine(sysfs=Path("/sys")))[0]

    def train(self) -> Trained:
        """Do the rest of the training and evaluate the result.

        Raises:
            RuntimeError: There was no epoch to train.
        """
        model, card = first_model(self.plan, self.classes)
        trainer = CoTrainer(
            model,
            card,
            self.recipe.stages,
            self._choices(),
            self._options(),
            plan_branches=self._plan_branches,
            decoded=Decoded(_DECODED_BYTES),
        )
        spent = _Spent()
        state = self.folder / "state"
        if (state / "spent.json").is_file():
            spent = msgspec.json.decode((state / "spent.json").read_bytes(), type=_Spent)
            trainer.load_state(state)
        state.mkdir(exist_ok=True)
        clock, joules = device_clock(self.plan.device), self._joules()
        before, joules_before = clock(), joules()
        for last in trainer:
            spent.done = last
            spent.seconds += clock() - before
            spent.joules += joules() - joules_before
            spent.peak_bytes = max(spent.peak_bytes, peak_bytes(self.plan.device))
            if last.epoch == last.epochs or last.epoch * _POINTS // last.epochs > (
                (last.epoch - 1) * _POINTS // last.epochs
            ):
                spent.curve.append(self._point(trainer, last, spent.seconds))
                _report(self.folder.name, spent.curve[-1], last)
            trainer.save_state(state)
            write_json(state / "spent.json", spent)
            before, joules_before = clock(), joules()
        if spent.done is None:
            raise RuntimeError(f"{self.folder}: no epoch was trained")
        return self._result(trainer, spent.done, spent)

    def take_over(self, source: str) -> Trained:
        """Evaluate another variant's model at this one's scales; it has the costs of that training.

        Raises:
            FileNotFoundError: The other variant has not been trained.
        """
        trained = read_trained(self.plan.trained_file(source))
        model, card = checkpoint.load(self.plan.folder(source) / "model")
        model.to(self.plan.device)
        checkpoint.save(self.folder / "model", model, card)
        matrices = {split: self._matrix(model, card, split) for split in self.evaluated}
        shares, infer_macs = self._inference(model)
        return replace(
            trained,
            about=self.recipe.about,
            miou={split: miou(matrix) for split, matrix in matrices.items()},
            iou_per_class={split: self._by_class(matrix) for split, matrix in matrices.items()},
            inference_scales=shares,
            infer_macs=infer_macs,
            curve=(),
        )

    def _choices(self) -> Choices:
        rules = SlimmingRules(seed=self.plan.seed)
        return Choices(self.train_samples, rules, self._losses)

    def _plan_branches(self, model: nn.Module, taylor: TaylorImportance | None) -> BranchPlan:
        """Decide from the images' mean scale how far branches of large context are slimmed, or removed."""
        shares = branch_shares(self.recipe.mean_scale, contexts_of(model))
        removable = set(removable_branches(model))
        worth = {name: value for name, value in branch_scores(model, taylor).items() if name in removable}
        gone = branch_to_remove(worth, shares)
        return BranchPlan(shares, (gone,) if gone else ())

    def _losses(self, model: nn.Module, samples: Sequence[TrainingSample]) -> list[float]:
        """Mean cross-entropy of each sample at its scale."""
        device, losses = next(model.parameters()).device, []
        normalisation = ModelCard(classes=self.classes, macs_at=self.plan.size).normalisation
        model.eval()
        with torch.inference_mode():
            for sample in samples:
                image = resize_area(read_image(sample), sample.scale)
                label = torch.from_numpy(read_label(sample, len(self.classes))).to(device)[None, None]
                small = F.interpolate(label.float(), image.shape[:2], mode="nearest")[:, 0].long()
                scores = logits(model, to_tensor(image, normalisation).to(device)).float()
                losses.append(float(F.cross_entropy(scores, small, ignore_index=IGNORE).nan_to_num()))
        return losses

    def _options(self) -> TrainingOptions:
        return TrainingOptions(
            steps=1,
            num_classes=len(self.classes),
            size=self.plan.size,
            batch_size=self.recipe.batch_size,
            learning_rate=LEARNING_RATES[self.plan.setting] * self.recipe.rate,
            precision=self.plan.precision,
            seed=self.plan.seed,
        )

    def _joules(self) -> Callable[[], float]:
        meter = self.meter
        return (lambda: meter.read(time.monotonic()).joules) if meter is not None else (lambda: 0.0)

    def _matrix(self, model: nn.Module, card: ModelCard, split: str) -> Matrix:
        return evaluate(model, self.evaluated[split], card.normalisation, len(self.classes))

    def _by_class(self, matrix: Matrix) -> dict[str, float | None]:
        return dict(zip(self.classes, iou_per_class(matrix), strict=True))

    def _point(self, trainer: CoTrainer, done: EpochDone, seconds: float) -> Point:
        scores = {split: miou(self._matrix(trainer.model, trainer.card, split)) for split in self.evaluated}
        return Point(epoch=done.epoch, seconds=seconds, macs=done.macs, miou=scores)

    def _inference(self, model: nn.Module) -> tuple[dict[str, float], int]:
        """Share of each scale among the evaluated images, and the mean MACs of inferring one of them."""
        everything = [sample for samples in self.evaluated.values() for sample in samples]
        scales = [sample.scale for sample in everything]
        sizes = [inference_size(image_size(sample), sample.scale) for sample in everything]
        macs = {size: count_macs(model, *size) for size in set(sizes)}
        shares = {f"{s:g}": scales.count(s) / len(scales) for s in sorted(set(scales))}
        return shares, round(sum(macs[size] for size in sizes) / len(sizes))

    def _result(self, trainer: CoTrainer, last: EpochDone, spent: _Spent) -> Trained:
        model, card = trainer.model, trainer.card
        ious = {split: self._by_class(self._matrix(model, card, split)) for split in self.evaluated}
        checkpoint.save(self.folder / "model", model.cpu(), card)
        shares, infer_macs = self._inference(model)
        return Trained(
            about=self.recipe.about,
            epochs=last.epochs,
            samples_seen=last.samples_seen,
            train_seconds=spent.seconds,
            train_macs=last.macs,
            train_joules=spent.joules if self.meter is not None else None,
            meter=self.meter.source if self.meter is not None else "",
            peak_bytes=spent.peak_bytes,
            miou=spent.curve[-1].miou,
            iou_per_class=ious,
            inference_scales=shares,
            infer_macs=infer_macs,
            macs=count_macs(model, *self.plan.size),
            parameters=count_parameters(model),
            curve=tuple(spent.curve),
            widths=removed_channels(model),
            removed_branches=removed_branches(model),
        )


def _report(variant: str, point: Point, done: EpochDone) -> None:
    scores = " ".join(f"{split} {score:.4f}" for split, score in point.miou.items())
    print(
        f"{variant}: epoch {done.epoch}/{done.epochs}, {point.seconds:.0f} s, loss {done.loss or 0:.3f}, "
        f"MACs {done.macs_fraction:.2f}, mIoU {scores}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
