"""Anchors: labelled images of the base domain from a folder, rehearsed so that it is not forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dance_ondevice.daemon.children.jobs import JobSample
from dance_ondevice.datasets.camvid import camvid, read_label
from dance_ondevice.datasets.listing import IMAGE_SUFFIXES, DatasetError, with_plain_labels
from dance_ondevice.policies.rounds.rehearsal import is_anchor

__all__ = ["AnchorError", "job_samples", "names"]


class AnchorError(ValueError):
    """The folder of ``training.anchors`` cannot be used; the message says which layout is expected."""


def names(folder: str) -> list[str]:
    """Names of the anchors that a folder holds; empty for ``""``.

    Raises:
        AnchorError: The folder has another layout.
    """
    if not folder:
        return []
    root = Path(folder)
    if (root / "train").is_dir():
        try:
            return sorted(item.image.stem for item in camvid(root))
        except DatasetError as error:
            raise AnchorError(f"training.anchors: {error}") from error
    return sorted(_plain(root))


def job_samples(folder: str, ids: Sequence[str], cache: Path) -> tuple[JobSample, ...]:
    """The image and label files of the anchors of a plan.

    Args:
        folder: ``training.anchors``.
        ids: Sample ids of a plan's rehearsal; only those of anchors are used.
        cache: Folder for rewritten labels, in which CamVid's unlabelled pixels are ignored.

    Raises:
        AnchorError: A file is missing or cannot be read.
    """
    wanted = {name: each for each in ids if (name := is_anchor(each)) is not None}
    if not wanted:
        return ()
    root = Path(folder)
    if (root / "train").is_dir():
        try:
            items = [item for item in camvid(root) if item.image.stem in wanted]
            pairs = {i.image.stem: (i.image, i.label) for i in with_plain_labels(items, read_label, cache)}
        except (OSError, ValueError) as error:  # the readers' errors are ValueErrors
            raise AnchorError(f"training.anchors: {error}") from error
    else:
        pairs = _plain(root)
    return tuple(
        JobSample(id=wanted[name], image=str(pairs[name][0].resolve()), label=str(pairs[name][1].resolve()))
        for name in sorted(wanted.keys() & pairs.keys())
    )


def _plain(root: Path) -> dict[str, tuple[Path, Path]]:
    """Images and labels by name, from the folders ``images`` and ``labels``."""
    images, labels = root / "images", root / "labels"
    if not images.is_dir() or not labels.is_dir():
        raise AnchorError(
            f"training.anchors: {root} must hold train and trainannot (as CamVid), or images and labels"
        )
    return {
        file.stem: (file, labels / f"{file.stem}.png")
        for file in sorted(images.iterdir())
        if file.suffix.lower() in IMAGE_SUFFIXES and (labels / f"{file.stem}.png").is_file()
    }
