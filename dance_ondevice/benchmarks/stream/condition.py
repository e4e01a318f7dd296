"""Condition of each frame of a stream, by the service's own policy and figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dance_ondevice.complexity import Indicator
from dance_ondevice.daemon.inference.frame_signals import frame_signals
from dance_ondevice.images.codec import decode_grey
from dance_ondevice.policies.stream.conditions import ConditionRules, Step, founded, observe
from dance_ondevice.training.batches import TrainingSample, read_image

__all__ = ["ConditionFollower", "Figures", "figures"]

Figures = dict[str, float]


def figures(sample: TrainingSample, indicator: Indicator) -> Figures:
    """Compute the figures that the service uses of a frame, with its score on the half-size grey decode.

    Raises:
        SampleError: The file is missing or not an image.
    """
    image = read_image(sample)
    return frame_signals(image, indicator.measure(decode_grey(sample.image.read_bytes(), 2)).score)


class ConditionFollower:
    """Follows the condition of one camera, frame by frame, from a known base domain."""

    _BASE_CAMERA, _CAMERA = "base domain", "camera"

    def __init__(self, base: Iterable[Figures]) -> None:
        """Learn the model's own condition from some frames of the base domain."""
        self.rules = ConditionRules()
        self._state = founded(base, self._BASE_CAMERA)

    def see(self, frame: Figures) -> Step:
        """Take in the next frame.

        The drift detector is assumed to fire on every frame, so a condition opens whenever enough strange
        frames agree. That does not matter in a stream of distinct conditions, and saves one setting.
        """
        self._state, step = observe(self.rules, self._state, self._CAMERA, frame, drift=True)
        return step

    def of_test(self, frames: Sequence[Figures]) -> list[str]:
        """Return the conditions of a test's frames as of another camera, without learning from them."""
        state, found = self._state, []
        for frame in frames:
            state, step = observe(self.rules, state, "test", frame, drift=False)
            found.append(step.condition)
        return found
