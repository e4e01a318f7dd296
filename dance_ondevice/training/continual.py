"""Metrics of continual learning: over a stream of segments, and frame by frame.

Their definitions and papers are in ``docs/benchmarks/definitions.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from dance_ondevice.images.confusion import Matrix, miou

__all__ = [
    "FadedConfusion",
    "ScoreMatrix",
    "gain_per_kilojoule",
    "recovery_frame",
]


@dataclass(frozen=True)
class ScoreMatrix:
    """The matrix R of Lopez-Paz and Ranzato, "Gradient Episodic Memory" (NeurIPS 2017), section 2.

    Attributes:
        tasks: names of the columns, in the order in which the stream first shows them; the first is what the
            base model was trained on.
        learnt: for each row, the index of the task that has just been learnt. A task may come again.
        rows: mIoU on each task's own test, (len(learnt), len(tasks)), after each segment.
    """

    tasks: tuple[str, ...]
    learnt: tuple[int, ...]
    rows: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        if not self.tasks or not self.rows:
            raise ValueError("a score matrix needs a task and a row")
        if len(self.rows) != len(self.learnt):
            raise ValueError(f"{len(self.rows)} rows, but {len(self.learnt)} learnt tasks")
        if any(len(row) != len(self.tasks) for row in self.rows):
            raise ValueError(f"a row must have one score for each of the {len(self.tasks)} tasks")
        if any(not 0 <= task < len(self.tasks) for task in self.learnt):
            raise ValueError(f"learnt tasks are numbered from 0 to {len(self.tasks) - 1}")

    @property
    def average(self) -> float:
        """Mean of the last row: ACC of Lopez-Paz and Ranzato."""
        return float(np.mean(self.rows[-1]))

    @property
    def backward_transfer(self) -> float:
        """BWT of Lopez-Paz and Ranzato: mean over old tasks of R[last][i] - R[when i was first learnt][i].

        Old is every task that was first learnt before the last row. Below 0, later learning made old tasks
        worse. The value is 0.0 without an old task.
        """
        changes = [self.rows[-1][task] - self.rows[first][task] for task, first in self._old()]
        return float(np.mean(changes)) if changes else 0.0

    @property
    def forgetting(self) -> float:
        """F of Chaudhry et al. (ECCV 2018), section 3: mean over old tasks of best earlier minus last score.

        The best of the rows from when the task was first learnt to the one before the last. Negative where
        old tasks got better; 0.0 where there is no old task.
        """
        lost = [
            max(row[task] for row in self.rows[first:-1]) - self.rows[-1][task] for task, first in self._old()
        ]
        return float(np.mean(lost)) if lost else 0.0

    @property
    def worst_old(self) -> float | None:
        """The lowest score of the last row among old tasks; None where there is none."""
        return min((self.rows[-1][task] for task, _ in self._old()), default=None)

    def _old(self) -> list[tuple[int, int]]:
        """(task, row in which it was first learnt) of tasks first learnt before the last row."""
        first: dict[int, int] = {}
        for row, task in enumerate(self.learnt):
            first.setdefault(task, row)
        return [(task, row) for task, row in sorted(first.items()) if row < len(self.rows) - 1]


class FadedConfusion:
    """A confusion matrix that fades: each frame first multiplies the earlier counts by ``fading``.

    The prequential error with a fading factor of Gama, Sebastião and Rodrigues, "On evaluating stream
    learning algorithms" (Machine Learning 90, 2013), kept for every cell of the matrix. Half of the weight
    lies on the last ``ln 2 / (1 - fading)`` frames, about.
    """

    def __init__(self, classes: int, fading: float) -> None:
        """Start empty.

        Raises:
            ValueError: ``fading`` is not above 0 and at most 1 (1 forgets nothing).
        """
        if not 0 < fading <= 1:
            raise ValueError(f"fading is {fading}; it must be above 0 and at most 1")
        self._fading = fading
        self._counts: NDArray[np.float64] = np.zeros((classes, classes))

    def add(self, matrix: Matrix) -> float:
        """Take in the (classes, classes) counts of one frame; returns :attr:`miou` after it."""
        self._counts = self._counts * self._fading + matrix
        return self.miou

    @property
    def miou(self) -> float:
        """Return the mean IoU over the classes that the labels have held, in [0, 1]; 0.0 before any."""
        return miou(cast("Matrix", self._counts))  # IoU is a ratio: fractions of a count are as good


def recovery_frame(curve: Sequence[float], frozen: Sequence[float], gain: float) -> int | None:
    """Return the number of frames after a drift until a model has recovered.

    Both curves are faded mIoU over the same frames, from the first after the drift on; the difference to the
    model that never learns removes the influence of the frames' difficulty.

    Args:
        curve: Curve of the model that learns.
        frozen: Curve of the model that does not.
        gain: Difference by which the first must lie above the second.

    Returns:
        Index of the first frame from which on the gain is reached and held to the end; None if never.

    Raises:
        ValueError: The curves have different lengths.
    """
    held = None
    for index, (own, other) in enumerate(zip(curve, frozen, strict=True)):
        if own - other < gain:
            held = None
        elif held is None:
            held = index
    return held


def gain_per_kilojoule(gain: float, joules: float) -> float | None:
    """Return the mIoU points (hundredths) gained per 1000 J spent; None if nothing was spent."""
    return 100 * gain / (joules / 1000) if joules > 0 else None
