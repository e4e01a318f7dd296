"""Estimates the statistics of conditions at once and in this process, as the service's child does but for the
trial of blends: for a network of random weights it would often keep the model's own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from torch import nn

from dance_ondevice.conditions import statistics as conditions
from dance_ondevice.conditions.arrays import ConditionArrays
from dance_ondevice.conditions.store import as_arrays
from dance_ondevice.daemon.inference.condition_sets import EstimationFailed
from dance_ondevice.images.codec import decode_colour
from dance_ondevice.models.card import Normalisation


def shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor, by name."""
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def estimating(model: nn.Module) -> Callable[[Sequence[bytes]], Future[ConditionArrays]]:
    """Estimate with the model as it is now."""
    own = copy.deepcopy(model)

    def estimate(images: Sequence[bytes]) -> Future[ConditionArrays]:
        found: Future[ConditionArrays] = Future()
        try:
            statistics = conditions.estimate(
                own,
                map(decode_colour, images),
                Normalisation(),
                blend=conditions.trust(len(images)),
                batch_size=1,
            )
            found.set_result(as_arrays(statistics))
        except RuntimeError as error:
            found.set_exception(EstimationFailed(str(error)))
        return found

    return estimate


class NoAccount:
    """Charges a child to nobody."""

    def attach_trainer(self, pid: int, workload: str = "training") -> None:
        """Do nothing."""

    def detach_trainer(self, pid: int, total_seconds: float | None) -> None:
        """Do nothing."""
