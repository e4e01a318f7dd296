"""Which few frames to have labelled: those that show the most different scenes."""

from __future__ import annotations

from collections.abc import Sequence

from dance_ondevice.batches import TrainingSample
from dance_ondevice.images import decode_grey
from dance_ondevice.policies.similarity import code, distance
from dance_ondevice.similarity import signature

__all__ = ["spread_out"]


def spread_out(samples: Sequence[TrainingSample], count: int) -> list[TrainingSample]:
    """Choose frames that differ: greedy k-centre, from the most typical one.

    Gonzalez, "Clustering to minimize the maximum intercluster distance", 1985; for labels: Sener and
    Savarese, "Active learning for convolutional neural networks: a core-set approach", ICLR 2018.

    Args:
        samples: to choose from, no labels needed.
        count: how many; all where there are not more.

    Returns:
        The chosen ones, in the order of ``samples``.
    """
    if count >= len(samples):
        return list(samples)
    codes = [code(signature(decode_grey(sample.image.read_bytes(), 4))) for sample in samples]
    away = [[distance(one, other) or 0 for other in codes] for one in codes]
    chosen = [min(range(len(samples)), key=lambda index: sum(away[index]))] if count else []
    while len(chosen) < count:
        chosen.append(max(range(len(samples)), key=lambda index: min(away[index][other] for other in chosen)))
    return [samples[index] for index in sorted(chosen)]
