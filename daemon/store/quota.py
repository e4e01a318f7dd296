"""The quota on the disk: whether more bytes fit, and which samples are evicted so that they do."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Collection
from pathlib import Path

from sqlite_utils import Database

from dance_ondevice.daemon.store.samples import StoreFull, delete_samples
from dance_ondevice.daemon.system.state import StatePaths
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

# The newest held-out samples stay, and so do samples that a running round may be reading. A held-out sample
# is not trained on, so its classes do not keep it longer.
_CANDIDATES = f"""
SELECT id, camera, captured_at, bytes, score, label_path IS NOT NULL,
    (split IS 'gate' AND (
        row_number() OVER (PARTITION BY camera, split ORDER BY captured_at DESC, id) <= {KEEP_HELD_OUT}
        OR row_number() OVER (
            PARTITION BY camera, split, condition, substr(signature, -1) ORDER BY captured_at DESC, id
        ) <= {KEEP_HELD_OUT_OF_CONDITION}
    ))
    OR id IN (
        SELECT sample_id FROM round_samples JOIN rounds ON rounds.id = round_id WHERE outcome IS NULL
    ),
    CASE WHEN split IS 'gate' THEN NULL ELSE classes END, condition, signature
FROM samples ORDER BY captured_at, id
"""


def free_bytes(path: Path) -> int:
    """Bytes that an unprivileged process may still write on the file system of ``path``."""
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


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
        # What the policy could release at the last refusal: asking again is useless until something changed.
        self._releasable: int | None = None

    def set_limits(self, *, quota_bytes: int, min_free_bytes: int) -> None:
        """Use other limits from the next write on."""
        self._quota = quota_bytes
        self._floor = min_free_bytes
        self._releasable = None

    def totals(self) -> tuple[int, int, int]:
        """Labelled samples, unlabelled samples, bytes of both."""
        row = self._db.execute("SELECT labelled, unlabelled, bytes FROM sample_totals").fetchone()
        return (row[0], row[1], row[2])

    def free(self) -> int:
        """Bytes free on the file system."""
        return self._free_bytes(self._paths.root)

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
        used = self.totals()[2]
        over = used + self._claimed + size - self._quota
        free = self.free()
        need = max(over, self._floor + size - free)
        if need > 0 and not self._evict(need, int(SLACK * used), keep):
            raise StoreFull(self._explain(over, free))
        self._claimed += size

    def unclaim(self, size: int) -> None:
        """Release a reservation whose bytes were not written."""
        self._claimed -= max(size, 0)

    def settle(self, *, changed: bool) -> None:
        """End all reservations: they are rows now, or void; ``changed`` if the database was written to."""
        self._claimed = 0
        if changed:
            self._releasable = None

    def _evict(self, need: int, slack: int, keep: Collection[str]) -> bool:
        if self._releasable is not None and need > self._releasable:
            return False
        candidates = self._candidates(keep)
        chosen = choose_evictions(candidates, need + slack, self._seed)
        sizes = {sample.id: sample.bytes for sample in candidates}
        released = sum(sizes[identifier] for identifier in chosen)
        if released < need:
            self._releasable = released
            log.warning("eviction refused needed_bytes=%d releasable_bytes=%d", need, released)
            return False
        delete_samples(self._db, self._paths, chosen)
        log.info("evicted samples=%d bytes=%d needed_bytes=%d", len(chosen), released, need)
        return True

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
                    captured_at=row[2],
                    bytes=row[3],
                    score=row[4],
                    labelled=bool(row[5]),
                    held_out=bool(row[6]) or row[0] in keep,
                    classes=parsed[text],
                    condition=row[8] or "",
                    light=stored_light(signature),
                    repeated=repeated,
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
            f"only {free} bytes are free on the disk of {self._paths.root}, storage.min_free_bytes keeps "
            f"{self._floor} of them and nothing more may be evicted; free some space or lower "
            "storage.min_free_bytes"
        )
