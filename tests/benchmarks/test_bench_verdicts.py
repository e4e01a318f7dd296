"""What the stream benchmark's gates make of scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch

from dance_ondevice.benchmarks.stream import verdicts
from dance_ondevice.benchmarks.stream.scoring import FrameScore
from dance_ondevice.benchmarks.stream.tools import Tools
from dance_ondevice.benchmarks.stream.weights import Weights
from dance_ondevice.training.batches import TrainingSample

LIVE, NEW = Weights({"w": torch.zeros(1)}), Weights({"w": torch.ones(1)})
FRAMES = [TrainingSample(Path(f"{i}.png"), Path(f"{i}.label.png")) for i in range(8)]


def score(right: int) -> FrameScore:
    """Of two classes with 1,000 pixels each, ``right`` are found of either."""
    matrix = np.array([[right, 1000 - right], [1000 - right, right]], dtype=np.int64)
    return FrameScore(matrix=matrix, confidence=right / 1000, cpu_seconds=0.5)


class TwoModels:
    """Scores of the live weights and of new ones, the same for every frame."""

    def __init__(self, live: int, new: int) -> None:
        self.right = {LIVE.key: live, NEW.key: new}

    def scores(self, weights: Weights, samples: Sequence[TrainingSample]) -> list[FrameScore]:
        return [score(self.right[weights.key]) for _ in samples]


def few_labels(live: int, new: int) -> tuple[verdicts.Said, float]:
    tools = cast(Tools, SimpleNamespace(scorer=TwoModels(live, new)))
    return verdicts.of_few_labels(tools, LIVE, NEW, FRAMES[:3], FRAMES)


# 800, 810 and 830 of 1,000 pixels of both classes right are a mIoU of 0.667, 0.681 and 0.709.
@pytest.mark.parametrize(("new", "passes"), [(790, False), (800, False), (810, False), (830, True)])
def test_learning_a_few_labels_by_heart_is_no_gain(new: int, passes: bool) -> None:
    (passed, why), cost = few_labels(800, new)
    assert passed is passes
    assert "mIoU 0.667 -> " in why
    assert "3 labelled frames" in why
    assert cost == pytest.approx(0.5 * 2 * (3 + 8))
