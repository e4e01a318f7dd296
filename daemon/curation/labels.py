"""Plans an import of labels from files: what each would change in which stored sample, before any is written.

An unknown class name, or ids that seem to be shifted, stop the whole import; a bad file stops only itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from dance_ondevice.daemon.curation import label_checks
from dance_ondevice.daemon.curation.label_files import BRUSH_PNG, Found, MaskFile
from dance_ondevice.daemon.curation.label_pictures import Pictures
from dance_ondevice.daemon.curation.label_plan import Plan, Planned, Spool
from dance_ondevice.daemon.curation.targets import Target, Targets, fitted
from dance_ondevice.files import read_regular
from dance_ondevice.images.codec import decode_label, encode_label
from dance_ondevice.images.headers import ImageError
from dance_ondevice.images.labels import IGNORE, LabelError, check_label
from dance_ondevice.label_formats import masks, regions
from dance_ondevice.label_formats.class_map import ClassMap, suggest, unknown_classes
from dance_ondevice.label_formats.colours import BACKGROUND, ColourTable
from dance_ondevice.label_formats.names import made_by_roboflow
from dance_ondevice.label_formats.reader import read_bytes
from dance_ondevice.label_formats.regions import Annotated, Export, FormatError, OtherFormat
from dance_ondevice.label_formats.tree import Entry

__all__ = ["make_plan"]

Mask = NDArray[np.uint8]

_AUGMENTED = (
    "one of several labels for the sample, as Roboflow makes them by augmentation: generate a version "
    "without augmentation, and export that"
)

#: The most masks that are compared with stored labels, and fewer with the live model, which is slow.
_COMPARED, _COMPARED_BY_MODEL = 24, 6


def make_plan(
    found: Found,
    *,
    kind: str,
    class_map: ClassMap,
    classes: Sequence[str],
    targets: Targets,
    spool: Spool,
    root: Path,
    live: Callable[[Path], Mask | None] | None,
    trust_ids: bool = False,
) -> Plan:
    """Read every label, convert it to class ids, and find its sample.

    Args:
        found: The masks and exports.
        kind: Format of the exports, or ``auto``.
        class_map: Names, ids and colours of the imported labels.
        classes: Classes of the model.
        targets: Finds samples by name.
        spool: Receives the encoded labels.
        root: The state folder.
        live: Returns the live model's mask of an image file; called where no label shows what ids mean.
        trust_ids: Whether ids are used unchanged, whatever the checks find.

    Raises:
        FormatError: An export cannot be read.
        UnknownClasses: Names are neither classes nor mapped.
    """
    exports, bad, notes = _read_exports(found, kind)
    ids = class_map.resolve(regions.names([image for each, _ in exports for image in each.images]), classes)
    planner = _Planner(
        class_map, classes, targets, spool=spool, root=root, pictures=Pictures(found.pictures, root)
    )
    for mask in found.masks:
        planner.add_mask(mask, found)
    if planner.unknown:
        raise unknown_classes(sorted(planner.unknown), classes)
    for export, path in exports:
        planner.add_export(export, ids, path)
    planner.labels += bad
    stop = None
    if not trust_ids and not class_map.names_ids:
        stop = planner.ambiguous or planner.too_many() or planner.binary()
        if stop is None and (compared := _compared(planner, root, live)) is not None:
            stop = label_checks.doubt(*compared, planner.ids, classes)
            notes += [] if stop else label_checks.notes(*compared)
    return Plan(
        labels=tuple(planner.labels),
        notes=(*notes, *planner.notes()),
        hint=planner.hint(),
        stop=stop,
    )


def _read_exports(found: Found, kind: str) -> tuple[list[tuple[Export, PurePath]], list[Planned], list[str]]:
    """Read every export, with its path; a file that cannot be used costs the others nothing.

    Files of other formats, as settings and lists of files are, are noted; broken ones are refused.

    Raises:
        FormatError: There is nothing else to import.
    """
    exports: list[tuple[Export, PurePath]] = []
    others: list[OtherFormat] = []
    broken: list[tuple[str, FormatError]] = []
    for entry in found.exports:
        try:
            export = read_bytes(str(entry.path), _bytes(entry), kind)
            exports.append((export, entry.path))
        except OtherFormat as error:
            others.append(error)
        except FormatError as error:
            broken.append((entry.name, error))
    if not exports and not found.masks:
        for first in (*(error for _, error in broken), *others):
            raise first
    bad = [Planned(file=name, action="refused", why=str(error)) for name, error in broken]
    notes = [note for export, _ in exports for note in export.notes]
    return exports, bad, [*notes, *(f"passed over: {error}" for error in others)]


def _bytes(entry: Entry) -> bytes:
    try:
        return entry.read()
    except OSError as error:
        raise FormatError(f"{entry.path}: {error.strerror or error}") from error


@dataclass(frozen=True)
class _Label:
    """A label that was found: its file, its PNG, whether it was a mask, and the position of its plan."""

    file: str
    png: bytes
    is_mask: bool
    position: int


class _Planner:
    """Collects the plan of each file."""

    def __init__(
        self,
        class_map: ClassMap,
        classes: Sequence[str],
        targets: Targets,
        *,
        spool: Spool,
        root: Path,
        pictures: Pictures,
    ) -> None:
        self.labels: list[Planned] = []
        self.unknown: set[str] = set()
        self.spool = spool
        self.targets = targets
        self.classes = classes
        #: Pixels by id of all masks whose ids were used unchanged.
        self.ids = np.zeros(256, np.int64)
        self.ambiguous: str | None = None
        self._class_map = class_map
        self._root = root
        self._pictures = pictures
        self._bases: dict[int, int] = {}
        #: The first label of each sample.
        self._seen: dict[str, _Label] = {}

    def add_mask(self, file: MaskFile, among: Found) -> None:
        """Plan the import of a PNG mask."""
        name, place = file.entry.name, str(file.entry.path)
        if BRUSH_PNG.fullmatch(name):
            why = 'named after a task of Label Studio, not after an image: export as "JSON" there'
            self.labels.append(Planned(file=name, action="refused", why=why))
            return
        plain = False
        try:
            decoded = masks.decode_mask(_bytes(file.entry))
            if masks.by_colour(decoded, self._class_map, file.table):
                assert decoded.colours is not None
                mask = masks.from_colours(decoded.colours, self._class_map, file.table, self._lookup)
            elif decoded.ids is not None and file.table is not None and not self._class_map.names_ids:
                mask = self._by_table(decoded.ids, file.table, among)
            else:
                assert decoded.ids is not None
                mask, plain = self._class_map.apply(decoded.ids), True
                self.ids += np.bincount(mask.ravel(), minlength=256)
                check_label(mask, len(self.classes))
        except (ImageError, LabelError, FormatError) as error:
            target = self.targets.find(place)
            self._refuse(name, target, str(error) if target else self.targets.missing(place))
            return
        self._add(name, place, lambda _: mask, ids=plain)

    def add_export(self, export: Export, ids: Mapping[str, int], path: PurePath) -> None:
        """Plan the import of every image of an export, a file at a path."""
        self.labels += [Planned(file=each.image, action="refused", why=each.why) for each in export.refused]
        self.labels += [
            Planned(file=name, action="passed over", why="nobody drew on it") for name in export.undrawn
        ]
        for image in export.images:
            self._add_drawn(image, ids, path)

    def too_many(self) -> str | None:
        """The message about ids of more classes than there are; None without such ids."""
        n = len(self.classes)
        if self.ids[n] and not self.ids[n + 1 : IGNORE].any():
            return label_checks.too_many_text(self.ids, self.classes)
        if label_checks.of_another_list(self.ids, n):
            return label_checks.another_list_text(self.ids, self.classes)
        return None

    def binary(self) -> str | None:
        """The message about masks of 0 and 255, or 0 and 1, alone; None without such."""
        if len(self.classes) > 1 and label_checks.only_ends(self.ids):
            return label_checks.binary_text(self.ids, self.classes)
        first = label_checks.only_first(self.ids, self.classes)
        return label_checks.first_text(self.ids, self.classes) if first else None

    def hint(self) -> str | None:
        """The class map for ids that are not classes; None without such ids."""
        wrong = [int(i) for i in np.flatnonzero(self.ids[:IGNORE]) if i >= len(self.classes)]
        if not wrong:
            return None
        return (
            f"The ids are {label_checks.id_shares(self.ids)}. Those that are no class can be given one with "
            f"--class-map and such a file:\n\n{suggest(map(str, wrong), self.classes)}"
        )

    def notes(self) -> list[str]:
        """Notes on classes that have no pixel in any label, once these labels are stored."""
        if not any(label.png for label in self.labels):
            return []
        imported = {name for label in self.labels for name in label.classes}
        stored = self.targets.classes_seen()
        missing = [
            name for index, name in enumerate(self.classes) if name not in imported and index not in stored
        ]
        if not missing:
            return []
        return [f"no label, imported or stored, has a pixel of {', '.join(missing)}"]

    def _add_drawn(self, image: Annotated, ids: Mapping[str, int], export: PurePath) -> None:
        path = f"{export.parent}/{image.given or image.image}"
        background = self._class_map.background
        if not image.regions:
            if background == IGNORE:
                self.labels.append(Planned(file=image.image, action="passed over", why="nobody drew on it"))
                return
            target = self.targets.find(path)
            if target is not None and target.label is not None:
                why = "nobody drew on it, and the sample has a label"
                self.labels.append(
                    Planned(file=image.image, action="passed over", why=why, sample=target.sample)
                )
                return
        paint = partial(regions.paint, image, ids, background)
        self._add(image.image, path, lambda _: paint(), export=export)

    def _add(
        self,
        file: str,
        path: str,
        read: Callable[[Target], Mask],
        *,
        ids: bool = False,
        export: PurePath | None = None,
    ) -> None:
        """Plan a label whose file was read: a mask at a path, or a drawing in an export."""
        target = self.targets.find(path)
        if target is None:
            self._refuse(file, None, self.targets.missing(path))
            return
        try:
            mask = fitted(read(target), target, file)
        except ValueError as error:  # labels and formats have their own subclasses
            self._refuse(file, target, str(error))
            return
        counts = np.bincount(mask.ravel(), minlength=256)
        if not counts[:IGNORE].any():
            why = "nothing is drawn: every pixel is 255 (ignore)"
            self.labels.append(Planned(file=file, action="passed over", why=why, sample=target.sample))
            return
        if other := self._pictures.other(path, target, drawn=export is not None):
            self._refuse(file, target, other)
            return
        png = encode_label(mask)
        place = path if export is None else f"{file} in {export}"
        this = _Label(place, png, export is None, len(self.labels))
        first = self._seen.setdefault(target.sample, this)
        if first is not this:
            self._add_again(file, target, first, this)
            return
        known = self._imported_before(target, mask)
        self.labels.append(
            Planned(
                file=file,
                action="unchanged" if known else "new" if target.label is None else "replaces",
                sample=target.sample,
                before=target.source if target.label is not None else None,
                labelled=float(counts[:IGNORE].sum() / mask.size),
                classes=self._shares(counts, mask.size),
                target=target,
                png=None if known else self.spool.add(png),
                ids=ids,
            )
        )

    def _imported_before(self, target: Target, mask: NDArray[np.uint8]) -> bool:
        """Whether an import gave the sample this very label: again, it would only hinder an undo."""
        if target.label is None or target.source != "import":
            return False
        try:
            # The ids and not the file's bytes: encoders differ between versions.
            return np.array_equal(decode_label(read_regular(self._root / target.label)), mask)
        except (OSError, ImageError):
            return False  # damaged or evicted: it is written anew, or refused by the daemon

    def _add_again(self, file: str, target: Target, first: _Label, again: _Label) -> None:
        if first.png == again.png:
            why = f"the same label as {first.file}"
            self.labels.append(Planned(file=file, action="passed over", why=why, sample=target.sample))
            return
        why, of_first = (
            f"a second label for the sample, other than that of {each.file}" for each in (first, again)
        )
        if made_by_roboflow(file) and made_by_roboflow(first.file):
            # The first may be turned or mirrored as well as the second.
            why = of_first = _AUGMENTED
        # Folders of one class or one camera each have several, and the first is no better than the others;
        # only a mask of the same drawings is.
        planned = self.labels[first.position]
        if first.is_mask == again.is_mask and planned.png is not None:
            withdrawn = Planned(file=planned.file, action="refused", why=of_first, sample=target.sample)
            self.labels[first.position] = withdrawn
        self._refuse(file, target, why)

    def _refuse(self, file: str, target: Target | None, why: str) -> None:
        sample = None if target is None else target.sample
        self.labels.append(Planned(file=file, action="refused", why=why, sample=sample))

    def _shares(self, counts: NDArray[np.int64], pixels: int) -> dict[str, float]:
        there = [int(i) for i in np.flatnonzero(counts[: len(self.classes)])]
        return {self.classes[i]: float(counts[i] / pixels) for i in sorted(there, key=lambda i: -counts[i])}

    def _lookup(self, name: str) -> int:
        target = self._class_map.lookup(name, self.classes)
        if target is not None:
            return target
        if name.casefold() in BACKGROUND:
            return self._class_map.background
        self.unknown.add(name)
        return IGNORE

    def _by_table(self, ids: Mask, table: ColourTable, among: Found) -> Mask:
        """Convert ids that number a table's lines, which a background with id 0 may precede."""
        base = self._bases.get(id(table))
        if base is None:
            base = self._bases[id(table)] = self._base(table, among)
        lookup = np.full(256, IGNORE, np.uint8)
        if base:
            lookup[0] = self._class_map.background
        names = [name for name, _ in table.rows]
        # V7's grey masks give the last class the brightest grey.
        ignored = set() if len(names) > IGNORE else {IGNORE}
        for index in (int(i) for i in np.unique(ids) if int(i) not in ignored and not (base and i == 0)):
            if index - base >= len(names):
                raise LabelError(f"the mask holds id {index}, and {table.name} names {len(names)} classes")
            lookup[index] = self._lookup(names[index - base])
        return lookup[ids]

    def _base(self, table: ColourTable, among: Found) -> int:
        """The id of the table's first line."""
        if table.begins_with_zero:
            return 0
        n = len(table.rows)
        if any(n in found for found in _ids_beside(table, among)):
            return 1
        from_one = label_checks.one_class_map([name for name, _ in table.rows], 1)
        self.ambiguous = (
            f"{table.name} names {n} classes and no background, and the ids of the masks may begin at its "
            "first line with 0, or with 1 after a background. Nothing was imported. Export with colours or "
            f"as COCO, or give --class-map with\n\n{from_one}\n\nor the same with every id one lower"
        )
        return 0


