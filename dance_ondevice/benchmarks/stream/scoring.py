"""Scores of single frames, kept by weights and frame: nothing is inferred twice, not even by a later run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from torch import nn

from dance_ondevice.benchmarks.stream.weights import Weights
from dance_ondevice.files import write_whole
from dance_ondevice.images.confusion import Matrix, confusion_matrix
from dance_ondevice.models.card import Normalisation
from dance_ondevice.models.forward import predict
from dance_ondevice.training.batches import TrainingSample, read_image, read_label

__all__ = ["FrameScore", "Scorer", "total"]


@dataclass(frozen=True)
class FrameScore:
    """How a frame was segmented.

    Attributes:
        matrix: (classes, classes) counts, rows are the truth.
        confidence: mean over the pixels of the softmax probability of the predicted class.
        cpu_seconds: that inference and scoring took when they were done.
    """

    matrix: Matrix
    confidence: float
    cpu_seconds: float


class _Kept(msgspec.Struct):
    matrix: list[list[int]]
    confidence: float
    cpu_seconds: float


class Scorer:
    """Infers and scores frames with given weights; scores are kept in files, one for each set of weights.

    A killed run loses at most the scores since the last ``save``.
    """

    def __init__(
        self,
        model: nn.Module,
        normalisation: Normalisation,
        classes: int,
        folder: Path,
        *,
        cpu_clock: Callable[[], float] = time.process_time,
    ) -> None:
        """Score with ``model``, whose weights are set as needed; ``folder`` is made when missing."""
        self.model = model.eval()
        self.normalisation = normalisation
        self.classes = classes
        self._folder = folder
        self._cpu_clock = cpu_clock
        self._loaded = ""
        self._kept: dict[str, dict[str, _Kept]] = {}
        self._unsaved: set[str] = set()
        folder.mkdir(parents=True, exist_ok=True)

    def load(self, weights: Weights) -> nn.Module:
        """The model with these weights, in eval mode."""
        if self._loaded != weights.key:
            weights.load_into(self.model)
            self._loaded = weights.key
        return self.model.eval()

    def lend(self) -> nn.Module:
        """The model for changes that the scorer does not follow: it is loaded again before it next scores."""
        self._loaded = ""
        return self.model

    def score(self, weights: Weights, sample: TrainingSample) -> FrameScore:
        """The score of one frame.

        Raises:
            SampleError: A file is missing or not what it should be.
        """
        frames = self._frames(weights.key)
        name = f"{sample.label.parent.name}/{sample.image.name}"
        kept = frames.get(name)
        if kept is None:
            began = self._cpu_clock()
            label = read_label(sample, self.classes)
            found = predict(self.load(weights), read_image(sample), self.normalisation, label.shape)
            matrix = confusion_matrix(label, found.mask, self.classes)
            kept = _Kept(matrix.tolist(), found.mean_confidence, self._cpu_clock() - began)
            frames[name] = kept
            self._unsaved.add(weights.key)
        return FrameScore(np.array(kept.matrix, np.int64), kept.confidence, kept.cpu_seconds)

    def scores(self, weights: Weights, samples: Iterable[TrainingSample]) -> list[FrameScore]:
        """The scores of several frames with the same weights; they are saved."""
        found = [self.score(weights, sample) for sample in samples]
        self.save()
        return found

    def save(self) -> None:
        """Write what is new."""
        for key in sorted(self._unsaved):
            write_whole(self._folder / f"{key}.json", msgspec.json.encode(self._kept[key]))
        self._unsaved.clear()

    def _frames(self, key: str) -> dict[str, _Kept]:
        if key not in self._kept:
            path = self._folder / f"{key}.json"
            try:
                self._kept[key] = msgspec.json.decode(path.read_bytes(), type=dict[str, _Kept])
            except (FileNotFoundError, msgspec.MsgspecError):
                self._kept[key] = {}
        return self._kept[key]


def total(scores: Sequence[FrameScore], classes: int) -> Matrix:
    """One confusion matrix over several frames."""
    matrix = np.zeros((classes, classes), np.int64)
    for score in scores:
        matrix += score.matrix
    return matrix
