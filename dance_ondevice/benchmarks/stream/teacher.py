"""Labels from a teacher: a model's masks, where it is sure."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from dance_ondevice.images.codec import encode_label
from dance_ondevice.images.labels import IGNORE
from dance_ondevice.models.card import Normalisation
from dance_ondevice.models.forward import logits, to_tensor
from dance_ondevice.training.batches import Image, TrainingSample, read_image

__all__ = ["Teacher"]


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A model that labels frames.

    Attributes:
        model: in eval mode.
        normalisation: the model's.
        folder: where its labels go, one folder a teacher; a label that is there already is kept.
        least_confidence: pixels with less than this are ignored.
    """

    model: nn.Module
    normalisation: Normalisation
    folder: Path
    least_confidence: float = 0.6
    cpu_clock: Callable[[], float] = time.process_time

    def label(self, samples: Sequence[TrainingSample]) -> tuple[list[TrainingSample], float]:
        """The samples with the teacher's labels instead of their own, and the CPU seconds that making them
        took, whenever they were made.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        found, spent = [], 0.0
        for sample in samples:
            path = self.folder / f"{sample.image.stem}.png"
            cost = path.with_suffix(".cost")
            if not cost.exists():
                began = self.cpu_clock()
                path.write_bytes(encode_label(self._mask(sample)))
                cost.write_text(str(self.cpu_clock() - began), encoding="utf-8")
            spent += float(cost.read_text(encoding="utf-8"))
            found.append(replace(sample, label=path, void=()))
        return found, spent

    def _mask(self, sample: TrainingSample) -> Image:
        with torch.inference_mode():
            scores = logits(self.model, to_tensor(read_image(sample), self.normalisation)).float()
            confidence, mask = scores.softmax(dim=1).max(dim=1)
            mask[confidence < self.least_confidence] = IGNORE
            return np.asarray(mask[0], np.uint8)
