"""Data and network slimming in one training: a sequence of stages, each with its data and its width.

A stage begins by slimming the model to its share of the MACs; the optimiser's moments lose the same
channels. Then its samples are chosen, which may depend on the model at that moment. The learning rate follows
one schedule over all stages. The module uses no clock and evaluates nothing; the caller does, between epochs.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
from torch import nn

from dance_ondevice.documents import DocumentError, decode
from dance_ondevice.files import write_durably
from dance_ondevice.images.masks import STRIDE
from dance_ondevice.models import checkpoint
from dance_ondevice.models.card import ModelCard
from dance_ondevice.models.cost import count_macs
from dance_ondevice.models.layers import batch_norms
from dance_ondevice.models.mapping.mapped import Mapped
from dance_ondevice.slimming.importance import TaylorImportance, scores_by
from dance_ondevice.slimming.sparsity import add_sparsity_gradient, sparsity_factors
from dance_ondevice.training.batches import BatchPlan, TrainingSample
from dance_ondevice.training.decoded import Decoded
from dance_ondevice.training.moments import slim_with_moments
from dance_ondevice.training.stages import BranchPlan, EpochDone, Stage
from dance_ondevice.training.state import StateError
from dance_ondevice.training.trainer import Moments, Trainer, TrainingOptions

log = logging.getLogger(__name__)

_PROGRESS_FILE = "progress.json"
#: Largest excess over a target of MACs that counts as reached, since channels are removed in whole groups.
_REACHED = 1.03
#: Number of batches for Taylor importance.
_TAYLOR_BATCHES = 8

#: (model, importance of its channels) at the beginning of a stage -> the slimming of its branches.
PlanBranches = Callable[[nn.Module, TaylorImportance | None], BranchPlan]
#: (choice of the stage, model at its beginning) -> the samples to train on.
ChooseSamples = Callable[[str, nn.Module], Sequence[TrainingSample]]


class _Progress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Counters that are saved beside the first model of a stage and the state of its trainer."""

    stage: int
    epochs: int
    samples_seen: int
    macs: int


@dataclass(frozen=True)
class _Running:
    """The present stage, and the model at its beginning, with which its samples were chosen."""

    trainer: Trainer
    entry: nn.Module


