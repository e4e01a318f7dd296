"""Labels by a person: what a frame opens with, and what is stored."""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout  # Python 3.10 has another one beside it
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dance_ondevice.daemon.store.samples import digest
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.viewing import pictures
from dance_ondevice.images.codec import decode_colour, decode_label, encode_label
from dance_ondevice.images.headers import ImageError
from dance_ondevice.images.labels import IGNORE, LabelError, check_label
from dance_ondevice.policies.samples.splits import CORRECTED, MACHINES

__all__ = ["HandLabels", "LabelRefused"]

log = logging.getLogger(__name__)

_STORE_SECONDS = 8.0
_MODEL_SECONDS = 6.0


class LabelRefused(ValueError):  # noqa: N818 - read as a state
    """A label cannot be opened or stored; the message says why."""


#: Has the live model segment an image: (h, w, 3) BGR, its condition, (H, W) of the mask.
Segment = Callable[[NDArray[np.uint8], str, tuple[int, int]], "Future[tuple[Any, str]]"]


@dataclass
class _Totals:
    frames: int = 0
    taps: int = 0
    seconds: float = 0.0


@dataclass(kw_only=True)
class HandLabels:
    """Opens frames for correction and stores the result; for the thread of the console's socket alone.

    Attributes:
        root: The state folder.
        store: The sample store.
        segment: Has the live model segment an image; None while inference is off.
        n_classes: Number of the model's classes.
    """

    root: Path
    store: Store
    segment: Segment | None
    n_classes: int
    totals: _Totals = field(default_factory=_Totals)

    def open(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """What the page for correcting a frame needs beside the image.

        Args:
            row: The sample's row.

        Returns:
            ``size`` [height, width] of both masks; ``predicted`` by the live model and ``label`` so far, each
            packed (see ``pictures.pack``) in base64 or None; ``version`` of the label, for ``save``; and
            ``note``, why there is no prediction.

        Raises:
            LabelRefused: The stored image cannot be read.
        """
        native = (row["native_height"] or row["height"], row["native_width"] or row["width"])
        size = pictures.mask_size(*native)
        predicted, model, note = self._predict(row, size)
        label, known = self._label(row, size)
        return {
            "size": size,
            "native": native,
            "predicted": _packed(predicted),
            "label": _packed(label),
            "version": known,
            "model": model,
            "note": note,
        }

    def save(self, query: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
        """Store a label; one that somebody else stored since it was opened is not replaced.

        Args:
            query: ``ids``, the label packed in base64, its ``size``, the ``version`` that was opened, and
                ``taps`` and ``seconds`` that it took.
            row: The sample's row.

        Raises:
            LabelRefused: It is damaged or empty.
            StoreError: It cannot be stored; ``LabelChanged`` if somebody else was faster.
        """
        native = (row["native_height"] or row["height"], row["native_width"] or row["width"])
        try:
            height, width = (int(side) for side in query["size"])
            if (height, width) != pictures.mask_size(*native):
                raise LabelRefused(f"the label is {width}x{height}; open the frame again")
            ids = pictures.unpack(base64.b64decode(query["ids"], validate=True), (height, width))
            check_label(ids, self.n_classes)
            version, taps, seconds = str(query["version"]), int(query["taps"]), float(query["seconds"])
        except (KeyError, TypeError, binascii.Error, ImageError, LabelError) as error:
            raise LabelRefused(f"the label cannot be used: {error}") from error
        except ValueError as error:
            raise LabelRefused(str(error)) from error
        counts = np.bincount(ids.ravel(), minlength=IGNORE + 1)[:IGNORE]
        if not counts.any():
            raise LabelRefused("nothing is labelled yet: tap a region, or press 'all else is right'")
        png = encode_label(pictures.shrink(ids, native))
        classes = [int(number) for number in np.flatnonzero(counts)]
        stored = self.store.add_label(row["id"], png, classes, CORRECTED, replaces=version)
        try:
            stored.result(_STORE_SECONDS)
        except FutureTimeout:
            raise LabelRefused(
                f"the disk did not get to it within {_STORE_SECONDS:g} s, and may still store it: open the "
                "frame again to see"
            ) from None
        self.totals.frames += 1
        self.totals.taps += max(0, taps)
        self.totals.seconds += max(0.0, min(seconds, 3600.0))
        log.info(
            "label by hand sample=%s taps=%d seconds=%.1f share=%.3f",
            row["id"],
            taps,
            seconds,
            counts.sum() / ids.size,
        )
        return {"version": digest(png), "totals": vars(self.totals)}

    def _predict(
        self, row: Mapping[str, Any], size: tuple[int, int]
    ) -> tuple[NDArray[np.uint8] | None, str | None, str]:
        if self.segment is None:
            return None, None, "inference is off (inference.enabled), so no mask is there to start from"
        try:
            image = decode_colour((self.root / str(row["path"])).read_bytes())
        except (OSError, ImageError) as error:
            raise LabelRefused(f"the stored image cannot be read: {error}") from error
        asked: Future[tuple[Any, str]] | None = None
        try:
            asked = self.segment(image, str(row["condition"] or ""), size)
            found, version = asked.result(_MODEL_SECONDS)
        except FutureTimeout:
            if asked is not None:
                asked.cancel()  # nobody waits for it any more, and few may wait
            return None, None, f"the live model gave no mask within {_MODEL_SECONDS:g} s: the board is busy"
        except Exception as error:  # the model may be the user's own; a frame can be labelled without it
            return None, None, f"the live model gave no mask for this frame: {error!r}"
        return found.mask, version, ""

    def _label(self, row: Mapping[str, Any], size: tuple[int, int]) -> tuple[NDArray[np.uint8] | None, str]:
        """The label so far and its digest; a model's is left out, since nobody has confirmed it."""
        if row["label_path"] is None:
            return None, ""
        try:
            png = (self.root / str(row["label_path"])).read_bytes()
            if row["label_source"] in MACHINES:
                return None, digest(png)
            return pictures.shrink(decode_label(png), size), digest(png)
        except (OSError, ImageError) as error:
            log.warning("label not shown sample=%s error=%s", row["id"], error)
            return None, ""


def _packed(mask: NDArray[np.uint8] | None) -> str | None:
    return None if mask is None else base64.b64encode(pictures.pack(mask)).decode()
