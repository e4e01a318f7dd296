"""The last resort: a version served by torch, with its layers merged."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dance_ondevice.conditions import statistics as conditions
from dance_ondevice.conditions.arrays import ConditionArrays
from dance_ondevice.conditions.statistics import NormStatistics
from dance_ondevice.conditions.store import as_tensors
from dance_ondevice.images.masks import STRIDE, Decide, Prediction, decide_on_half_grid
from dance_ondevice.models.card import Normalisation
from dance_ondevice.models.forward import predict
from dance_ondevice.runtime.engines import Device, EngineName
from dance_ondevice.runtime.folding import Folded
from dance_ondevice.runtime.serving_graph import agree

__all__ = ["TorchServer"]

log = logging.getLogger(__name__)


class TorchServer:
    """Server that runs a model in this process; see ``serving.Server``."""

    name: EngineName = "torch"
    #: The last resort is for any board, so it stays on the CPU.
    device: Device = "cpu"

    def __init__(
        self,
        model: nn.Module,
        normalisation: Normalisation,
        *,
        size: tuple[int, int],
        by: Decide = decide_on_half_grid,
    ) -> None:
        """Merge the layers, if that gives the same results.

        Args:
            model: Model in eval mode; only this object changes it from now on.
            normalisation: The model's normalisation.
            size: Size (height, width) of typical images.
            by: Makes a mask of coarse logits.
        """
        self._model = model
        self._normalisation = normalisation
        self._by = by
        self._own = conditions.capture(model)
        self._applied: ConditionArrays | None = None
        self._folded = Folded(model)
        x = torch.rand(1, 3, *(side + -side % STRIDE for side in size)).to(memory_format=torch.channels_last)
        if not agree(model, self._folded.model, x):
            log.warning("layers not merged reason=%s", "the copy does not compute the same")
            self._folded = Folded(model, merge=False)

    def prepare(self, name: str, condition: ConditionArrays | None) -> None:
        """Do nothing: the values are copied into the model when a frame needs them."""

    def predict(
        self,
        image: NDArray[np.uint8],
        name: str,
        condition: ConditionArrays | None,
        out_size: Sequence[int],
    ) -> Prediction:
        """Segment a frame, see ``serving.Server``.

        Raises:
            StatisticsMismatch: The values are of another model.
        """
        self._apply(condition)
        return predict(self._folded.model, image, self._normalisation, out_size, by=self._by)

    def forget(self, name: str) -> None:
        """Do nothing: nothing is kept for a condition."""

    def _apply(self, condition: ConditionArrays | None) -> None:
        if condition is self._applied:
            return
        # Values of the condition before must not stay where this one has none.
        conditions.apply(self._model, self._own)
        self._applied = None
        if condition is not None:
            wanted = as_tensors(condition)
            new = wanted.learnt.keys() - self._own.learnt.keys()
            learnt = conditions.capture(self._model, learnt=new).learnt
            self._own = NormStatistics(self._own.layers, {**self._own.learnt, **learnt})
            conditions.apply(self._model, wanted)
        self._applied = condition
        self._folded.refresh()
