"""Which condition each frame of a stream is in: the service's own policy, fed with its own figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dance_ondevice.complexity import Indicator
from dance_ondevice.daemon.inference.frame_signals import frame_signals
from dance_ondevice.images.codec import decode_grey
from dance_ondevice.policies.stream.conditions import ConditionRules, Step, founded, observe
from dance_ondevice.training.batches import TrainingSample, read_image

__all__ = ["Figures", "Light", "figures"]

Figures = dict[str, float]


def figures(sample: TrainingSample, indicator: Indicator) -> Figures:
    """What the service would see in a frame, score on the half-size grey decode included.

    Raises:
        SampleError: the file is missing or no image.
    """
    image = read_image(sample)
    return frame_signals(image, indicator.measure(decode_grey(sample.image.read_bytes(), 2)).score)


class Light:
    """Follows the condition of one camera, frame by frame, from a base domain that is known."""

    _BASE_CAMERA, _CAMERA = "base domain", "camera"

    def __init__(self, base: Iterable[Figures], rules: ConditionRules | None = None) -> None:
        """Learn from some frames of the base domain what the model's own condition looks like."""
        self.rules = rules or ConditionRules()
        self._state = founded(base, self._BASE_CAMERA)

    def see(self, frame: Figures) -> Step:
        """Take in the next frame.

        The drift detector is taken to fire on every frame: a condition opens whenever enough strange frames
        agree, which costs a stream of single lights nothing and leaves one thing less to be tuned.
        """
        self._state, step = observe(self.rules, self._state, self._CAMERA, frame, drift=True)
        return step

    def of_test(self, frames: Sequence[Figures]) -> list[str]:
        """The conditions of a test's frames, seen in order by another camera; nothing is learnt from them."""
        state, found = self._state, []
        for frame in frames:
            state, step = observe(self.rules, state, "test", frame, drift=False)
            found.append(step.condition)
        return found
