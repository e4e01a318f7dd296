"""Masks on their way out: each after the names of the classes that it is of."""

from __future__ import annotations

from dance_ondevice.daemon.inference.reuse import Mask
from dance_ondevice.daemon.inference.slots import ModelSlot
from dance_ondevice.daemon.ingest.mailbox import PendingFrame
from dance_ondevice.daemon.wire import codec as wire
from dance_ondevice.daemon.wire.publisher import MaskPublisher
from dance_ondevice.models.card import ModelCard

__all__ = ["MaskOutput"]


class MaskOutput:
    """Owns the publisher of masks; for use by one thread."""

    def __init__(self, publisher: MaskPublisher, *, max_cameras: int) -> None:
        """``max_cameras`` is the number of cameras of which it is remembered what was explained."""
        self._publisher = publisher
        self._max_cameras = max_cameras
        #: Cards whose class names were published, by camera; the camera explained longest ago is first.
        self._explained: dict[str, ModelCard] = {}
        self.endpoint = publisher.endpoint

    def tend(self, slot: ModelSlot | None) -> None:
        """See ``MaskPublisher.tend``; new subscribers, who missed earlier messages, get the class names."""
        self._publisher.tend()
        if self._publisher.newcomers() and slot is not None:
            for camera in self._explained:
                self._explain(camera, slot)

    def publish(
        self, frame: PendingFrame, slot: ModelSlot, mask: Mask, *, latency_s: float, repeated: bool
    ) -> None:
        """Publish the mask of a frame.

        Args:
            frame: The frame.
            slot: The version that serves.
            mask: Its mask, or that of an earlier frame.
            latency_s: Seconds since the frame was received.
            repeated: Whether it is that of an earlier frame.
        """
        if self._explained.get(frame.camera) is not slot.card:
            self._explain(frame.camera, slot)
        self._publisher.send(
            wire.mask_message(
                frame_id=frame.id,
                camera=frame.camera,
                seq=frame.seq,
                captured_at=frame.captured_at,
                model_version=slot.version,
                scale=mask.scale,
                latency_s=latency_s,
                mean_confidence=mask.mean_confidence,
                mask_png=mask.png,
                repeated=repeated,
            )
        )

    def close(self) -> None:
        """Close the publisher."""
        self._publisher.close()

    def _explain(self, camera: str, slot: ModelSlot) -> None:
        """Publish the class names of a camera's masks."""
        self._publisher.send(wire.classes_message(camera, slot.card.classes, slot.version))
        if camera not in self._explained and len(self._explained) >= self._max_cameras:
            del self._explained[next(iter(self._explained))]
        self._explained[camera] = slot.card
