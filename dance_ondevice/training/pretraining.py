"""Pretraining of a base model on labelled images, from scratch or from another checkpoint."""

from __future__ import annotations

import hashlib
import itertools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dance_ondevice.datasets import street_variety
from dance_ondevice.datasets.street import StreetCamera
from dance_ondevice.images.codec import encode_jpeg, encode_label
from dance_ondevice.images.confusion import iou_per_class, miou
from dance_ondevice.models import checkpoint, registry, weights
from dance_ondevice.models.card import ModelCard
from dance_ondevice.models.layers import batch_norms
from dance_ondevice.models.mapping.class_map import read_class_map
from dance_ondevice.models.mapping.mapped import mapped, unmapped
from dance_ondevice.training.batches import BatchPlan, TrainingSample
from dance_ondevice.training.evaluation import evaluate
from dance_ondevice.training.precision import Precision, measure_precision
from dance_ondevice.training.trainer import StepReport, Trainer, TrainingOptions

log = logging.getLogger(__name__)

#: Learning rate with a class map, where all weights are trained ones.
_MAPPED_RATE = 1e-3


class PretrainError(ValueError):
    """Error: the options contradict each other or the checkpoint; the message says how."""


@dataclass(frozen=True, kw_only=True)
class PretrainOptions:
    """What to train and how.

    Attributes:
        architecture: Name in the registry; of the model in ``init`` when there is one.
        factory: "package.module:callable" that builds the network in place of an architecture; "" for none.
        classes: Class names in the order of their ids.
        size: (height, width) that images are fitted and cropped to.
        epochs: Passes over the samples; 0 only writes what ``init`` and ``class_map`` make.
        batch_size: Images a batch.
        learning_rate: At the end of the warm-up; None: the trainer's default, a fifth of it with a class map.
        seed: Decides the fresh weights, the order and the augmentation.
        precision: "auto" measures which is faster here.
        init: Checkpoint whose weights to start from, or with a class map a file of weights alone; None: fresh
            weights. Where it knows other classes, its heads are fresh.
        class_map: File that says which classes of ``init`` stand for each of ``classes``, so that its heads
            stay; None: there is none.
        half: Store the weights in 16 bits, which halves the file.
        dataset: What the samples are, for the card.
    """

    architecture: str
    classes: tuple[str, ...]
    size: tuple[int, int]
    epochs: int
    batch_size: int = 8
    learning_rate: float | None = None
    seed: int = 0
    precision: Precision | Literal["auto"] = "auto"
    init: Path | None = None
    class_map: Path | None = None
    half: bool = False
    factory: str = ""
    dataset: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EpochReport:
    """One pass over the samples; ``loss`` is the mean over its steps, None when none had a labelled pixel."""

    epoch: int
    epochs: int
    loss: float | None


@dataclass(frozen=True, kw_only=True)
class Watcher:
    """Callbacks that report progress; each may be left out.

    Attributes:
        on_step: After each optimiser step.
        on_epoch: After each epoch.
        on_evaluated: With the set's name, samples done and samples in all, while evaluating.
        is_over: Asked after each optimiser step; True ends the training there, and the model is saved.
    """

    on_step: Callable[[StepReport], None] = lambda _: None
    on_epoch: Callable[[EpochReport], None] = lambda _: None
    on_evaluated: Callable[[str, int, int], None] = lambda *_: None
    is_over: Callable[[], bool] = lambda: False


