"""Checks by known masks of the same scenes whether ids of imported ones are shifted or in another order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from dance_ondevice.images.labels import IGNORE
from dance_ondevice.label_formats.colours import BACKGROUND
from dance_ondevice.label_formats.masks import shares

__all__ = [
    "Agreement",
    "Known",
    "agreement",
    "another_list_text",
    "binary_text",
    "compared",
    "doubt",
    "first_text",
    "id_shares",
    "notes",
    "of_another_list",
    "one_class_map",
    "only_ends",
    "only_first",
    "too_many_text",
]
T = TypeVar("T")

#: Shifts that are tested: all ids one too high or too low.
SHIFTS = (1, -1)
#: Mean IoU from which a shift is accepted, and the factor by which it must exceed that of the unshifted ids.
_BELIEVED = 0.2
_TIMES = 2.0
#: The same for any other order, by a larger factor: two masks always agree a little better in the order that
#: suits them best (2.7 times as well at most, in single pairs of CamVid's frames). Then the IoU from which
#: an id is named.
_BELIEVED_ORDER, _TIMES_ORDER, _NAMED = 0.2, 3.0, 0.3
#: Mean IoU below which masks may show anything: of any two labels of CamVid, in threes, it is 0.11 and more,
#: of masks of instances 0.04.
_STRANGE = 0.06
#: The most ids beyond the classes that a list of classes is taken to have; a photograph in grey has more.
_MOST_OTHERS = 64
#: Share of the pixels that must be labelled in both masks where they are of different images. What moves is
#: elsewhere in another one, so that of masks of cars and people alone only chance remains: right ones
#: seemed to be in another order.
_DENSE = 0.5
#: With fewer classes than this, masks agree by chance.
_FEWEST_CLASSES = 3

Mask = NDArray[np.uint8]


class Known(NamedTuple):
    """A known mask, and whether it is of the same image as the imported one, not of another one."""

    mask: Mask
    same_image: bool


@dataclass(frozen=True)
class Agreement:
    """Mean IoU of masks with known ones: unshifted, for each shift of the ids, and in the best other order.

    Attributes:
        plain: Mean IoU of the ids as they are.
        shifted: Mean IoU by shift.
        ordered: Mean IoU if ids mean the classes that they agree with best, one each.
        order: That class by id, where the two agree well.
    """

    plain: float
    shifted: dict[int, float]
    ordered: float = 0.0
    order: Mapping[int, int] = field(default_factory=dict)

    @property
    def shift(self) -> int:
        """The shift with which the ids agree far better than without; 0 if there is none."""
        best = max(self.shifted, key=lambda shift: self.shifted[shift])
        score = self.shifted[best]
        return best if score >= _BELIEVED and score >= _TIMES * self.plain else 0

    @property
    def is_reordered(self) -> bool:
        """Whether the ids agree far better in another order, as those of classes sorted by name do."""
        return self.ordered >= _BELIEVED_ORDER and self.ordered >= _TIMES_ORDER * self.plain


def agreement(pairs: Iterable[tuple[Mask, Mask]], n_classes: int) -> Agreement | None:
    """Measure how well masks agree with other masks of the same scenes.

    Args:
        pairs: An imported mask (H, W) and the known one (H, W), 255 where nothing is known.
        n_classes: Number of the model's classes.

    Returns:
        The agreement; None where too little is known.
    """
    # Rows: imported ids, one more than there are classes; columns: known ids.
    table = np.zeros((n_classes + 1, n_classes), np.int64)
    for mask, known in pairs:
        both = (mask <= n_classes) & (known < n_classes)
        cells = mask[both].astype(np.int64) * n_classes + known[both]
        table += np.bincount(cells, minlength=table.size).reshape(table.shape)
    if np.count_nonzero(table.sum(axis=0)) < _FEWEST_CLASSES:
        return None
    ordered, order = _best_order(table)
    shifted = {shift: _mean_iou(table, shift) for shift in SHIFTS}
    return Agreement(_mean_iou(table, 0), shifted, ordered, order)


def _best_order(table: NDArray[np.int64]) -> tuple[float, dict[int, int]]:
    """The mean IoU over the known classes if each is the id that it agrees with best, and those ids."""
    imported, known = table.sum(axis=1), table.sum(axis=0)
    union = np.maximum(1, imported[:, None] + known - table)
    ious = np.asarray(np.divide(table, union), np.float64)
    total = 0.0
    order: dict[int, int] = {}
    there = int(np.count_nonzero(known))
    for _ in range(there):
        number, index = (int(each) for each in np.unravel_index(np.argmax(ious), ious.shape))
        total += float(ious[number, index])
        if ious[number, index] >= _NAMED:
            order[number] = index
        ious[number], ious[:, index] = 0.0, 0.0
    return total / max(1, there), order


def _mean_iou(table: NDArray[np.int64], shift: int) -> float:
    """Mean IoU over the known classes if id c + shift means class c."""
    n_classes = table.shape[1]
    rows = np.zeros((n_classes, n_classes), np.int64)
    for index in range(n_classes):
        if 0 <= index + shift <= n_classes:
            rows[index] = table[index + shift]
    hits, imported, known = np.diagonal(rows), rows.sum(axis=1), table.sum(axis=0)
    there = known > 0
    return float(np.mean(hits[there] / (imported + known - hits)[there]))


def doubt(found: Agreement, against: str, counts: NDArray[np.int64], classes: Sequence[str]) -> str | None:
    """The message that ids are shifted or in another order; None if they seem to be neither."""
    if found.shift:
        return shift_text(found, against, counts, classes)
    return order_text(found, against, counts, classes) if found.is_reordered else None


def notes(found: Agreement, against: str) -> list[str]:
    """A note that masks show something else than what is known, if so."""
    if found.plain >= _STRANGE:
        return []
    return [
        f"the masks hardly agree with {against} (mean IoU {found.plain:.3f}): are ids the model's classes "
        "and no numbers of instances, and do the names mean these samples? `labels undo` takes it back"
    ]


def shift_text(found: Agreement, against: str, counts: NDArray[np.int64], classes: Sequence[str]) -> str:
    """The message that ids seem to be shifted, and what to do.

    Args:
        found: The agreement, with a shift.
        against: What the masks were compared with.
        counts: Pixels by id, 256 of them.
        classes: Classes of the model.
    """
    step = found.shift
    where = (
        "background at 0 and the classes from 1" if step == 1 else "classes from the model's second on at 0"
    )
    return (
        f"the masks agree with {against} at a mean IoU of {found.plain:.3f} as they are, and of "
        f"{found.shifted[step]:.3f} if every id is one {'higher' if step > 0 else 'lower'} than the model's "
        f"({where}). Nothing was imported.\nThe ids are {id_shares(counts)}. If they are shifted, give "
        f"--class-map with\n\n{one_class_map(classes, step)}\n\nIf they are right, give --trust-ids"
    )


def order_text(found: Agreement, against: str, counts: NDArray[np.int64], classes: Sequence[str]) -> str:
    """The message that ids seem to number the classes in another order; arguments as for ``shift_text``."""
    named = {str(i): classes[found.order[i]] if i in found.order else "ignore" for i in _there(counts)}
    lines = "\n".join(["[classes]", *(f'{number} = "{name}"' for number, name in named.items())])
    return (
        f"the masks agree with {against} at a mean IoU of {found.plain:.3f} as they are, and of "
        f"{found.ordered:.3f} if their ids number the classes in another order, as tools do that sort them "
        f"by name. Nothing was imported.\nThe ids are {id_shares(counts)}. If they do, give --class-map with "
        f"what fits best\n\n{lines}\n# the classes are: {', '.join(classes)}\n\nIf the ids are right, give "
        "--trust-ids"
    )


def _there(counts: NDArray[np.int64]) -> list[int]:
    return [int(i) for i in np.flatnonzero(counts[:IGNORE])]


def too_many_text(counts: NDArray[np.int64], classes: Sequence[str]) -> str:
    """The message about masks whose ids go up to the number of classes."""
    n = len(classes)
    return (
        f"the masks hold ids up to {n}, and the model has {n} classes, 0 to {n - 1}: {n + 1} ids usually "
        f"start with a background, so that every id is one too high. Nothing was imported.\nThe ids are "
        f"{id_shares(counts)}. If 0 is the background, give --class-map with\n\n"
        f"{one_class_map(classes, 1)}\n\n"
        f'If 0 is {classes[0]} and {n} is what nobody drew on, give it with\n\n[classes]\n{n} = "ignore"'
    )


def of_another_list(counts: NDArray[np.int64], n_classes: int) -> bool:
    """Whether masks hold most of the ids from the first that is no class to their largest one.

    Then they were made for a list of more classes, and the ids that are classes may mean others too.
    """
    wrong = np.flatnonzero(counts[n_classes:IGNORE])
    if wrong.size < 2:
        return False
    span = int(wrong[-1]) + 1
    return span <= _MOST_OTHERS and 2 * wrong.size >= span


def another_list_text(counts: NDArray[np.int64], classes: Sequence[str]) -> str:
    """The message about masks that were made for another list of classes."""
    there = _there(counts)
    ids = "\n".join(["[classes]", *(f'{i} = "ignore"' for i in there)])
    last = len(classes) - 1
    return (
        f"the masks hold ids up to {there[-1]}, and the model has {len(classes)} classes, 0 to {last}: they "
        "were made for another list of classes, in which the other ids may mean other classes as well. "
        f"Nothing was imported.\nThe ids are {id_shares(counts)}. Say what each of them is with --class-map "
        f"and\n\n{ids}\n# the classes are: {', '.join(classes)}\n\nIf those up to {last} are the model's, "
        "give --trust-ids: masks with others are refused then"
    )


def one_class_map(classes: Sequence[str], shift: int) -> str:
    """The class map for ids that are shifted by one."""
    first = ['0 = "ignore"'] if shift > 0 else []
    lines = [f'{i + shift} = "{name}"' for i, name in enumerate(classes) if i + shift >= 0]
    return "\n".join(["[classes]", *first, *lines])


def id_shares(counts: NDArray[np.int64]) -> str:
    """A text of ids with their shares of the pixels."""
    return shares({str(i): int(counts[i]) for i in np.flatnonzero(counts)})


def only_ends(counts: NDArray[np.int64]) -> bool:
    """Whether masks hold only 0 and 255, like a mask of one class that is made for viewing."""
    return bool(counts[0] and counts[IGNORE] and counts[1:IGNORE].sum() == 0)


def only_first(counts: NDArray[np.int64], classes: Sequence[str]) -> bool:
    """Whether masks hold only 0 and 1, like masks of one class, though there are more than two classes."""
    if len(classes) < _FEWEST_CLASSES or classes[0].casefold() in BACKGROUND:
        return False
    return bool(counts[0] and counts[1] and counts[2:].sum() == 0)


def first_text(counts: NDArray[np.int64], classes: Sequence[str]) -> str:
    """The message about masks of 0 and 1 alone."""
    zero, one = classes[:2]
    return (
        f"the masks hold 0 and 1 alone, of {len(classes)} classes. In masks of one class 1 is what was drawn "
        f"and 0 all else, and here they are {zero} and {one}. Nothing was imported.\nThe ids are "
        f"{id_shares(counts)}. Say what they are with --class-map and\n\n[classes]\n"
        f'0 = "ignore"\n1 = "{one}"\n# the classes are: {", ".join(classes)}\n\nIf 0 is {zero} and 1 {one}, '
        "give --trust-ids. Of masks of one class each, several for an image, export COCO instead"
    )


def binary_text(counts: NDArray[np.int64], classes: Sequence[str]) -> str:
    """The message about masks of 0 and 255 alone."""
    rest = classes[0] if len(classes) == 2 else "ignore"
    return (
        "the masks hold 0 and 255 alone. In such masks, made for the eye, 255 usually is what was drawn, and "
        f"here it is ignored, while 0 is {classes[0]}. Nothing was imported.\nThe ids are "
        f"{id_shares(counts)}. Say what they are with --class-map and\n\n[classes]\n"
        f'0 = "{rest}"\n255 = "{classes[1]}"\n# the classes are: {", ".join(classes)}\n\nIf 0 is '
        f"{classes[0]} and 255 to be ignored, give --trust-ids. Of masks of one class each, several for an "
        "image, export COCO instead"
    )


def compared(
    masks: Iterable[tuple[Mask, T]], known: Callable[[T], Known | None], n_classes: int
) -> Iterator[tuple[Mask, Mask]]:
    """Pairs of masks and known masks, where one is known that tells something, in the size of the latter."""
    import cv2

    for given, what in masks:
        found = known(what)
        if found is None:
            continue
        mask, other = given, found.mask
        if mask.shape != other.shape:
            size = (other.shape[1], other.shape[0])
            mask = np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
        # One id more than there are classes: all may be one too high.
        if found.same_image or np.mean((mask <= n_classes) & (other < n_classes)) >= _DENSE:
            yield mask, other
