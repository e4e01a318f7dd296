"""Split labelled samples into training and held-out ones: by blocks of time, with a guard between the two.

Neighbouring frames of a camera are near copies of each other, so a random split would let a model be judged
on near copies of its training samples. Whole blocks of time are held out instead, and the samples on either
side of a block are used for neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from dance_ondevice.policies.samples import similarity

__all__ = ["CORRECTED", "MACHINES", "TEACHER", "SampleInfo", "Split", "assign_splits"]

Split = Literal["train", "gate", "guard", "duplicate"]

#: Label sources whose labels a model made: a teacher, or the live model itself.
MACHINES = frozenset({"teacher", "self"})
#: Of these, the source of a model that is not the live one.
TEACHER = "teacher"
#: The source of labels that a person makes by correcting the live model's masks.
CORRECTED = "person"

#: Least number of samples in a block: where samples are sparse in time, shorter blocks would cost more guards
#: than they hold out.
_MIN_BLOCK = 4
#: With fewer undecided samples than this only the newest are held out: a block between others would cost two
#: guards.
_FEW = 10
#: Samples nearer than this to a held-out block, in seconds, do not train, unless that would take too many.
_GUARD_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleInfo:
    """Facts of one stored sample that the choice of samples depends on.

    Attributes:
        id: Unique id of the sample.
        camera: Name of its camera.
        captured_at: Time of capture in seconds, on the sender's clock.
        score: Spatial complexity of the image.
        weight: Factor of its training loss.
        labelled: True if it has a label.
        split: Use that was assigned to it; None while it is undecided.
        rounds_used: Number of rounds that trained on it.
        classes: Class ids in its label.
        uncertainty: 1 minus the live model's mean confidence on the frame; None if it did not segment it.
        condition: Condition of the frame, such as dusk; empty if unknown.
        signature: Signature of the image, see ``similarity``; empty if unknown.
        label_source: Source of the label, see ``MACHINES``; empty if unknown.
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
    """Assign labelled samples to splits: "train", "gate" (held out), "guard" or "duplicate" (neither).

    Per camera and in order of time, whole blocks of at least `block_seconds` are held out, about `share` of
    the samples; a block holds no more than that share when all samples fall within a short time. In the order
    of a camera's samples a gate sample never stands beside a train sample. Two samples make one gate sample
    and its guard, and a third one is the first to train; a camera's only sample trains. A training sample
    that is a near-duplicate of an earlier one of its camera, without a further class, becomes a "duplicate":
    it would cost joules and add nothing. So does a held-out sample that is a near-duplicate of an earlier
    held-out one: copies of one image would outvote all others.

    Args:
        new: Samples in any order. Those that have a split keep it: pass a camera's earlier samples along, so
            that new ones respect them, follow them where a label came late (both neighbours within
            `block_seconds`), and make up for a held-out share that was too small. Samples without a label are
            skipped; they are decided once they have one.
        share: Share of the samples to hold out, 0 (none at all) to 0.5.
        block_seconds: Least duration of a block in seconds.

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
    """Find new samples that add nothing to an earlier one: near-duplicates without new classes.

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
    # A near-duplicate shows the same as a training sample: its neighbours must not be held out either.
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
    """Give a sample between assigned ones the split that both its neighbours have, or make it a guard."""
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
    # A held-out share that earlier calls missed is made up for gradually: at once, a large deficit would
    # leave no samples to train on.
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
    """Return the maximal ranges [start, stop) of gate samples."""
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
    """Set guards on either side of a run of gate samples: one, and near ones up to a quarter of the run."""
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
    """Make a new sample a guard where it lies beside an earlier one of the other split."""
    for left, right in pairwise(range(len(splits))):
        if {splits[left], splits[right]} != {"train", "gate"}:
            continue
        trains, gates = (left, right) if splits[left] == "train" else (right, left)
        if timeline[trains].split is None:
            splits[trains] = "guard"
        elif timeline[gates].split is None:
            splits[gates] = "guard"