def _ids_beside(table: ColourTable, among: Found) -> Iterator[frozenset[int]]:
    """The ids in each mask that a table applies to."""
    for file in among.masks:
        if file.table is table:
            try:
                decoded = masks.decode_mask(_bytes(file.entry))
            except (ImageError, FormatError):
                continue  # reported when it is read
            if decoded.ids is not None:
                yield frozenset(np.unique(decoded.ids).tolist())


def _compared(
    planner: _Planner, root: Path, live: Callable[[Path], Mask | None] | None
) -> tuple[label_checks.Agreement, str] | None:
    """The agreement of ids with stored labels, or else with the live model, and which; None if unknown."""
    plain = [label for label in planner.labels if label.ids and label.png is not None]
    n = len(planner.classes)

    def compare(
        most: int, known: Callable[[Target], label_checks.Known | None]
    ) -> label_checks.Agreement | None:
        step = max(1, -(-len(plain) // most))
        chosen = [(planner.spool.get(p.png), p.target) for p in plain[::step] if p.png and p.target]
        pairs = ((decode_label(png), target) for png, target in chosen)
        return label_checks.agreement(label_checks.compared(pairs, known, n), n)

    def stored(target: Target) -> label_checks.Known | None:
        nearest = planner.targets.nearest_labelled(target)
        if nearest is None or nearest.label is None:
            return None
        try:
            known = decode_label(read_regular(root / nearest.label))
        except (OSError, ImageError):
            return None
        return label_checks.Known(known, nearest.sample == target.sample)

    def seen(target: Target) -> label_checks.Known | None:
        mask = None if live is None else live(root / target.image)
        return None if mask is None else label_checks.Known(mask, same_image=True)

    if not plain:
        return None
    found, against = compare(_COMPARED, stored), "the labels that are stored"
    if found is None and live is not None:
        found = compare(_COMPARED_BY_MODEL, seen)
        against = "what the live model sees"
    return None if found is None else (found, against)
