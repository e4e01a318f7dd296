"""Drift alarms that no round has answered yet, and the samples that each camera sent since.

Belongs to the rounds thread. The published snapshot lists only the latest alarms, so they are copied from it
and kept here until a round has learnt from the samples that came after them. A restart forgets them: a scene
that is still new to the model by then raises new alarms.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from dance_ondevice.policies.rounds.start import Drifted
from dance_ondevice.policies.samples import wanted
from dance_ondevice.policies.samples.splits import SampleInfo

if TYPE_CHECKING:
    from sqlite_utils import Database

    from dance_ondevice.daemon.inference.cameras import ConditionsSnapshot, DriftAlarm
    from dance_ondevice.daemon.store.service import Store

#: The most alarms that are kept for a camera; the oldest are dropped first.
_MOST = 64


class DriftWatch:
    """Which cameras have drifted since a round last learnt from them."""

    def __init__(self, snapshot: Callable[[], ConditionsSnapshot] | None, store: Store) -> None:
        """Start without alarms; ``update`` takes them over.

        Args:
            snapshot: Returns the latest state of the cameras; None where nothing watches for drift.
            store: The sample store, which knows the samples that came since.
        """
        self._snapshot = snapshot
        self._store = store
        self._seen = 0
        self._waiting: dict[str, deque[DriftAlarm]] = {}
        #: By camera: the number of the last sample that came before the first waiting alarm.
        self._since: dict[str, int] = {}

    def update(self) -> None:
        """Take over new alarms from the snapshot; cheap, to be called before its list of alarms overflows."""
        if self._snapshot is None:
            return
        for alarm in self._snapshot().alarms_since(self._seen):
            if alarm.camera not in self._waiting:
                # Now, while both are by the same clock: from here on the order of storing counts.
                self._since[alarm.camera] = self._last_before(alarm)
            self._waiting.setdefault(alarm.camera, deque(maxlen=_MOST)).append(alarm)
            self._seen = alarm.number

    @property
    def latest(self) -> int:
        """Number of the latest alarm that was taken over."""
        return self._seen

    def drifted(self, samples: Iterable[SampleInfo]) -> list[Drifted]:
        """The cameras with unanswered alarms, and how many of the given samples came after the first of them.

        Args:
            samples: The samples that a round could learn from.
        """
        self.update()
        if not self._waiting:
            return []
        since = {camera: self._since[camera] for camera in self._waiting}
        arrived = self._store.submit(lambda db: _arrived(db, since)).result()
        new = dict.fromkeys(since, 0)
        for sample in samples:
            if sample.camera in new and sample.id in arrived:
                new[sample.camera] += 1
        return [
            Drifted(
                camera=camera,
                signals=tuple(dict.fromkeys(alarm.signal for alarm in alarms)),
                new_labelled=new[camera],
            )
            for camera, alarms in self._waiting.items()
        ]

    def wanting(self, needed: int) -> tuple[wanted.WantedLabels, ...]:
        """Return the labels that a person is asked for, so that rounds can learn from what has changed.

        Args:
            needed: Labelled samples of a drifted camera that a round needs.
        """
        if not self._waiting:
            return ()
        since = {camera: self._since[camera] for camera in self._waiting}
        stored = self._store.submit(lambda db: _came(db, since)).result()
        found: list[wanted.WantedLabels] = []
        for camera, alarms in self._waiting.items():
            signals = tuple(dict.fromkeys(alarm.signal for alarm in alarms))
            found += wanted.after_drift(camera, signals, stored[camera], needed)
        return tuple(found)

    def answered(self, cameras: Collection[str], latest: int) -> None:
        """Forget the alarms of cameras that a round has learnt from, up to the alarm number ``latest``."""
        for camera in cameras:
            alarms = self._waiting.pop(camera, ())
            later = [alarm for alarm in alarms if alarm.number > latest]
            if later:
                self._since[camera] = self._last_before(later[0])
                self._waiting[camera] = deque(later, maxlen=_MOST)

    def _last_before(self, alarm: DriftAlarm) -> int:
        """The number of the last sample of a camera that came before an alarm; 0 where none did."""
        query = "select coalesce(max(arrival), 0) from samples where camera = ? and received_at < ?"
        found = self._store.submit(lambda db: db.execute(query, [alarm.camera, alarm.at]).fetchone()).result()
        return int(found[0])


def _arrived(db: Database, since: Mapping[str, int]) -> set[str]:
    """Ids of labelled samples that came after a number: any clock may be wrong."""
    found: set[str] = set()
    for camera, number in since.items():
        rows = db.execute(
            "select id from samples where camera = ? and arrival > ? and label_path is not null "
            "and rounds_used = 0",
            [camera, number],
        )
        found.update(row[0] for row in rows)
    return found


def _came(db: Database, since: Mapping[str, int]) -> dict[str, list[wanted.Unlabelled]]:
    """What came of each camera after a number, by condition."""
    query = (
        "select coalesce(condition, ''), sum(label_path is null and unreadable is null), "
        "sum(label_path is not null and rounds_used = 0) from samples "
        "where camera = ? and arrival > ? group by 1"
    )
    return {
        camera: [
            wanted.Unlabelled(condition=condition, unlabelled=unlabelled, labelled=labelled)
            for condition, unlabelled, labelled in db.execute(query, [camera, number])
        ]
        for camera, number in since.items()
    }
