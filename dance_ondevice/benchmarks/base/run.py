"""Evaluates the base, untrained and after one round on few labels, beside a network with random weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dance_ondevice.benchmarks.base.report import BaseReport, Score, Site, Trained
from dance_ondevice.benchmarks.base.sites import Place
from dance_ondevice.files import write_whole
from dance_ondevice.images.confusion import confusion_matrix, iou_per_class, miou
from dance_ondevice.images.scaling import resize_for_inference
from dance_ondevice.models import checkpoint, registry
from dance_ondevice.models.card import TENSORS_FILE, ModelCard, Normalisation, read_card
from dance_ondevice.models.forward import predict
from dance_ondevice.training.batches import read_image, read_label
from dance_ondevice.training.recalibration import clean_batches, recalibrate
from dance_ondevice.training.trainer import Trainer, TrainingOptions

#: Number of unlabelled images for estimating a camera's statistics, and images in each batch.
_UNLABELLED, _BATCH = 64, 8


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure.

    Attributes:
        labels: Numbers of labelled images, one round for each.
        seeds: Seeds, one round for each.
        steps: Optimiser steps of each round: as many as the service's default takes for 80 images.
        starts: (start, learning rate) of the rounds; a start is "base" or "noise".
    """

    labels: tuple[int, ...] = (0, 5, 20, 80)
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 40
    starts: tuple[tuple[str, float], ...] = (("noise", 0.001), ("noise", 0.005), ("base", 0.001))


@dataclass(frozen=True, kw_only=True)
class _Case:
    """One round."""

    start: str
    rate: float
    labels: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class _Bench:
    """Values that all rounds of a site share."""

    plan: Plan
    base: Path
    card: ModelCard
    place: Place
    cache: Path
    say: Callable[[str], None]

    @property
    def mapping(self) -> NDArray[np.uint8]:
        """Class id of the site for each class id of the base, (classes of the base,)."""
        names = [self.place.mapping[name] for name in self.card.classes]
        return np.array([self.place.classes.index(name) for name in names], np.uint8)


def run(
    plan: Plan, base: Path, places: Sequence[Place], cache: Path, *, say: Callable[[str], None]
) -> BaseReport:
    """Measure everything.

    Args:
        plan: What to measure.
        base: Folder of the base model.
        places: Sites to measure on.
        cache: Folder for the results of rounds; those in it from an earlier run are not measured again.
        say: Called with the name of each step as it begins.

    Raises:
        CheckpointError: The base cannot be loaded.
        SampleError: An image or label cannot be used.
    """
    card = read_card(base)
    cache.mkdir(parents=True, exist_ok=True)
    sites = [_Bench(plan=plan, base=base, card=card, place=p, cache=cache, say=say) for p in places]
    return BaseReport(
        version=card.version,
        architecture=card.architecture,
        parameters=card.parameters,
        file_bytes=(base / TENSORS_FILE).stat().st_size,
        made=card.training,
        steps=plan.steps,
        batch_size=_BATCH,
        sites=[_site(bench) for bench in sites],
    )


def _site(bench: _Bench) -> Site:
    plan, place = bench.plan, bench.place
    bench.say(f"{place.name}: the base as it is")
    model, card = checkpoint.load(bench.base)
    first_rate = dict(reversed(plan.starts))
    cases = [
        _Case(start=start, rate=rate, labels=labels, seed=seed)
        for start, rate in plan.starts
        for labels in plan.labels
        for seed in plan.seeds
        if labels or rate == first_rate[start]
    ]
    return Site(
        name=place.name,
        classes=list(place.classes),
        data=place.data,
        size=(round(place.size[0] * place.scale), round(place.size[1] * place.scale)),
        mapping=dict(place.mapping),
        as_it_is=_scores(model, card.normalisation, place, bench.mapping),
        trained=[_cached(bench, case) for case in cases],
    )


def _cached(bench: _Bench, case: _Case) -> Trained:
    origin = bench.card.version if case.start == "base" else "noise"
    name = f"{bench.place.name}-{origin}-{case.rate:g}-{case.labels}-{case.seed}-{bench.plan.steps}.json"
    file = bench.cache / name
    if file.is_file():
        return msgspec.json.decode(file.read_bytes(), type=Trained)
    bench.say(f"{bench.place.name}: {case}")
    found = _round(bench, case)
    write_whole(file, msgspec.json.encode(found))
    return found


def _round(bench: _Bench, case: _Case) -> Trained:
    place, normalisation = bench.place, bench.card.normalisation
    began, steps, macs = time.process_time(), 0, 0
    rng = np.random.default_rng(case.seed)
    model = _start(bench, case)
    as_base = case.start == "base" and not case.labels
    if as_base:
        seen = [place.teach[i] for i in rng.choice(len(place.teach), _UNLABELLED, replace=False)]
        batches = clean_batches(seen, normalisation, batch_size=_BATCH, most=_UNLABELLED, seed=case.seed)
        recalibrate(model, batches)
    elif case.labels:
        options = TrainingOptions(
            steps=bench.plan.steps,
            batch_size=_BATCH,
            num_classes=len(place.classes),
            size=place.size,
            learning_rate=case.rate,
            seed=case.seed,
        )
        taught = [place.teach[i] for i in rng.choice(len(place.teach), case.labels, replace=False)]
        for report in Trainer(model, taught, options, normalisation):
            steps, macs = report.step, report.macs
    return Trained(
        start=case.start,
        learning_rate=case.rate if case.labels else 0.0,
        labels=case.labels,
        seed=case.seed,
        steps=steps,
        training_macs=macs,
        cpu_seconds=round(time.process_time() - began, 2),
        scores=_scores(model, normalisation, place, bench.mapping if as_base else None),
    )


def _start(bench: _Bench, case: _Case) -> nn.Module:
    """Return the model before its round; fresh weights are drawn with the case's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(case.seed)
        if case.start == "noise":
            return registry.build(bench.card.architecture, len(bench.place.classes), bench.card.arguments)
        if case.labels:
            return checkpoint.load_for(bench.base, bench.place.classes)[0]
        return checkpoint.load(bench.base)[0]


def _scores(
    model: nn.Module, normalisation: Normalisation, place: Place, mapping: NDArray[np.uint8] | None
) -> list[Score]:
    """Score a model on each split; ``mapping`` turns its class ids into the site's."""
    model.eval()
    found = []
    for split, samples in place.measure.items():
        matrix = np.zeros((len(place.classes),) * 2, np.int64)
        for sample in samples:
            label = read_label(sample, len(place.classes))
            height, width = label.shape
            image = resize_for_inference(read_image(sample), sample.scale)
            mask = predict(model, image, normalisation, out_size=(height, width)).mask
            matrix += confusion_matrix(label, mask if mapping is None else mapping[mask], len(place.classes))
        ious = dict(zip(place.classes, iou_per_class(matrix), strict=True))
        found.append(Score(split=split, images=len(samples), miou=miou(matrix), iou_per_class=ious))
    return found
