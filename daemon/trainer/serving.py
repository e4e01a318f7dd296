"""Scores frames as they would be served, each with the statistics of its condition.

The rule that chooses the statistics of a frame is the daemon's own (``condition_rounds.serving``); here it is
applied to the held-out samples of a round, for the live model and for its candidate.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from dance_ondevice.conditions import statistics as conditions
from dance_ondevice.conditions import store as condition_store
from dance_ondevice.conditions.arrays import StatisticsMismatch
from dance_ondevice.conditions.statistics import NormStatistics
from dance_ondevice.daemon.children.counts import Counts, ScoreCard
from dance_ondevice.daemon.trainer.scores import score
from dance_ondevice.daemon.versions.condition_file import Known, known_of
from dance_ondevice.documents import DocumentError
from dance_ondevice.models.card import CheckpointError, Normalisation
from dance_ondevice.policies.stream.conditions import BASE
from dance_ondevice.training.batches import TrainingSample


@dataclass(frozen=True, eq=False)
class Kept:
    """The content of a file of conditions: the sets by name, which are live, and the stored description."""

    sets: Mapping[str, NormStatistics] = field(default_factory=dict)
    known: Known = field(default_factory=Known)
    about: str = ""


def kept(file: Path, model: nn.Module) -> Kept:
    """Read a file of conditions as the daemon does: if any part does not fit the model, all of it is ignored.

    Args:
        file: The file; it may be missing.
        model: The model that the sets belong to; it is left unchanged.
    """
    try:
        sets, about = condition_store.decode(file.read_bytes(), str(file))
        known = known_of(sets, about)
        served = {name: statistics for name, statistics in sets.items() if name in known.live}
        with Serving(served, known).on(model) as apply:
            for name in served:
                apply(name)
    except FileNotFoundError:
        return Kept()
    except (OSError, CheckpointError, StatisticsMismatch, DocumentError) as error:
        # The trainer's standard error is its log; standard output carries its events.
        print(f"the conditions in {file} are not used: {error}", file=sys.stderr)
        return Kept()
    return Kept(served, known, about)


@dataclass(frozen=True, eq=False)
class Serving:
    """The statistics with which each frame would be served.

    Attributes:
        sets: Statistics by condition; without an entry ``base``, the model's own are used for it.
        known: Which of the conditions are live, and which one replaces each of the others.
    """

    sets: Mapping[str, NormStatistics] = field(default_factory=dict)
    known: Known = field(default_factory=Known)

    @contextlib.contextmanager
    def on(self, model: nn.Module) -> Iterator[Callable[[str], None]]:
        """Serve with the model: yields a function to be called with the condition of each frame.

        Afterwards the model is as it was, bit for bit.

        Raises:
            StatisticsMismatch: The sets belong to another model.
        """
        learnt = dict.fromkeys(name for statistics in self.sets.values() for name in statistics.learnt)
        own = conditions.capture(model, learnt=learnt)
        sets = {name: each.over(own) for name, each in ({BASE: own} | dict(self.sets)).items()}
        applied = ""

        def apply(condition: str) -> None:
            nonlocal applied
            name = self.known.serving(condition)
            if name != applied:
                conditions.apply(model, sets[name])
                applied = name

        try:
            yield apply
        finally:
            conditions.apply(model, own)


def judged(
    model: nn.Module,
    gate: Sequence[tuple[str, TrainingSample]],
    normalisation: Normalisation,
    n_classes: int,
    *,
    serving: Serving,
    condition_of: Mapping[str, str],
) -> tuple[ScoreCard, tuple[Counts, ...]]:
    """Score a model on held-out samples, each with the statistics that it would be served with.

    Args:
        model: The model; it is left unchanged.
        gate: (id, sample) of each held-out sample.
        normalisation: The model's normalisation.
        n_classes: Number of classes.
        serving: The statistics of each condition.
        condition_of: The condition of each sample, by id.

    Raises:
        SampleError: A file is missing or damaged.
    """
    with serving.on(model) as apply:
        return score(model, gate, normalisation, n_classes, before=lambda i: apply(condition_of.get(i, "")))
