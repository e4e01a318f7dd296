"""The quota on the disk: whether more bytes fit, and which samples are evicted so that they do."""

from __future__ import annotations

import json
import logging
import os
from collections import deque
from collections.abc import Callable, Collection
from pathlib import Path

from sqlite_utils import Database

from dance_ondevice.daemon.store.samples import StoreFull, delete_samples, files_of
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.terminal import show_bytes
from dance_ondevice.policies.samples.similarity import stored_light
from dance_ondevice.policies.stream.retention import StoredSample, choose_evictions

log = logging.getLogger(__name__)

#: Share of the stored bytes that an eviction frees beyond the need, so that it does not run for every frame.
SLACK = 0.02

#: The newest held-out samples of a camera that stay, enough for several gates. Older ones are evicted like
#: other labelled samples, by age, so that the gate's samples follow the stream and never fill the store.
KEEP_HELD_OUT = 128
#: The newest so many of each condition stay whatever came since: a night is judged by day as well.
KEEP_HELD_OUT_OF_CONDITION = 16

#: A camera is gone once as many samples have come since its last one as are stored, at least this many.
GONE_AFTER = 128

#: The cameras that are gone, renamed or removed: their samples judge no candidate any more.
GONE = f"""
SELECT camera FROM samples GROUP BY camera HAVING max(arrival) <
    (SELECT arrivals - max(labelled + unlabelled, {GONE_AFTER}) FROM sample_totals)
"""

#: Samples go where the file system takes fewer more files: what one group of operations may make.
FEW_FILES = 256

#: Samples that one step removes; a larger excess is removed in several steps, between other work.
PIECE = 64

# The newest held-out samples stay, and so do samples that a running round may be reading. A held-out sample
# is not trained on, so its classes do not keep it longer.
_IN_USE = "SELECT sample_id FROM round_samples JOIN rounds ON rounds.id = round_id WHERE outcome IS NULL"
_CANDIDATES = f"""
SELECT id, camera, arrival, bytes, score, label_path IS NOT NULL,
    (split IS 'gate' AND unreadable IS NULL AND camera NOT IN ({GONE}) AND (
        row_number() OVER (PARTITION BY camera, split ORDER BY arrival DESC) <= {KEEP_HELD_OUT}
        OR row_number() OVER (
            PARTITION BY camera, split, condition, substr(signature, -1) ORDER BY arrival DESC
        ) <= {KEEP_HELD_OUT_OF_CONDITION}
    ))
    OR id IN ({_IN_USE}),
    CASE WHEN split IS 'gate' OR unreadable IS NOT NULL THEN NULL ELSE classes END, condition, signature,
    split IS 'gate' AND camera IN ({GONE})
FROM samples ORDER BY arrival
"""


def free_bytes(path: Path) -> int:
    """Bytes that an unprivileged process may still write on the file system of ``path``."""
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def last_arrivals(db: Database) -> dict[str, float]:
    """The arrival of each camera's last stored sample, in wall-clock seconds of that time."""
    rows = db.execute("SELECT camera, max(arrival), received_at FROM samples GROUP BY camera").fetchall()
    return {camera: received_at for camera, _, received_at in rows}


