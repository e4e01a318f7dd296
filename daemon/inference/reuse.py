"""The last mask of each standing camera, to publish it again while the picture does not change.

Used by the inference thread alone. The decision is ``policies.stream.reuse``; here frames are measured and
masks remembered.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from dance_ondevice.daemon.ingest.mailbox import PendingFrame
from dance_ondevice.images.brightness import luma_and_contrast
from dance_ondevice.policies.stream.reuse import Change, Scene, observe, unchanged

__all__ = ["Mask", "MaskMemory"]

#: Columns and rows of the grid that frames are compared on: a person 30 m away changes a cell of it.
CELLS = (60, 45)

Cells = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Mask:
    """A published mask and what it depends on.

    Attributes:
        png: The mask.
        scale: Scale of the frame that it was made from.
        mean_confidence: Mean confidence of that frame.
        size: (height, width) of that frame.
        made_by: The card of the version that made it, compared by identity; it keeps no model alive.
        condition: Condition of its camera.
    """

    png: bytes
    scale: float
    mean_confidence: float
    size: tuple[int, int]
    made_by: object
    condition: str


@dataclass(slots=True)
class _Camera:
    scene: Scene = field(default_factory=Scene)
    last: Cells | None = None
    mask: Mask | None = None
    shown: Cells | None = None
    at: float = 0.0


class MaskMemory:
    """The last mask of each camera, and its scene's noise."""

    def __init__(self, max_cameras: int = 64, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Start empty; of more cameras the one silent for longest is forgotten."""
        self._max_cameras = max_cameras
        self._monotonic = monotonic
        self._cameras: OrderedDict[str, _Camera] = OrderedDict()

    def look(
        self, frame: PendingFrame, size: tuple[int, int], made_by: object, condition: str
    ) -> Mask | None:
        """Learn from a frame; returns the mask that it gets again, None if it must be segmented.

        A frame with a label is always segmented, since it judges the model.

        Args:
            frame: The camera's next frame.
            size: (height, width) of the frame.
            made_by: The card of the version that serves now.
            condition: The condition that the camera is in.
        """
        if frame.grey is None:
            return None
        cells = _cells(frame.grey)
        camera = self._cameras.setdefault(frame.camera, _Camera())
        self._cameras.move_to_end(frame.camera)
        if len(self._cameras) > self._max_cameras:
            self._cameras.popitem(last=False)
        change = None if camera.last is None else _change(cells, camera.last)
        camera.scene = observe(camera.scene, *luma_and_contrast(frame.grey), change)
        camera.last = cells
        mask = camera.mask
        if mask is None or camera.shown is None or frame.label is not None:
            return None
        if mask.made_by is not made_by or mask.condition != condition or mask.size != size:
            return None
        same = unchanged(camera.scene, _change(cells, camera.shown), self._monotonic() - camera.at)
        return mask if same else None

    def keep(self, camera: str, mask: Mask) -> None:
        """Remember the mask of the frame that ``look`` was called with last for a camera."""
        known = self._cameras.get(camera)
        if known is not None:
            known.mask, known.shown, known.at = mask, known.last, self._monotonic()


def _cells(grey: npt.NDArray[np.uint8]) -> Cells:
    import cv2  # on use: its pixel limit is read at its first import, see images.codec.limit_pixels

    return np.asarray(cv2.resize(grey.astype(np.float32), CELLS, interpolation=cv2.INTER_AREA), np.float32)


def _change(cells: Cells, before: Cells) -> Change:
    difference = np.abs(cells - before)
    return Change(usual=float(np.percentile(difference, 90)), largest=float(difference.max()))
