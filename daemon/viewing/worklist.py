"""The frames most worth a label by a person: chosen once, then handed out until they are used up or old."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from sqlite_utils import Database

from dance_ondevice.daemon.curation import shortlist
from dance_ondevice.daemon.system.state import StatePaths

__all__ = ["Worklist"]

#: Frames that are chosen at a time.
_CHOSEN = 12
#: Samples that are compared at a time: among hundreds of thousands a choice would take long, and much memory.
_CANDIDATES = 4000
#: Seconds for which a choice is as good as new.
_FRESH_SECONDS = 60.0
_SHOWN = ("id", "camera", "captured_at", "condition", "uncertainty", "value", "native_width", "native_height")


class Worklist:
    """Keeps the last choice; for the thread of the console's socket alone."""

    def __init__(self, paths: StatePaths, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._paths = paths
        self._monotonic = monotonic
        self._chosen: list[Mapping[str, Any]] = []
        self._left_out = 0
        self._at = float("-inf")

    def frames(self, db: Database) -> dict[str, Any]:
        """The frames that still lack a label, in their order, and the number of near-duplicates left out."""
        if self._monotonic() - self._at > _FRESH_SECONDS or not self._open(db):
            found = shortlist.choose(db, self._paths, _CHOSEN, most=_CANDIDATES)
            self._chosen = [{key: image.get(key) for key in _SHOWN} for image in found.images]
            self._left_out = found.duplicates
            self._at = self._monotonic()
        return {"frames": self._open(db), "near_duplicates": self._left_out}

    def labelled(self) -> None:
        """Choose again at the next look: what a label was worth depends on the labels that there are."""
        self._at = float("-inf")

    def _open(self, db: Database) -> list[Mapping[str, Any]]:
        marks = ",".join("?" * len(self._chosen))
        left = {
            row[0]
            for row in db.execute(
                f"select id from samples where label_path is null and id in ({marks})",
                [image["id"] for image in self._chosen],
            )
        }
        return [image for image in self._chosen if image["id"] in left]