def pretrain(
    train: Sequence[TrainingSample],
    validation: Mapping[str, Sequence[TrainingSample]],
    options: PretrainOptions,
    out: Path,
    *,
    watcher: Watcher | None = None,
    created_at: float | None = None,
    clock: Callable[[], float] = time.monotonic,
    cpu_clock: Callable[[], float] = time.process_time,
) -> ModelCard:
    """Train a model and save it.

    Args:
        train: What to train on.
        validation: Set name -> samples to evaluate the trained model on; the scores go to the card.
        options: What to train and how.
        out: Folder for ``model.safetensors`` and ``card.json``; written at the end, over an older checkpoint.
        watcher: Callbacks for the progress.
        created_at: Wall-clock time for the card, in seconds.
        clock: Monotonic seconds.
        cpu_clock: CPU seconds of this process.

    Returns:
        The card as saved; its ``training`` holds everything about how the model was made.

    Raises:
        PretrainError: ``options.init`` has another architecture than asked for, or none was given where one
            is needed.
        CheckpointError: ``options.init`` cannot be loaded.
        WeightsError: ``options.init`` is a file of weights that do not fit.
        ClassMapError: The class map cannot be read, or does not fit.
        UnknownArchitecture: There is no such architecture.
        FactoryError: The factory cannot be found, fails, or makes no model that segments.
        SampleError: A sample cannot be used.
        TrainingDiverged: The loss is no longer finite.
        OSError: ``out`` cannot be written.
    """
    watcher = watcher or Watcher()
    started, cpu_started = clock(), cpu_clock()
    model, start = _start(options)
    precision = options.precision
    if options.epochs < 1:
        precision = "fp32"
    elif precision == "auto":
        precision = measure_precision(model, options.size, options.batch_size, clock=clock)
    training = _training_options(train, options, precision)
    losses: list[float | None] = []
    last: StepReport | None = None
    step = 0
    if options.epochs:
        trainer = Trainer(model, train, training, start.normalisation, resting=_resting(model, options))
        losses, last = _train(trainer, options.epochs, watcher)
        step = trainer.step
    made: dict[str, Any] = {
        "dataset": dict(options.dataset),
        "samples": len(train),
        "epochs": options.epochs,
        "steps": step,
        "samples_seen": last.samples_seen if last else 0,
        "batch_size": training.batch_size,
        "size": list(options.size),
        "learning_rate": training.learning_rate,
        "weight_decay": training.weight_decay,
        "zoom": list(training.zoom),
        "jitter": training.jitter,
        "class_weighting": training.class_weighting,
        "seed": options.seed,
        "precision": precision,
        "init": start.version if options.init else None,
        "macs": last.macs if last else 0,
        "loss": losses[-1] if losses else None,
        "loss_per_epoch": losses,
        "seconds": clock() - started,
        "cpu_seconds": cpu_clock() - cpu_started,
        "threads": torch.get_num_threads(),
        "device": str(next(model.parameters()).device),
    }
    made["validation"] = {
        name: _score(name, model, samples, start, watcher) for name, samples in validation.items()
    }
    kind = start.architecture or start.factory.partition(":")[0]
    card = replace(start, version=_version(kind, train, made), created_at=created_at, training=made)
    card = checkpoint.save(out, model, card, half=options.half)
    log.info(
        "model saved path=%s version=%s loss=%s seconds=%.1f",
        out,
        card.version,
        made["loss"],
        made["seconds"],
    )
    return card


def render_street(
    folder: Path,
    frames: range,
    conditions: Sequence[str],
    *,
    seed: int,
    size: tuple[int, int],
    on_frame: Callable[[], None] = lambda: None,
) -> list[TrainingSample]:
    """Write frames of the synthetic street camera to files.

    Args:
        folder: Made when missing.
        frames: Frame numbers, rendered once a condition.
        conditions: Of ``street.CONDITIONS``.
        seed: The camera's.
        size: (height, width) of the frames.
        on_frame: Called after each frame.
    """
    folder.mkdir(parents=True, exist_ok=True)
    camera = StreetCamera(seed=seed, height=size[0], width=size[1])
    samples = []
    for condition, index in itertools.product(conditions, frames):
        image, label = camera.render(index, condition)
        samples.append(_write(folder / f"{condition}_{index:06d}", image, label))
        on_frame()
    return samples


def render_varied(
    folder: Path, count: int, *, seed: int, size: tuple[int, int], on_frame: Callable[[], None] = lambda: None
) -> list[TrainingSample]:
    """Write ``count`` frames of synthetic streets that all differ to files; see ``street_variety.frames``.

    Args:
        folder: Made when missing.
        count: How many frames.
        seed: Of the streets.
        size: (height, width) of the frames.
        on_frame: Called after each frame.
    """
    folder.mkdir(parents=True, exist_ok=True)
    samples = []
    for number, (image, label) in enumerate(street_variety.frames(count, seed=seed, size=size)):
        samples.append(_write(folder / f"varied_{seed}_{number:06d}", image, label))
        on_frame()
    return samples


def _write(stem: Path, image: NDArray[np.uint8], label: NDArray[np.uint8]) -> TrainingSample:
    sample = TrainingSample(stem.with_suffix(".jpg"), stem.with_suffix(".png"))
    sample.image.write_bytes(encode_jpeg(image))
    sample.label.write_bytes(encode_label(label))
    return sample


def _start(options: PretrainOptions) -> tuple[nn.Module, ModelCard]:
    """Return the model to train and its card so far."""
    if options.epochs < 1 and options.init is None:
        raise PretrainError(
            "without epochs there is nothing but fresh weights to write: give a model to start from"
        )
    if options.class_map is not None and options.init is None:
        raise PretrainError("a class map joins the classes of a model to start from: give one")
    if options.init is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            model = _fresh(options, len(options.classes))
        card = ModelCard(
            version="",
            architecture="" if options.factory else options.architecture,
            factory=options.factory,
            classes=options.classes,
            macs_at=options.size,
        )
        return model, card
    if options.class_map is not None:
        return _mapped_start(options, options.init, options.class_map)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        model, card = checkpoint.load_for(options.init, options.classes)
    _check_kind(card, options)
    return model, replace(card, parent=card.version, gate={})


