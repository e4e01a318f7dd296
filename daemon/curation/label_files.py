"""Sorts the files of a folder or zip into masks, exports of labelling tools, and others."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dance_ondevice.daemon.curation.manifest import MANIFEST
from dance_ondevice.label_formats.colours import TABLES, ColourTable, is_table, read_table
from dance_ondevice.label_formats.names import looks_like_image, stems
from dance_ondevice.label_formats.regions import FormatError
from dance_ondevice.label_formats.tree import Entry, Tree, is_zip

__all__ = ["BRUSH_PNG", "Found", "MaskFile", "NothingFound", "sort_out"]

#: Folders that tools fill with images, or with masks of instances instead of classes.
_NO_MASKS = frozenset(
    {"images", "jpegimages", "imgsfine", "leftimg8bit", "image_2", "img"}
    | {"segmentationobject", "instance", "instances", "masks_instances"}
    # Colours beside the ids: of KITTI, of BDD100K, and of Supervisely.
    | {"semantic_rgb", "colormaps", "masks_human"}
)
#: Supervisely's drawings, and its masks of the same in a folder beside them.
_DRAWINGS, _PAINTED = "ann", "masks_machine"
_CITYSCAPES_DRAWN = re.compile(r"(?:_gt(?:Fine|Coarse))?_polygons\Z")
#: The last are LabelMe 3.0's mask of one region, and Segments.ai's of instances.
_NO_MASK_NAMES = re.compile(
    r"_(?:instanceIds|instanceTrainIds|leftImg8bit|polygons|mask_\d+"
    r"|label_[\w.-]+_(?:instance(?:_colored)?|coco-panoptic))\Z"
)
_ID_SUFFIX = re.compile(r"_label(?:Train)?Ids\Z")
#: Label Studio's masks of single regions: their names hold a task's number, and no image's name.
BRUSH_PNG = re.compile(r"task-\d+-annotation-\d+-by-.*", re.DOTALL)
_BRUSH_TEXT = (
    "Label Studio's brush PNGs are named after tasks, not after images, so nobody can tell which sample they "
    'are for: export as "JSON" there'
)
_LOSSY = (".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
_EXPORTS = (".json", ".xml")
#: Endings of labels that are not read, and who has them.
_OF_OTHERS = {
    ".txt": "YOLO has them",
    ".csv": "VGG Image Annotator has them",
    ".ndjson": "Labelbox has them",
    ".jsonl": "Roboflow has them",
    ".geojson": "maps have them",
    ".manifest": "SageMaker has them",
}
#: Archives that are not opened: of a zip, those within it.
_PACKED = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")


class NothingFound(ValueError):  # noqa: N818 - read as a state
    """The folder holds nothing to import."""


@dataclass(frozen=True)
class MaskFile:
    """A PNG mask, and the nearest table of names and colours."""

    entry: Entry
    table: ColourTable | None


@dataclass(frozen=True)
class Found:
    """The masks and exports that can be imported, and the other images beside them."""

    masks: tuple[MaskFile, ...]
    exports: tuple[Entry, ...]
    pictures: tuple[Entry, ...] = ()


def sort_out(tree: Tree, path: Path, kind: str) -> Found:
    """Find the masks and exports of a tree.

    Args:
        tree: The opened tree.
        path: Path of the tree, for messages; a table may lie beside it.
        kind: ``png`` for masks alone, a format's name for exports alone, ``auto`` for both.

    Raises:
        NothingFound: There is nothing of that kind, or only masks whose names are not those of images.
        FormatError: A table of colours cannot be used.
    """
    entries = [entry for entry in tree.entries if not _hidden(entry.path)]
    if path.is_file() and path.suffix.lower() != ".png" and not is_zip(path):
        return Found((), tuple(entries))
    masks = _masks(entries, path) if kind in ("auto", "png") else []
    exports = [
        entry
        for entry in entries
        if entry.path.suffix.lower() in _EXPORTS
        and entry.name != MANIFEST
        and entry.name.lower() not in TABLES
        and kind != "png"
    ]
    exports = _without_painted(exports, masks)
    if masks and not exports and all(BRUSH_PNG.fullmatch(mask.entry.name) for mask in masks):
        raise NothingFound(_BRUSH_TEXT)
    if not masks and not exports:
        raise NothingFound(_nothing(entries, path, kind))
    taken = {mask.entry.path for mask in masks}
    pictures = (entry for entry in entries if looks_like_image(entry.name) and entry.path not in taken)
    return Found(tuple(masks), tuple(exports), tuple(pictures))


def _masks(entries: Iterable[Entry], path: Path) -> list[MaskFile]:
    folders = {str(parent).lower() for entry in entries for parent in entry.path.parents}
    pngs = [
        entry
        for entry in entries
        if entry.path.suffix.lower() == ".png"
        and not _is_no_mask(entry.path)
        and f"{entry.path.parent}annot".lower() not in folders  # CamVid: pictures beside their masks
        and not (
            entry.path.parent.name.lower() == _PAINTED
            and str(entry.path.parent.with_name(_DRAWINGS)).lower() in folders
        )
    ]
    tables = _tables(entries, path) if pngs else {}
    masks = [MaskFile(entry, _nearest(tables, entry.path)) for entry in pngs]
    return _one_of_twins(masks)


def _without_painted(exports: list[Entry], masks: list[MaskFile]) -> list[Entry]:
    """Leave out the polygons of Cityscapes whose masks are there as well."""
    painted = {stem for mask in masks for stem in stems(mask.entry.name)}
    return [
        entry
        for entry in exports
        if (bare := _CITYSCAPES_DRAWN.sub("", entry.path.stem)) == entry.path.stem or bare not in painted
    ]


def _is_no_mask(path: PurePosixPath) -> bool:
    parts = [part.lower() for part in path.parts[:-1]]
    return (
        not _NO_MASKS.isdisjoint(parts)
        or any(part.startswith("panoptic") for part in parts)
        or _NO_MASK_NAMES.search(path.stem) is not None
    )


def _one_of_twins(masks: list[MaskFile]) -> list[MaskFile]:
    """Of ids and colours of the same image, as in Cityscapes, take the colours if a table explains them."""
    stems = {mask.entry.path.with_suffix("") for mask in masks}

    def is_left_out(mask: MaskFile) -> bool:
        stem = mask.entry.path.with_suffix("")
        explained = mask.table is not None and bool(mask.table.by_colour)
        if stem.name.endswith("_color"):
            bare = stem.name.removesuffix("_color")
            ids = {stem.with_name(f"{bare}_labelIds"), stem.with_name(f"{bare}_labelTrainIds")}
            return not explained and not ids.isdisjoint(stems)
        found = _ID_SUFFIX.search(stem.name)
        if found is None:
            return False
        return explained and stem.with_name(f"{stem.name[: found.start()]}_color") in stems

    return [mask for mask in masks if not is_left_out(mask)]


def _tables(entries: Iterable[Entry], path: Path) -> dict[PurePosixPath, ColourTable]:
    """The tables of colours by the folder that they apply to; ``..`` is the folder around the tree."""
    found = {
        entry.path.parent: read_table(entry.name, entry.read())
        for entry in entries
        if is_table(entry.name, entry.read)
    }
    beside = [path.absolute().parent / name for name in TABLES]
    try:
        outside = [file for file in beside if file.is_file() and is_table(file.name, file.read_bytes)]
        if outside:
            found[PurePosixPath("..")] = read_table(outside[0].name, outside[0].read_bytes())
    except OSError as error:
        raise FormatError(f"{error.filename}: {error.strerror or error}") from error
    return found


def _nearest(tables: dict[PurePosixPath, ColourTable], path: PurePosixPath) -> ColourTable | None:
    places = [*path.parents, PurePosixPath("..")]
    return next((tables[place] for place in places if place in tables), None)


def _hidden(path: PurePosixPath) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def _nothing(entries: list[Entry], path: Path, kind: str) -> str:
    if path.is_file() and not is_zip(path):
        return f"{path} is no export of a labelling tool, but a mask: leave --format {kind} out"
    exports = "" if kind == "png" else ", and no .json or .xml file of a labelling tool"
    text = f"{path} holds no .png files that are masks{exports}, in no folder or zip below it either"
    if packed := [entry.name for entry in entries if entry.path.suffix.lower() in _PACKED]:
        return f"{text}; {', '.join(packed[:3])} is not opened: unpack it, and name the folder"
    lossy = sum(entry.path.suffix.lower() in _LOSSY and not _is_no_mask(entry.path) for entry in entries)
    if lossy:
        return f"{text}; {lossy} files are of other kinds of image: masks must be PNG"
    manifest = path.is_dir() and (path / "manifest.json").is_file() and (path / "labels").is_dir()
    if not manifest and any(entry.path.suffix.lower() == ".png" for entry in entries):
        return f"{text}; what it holds in folders such as images is taken for pictures: move masks to labels"
    if others := sorted({entry.path.suffix.lower() for entry in entries} & _OF_OTHERS.keys()):
        return f"{text}; its {others[0]} files, as {_OF_OTHERS[others[0]]}, are not read: export as COCO"
    if manifest:
        return f"{text}; put the masks of its images into {path / 'labels'}, or a tool's export into {path}"
    return text