class CoTrainer:
    """Trains a model through stages, as an iterator over epochs that its caller may stop after any epoch.

    ``model`` is trained in place and stays the same object; parameters that lose channels are replaced in it.
    """

    def __init__(
        self,
        model: nn.Module,
        card: ModelCard,
        stages: Sequence[Stage],
        choose: ChooseSamples,
        options: TrainingOptions,
        *,
        plan_branches: PlanBranches | None = None,
        decoded: Decoded | None = None,
    ) -> None:
        """Plan the training; nothing is trained yet.

        Args:
            model: Model to train.
            card: The model's card; MACs are counted at its ``macs_at``, fractions are relative to its
                ``unslimmed_macs``.
            stages: Stages in order, at least one.
            choose: Gives a stage's samples; must depend on its arguments alone, or resuming fails.
            options: Options of every stage; ``size`` is the full size, ``steps`` and ``span`` are set by the
                stage.
            decoded: Cache of decoded images and labels for all stages; None: a cache of the default size.
            plan_branches: Decides the slimming of multi-scale branches; None: they are slimmed like the rest.

        Raises:
            ValueError: There is no stage, or the options have no size.
        """
        if not stages or options.size is None:
            raise ValueError("co-optimised training needs at least one stage, and options with a size")
        self.model = model
        self.card = _described(model, card)
        self._stages = tuple(stages)
        self._choose = choose
        self._plan_branches = plan_branches
        self._decoded = decoded if decoded is not None else Decoded()
        self._options = options
        self._size = options.size
        self._index = 0
        self._epochs_before = 0
        self._samples_before = 0
        self._macs_before = 0
        self._running: _Running | None = None

    @property
    def epochs(self) -> int:
        """Number of epochs of all stages."""
        return sum(stage.epochs for stage in self._stages)

    def __iter__(self) -> Iterator[EpochDone]:
        """Do the rest of the training, yielding after each epoch.

        Raises:
            TrainingDiverged: The loss is not finite.
            SampleError: A sample cannot be used.
            NotPrunable: A stage needs fewer MACs and the model cannot be slimmed.
        """
        while self._index < len(self._stages):
            trainer = (self._running or self._begin(None, None)).trainer
            stage = self._stages[self._index]
            per_epoch = trainer.plan.steps_per_epoch
            while trainer.step < trainer.options.steps:
                done = trainer.step // per_epoch + 1
                loss = _run(trainer, done * per_epoch)
                yield EpochDone(
                    epoch=self._epochs_before + done,
                    epochs=self.epochs,
                    stage=self._index,
                    loss=loss,
                    samples_seen=self._samples_before + trainer.samples_seen,
                    macs=self._macs_before + trainer.macs,
                    macs_fraction=self.card.macs_fraction,
                )
            self._finish(trainer, stage)

    def save_state(self, directory: Path) -> None:
        """Save the state of the training; call it between epochs.

        After a kill during the write either this state or the previous one is there.
        """
        if self._running is None:
            raise RuntimeError("there is nothing to save before the first epoch")
        entry = directory / f"stage-{self._index}"
        if not (entry / "model.safetensors").is_file():
            checkpoint.save(entry, self._running.entry, self.card)
        self._running.trainer.save_state(entry / "trainer")
        progress = _Progress(self._index, self._epochs_before, self._samples_before, self._macs_before)
        write_durably(directory / _PROGRESS_FILE, msgspec.json.encode(progress))

    def load_state(self, directory: Path) -> None:
        """Resume the training that ``save_state`` saved; the model is replaced by the saved one.

        Raises:
            StateError: There is no state, it is damaged, or it is of another training.
            CheckpointError: The stage's first model cannot be read.
        """
        try:
            progress = decode((directory / _PROGRESS_FILE).read_bytes(), _Progress)
        except (OSError, DocumentError) as error:
            raise StateError(f"{directory}: no saved training to go on with: {error}") from error
        if progress.stage >= len(self._stages):
            raise StateError(f"{directory}: the saved training has more stages than this one")
        entry = directory / f"stage-{progress.stage}"
        device = next(self.model.parameters()).device
        self.model, self.card = checkpoint.load(entry)
        self.model.to(device)
        self._index, self._epochs_before = progress.stage, progress.epochs
        self._samples_before, self._macs_before = progress.samples_seen, progress.macs
        self._begin_with(None).trainer.load_state(entry / "trainer")

    def _begin(self, moments: Moments | None, taylor: TaylorImportance | None) -> _Running:
        """Slim the model for the stage, choose the samples and create the trainer."""
        stage = self._stages[self._index]
        target = round(stage.macs_fraction * self.card.unslimmed_macs)
        if target * _REACHED < self.card.macs:
            branches = self._plan_branches(self.model, taylor) if self._plan_branches else BranchPlan()
            moments = slim_with_moments(
                self.model,
                moments or {},
                target_macs=target,
                size=self.card.macs_at,
                scores=scores_by(stage.importance, self.model, taylor) if taylor else None,
                branches=branches,
            )
            self.card = _described(self.model, self.card)
        return self._begin_with(moments)

    def _begin_with(self, moments: Moments | None) -> _Running:
        """Create the stage's trainer for the present model."""
        stage, model = self._stages[self._index], self.model
        frozen = freeze(model, stage.frozen)
        model.zero_grad()  # gradients of the previous stage would be copied too
        entry = copy.deepcopy(model)
        samples = self._choose(stage.choice, model)
        options = self._stage_options(stage, samples)
        trainer = Trainer(
            model,
            samples,
            options,
            self.card.normalisation,
            after_backward=_pressing(model, stage.sparsity),
            decoded=self._decoded,
            resting=(*frozen, *(batch_norms(model) if stage.fixed_statistics else ())),
        )
        if moments:
            trainer.adopt_moments(moments)
        self._running = _Running(trainer, entry)
        return self._running

    def _stage_options(self, stage: Stage, samples: Sequence[TrainingSample]) -> TrainingOptions:
        before = sum(s.epochs for s in self._stages[: self._index])
        size = _window(self._size, stage.window)
        covered = max(side / full for side, full in zip(size, self._size, strict=True))
        options = replace(
            self._options,
            size=size,
            zoom=(stage.zoom[0] / covered, stage.zoom[1] / covered),
            seed=self._options.seed + self._index,
            span=(before / self.epochs, (before + stage.epochs) / self.epochs),
        )
        return replace(options, steps=stage.epochs * BatchPlan(samples, options).steps_per_epoch)

    def _finish(self, trainer: Trainer, stage: Stage) -> None:
        self._epochs_before += stage.epochs
        self._samples_before += trainer.samples_seen
        self._macs_before += trainer.macs
        self._running = None
        self._index += 1
        if self._index < len(self._stages):
            moments, following = trainer.moments(), self._stages[self._index]
            self._begin(moments, _taylor(trainer) if following.importance != "bn_scale" else None)


def freeze(model: nn.Module, names: Sequence[str]) -> tuple[nn.Module, ...]:
    """Make all parameters trainable except those of the named submodules; a class map is looked through.

    Returns:
        The named submodules.

    Raises:
        ValueError: The model has no such submodule; the message names the submodules at the top.
    """
    modules = dict((model.network if isinstance(model, Mapped) else model).named_modules())
    for name in names:
        if name not in modules:
            choice = ", ".join(child for child, _ in model.named_children())
            raise ValueError(f"{type(model).__name__} has no submodule {name!r} to freeze; it has {choice}")
    model.requires_grad_(True)
    frozen = tuple(modules[name] for name in names)
    for module in frozen:
        module.requires_grad_(False)
    return frozen


def _window(full: tuple[int, int], share: float) -> tuple[int, int]:
    """About ``share`` of the full (height, width), in multiples of the models' stride to avoid padding."""
    if share == 1:
        return full
    height, width = (max(STRIDE, round(side * share / STRIDE) * STRIDE) for side in full)
    return height, width


def _described(model: nn.Module, card: ModelCard) -> ModelCard:
    """Return the card with the model's present MACs and parameters."""
    macs = count_macs(model, *card.macs_at)
    return replace(card, macs=macs, unslimmed_macs=card.unslimmed_macs or macs)


def _pressing(model: nn.Module, strength: float) -> Callable[[], None] | None:
    if strength == 0:
        return None
    factors = sparsity_factors(model)
    return lambda: add_sparsity_gradient(model, strength, factors)


def _taylor(trainer: Trainer) -> TaylorImportance:
    """Compute the importance of the present model's channels over the first batches of a training."""
    found = TaylorImportance(trainer.model)
    for step in range(min(_TAYLOR_BATCHES, trainer.options.steps)):
        trainer.probe(step)
        found.accumulate()
    return found


def _run(trainer: Trainer, until: int) -> float | None:
    """Train up to step ``until``; returns the mean loss, None if no step had a labelled pixel."""
    losses = []
    if trainer.step < until:
        for report in trainer:
            losses.append(report.loss)
            if report.step >= until:
                break
    return sum(losses) / len(losses) if losses else None