class Quota:
    """Enforces the quota and the free-space floor, on the thread that owns the database connection."""

    def __init__(
        self,
        db: Database,
        paths: StatePaths,
        *,
        quota_bytes: int,
        min_free_bytes: int,
        seed: int,
        free_bytes: Callable[[Path], int],
    ) -> None:
        self._db = db
        self._paths = paths
        self._quota = quota_bytes
        self._floor = min_free_bytes
        self._seed = seed
        self._free_bytes = free_bytes
        self._claimed = 0
        # Bytes stored and bytes free when the present group began: one look for all its claims.
        self._room: tuple[int, int] | None = None
        # What the policy could release at the last refusal: asking again is useless until something changed.
        self._releasable: int | None = None
        # What goes, piece by piece, since much more is stored than may be.
        self._due: deque[StoredSample] = deque()

    def set_limits(self, *, quota_bytes: int, min_free_bytes: int) -> None:
        """Use other limits from the next write on."""
        self._quota = quota_bytes
        self._floor = min_free_bytes
        self._releasable = None

    def totals(self) -> tuple[int, int, int]:
        """Labelled samples, unlabelled samples, bytes of both."""
        row = self._db.execute("SELECT labelled, unlabelled, bytes FROM sample_totals").fetchone()
        return (row[0], row[1], row[2])

    def unreadable(self) -> tuple[int, str]:
        """How many samples cannot be read, and why the first cannot."""
        row = self._db.execute(
            "SELECT count(*), min(id), unreadable FROM samples WHERE unreadable IS NOT NULL"
        ).fetchone()
        return (row[0], row[2] or "")

    def free(self) -> int:
        """Bytes free on the samples' file system, which may be another than the index's."""
        samples = self._paths.samples
        return self._free_bytes(samples if samples.exists() else self._paths.root)

    def claim(self, size: int, keep: Collection[str] = ()) -> None:
        """Reserve ``size`` bytes until ``settle``, evicting samples where they do not fit.

        Args:
            size: Number of bytes about to be written.
            keep: Ids that must not be evicted.

        Raises:
            StoreFull: The bytes do not fit and not enough may be evicted; nothing was evicted.
        """
        if size <= 0:
            return
        over, free = self._over(size)
        if max(over, self._floor + size - free) > 0:
            self._room = None  # before anything goes, what is known must be true
            over, free = self._over(size)
        need = max(over, self._floor + size - free)
        if need > 0 and not self._make_space(need, size, keep):
            raise StoreFull(self._explain(over, free))
        if need <= 0 and self._few_files():
            self._make_space(size, size, keep)  # where nothing may go, the write itself tells
        self._claimed += size

    @property
    def in_debt(self) -> bool:
        """Whether ``pay_off`` has more to do."""
        return bool(self._due)

    def pay_off(self) -> bool:
        """Remove a piece of what is stored beyond the quota; returns whether there was any to remove."""
        if not self._due:
            used = self.totals()[2]
            if used <= self._quota or not self._choose(used - self._quota, int(SLACK * used), ()):
                return False
        self._remove_due(0, ())
        return True

    def unclaim(self, size: int) -> None:
        """Release a reservation whose bytes were not written."""
        self._claimed -= max(size, 0)
        self._room = None

    def settle(self, *, changed: bool) -> None:
        """End all reservations: they are rows now, or void; ``changed`` if the database was written to."""
        self._claimed = 0
        self._room = None
        if changed:
            self._releasable = None

    def _few_files(self) -> bool:
        """Whether the samples' file system takes hardly any more files, and most of those there are samples.

        Where somebody else's files fill it, no eviction helps, and the store would go for nothing.
        """
        files = files_of(self._paths.samples)
        if files is None or files[1] >= FEW_FILES:
            return False
        labelled, unlabelled, _ = self.totals()
        return 2 * (2 * labelled + unlabelled) >= files[0]

    def _over(self, size: int) -> tuple[int, int]:
        """Bytes beyond the quota with ``size`` more, and bytes free before they are written."""
        claimed = self._claimed
        if self._room is None:
            # What was claimed before is on the disk already, as far as the file system tells.
            self._room = (self.totals()[2], self.free() + claimed)
        used, free = self._room
        return used + claimed + size - self._quota, free - claimed

    def _make_space(self, need: int, size: int, keep: Collection[str]) -> bool:
        """Free ``need`` bytes; of what was too much before these ``size`` came, a piece at least."""
        if not self._due and not self._choose(need, int(SLACK * self.totals()[2]), keep):
            return False
        if self._remove_due(min(size, need), keep):
            return True
        # What was due has gone otherwise meanwhile, or must stay.
        return self._choose(need, 0, keep) and self._remove_due(min(size, need), keep)

    def _choose(self, need: int, slack: int, keep: Collection[str]) -> bool:
        """Choose what goes so that ``need`` bytes become free; returns whether that much may go."""
        if self._releasable is not None and need > self._releasable:
            return False
        candidates = self._candidates(keep)
        found = {sample.id: sample for sample in candidates}
        chosen = [found[each] for each in choose_evictions(candidates, need + slack, self._seed)]
        released = sum(sample.bytes for sample in chosen)
        if released < need:
            self._releasable = released
            log.warning("eviction refused needed_bytes=%d releasable_bytes=%d", need, released)
            return False
        self._due = deque(chosen)
        return True

    def _remove_due(self, at_least: int, keep: Collection[str]) -> bool:
        """Remove a piece of what is due, and more where that frees less than ``at_least`` bytes."""
        freed = 0
        while self._due:
            piece = [self._due.popleft() for _ in range(min(PIECE, len(self._due)))]
            held = {*keep, *(row[0] for row in self._db.execute(_IN_USE))}
            going = [sample for sample in piece if sample.id not in held]
            # By name and before it happens, so that whatever is missing later can be traced to here.
            log.debug("evicting ids=%s", ",".join(sample.id for sample in going))
            self._room = None
            count = delete_samples(self._db, self._paths, [sample.id for sample in going])
            freed += sum(sample.bytes for sample in going)
            log.info("evicted samples=%d bytes=%d due=%d", count, freed, len(self._due))
            if freed >= at_least:
                return True
        return freed >= at_least

    def _candidates(self, keep: Collection[str]) -> list[StoredSample]:
        parsed: dict[str | None, frozenset[int]] = {None: frozenset()}
        samples = []
        shown: set[tuple[str, str]] = set()
        for row in self._db.execute(_CANDIDATES):
            text = row[7]
            if text not in parsed:
                parsed[text] = frozenset(json.loads(text))
            signature = row[9] or ""
            repeated = bool(signature) and (row[1], signature) in shown
            shown.add((row[1], signature))
            samples.append(
                StoredSample(
                    id=row[0],
                    camera=row[1],
                    arrival=row[2],
                    bytes=row[3],
                    score=row[4],
                    labelled=bool(row[5]),
                    held_out=bool(row[6]) or row[0] in keep,
                    classes=parsed[text],
                    condition=row[8] or "",
                    light=stored_light(signature),
                    repeated=repeated,
                    gone=bool(row[10]),
                )
            )
        return samples

    def _explain(self, over: int, free: int) -> str:
        if over > 0:
            return (
                f"the store is full: its quota is {self._quota} bytes and nothing more may be evicted "
                "(held-out samples and those of a running round stay); raise storage.quota_bytes or remove "
                "samples with 'dance-ondevice samples purge'"
            )
        return (
            # So coarse that refusals in a row read alike and are counted as one.
            f"only {show_bytes(free)} are free on the disk of {self._paths.samples}, "
            f"storage.min_free_bytes keeps {show_bytes(self._floor)} of them and nothing more may be "
            "evicted; free some space or lower storage.min_free_bytes"
        )
