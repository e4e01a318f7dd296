"""Retention: choice of the samples to evict when the quota or the free-space floor is reached."""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

__all__ = ["KEEP_PER_CLASS", "KEEP_PER_LIGHT", "StoredSample", "choose_evictions"]

#: Number of the latest labelled samples of a class that stay while anything else can be evicted.
KEEP_PER_CLASS = 8
#: Number of the latest samples of a camera's light that stay while another light has more.
KEEP_PER_LIGHT = 16
#: A camera's samples of one condition and light.
_Group = tuple[str, str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredSample:
    """Facts of one stored sample that the choice depends on.

    Attributes:
        id: Unique id of the sample.
        camera: Name of its camera.
        arrival: Number in the order of storing; it does not depend on the sender's or the board's clock.
        bytes: Bytes on disk of image and label.
        score: Spatial complexity; of two otherwise equal samples the simpler one is evicted first.
        labelled: True if it has a label.
        held_out: True if the promotion gate (or a running round) needs it, so that it is never evicted.
        classes: Class ids in its label.
        gone: True if it was held out of a camera that no longer sends: it neither trains nor judges.
        condition: Condition of the frame; "" if unknown.
        light: Number of its light, see ``samples.similarity.stored_light``.
        repeated: True if an earlier sample of its camera shows the same picture.
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
    condition: str = ""
    light: int = -1
    repeated: bool = False

    @property
    def group(self) -> _Group:
        """Return the group of similar samples that it belongs to."""
        return self.camera, self.condition, self.light


def choose_evictions(
    samples: Sequence[StoredSample], bytes_to_free: int, seed: int, *, keep_per_class: int = KEEP_PER_CLASS
) -> list[str]:
    """Choose samples that free at least `bytes_to_free`, or all that may go if that is not enough.

    In this order: what was held out of cameras that are gone; samples without a label, those first that
    repeat an earlier one; labelled samples of which every class has more than `keep_per_class` others; the
    last samples of a light, those without a label
    first; at last the remaining labelled ones, those first whose rarest class has the most samples left.
    Within each but the last, the camera with the most samples gives the next one, of its condition and light
    with the most samples the oldest: so no light is pushed out by another. The last `KEEP_PER_LIGHT` samples
    of a light stay while another light of the camera has more.
    Samples held out never go and do not count towards `keep_per_class`, since nothing trains on them. The
    order of `samples` does not matter.

    Args:
        samples: All stored samples.
        bytes_to_free: Least number of bytes to free; 0 or less frees nothing.
        seed: Seed of the choice between otherwise equal samples.
        keep_per_class: Number of labelled samples of each class that stay as long as others can be evicted.

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
    """Yield every sample that may be evicted, in order."""
    free = sorted((s for s in samples if not s.held_out), key=lambda each: _age(each, seed))
    left = _Left(free)
    per_class = Counter(class_id for sample in free if sample.labelled for class_id in sample.classes)
    stale = [s for s in free if s.gone]
    for sample in stale:
        left.take(sample)
        yield sample
    free = [sample for sample in free if not sample.gone]
    gone: set[str] = set()

    def give(among: Iterable[StoredSample], *, to_the_last: bool) -> Iterator[StoredSample]:
        """Those that may go now, in turn; a sample of a class that is scarce waits for the end."""
        for sample in left.in_turn(s for s in among if s.id not in gone):
            scarce = any(per_class[class_id] <= keep_per_class for class_id in sample.classes)
            if (sample.labelled and scarce) or not (to_the_last or left.spares(sample)):
                continue
            if sample.labelled:
                per_class.subtract(sample.classes)
            left.take(sample)
            gone.add(sample.id)
            yield sample

    bare = [sample for sample in free if not sample.labelled]
    labelled = [sample for sample in free if sample.labelled]
    yield from give((s for s in bare if s.repeated), to_the_last=True)
    yield from give(bare, to_the_last=False)
    yield from give(labelled, to_the_last=False)
    yield from give(bare, to_the_last=True)
    yield from give(labelled, to_the_last=True)
    yield from _most_plentiful([s for s in labelled if s.id not in gone], per_class)


def _age(sample: StoredSample, seed: int) -> tuple[int, float, bytes, str]:
    draw = blake2b(f"{seed}/{sample.id}".encode(), digest_size=8).digest()
    return sample.arrival, sample.score, draw, sample.id


class _Left:
    """How many samples each camera and each of its lights has left, while samples go."""

    def __init__(self, free: Sequence[StoredSample]) -> None:
        self._cameras = Counter(sample.camera for sample in free)
        self._groups = Counter(sample.group for sample in free)
        self._lights = Counter(camera for camera, _, _ in self._groups)

    def take(self, sample: StoredSample) -> None:
        """Count a sample as gone."""
        self._cameras[sample.camera] -= 1
        self._groups[sample.group] -= 1

    def spares(self, sample: StoredSample) -> bool:
        """Whether a sample's light has enough without it, or is the only one of its camera."""
        return self._lights[sample.camera] == 1 or self._groups[sample.group] > KEEP_PER_LIGHT

    def in_turn(self, ordered: Iterable[StoredSample]) -> Iterator[StoredSample]:
        """Offer the oldest of the light with the most samples of the camera with the most, again and again.

        Args:
            ordered: oldest first. What is offered may be taken, or passed over for good.
        """
        cameras: dict[str, dict[_Group, deque[tuple[int, StoredSample]]]] = {}
        for position, sample in enumerate(ordered):
            groups = cameras.setdefault(sample.camera, {})
            groups.setdefault(sample.group, deque()).append((position, sample))
        inner = {
            camera: [(-self._groups[group], queue[0][0], group) for group, queue in groups.items()]
            for camera, groups in cameras.items()
        }
        for heap in inner.values():
            heapq.heapify(heap)
        outer = [(-self._cameras[camera], heap[0][1], camera) for camera, heap in inner.items()]
        heapq.heapify(outer)
        while outer:
            camera = heapq.heappop(outer)[2]
            heap = inner[camera]
            group = heapq.heappop(heap)[2]
            queue = cameras[camera][group]
            yield queue.popleft()[1]
            if queue:
                heapq.heappush(heap, (-self._groups[group], queue[0][0], group))
            if heap:
                heapq.heappush(outer, (-self._cameras[camera], heap[0][1], camera))


def _most_plentiful(scarce: list[StoredSample], per_class: Counter[int]) -> Iterator[StoredSample]:
    """Take the sample whose rarest class has the most samples left, again and again."""
    heap = [(-_rarest(sample, per_class), position) for position, sample in enumerate(scarce)]
    heapq.heapify(heap)
    while heap:
        known, position = heapq.heappop(heap)
        now = -_rarest(scarce[position], per_class)
        if now != known:  # others of its class were evicted meanwhile: it is queued again with its new count
            heapq.heappush(heap, (now, position))
            continue
        per_class.subtract(scarce[position].classes)
        yield scarce[position]


def _rarest(sample: StoredSample, per_class: Counter[int]) -> int:
    return min(per_class[class_id] for class_id in sample.classes)
