"""The measurements of the trainer process: scores on held-out samples, and the CPU time of a mask."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from dance_ondevice.daemon.children import jobs
from dance_ondevice.daemon.children.counts import (
    Counts,
    ScoreCard,
    paired_counts,
    read_counts,
    score_card,
)
from dance_ondevice.images.confusion import Matrix
from dance_ondevice.images.scaling import resize_for_inference
from dance_ondevice.models.card import Normalisation
from dance_ondevice.models.forward import channels_last, predict
from dance_ondevice.policies.promotion import bootstrap, nearer
from dance_ondevice.policies.promotion.rules import GateRules
from dance_ondevice.training.batches import TrainingSample, read_image
from dance_ondevice.training.evaluation import evaluate

#: Number of timed masks of each model; the fastest one counts, since other load can only add time.
_TIMED = 9


def score(
    model: nn.Module,
    gate: Sequence[tuple[str, TrainingSample]],
    normalisation: Normalisation,
    n_classes: int,
    *,
    before: Callable[[str], None] | None = None,
) -> tuple[ScoreCard, tuple[Counts, ...]]:
    """Score a model on held-out samples; returns the overall scores and each sample's counts.

    Args:
        model: The model, in any mode; it keeps that mode.
        gate: (id, sample) of each held-out sample.
        normalisation: The model's normalisation.
        n_classes: Number of classes.
        before: Called with the id of each sample before the model sees it.

    Raises:
        SampleError: A file is missing or damaged.
    """
    counts = []
    for identifier, sample in gate:
        if before is not None:
            before(identifier)
        counts.append(counts_of(identifier, evaluate(model, [sample], normalisation, n_classes)))
    return score_card(counts), tuple(counts)


def kept_scores(
    file: Path, gate: Sequence[tuple[str, TrainingSample]]
) -> tuple[ScoreCard, tuple[Counts, ...]] | None:
    """Scores that an interrupted part of the round left; None unless they are of exactly these samples."""
    counts = read_counts(file)
    if not counts or [each.id for each in counts] != [identifier for identifier, _ in gate]:
        return None
    return score_card(counts), counts


def costs_too_much(job: jobs.Job, live: Sequence[Counts], candidate: Sequence[Counts]) -> bool:
    """Whether a candidate scores less than the live model in all, or much less in a condition or class.

    Args:
        job: The job of the round, with what is allowed.
        live: The live model's counts of the held-out samples.
        candidate: The candidate's counts of the same samples.
    """
    pairs = list(paired_counts(live, candidate).values())
    if job.max_condition_drop is None or not pairs:
        return False
    condition_of = {sample.id: sample.condition for sample in job.gate}

    def miou(counts: Sequence[Counts], name: str) -> float:
        return score_card([each for each in counts if condition_of[each.id] == name]).miou

    blocks = job.gate_blocks if len(job.gate_blocks) == len(pairs) else range(len(pairs))
    whole = bootstrap.compare(pairs, blocks, confidence=job.confidence, seed=job.seed)
    # A job of an earlier build does not say what a class may lose.
    most = 1.0 if job.max_class_drop is None else job.max_class_drop
    rules = GateRules(max_class_drop=most, max_condition_drop=job.max_condition_drop)
    names = sorted(set(condition_of.values()) - {""})
    return nearer.costs_too_much(whole, rules, [(miou(live, name), miou(candidate, name)) for name in names])


def counts_of(identifier: str, matrix: Matrix) -> Counts:
    """The counts of a sample's confusion matrix that the bootstrap needs."""
    return Counts(
        id=identifier,
        truth=tuple(map(int, matrix.sum(axis=1))),
        predicted=tuple(map(int, matrix.sum(axis=0))),
        hits=tuple(map(int, np.diag(matrix))),
    )


def time_masks(
    live: nn.Module,
    candidate: nn.Module,
    sample: TrainingSample,
    normalisation: Normalisation,
    clock: Callable[[], float] = time.thread_time,
) -> jobs.Timed:
    """Time both models in turns on the same frame, in CPU time of one thread.

    The wall clock would mostly measure the other load of the board: the trainer gets only the time that is
    left over, which varies from one mask to the next.

    Raises:
        SampleError: The file is missing or is not an image.
    """
    image = resize_for_inference(read_image(sample), sample.scale)
    threads = torch.get_num_threads()
    # The same memory layout as in the daemon, because the layout affects the time.
    models = [channels_last(model) for model in (live, candidate)]
    best = [math.inf, math.inf]
    torch.set_num_threads(1)
    try:
        for turn in range(_TIMED + 1):
            for index, model in enumerate(models):
                started = clock()
                predict(model, image, normalisation)
                if turn:  # the first one warms up
                    best[index] = min(best[index], clock() - started)
    finally:
        torch.set_num_threads(threads)
    return jobs.Timed(live_ms=1000.0 * best[0], candidate_ms=1000.0 * best[1])
