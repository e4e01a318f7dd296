"""Retention: which stored samples go when the quota or the free-space floor is reached."""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

__all__ = ["KEEP_PER_CLASS", "StoredSample", "choose_evictions"]

#: The last so many labelled samples of a class stay while anything else can go.
KEEP_PER_CLASS = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredSample:
    """What the choice needs to know of one stored sample.

    Attributes:
        id: unique.
        camera: name of its camera.
        arrival: number in the order of storing: no clock, the sender's or the board's, makes a sample old.
        bytes: on disk, image and label.
        score: spatial complexity; of two samples alike in all else the plainer one goes first.
        labelled: whether it has a label.
        held_out: whether the promotion gate (or a running round) needs it: it then never goes.
        classes: class ids in its label.
        gone: whether it was held out of a camera that is gone: nothing trains on it or is judged by it.
    """

    id: str
    camera: str
    arrival: int
    bytes: int
    score: float
    labelled: bool
    held_out: bool
    classes: frozenset[int] = frozenset()
    gone: bool = False


def choose_evictions(
    samples: Sequence[StoredSample], bytes_to_free: int, seed: int, *, keep_per_class: int = KEEP_PER_CLASS
) -> list[str]:
    """Choose samples that free at least `bytes_to_free`, or all that may go if that is not enough.

    In this order: what was held out of cameras that are gone; samples without a label; labelled samples of
    which every class has more than `keep_per_class` others; at last the remaining labelled ones, those first
    whose rarest class has the most samples left. Within each of these but the last, the camera with the most
    samples gives the next one, its oldest. Samples held out never go and do not count towards
    `keep_per_class`, since nothing trains on them. The order of `samples` does not matter.

    Args:
        samples: all that are stored.
        bytes_to_free: at least; 0 or less frees nothing.
        seed: decides between samples alike in all else.
        keep_per_class: labelled samples of each class that stay as long as others can go.

    Returns:
        Ids in the order in which to remove them; no more than needed.
    """
    chosen: list[str] = []
    freed = 0
    if bytes_to_free > 0:
        for sample in _in_order(samples, seed, keep_per_class):
            chosen.append(sample.id)
            freed += sample.bytes
            if freed >= bytes_to_free:
                break
    return chosen


def _in_order(samples: Sequence[StoredSample], seed: int, keep_per_class: int) -> Iterator[StoredSample]:
    """Every sample that may go, in the order of going."""
    free = sorted((s for s in samples if not s.held_out), key=lambda each: _age(each, seed))
    per_camera = Counter(sample.camera for sample in free)
    per_class = Counter(class_id for sample in free if sample.labelled for class_id in sample.classes)
    yield from _by_camera((s for s in free if s.gone), per_camera)
    free = [s for s in free if not s.gone]
    yield from _by_camera((s for s in free if not s.labelled), per_camera)
    scarce: list[StoredSample] = []
    for sample in _by_camera((s for s in free if s.labelled), per_camera):
        if any(per_class[class_id] <= keep_per_class for class_id in sample.classes):
            scarce.append(sample)
        else:
            per_class.subtract(sample.classes)
            yield sample
    yield from _most_plentiful(scarce, per_class)


def _age(sample: StoredSample, seed: int) -> tuple[int, float, bytes, str]:
    draw = blake2b(f"{seed}/{sample.id}".encode(), digest_size=8).digest()
    return sample.arrival, sample.score, draw, sample.id


def _by_camera(ordered: Iterable[StoredSample], per_camera: Counter[str]) -> Iterator[StoredSample]:
    """Take the oldest of the camera with the most samples, again and again."""
    queues: dict[str, deque[tuple[int, StoredSample]]] = {}
    for position, sample in enumerate(ordered):
        queues.setdefault(sample.camera, deque()).append((position, sample))
    heap = [(-per_camera[camera], queue[0][0], camera) for camera, queue in queues.items()]
    heapq.heapify(heap)
    while heap:
        camera = heapq.heappop(heap)[2]
        queue = queues[camera]
        yield queue.popleft()[1]
        per_camera[camera] -= 1
        if queue:
            heapq.heappush(heap, (-per_camera[camera], queue[0][0], camera))


def _most_plentiful(scarce: list[StoredSample], per_class: Counter[int]) -> Iterator[StoredSample]:
    """Take the sample whose rarest class has the most samples left, again and again."""
    heap = [(-_rarest(sample, per_class), position) for position, sample in enumerate(scarce)]
    heapq.heapify(heap)
    while heap:
        known, position = heapq.heappop(heap)
        now = -_rarest(scarce[position], per_class)
        if now != known:  # others of its class went in the meantime: it waits at its new place
            heapq.heappush(heap, (now, position))
            continue
        per_class.subtract(scarce[position].classes)
        yield scarce[position]


def _rarest(sample: StoredSample, per_class: Counter[int]) -> int:
    return min(per_class[class_id] for class_id in sample.classes)
