"""Evaluates model versions on frames that are rendered for the evaluation alone and never streamed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dance_ondevice.daemon.trainer.serving import Kept, Serving, kept
from dance_ondevice.daemon.versions.condition_file import CONDITIONS_FILE
from dance_ondevice.demo.reporting.page import Pictures, Swatch
from dance_ondevice.demo.session import PhasePlan
from dance_ondevice.images import codec as images
from dance_ondevice.images.confusion import Matrix, miou
from dance_ondevice.images.labels import colourise
from dance_ondevice.models import checkpoint
from dance_ondevice.models.forward import predict
from dance_ondevice.policies.promotion.bootstrap import Bounded, Pair, compare
from dance_ondevice.training.batches import TrainingSample, read_image, read_label
from dance_ondevice.training.evaluation import evaluate
from dance_ondevice.training.pretraining import render_street

#: Frames of the street between two evaluation frames: far enough apart that the scene has changed.
_STRIDE = 13
#: Probability of an error at each bound of a gain; 95 % lie between the two.
_CONFIDENCE = 0.975


@dataclass(frozen=True, kw_only=True)
class Fresh:
    """The evaluation frames of one phase."""

    phase: str
    samples: tuple[TrainingSample, ...]

    @property
    def shown(self) -> TrainingSample:
        """The frame that the report's pictures show for the phase."""
        return self.samples[len(self.samples) // 2]


@dataclass(frozen=True, kw_only=True)
class PhaseVersions:
    """The version that was live at a phase's end, and the service's name for the condition of its frames."""

    fresh: Fresh
    live: str
    condition: str = ""


@dataclass(frozen=True, kw_only=True)
class PhaseScores:
    """mIoU in [0, 1] of the first, the phase's and the last live model on a phase's evaluation frames.

    ``gain`` and ``final_gain`` are the differences of the latter two to the first.
    """

    frozen: float
    live: float
    final: float
    gain: Bounded
    final_gain: Bounded


def render_fresh(
    folder: Path, plans: Sequence[PhasePlan], count: int, *, seed: int, size: tuple[int, int]
) -> list[Fresh]:
    """Render ``count`` frames for every phase; phases of the same condition get different frames.

    Args:
        folder: Folder for the files.
        plans: The phases.
        count: Number of frames of each phase.
        seed: Seed of the street, which must differ from the stream's.
        size: (height, width) of the frames.
    """
    found = []
    for number, plan in enumerate(plans):
        frames = range(number * count * _STRIDE, (number + 1) * count * _STRIDE, _STRIDE)
        samples = render_street(folder, frames, (plan.condition,), seed=seed, size=size)
        found.append(Fresh(phase=plan.name, samples=tuple(samples)))
    return found


def score(
    models: Path,
    phases: Sequence[PhaseVersions],
    *,
    frozen: str,
    final: str,
    n_classes: int,
    on_score: Callable[[int, int], None],
) -> tuple[list[PhaseScores], list[Pictures]]:
    """Evaluate the versions under ``models`` and draw their masks.

    Args:
        models: Folder with one folder for each version.
        phases: The phases with their evaluation frames.
        frozen: The first version.
        final: The version that is live at the end.
        n_classes: Number of classes.
        on_score: Called with the number of evaluations done and in all.

    Returns:
        Scores and pictures, one of each for every phase.

    Raises:
        CheckpointError: A version cannot be loaded.
    """
    wanted = {(version, index) for index, p in enumerate(phases) for version in (frozen, p.live, final)}
    scores: dict[tuple[str, int], list[Matrix]] = {}
    masks: dict[tuple[str, int], bytes] = {}
    for version in sorted({version for version, _ in wanted}):
        model, card = checkpoint.load(models / version)
        for index in sorted(index for v, index in wanted if v == version):
            fresh = phases[index].fresh
            # With the condition's statistics, as in inference; the first model has its own statistics alone.
            found = Kept() if version == frozen else kept(models / version / CONDITIONS_FILE, model)
            with Serving(found.sets, found.known).on(model) as wear:
                wear(phases[index].condition)
                scores[version, index] = [
                    evaluate(model, (sample,), card.normalisation, n_classes) for sample in fresh.samples
                ]
                mask = predict(model, read_image(fresh.shown), card.normalisation).mask
            masks[version, index] = images.encode_png(colourise(mask, n_classes))
            on_score(len(scores), len(wanted))
    return (
        [
            _scores(scores[frozen, index], scores[p.live, index], scores[final, index])
            for index, p in enumerate(phases)
        ],
        [
            Pictures(
                phase=p.fresh.phase,
                frame_jpeg=p.fresh.shown.image.read_bytes(),
                label_png=images.encode_png(colourise(read_label(p.fresh.shown, n_classes), n_classes)),
                frozen_png=masks[frozen, index],
                live_png=masks[p.live, index],
            )
            for index, p in enumerate(phases)
        ],
    )


def _scores(frozen: Sequence[Matrix], live: Sequence[Matrix], final: Sequence[Matrix]) -> PhaseScores:
    def miou_of(matrices: Sequence[Matrix]) -> float:
        return miou(np.sum(matrices, axis=0))

    return PhaseScores(
        frozen=miou_of(frozen),
        live=miou_of(live),
        final=miou_of(final),
        gain=_gain(frozen, live),
        final_gain=_gain(frozen, final),
    )


def _gain(before: Sequence[Matrix], after: Sequence[Matrix]) -> Bounded:
    """Return the gain with its 95 % confidence bounds over the choice of frames (bootstrap)."""
    pairs = [
        Pair(
            labelled=_counts(a.sum(axis=1)),
            live_hits=_counts(np.diag(a)),
            live_predicted=_counts(a.sum(axis=0)),
            candidate_hits=_counts(np.diag(b)),
            candidate_predicted=_counts(b.sum(axis=0)),
        )
        for a, b in zip(before, after, strict=True)
    ]
    return compare(pairs, range(len(pairs)), confidence=_CONFIDENCE).gain


def _counts(values: NDArray[np.int64]) -> tuple[int, ...]:
    return tuple(int(value) for value in values)


def legend(classes: Sequence[str]) -> list[Swatch]:
    """Return the classes with their colours in the pictures."""
    colours = colourise(np.arange(len(classes), dtype=np.uint8)[None], len(classes))[0]
    return [Swatch(name, (int(r), int(g), int(b))) for name, (b, g, r) in zip(classes, colours, strict=True)]
