"""Stored images that people ask to have segmented, a few at a time, on the inference thread."""

from __future__ import annotations

import queue
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dance_ondevice.images.masks import Prediction

__all__ = ["Asked", "AskedImages", "TooManyAsked"]

#: The most images that wait: a person looks at one at a time.
_WAITING = 8


class TooManyAsked(RuntimeError):  # noqa: N818 - read as a state
    """Too many images wait to be segmented; ask again in a moment."""


@dataclass(frozen=True)
class Asked:
    """An image to segment: (h, w, 3) uint8 BGR, its condition, and the (H, W) of the mask."""

    image: NDArray[np.uint8]
    condition: str
    out_size: tuple[int, int]
    future: Future[tuple[Prediction, str]]


class AskedImages:
    """A bounded queue that any thread fills and the inference thread empties."""

    def __init__(self, call: Callable[[], None]) -> None:
        """``call`` ends the wait of the thread that empties it."""
        self._queue: queue.Queue[Asked] = queue.Queue(_WAITING)
        self._call = call

    def put(
        self, image: NDArray[np.uint8], condition: str, out_size: tuple[int, int]
    ) -> Future[tuple[Prediction, str]]:
        """Ask for the mask of an image; the future resolves to the prediction and the version that made it.

        Raises:
            TooManyAsked: Too many wait already.
        """
        future: Future[tuple[Prediction, str]] = Future()
        try:
            self._queue.put_nowait(Asked(image, condition, out_size, future))
        except queue.Full:
            raise TooManyAsked("several images wait to be segmented; try again in a moment") from None
        self._call()
        return future

    def take(self) -> Asked | None:
        """The next image that is still wanted; None without one."""
        while True:
            try:
                asked = self._queue.get_nowait()
            except queue.Empty:
                return None
            if asked.future.set_running_or_notify_cancel():
                return asked
