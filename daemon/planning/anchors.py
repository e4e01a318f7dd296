"""Anchors: labelled images of the base domain from a folder, rehearsed so that it is not forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dance_ondevice.daemon.children.jobs import JobSample
from dance_ondevice.datasets.camvid import read_label
from dance_ondevice.datasets.listing import LabelledImage, is_image, with_plain_labels
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
    return sorted(_pairs(Path(folder)))


def job_samples(folder: str, ids: Sequence[str], cache: Path) -> tuple[JobSample, ...]:
    """The image and label files of the anchors of a plan.

    Args:
        folder: ``training.anchors``.
        ids: Sample ids of a plan's rehearsal; only those of anchors are used.
        cache: Folder for rewritten labels, in which CamVid's unlabelled pixels are ignored.

    Raises:
        AnchorError: The folder has another layout.
    """
    wanted = {name: each for each in ids if (name := is_anchor(each)) is not None}
    if not wanted:
        return ()
    root = Path(folder)
    pairs = _pairs(root)
    if (root / "train").is_dir():
        pairs = {name: (pairs[name][0], _plain_label(*pairs[name], cache)) for name in wanted.keys() & pairs}
    return tuple(
        JobSample(id=wanted[name], image=str(pairs[name][0].resolve()), label=str(pairs[name][1].resolve()))
        for name in sorted(wanted.keys() & pairs.keys())
    )


def _pairs(root: Path) -> dict[str, tuple[Path, Path]]:
    """Images and labels by name; an image without a label is none."""
    images, labels = root / "images", root / "labels"
    if (root / "train").is_dir():
        images, labels = root / "train", root / "trainannot"
    if not images.is_dir() or not labels.is_dir():
        raise AnchorError(
            f"training.anchors: {root} must hold train and trainannot (as CamVid), or images and labels"
        )
    return {
        file.stem: (file, labels / f"{file.stem}.png")
        for file in sorted(images.iterdir())
        if is_image(file) and (labels / f"{file.stem}.png").is_file()
    }


def _plain_label(image: Path, label: Path, cache: Path) -> Path:
    """A CamVid label with plain ids; the label itself where it cannot be read, which the trainer tells of."""
    try:
        return with_plain_labels(
            [LabelledImage(image=image, label=label, sequence="", frame=0)], read_label, cache
        )[0].label
    except (OSError, ValueError):  # the readers' errors are ValueErrors
        return label
