"""Frames judged as they would be served: each with the statistics of its condition.

Which statistics would serve a frame is the service's own rule (``condition_rounds.serving``); here it is
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
from dance_ondevice.conditions.statistics import NormStatistics, StatisticsMismatch
from dance_ondevice.daemon.children.counts import Counts, ScoreCard
from dance_ondevice.daemon.trainer.scores import score
from dance_ondevice.daemon.versions.condition_file import Known, known_of
from dance_ondevice.documents import DocumentError
from dance_ondevice.models.card import CheckpointError, Normalisation
from dance_ondevice.policies.stream.conditions import BASE
from dance_ondevice.training.batches import TrainingSample


@dataclass(frozen=True, eq=False)
class Kept:
    """What a file of conditions holds: the sets by name, which of them serve, the text beside them."""

    sets: Mapping[str, NormStatistics] = field(default_factory=dict)
    known: Known = field(default_factory=Known)
    about: str = ""


def kept(file: Path, model: nn.Module) -> Kept:
    """Read a file of conditions as the service does: nothing of it counts where something does not fit.

    Args:
        file: that may be missing.
        model: that the sets are for; it is left as it was.
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
    """The statistics that would serve each frame.

    Attributes:
        sets: by condition; ``base`` stands for the model as it is where it is not among them.
        known: which of them serve, and what stands in for others.
    """

    sets: Mapping[str, NormStatistics] = field(default_factory=dict)
    known: Known = field(default_factory=Known)

    @contextlib.contextmanager
    def on(self, model: nn.Module) -> Iterator[Callable[[str], None]]:
        """Have the model run as it would serve; what is given must be called with each frame's condition.

        Afterwards the model is as it was, bit for bit.

        Raises:
            StatisticsMismatch: the sets are of another model.
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
    of: Mapping[str, str],
) -> tuple[ScoreCard, tuple[Counts, ...]]:
    """Score a model on held-out samples, each as it would be served.

    Args:
        model: left as it was.
        gate: (id, sample).
        normalisation: the model's.
        n_classes: number of classes.
        serving: its statistics.
        of: the condition of each sample, by id.

    Raises:
        SampleError: a file is missing or not what it should be.
    """
    with serving.on(model) as apply:
        return score(model, gate, normalisation, n_classes, before=lambda i: apply(of.get(i, "")))
