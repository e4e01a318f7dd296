"""The newest frame of each camera, waiting for inference: a slow board skips frames and never lags."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from dance_ondevice.images.headers import ImageInfo


@dataclass(frozen=True, kw_only=True)
class PendingFrame:
    """A frame on its way to the inference thread.

    Attributes:
        id: Sample id, whether or not the frame was kept.
        camera: The camera's name.
        seq: The sender's sequence number.
        captured_at: Wall-clock seconds, from the sender.
        received: Monotonic seconds, for the latency.
        data: Encoded image, or raw BGR bytes in C order.
        info: The image's header; None for a raw frame.
        raw_shape: ``(h, w, 3)`` of a raw frame, else None.
        scale: Factor by which the policy shrinks the frame.
        label: PNG of class ids that came with the frame, or None.
        score: Spatial complexity, 0 to 1.
        pixels: (h, w, 3) uint8 BGR, no smaller than the frame at ``scale``, if it was decoded before.
        grey: (h, w) uint8 luma that the score was computed from.
    """

    id: str
    camera: str
    seq: int
    captured_at: float
    received: float
    data: bytes
    info: ImageInfo | None
    raw_shape: tuple[int, int, int] | None
    scale: float
    label: bytes | None
    score: float = 0.0
    pixels: NDArray[np.uint8] | None = None
    grey: NDArray[np.uint8] | None = None


#: Bytes of decoded pixels that wait; a frame beyond that is decoded again.
_MOST_PIXEL_BYTES = 16 << 20
#: Number of frames that the share of those that are taken is about.
_SHARE_FRAMES = 32


class LatestFrames:
    """One slot a camera, emptied in the order in which the slots were filled.

    A newer frame of a camera replaces the older one but keeps its position in the queue, so that a fast
    camera neither starves a slow one nor loses its own turn.
    """

    def __init__(self, max_cameras: int = 64) -> None:
        """Make an empty mailbox.

        Args:
            max_cameras: The most slots; with more cameras waiting, the longest-waiting frame is skipped.
        """
        self._max_cameras = max_cameras
        self._slots: OrderedDict[str, PendingFrame] = OrderedDict()
        self._changed = threading.Condition()
        self._closed = False
        self._called = False
        self._skipped = 0
        self._pixel_bytes = 0
        self._taken_share = 1.0

    def taken_share(self) -> float:
        """Share of the latest frames whose pixels were needed; callable from any thread."""
        return self._taken_share

    @property
    def skipped(self) -> int:
        """Number of frames since the start that were replaced before they were taken."""
        with self._changed:
            return self._skipped

    def offer(self, frame: PendingFrame) -> None:
        """Put a frame into its camera's slot; an earlier frame that is still there is skipped.

        If the decoded pixels of all slots would take too much memory, this frame's are dropped.
        """
        with self._changed:
            if frame.camera in self._slots:
                self._skip(self._slots[frame.camera])
            elif len(self._slots) >= self._max_cameras:
                self._skip(self._slots.popitem(last=False)[1])
            if self._pixel_bytes + _pixel_bytes(frame) > _MOST_PIXEL_BYTES:
                frame = replace(frame, pixels=None)
            self._slots[frame.camera] = frame
            self._pixel_bytes += _pixel_bytes(frame)
            self._changed.notify()

    def take(self, timeout: float) -> PendingFrame | None:
        """Wait up to ``timeout`` seconds for a frame; None when none came, after ``call``, or once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._slots or self._closed or self._called, timeout)
            self._called = False
            if self._closed or not self._slots:
                return None
            frame = self._slots.popitem(last=False)[1]
            self._pixel_bytes -= _pixel_bytes(frame)
            self._taken_share += (1.0 - self._taken_share) / _SHARE_FRAMES
            return frame

    def not_segmented(self) -> None:
        """Take note that the frame taken last was answered without its pixels."""
        with self._changed:
            self._taken_share = max(0.0, self._taken_share - 1.0 / _SHARE_FRAMES)

    def _skip(self, frame: PendingFrame) -> None:
        self._skipped += 1
        self._pixel_bytes -= _pixel_bytes(frame)
        self._taken_share -= self._taken_share / _SHARE_FRAMES

    def wake(self) -> None:
        """Have every ``take`` look at its time again; none returns earlier for it."""
        with self._changed:
            self._changed.notify_all()

    def call(self) -> None:
        """End the wait of ``take``, since there is something else to do."""
        with self._changed:
            self._called = True
            self._changed.notify_all()

    def close(self) -> None:
        """Let every ``take``, waiting or to come, return None at once."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def _pixel_bytes(frame: PendingFrame) -> int:
    return 0 if frame.pixels is None else frame.pixels.nbytes
