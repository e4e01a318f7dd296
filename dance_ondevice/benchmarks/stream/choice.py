"""Choice of the frames to label, as the service chooses them in ``samples export --for-labelling``."""

from __future__ import annotations

from collections.abc import Sequence

from dance_ondevice.images.codec import decode_grey
from dance_ondevice.images.signature import signature
from dance_ondevice.policies.samples.labelling import choose_for_labelling
from dance_ondevice.policies.samples.splits import SampleInfo
from dance_ondevice.training.batches import TrainingSample

__all__ = ["most_worth_labelling"]


def most_worth_labelling(
    samples: Sequence[TrainingSample],
    count: int,
    *,
    complexity: Sequence[float],
    confidence: Sequence[float],
    condition: str = "",
) -> list[TrainingSample]:
    """Choose frames that the model is unsure of, that hold much detail, and that differ.

    Args:
        samples: Frames of one condition in order of time; they need no labels.
        count: Number of frames at most; near-duplicates are left out.
        complexity: Complexity score of each frame.
        confidence: Mean confidence of the live model on each frame.
        condition: Name of the condition.

    Returns:
        The chosen ones, in the order of ``samples``.
    """
    candidates = [
        SampleInfo(
            id=str(index),
            camera="camera",
            captured_at=float(index),
            score=score,
            labelled=False,
            uncertainty=1 - sure,
            condition=condition,
            signature=signature(decode_grey(sample.image.read_bytes(), 2)),
        )
        for index, (sample, score, sure) in enumerate(zip(samples, complexity, confidence, strict=True))
    ]
    chosen = choose_for_labelling(candidates, count).ids
    return [samples[index] for index in sorted(int(identifier) for identifier in chosen)]
