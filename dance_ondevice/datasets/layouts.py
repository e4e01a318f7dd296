"""Hints for wrong data set folders: one level too high or too deep, or of another data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from dance_ondevice.datasets import idd_lite

#: Most folders that are searched for a layout at a deeper level.
_MOST_FOLDERS = 64
_DEPTH = 2


def _is_camvid(root: Path) -> bool:
    return any(not idd_lite.is_flat(folder) for folder in _with_partner(root, lambda name: f"{name}annot"))


def _is_camvid32(root: Path) -> bool:
    pairs = _with_partner(root, lambda name: f"{name}_labels")
    return (root / "class_dict.csv").is_file() and next(pairs, None) is not None


def _is_idd_lite(root: Path) -> bool:
    if (root / "leftImg8bit").is_dir():
        return idd_lite.is_published(root / "leftImg8bit")
    return any(idd_lite.is_flat(folder) for folder in _with_partner(root, lambda name: f"{name}annot"))


def _is_cityscapes(root: Path) -> bool:
    both = (root / "leftImg8bit").is_dir() and (root / "gtFine").is_dir()
    return both and not idd_lite.is_published(root / "leftImg8bit")


def _is_bdd100k(root: Path) -> bool:
    new = (root / "images" / "10k").is_dir() and (root / "labels" / "sem_seg").is_dir()
    old = root / "seg" if (root / "seg").is_dir() else root
    return new or (old.name == "seg" and (old / "images").is_dir() and (old / "labels").is_dir())


def _is_acdc(root: Path) -> bool:
    return any((root / place).is_dir() for place in ("rgb_anon", "rgb_anon_trainvaltest/rgb_anon"))


#: Functions that check whether a folder has the layout of a data set, by its name.
LAYOUTS: Mapping[str, Callable[[Path], bool]] = {
    "camvid": _is_camvid,
    "camvid32": _is_camvid32,
    "cityscapes": _is_cityscapes,
    "bdd100k": _is_bdd100k,
    "acdc": _is_acdc,
    "idd_lite": _is_idd_lite,
}


def known(root: Path) -> list[str]:
    """Return the data sets whose layout a folder has; none if it is not a folder."""
    if not root.is_dir():
        return []
    return [name for name, matches in LAYOUTS.items() if _safely(matches, root)]


def hint(name: str, root: Path) -> str:
    """Say in words where the data set ``name`` may be, or which other one ``root`` holds; "" if unknown."""
    if name in known(root):
        return ""  # the right folder: a split or a file of it is missing
    for found in (*_below(root), *root.absolute().parents[:_DEPTH]):
        if name in known(found):
            return f"that layout is in {found}: give that folder"
    others = known(root)
    if others:
        return f"this folder is laid out as {others[0]}: use --dataset {others[0]}"
    if unread := _unread(root):
        return unread
    for found in _below(root):
        if others := known(found):
            return f"{found} is laid out as {others[0]}: use --dataset {others[0]} --root {found}"
    return ""


def _below(root: Path) -> Iterator[Path]:
    """Yield folders below a root, nearest first, up to a limit."""
    level, seen = [root], 0
    for _ in range(_DEPTH):
        deeper = []
        for folder in level:
            try:
                children = sorted(path for path in folder.iterdir() if path.is_dir())
            except OSError:
                continue
            for child in children:
                seen += 1
                if seen > _MOST_FOLDERS:
                    return
                yield child
                deeper.append(child)
        level = deeper


def _unread(root: Path) -> str:
    """Recognise layouts that are not supported, and say what to do."""
    if any((root / name).is_dir() for name in ("701_StillsRaw_full", "LabeledApproved_full")):
        return (
            "this is CamVid as first published, which has no splits: put images into train/ and val/, labels "
            "into train_labels/ and val_labels/, the colours as class_dict.csv (name,r,g,b) beside them, and "
            "use --dataset camvid32"
        )
    if (root / "codes.txt").is_file() and (root / "labels").is_dir():
        return (
            "this is CamVid as fast.ai packs it, labels of 32 ids in one folder: rename a_P.png to a.png "
            "there, put the names of codes.txt into model.classes of a configuration, and use "
            "`pretrain --images DIR --labels DIR --config FILE`"
        )
    if (root / "gtCoarse").is_dir():
        return "gtCoarse is not read: unpack gtFine_trainvaltest.zip beside it"
    return ""


def _with_partner(root: Path, partner: Callable[[str], str]) -> Iterator[Path]:
    """Yield the folders that have a partner folder beside them, whose name is derived from theirs."""
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        if (root / partner(folder.name)).is_dir():
            yield folder


def _safely(matches: Callable[[Path], bool], root: Path) -> bool:
    try:
        return matches(root)
    except OSError:  # a folder that cannot be read has no known layout
        return False