def _mapped_start(options: PretrainOptions, init: Path, file: Path) -> tuple[nn.Module, ModelCard]:
    """Return a model of other classes under a class map, and its card so far."""
    if init.is_file():
        class_map = read_class_map(file, options.classes)
        arguments = (
            {} if options.factory else weights.arguments_in(weights.read_state(init), options.architecture)
        )
        network = _fresh(options, len(class_map.base), arguments)
        report = weights.load_weights(network, init)
        if not report.complete:
            kind = options.factory or options.architecture
            raise PretrainError(f"{init} does not fill a {kind}: {report.summary()}")
        card = ModelCard(
            architecture="" if options.factory else options.architecture,
            factory=options.factory,
            arguments=arguments,
            classes=options.classes,
            class_map=class_map,
            macs_at=options.size,
        )
        return mapped(network, class_map, options.classes), card
    model, card = checkpoint.load(init)
    _check_kind(card, options)
    known = card.class_map.base if card.class_map else card.classes
    class_map = read_class_map(file, options.classes, known)
    card = replace(card, classes=options.classes, class_map=class_map, parent=card.version, gate={})
    return mapped(unmapped(model), class_map, options.classes), card


def _fresh(
    options: PretrainOptions, n_classes: int, arguments: Mapping[str, object] | None = None
) -> nn.Module:
    """Build the network that the options ask for, with fresh weights."""
    if options.factory:
        return registry.build_from_factory(options.factory, n_classes, new=True)
    return registry.build(options.architecture, n_classes, arguments)


def _check_kind(card: ModelCard, options: PretrainOptions) -> None:
    """Check that a model to start from is of the network that the options ask for."""
    found, wanted = card.factory or card.architecture, options.factory or options.architecture
    # A card names its factory by itself, where the options name none.
    if found != wanted and not (card.factory and not options.factory):
        raise PretrainError(f"{options.init} holds a {found}, not a {wanted}")


def _training_options(
    train: Sequence[TrainingSample], options: PretrainOptions, precision: Precision
) -> TrainingOptions:
    once = TrainingOptions(
        steps=1,
        batch_size=options.batch_size,
        num_classes=len(options.classes),
        size=options.size,
        seed=options.seed,
        precision=precision,
    )
    rate = options.learning_rate or (_MAPPED_RATE if options.class_map is not None else None)
    if rate is not None:
        once = replace(once, learning_rate=rate)
    return replace(once, steps=max(1, options.epochs * BatchPlan(train, once).steps_per_epoch))


def _resting(model: nn.Module, options: PretrainOptions) -> Sequence[nn.Module]:
    """The layers that keep their statistics: all batch norms where a network's heads stay.

    What such a network has seen is far more than what it is fine-tuned on.
    """
    return batch_norms(model) if options.class_map is not None else ()


def _train(trainer: Trainer, epochs: int, watcher: Watcher) -> tuple[list[float | None], StepReport | None]:
    """Do all steps; returns the mean loss of each epoch and the last step's report."""
    losses: list[float | None] = []
    current: list[float] = []
    report = None

    def close_epoch() -> None:
        losses.append(sum(current) / len(current) if current else None)
        current.clear()
        watcher.on_epoch(EpochReport(len(losses), epochs, losses[-1]))

    for report in trainer:
        while len(losses) < (report.step - 1) // trainer.plan.steps_per_epoch:  # its last steps were skipped
            close_epoch()
        current.append(report.loss)
        watcher.on_step(report)
        if report.step % trainer.plan.steps_per_epoch == 0:
            close_epoch()
        if watcher.is_over():
            if current:
                close_epoch()
            return losses, report
    while len(losses) < epochs:
        close_epoch()
    return losses, report


def _score(
    name: str, model: nn.Module, samples: Sequence[TrainingSample], card: ModelCard, watcher: Watcher
) -> dict[str, Any]:
    matrix = evaluate(
        model,
        samples,
        card.normalisation,
        len(card.classes),
        on_sample=lambda done: watcher.on_evaluated(name, done, len(samples)),
    )
    ious = dict(zip(card.classes, iou_per_class(matrix), strict=True))
    return {"miou": miou(matrix), "iou_per_class": ious, "samples": len(samples)}


def _version(kind: str, train: Sequence[TrainingSample], made: Mapping[str, Any]) -> str:
    """Return a unique name of the version: a digest of the training's options and results."""
    told = repr((sorted(made.items()), [sample.image.name for sample in train]))
    return f"{kind}-{hashlib.sha256(told.encode()).hexdigest()[:10]}"
