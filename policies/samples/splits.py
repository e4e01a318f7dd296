"""Which labelled samples train and which judge: blocks of time, with a guard between the two.

Neighbouring frames of a camera are near copies of each other, so a random split would let a model be judged
on what it trained on. Whole blocks of time are held out instead, and the samples on either side of one serve
for neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from dance_ondevice.policies.samples import similarity

__all__ = ["MACHINES", "SampleInfo", "Split", "assign_splits"]

Split = Literal["train", "gate", "guard", "duplicate"]

#: Sources of labels that a model made: a teacher's, or the live model's own.
MACHINES = frozenset({"teacher", "self"})

#: Where samples are sparse in time, shorter blocks than this would cost more guards than they hold out.
_MIN_BLOCK = 4
#: With fewer open samples than this only the newest are held out: a block amid them would cost two guards.
_FEW = 10
#: Samples nearer than this to a held-out block, in seconds, do not train, unless that would take too many.
_GUARD_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleInfo:
    """What the choice of samples needs to know of one stored sample.

    Attributes:
        id: unique.
        camera: name of its camera.
        captured_at: seconds, on the sender's clock.
        score: spatial complexity.
        weight: factor of its training loss.
        labelled: whether it has a label.
        split: what it serves for, None while that is open.
        rounds_used: in how many rounds it trained.
        classes: class ids in its label.
        uncertainty: 1 less the live model's mean confidence when it saw the frame; None where it never did.
        condition: what the frame was taken in, such as dusk; empty where nobody told.
        signature: of the image, see ``similarity``; empty where unknown.
        label_source: who labelled it, see ``MACHINES``; empty where unknown.
    """

    id: str
    camera: str
    captured_at: float
    score: float = 0.0
    weight: float = 1.0
    labelled: bool
    split: Split | None = None
    rounds_used: int = 0
    classes: frozenset[int] = frozenset()
    uncertainty: float | None = None
    condition: str = ""
    signature: str = ""
    label_source: str = ""

    @property
    def by_machine(self) -> bool:
        """Whether a model made the label: then it may teach, and never judge."""
        return self.label_source in MACHINES


def assign_splits(
    new: Sequence[SampleInfo], share: float = 0.2, block_seconds: float = 5.0
) -> dict[str, Split]:
    """Decide what labelled samples serve for: "train", "gate" (held out), "guard" or "duplicate" (neither).

    Per camera and in order of time, whole blocks of at least `block_seconds` are held out, about `share` of
    the samples; a block holds no more than that share when all samples fall within a short time. In the order
    of a camera's samples a gate sample never stands beside a train sample. Two samples make one gate sample
    and its guard, and a third one is the first to train; a camera's only sample trains. What would train but
    is a near-duplicate of an earlier training sample of its camera, without a further class, is a
    "duplicate": it would cost joules and teach nothing. So is what would be held out but is one of an earlier
    held-out sample: copies of one picture would outvote all others.

    Args:
        new: samples in any order. Those that have a split keep it and are only looked at: pass a camera's
            earlier samples along, and new ones respect them, follow them where a label came late (both
            neighbours within `block_seconds`), and make up for what the earlier share lacked. Those without a
            label are passed over; they are decided once they have one.
        share: of the samples that are held out, 0 (none at all) to 0.5.
        block_seconds: how long a block lasts at least.

    Returns:
        The split of every labelled sample that had none, by id.

    Raises:
        ValueError: `share` or `block_seconds` is out of range.
    """
    if not 0.0 <= share <= 0.5:
        raise ValueError(f"the held-out share is {share}; give 0 to 0.5")
    if not block_seconds >= 0.0:
        raise ValueError(f"block_seconds is {block_seconds}; give 0 or more")
    by_camera: dict[str, list[SampleInfo]] = {}
    for sample in sorted(new, key=lambda each: (each.captured_at, each.id)):
        if sample.labelled or sample.split is not None:
            by_camera.setdefault(sample.camera, []).append(sample)
    assigned: dict[str, Split] = {}
    for camera in sorted(by_camera):
        assigned.update(_split_camera(by_camera[camera], share, block_seconds))
        assigned.update(_duplicates(by_camera[camera], assigned))
    return assigned


def _duplicates(timeline: list[SampleInfo], assigned: Mapping[str, Split]) -> dict[str, Split]:
    """New samples that an earlier one of their split says all of: nearly its image, and no further class.

    The latest ones are compared first: a camera that stands still repeats what it just saw.
    """
    kept: dict[Split, list[tuple[int | None, frozenset[int]]]] = {"train": [], "gate": []}
    for sample in timeline:
        if sample.split in kept:
            kept[sample.split].append((similarity.code(sample.signature), sample.classes))
    found: dict[str, Split] = {}
    for sample in timeline:
        split = assigned.get(sample.id)
        code = similarity.code(sample.signature)
        if code is None or sample.split is not None or split not in kept:
            continue
        if any(
            sample.classes <= held and similarity.near(code, other) for other, held in reversed(kept[split])
        ):
            found[sample.id] = "duplicate"
        else:
            kept[split].append((code, sample.classes))
    return found


def _split_camera(timeline: list[SampleInfo], share: float, block_seconds: float) -> dict[str, Split]:
    # A near-duplicate shows what a training sample shows: nothing beside it may be held out either.
    splits: list[Split | None] = [
        "train" if sample.split == "duplicate" else sample.split for sample in timeline
    ]
    times = [sample.captured_at for sample in timeline]
    fixed = [split for split in splits if split is not None]
    if fixed:
        _follow_neighbours(splits, times, block_seconds)
    still_open = [index for index, split in enumerate(splits) if split is None]
    planned = _plan(
        [times[index] for index in still_open],
        share,
        block_seconds,
        owed=share * len(fixed) - fixed.count("gate"),
        first=not fixed,
        has_gate="gate" in splits,
    )
    for index, split in zip(still_open, planned, strict=True):
        splits[index] = split
    _separate(timeline, splits)
    return {
        sample.id: split
        for sample, split in zip(timeline, splits, strict=True)
        if sample.split is None and split is not None
    }


def _follow_neighbours(splits: list[Split | None], times: list[float], block_seconds: float) -> None:
    """Give a sample amid already assigned ones what both its neighbours are, or make it a guard."""
    fixed = [index for index, split in enumerate(splits) if split is not None]
    for before, after in pairwise(fixed):
        for index in range(before + 1, after):
            if max(times[index] - times[before], times[after] - times[index]) <= block_seconds:
                splits[index] = splits[before] if splits[before] == splits[after] else "guard"


def _plan(
    times: list[float], share: float, block_seconds: float, *, owed: float, first: bool, has_gate: bool
) -> list[Split]:
    """Split samples at ascending `times`; earlier ones left `owed` gate samples outstanding."""
    count = len(times)
    splits: list[Split] = ["train"] * count
    if share == 0.0 or count == 0 or (first and count == 1):
        return splits
    blocks: list[tuple[int, int]] = []
    if count >= _FEW:
        largest = max(1, int(share * count))
        blocks = _gate_blocks(_cut(times, min(_MIN_BLOCK, largest), largest, block_seconds), share, owed)
    wanted = owed + share * count
    if not blocks and (not has_gate or (count < _FEW and wanted >= 0.5)):
        blocks = [(count - min(max(1, round(wanted)), max(1, count // 3)), count)]
    for start, stop in blocks:
        splits[start:stop] = ["gate"] * (stop - start)
    for start, stop in _runs(splits):
        _guard(splits, times, start, stop)
    return splits


def _cut(times: list[float], smallest: int, largest: int, block_seconds: float) -> list[tuple[int, int]]:
    """Cut into contiguous blocks [start, stop) that last `block_seconds`, within bounds on their size."""
    blocks: list[tuple[int, int]] = []
    start = 0
    for index in range(1, len(times)):
        size = index - start
        if size >= largest or (size >= smallest and times[index] - times[start] >= block_seconds):
            blocks.append((start, index))
            start = index
    if blocks and len(times) - start <= smallest // 2:
        start = blocks.pop()[0]
    blocks.append((start, len(times)))
    return blocks


def _gate_blocks(blocks: list[tuple[int, int]], share: float, owed: float) -> list[tuple[int, int]]:
    """Choose evenly spread blocks so that at every point about `share` of the samples is held out."""
    chosen: list[tuple[int, int]] = []
    # What earlier calls left open is made up for bit by bit, or a long debt would leave nothing to train.
    limit = max(stop - start for start, stop in blocks) / 2
    debt = min(max(owed, -limit), limit)
    for start, stop in blocks:
        size = stop - start
        debt += share * size
        if debt >= size / 2:
            chosen.append((start, stop))
            debt -= size
    return chosen


def _runs(splits: list[Split]) -> list[tuple[int, int]]:
    """The maximal [start, stop) of gate samples."""
    runs: list[tuple[int, int]] = []
    for index, split in enumerate(splits):
        if split != "gate":
            continue
        if runs and runs[-1][1] == index:
            runs[-1] = (runs[-1][0], index + 1)
        else:
            runs.append((index, index + 1))
    return runs


def _guard(splits: list[Split], times: list[float], start: int, stop: int) -> None:
    """Guard a gate run on either side: one sample, and near ones up to a quarter of the run."""
    limit = max(1, (stop - start) // 4)
    for edge, step in ((start, -1), (stop - 1, 1)):
        for taken in range(limit):
            index = edge + step * (taken + 1)
            if not 0 <= index < len(splits) or splits[index] != "train":
                break
            if taken and abs(times[index] - times[edge]) >= _GUARD_SECONDS:
                break
            splits[index] = "guard"


def _separate(timeline: list[SampleInfo], splits: list[Split | None]) -> None:
    """Where a new sample came to stand beside an earlier one of the other kind, make the new one a guard."""
    for left, right in pairwise(range(len(splits))):
        if {splits[left], splits[right]} != {"train", "gate"}:
            continue
        trains, gates = (left, right) if splits[left] == "train" else (right, left)
        if timeline[trains].split is None:
            splits[trains] = "guard"
        elif timeline[gates].split is None:
            splits[gates] = "guard"
