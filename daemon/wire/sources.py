"""Where frames to send come from: image folders, videos, cameras, network streams, the synthetic street."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import parse_qsl

import numpy as np

from dance_ondevice.datasets.camvid import VOID_ID
from dance_ondevice.images import codec as images
from dance_ondevice.images.headers import ImageError
from dance_ondevice.images.labels import IGNORE

_FORMATS: dict[str, Literal["jpeg", "png", "webp"]] = {
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".png": "png",
    ".webp": "webp",
}
_DEVICE = re.compile(r"/dev/video(\d+)")
_SYNTHETIC = "synthetic:street"
_STREET_OPTIONS = {"condition": "day", "frames": "200", "seed": "0", "size": "320x240", "start": "0"}


class SourceError(ValueError):
    """A source that cannot be read; the text says what was expected."""


@dataclass(frozen=True, kw_only=True)
class SourceFrame:
    """An encoded image, with its label if there is one and it was asked for."""

    name: str
    encoding: Literal["jpeg", "png", "webp"]
    image: bytes
    label: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class Source:
    """Frames in order of time.

    Attributes:
        frames: to be read once.
        live: whether a frame is captured at the moment it is read.
        count: how many frames there are; None when that is not known.
        fps: frames a second at which they were filmed; None when that is not known.
    """

    frames: Iterator[SourceFrame]
    live: bool = False
    count: int | None = None
    fps: float | None = None

    def __iter__(self) -> Iterator[SourceFrame]:
        return self.frames


class Capture(Protocol):
    """The part of ``cv2.VideoCapture`` that is used."""

    def isOpened(self) -> bool:  # noqa: N802
        """Whether frames can be read."""

    def get(self, propId: int, /) -> float:  # noqa: N803
        """A property; 0 when it is not known."""

    def read(self) -> tuple[bool, Any]:
        """Whether there was a next frame, and the frame (h, w, 3) in BGR."""

    def release(self) -> None:
        """Close it."""


def open_capture(where: str | int) -> Capture:
    """Open a video file, a URL, or a camera by its number."""
    import cv2

    return cv2.VideoCapture(where)


def iter_frames(
    spec: str,
    *,
    labels: Path | None = None,
    match: str = "",
    void: Sequence[int] | None = None,
    wants_label: Callable[[int], bool] = lambda index: True,
    open_capture: Callable[[str | int], Capture] = open_capture,
) -> Source:
    """Open a source.

    Args:
        spec: a folder of images, an image, a video file, ``/dev/videoN``, a URL such as ``rtsp://...``, or
            ``synthetic:street?condition=day&frames=200&seed=0&size=320x240&start=0``.
        labels: folder with one ``<stem>.png`` an image; images without one are sent unlabelled.
        match: text that the names of images must contain.
        void: ids in label files that stand for "unlabelled" and become 255. None means 11 for a folder
            that is named as CamVid's are (``trainannot``), else none.
        wants_label: tells for a frame's index, from 0, whether to read its label.
        open_capture: opens videos and cameras.

    Raises:
        SourceError: nothing is there, or not what was expected.
    """
    device = _DEVICE.fullmatch(spec)
    path = Path(spec)
    is_folder = path.is_dir() or (path.suffix.lower() in _FORMATS and path.is_file())
    if not is_folder and (labels is not None or match):
        raise SourceError(f"labels and match go with a folder of images, which {spec} is not")
    if is_folder:
        return _folder(path, labels, match, void, wants_label)
    if spec.partition("?")[0] == _SYNTHETIC:
        return _street(spec, wants_label)
    if device:
        return _video(spec, int(device[1]), open_capture, live=True)
    if "://" in spec:
        return _video(spec, spec, open_capture, live=True)
    if path.is_file():
        return _video(spec, spec, open_capture, live=False)
    raise SourceError(
        f"{spec} is not there: expected a folder of images, a video, /dev/videoN, a URL or {_SYNTHETIC}"
    )


def _folder(
    path: Path,
    labels: Path | None,
    match: str,
    void: Sequence[int] | None,
    wants_label: Callable[[int], bool],
) -> Source:
    candidates = path.iterdir() if path.is_dir() else [path]
    files = sorted((file for file in candidates if file.suffix.lower() in _FORMATS), key=_natural)
    chosen = [file for file in files if match in file.name]
    if not chosen:
        kinds = ", ".join(_FORMATS)
        raise SourceError(
            f"none of the {len(files)} images in {path} has {match!r} in its name"
            if files
            else f"no images ({kinds}) in {path}"
        )
    if labels is not None:
        if not labels.is_dir():
            raise SourceError(f"{labels} is not a folder of labels")
        if not any((labels / f"{file.stem}.png").is_file() for file in chosen):
            raise SourceError(f"no label in {labels} is named as an image, such as {chosen[0].stem}.png")
    if void is None:
        void = (VOID_ID,) if labels is not None and labels.name.endswith("annot") else ()

    def frames() -> Iterator[SourceFrame]:
        for index, file in enumerate(chosen):
            label = labels / f"{file.stem}.png" if labels is not None and wants_label(index) else None
            yield SourceFrame(
                name=file.name,
                encoding=_FORMATS[file.suffix.lower()],
                image=file.read_bytes(),
                label=_read_label(label, void) if label is not None and label.is_file() else None,
            )

    return Source(frames=frames(), count=len(chosen))


def _read_label(path: Path, void: Sequence[int]) -> bytes:
    """A label file as it is, or rewritten where its void ids have to become 255."""
    data = path.read_bytes()
    if not void:
        return data
    try:
        label = images.decode_label(data)
    except ImageError:
        return data  # the daemon says what is wrong with it, and the stream goes on
    outside = np.isin(label, void)
    return images.encode_png(np.where(outside, np.uint8(IGNORE), label)) if outside.any() else data


def _natural(path: Path) -> list[str | int]:
    """Sort key by which frame 10 comes after frame 9; text and numbers alternate, so they never meet."""
    parts = re.split(r"(\d+)", path.name)
    return [int(part) if index % 2 else part for index, part in enumerate(parts)]


def _video(
    spec: str, where: str | int, open_capture: Callable[[str | int], Capture], *, live: bool
) -> Source:
    import cv2

    capture = open_capture(where)
    if not capture.isOpened():
        capture.release()
        raise SourceError(f"{spec} cannot be opened as a {'camera' if live else 'video'}")
    count, fps = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), capture.get(cv2.CAP_PROP_FPS)

    def frames() -> Iterator[SourceFrame]:
        try:
            index = 0
            while True:
                there, bgr = capture.read()
                if not there:
                    return
                yield SourceFrame(name=str(index), encoding="jpeg", image=images.encode_jpeg(bgr))
                index += 1
        finally:
            capture.release()

    known = not live and count > 0
    return Source(frames=frames(), live=live, count=count if known else None, fps=fps if fps > 0 else None)


def _street(spec: str, wants_label: Callable[[int], bool]) -> Source:
    from dance_ondevice.datasets.street import CONDITIONS, StreetCamera

    given = dict(parse_qsl(spec.partition("?")[2], keep_blank_values=True))
    unknown = sorted(given.keys() - _STREET_OPTIONS.keys())
    if unknown:
        raise SourceError(
            f"{spec}: unknown option {', '.join(unknown)}; allowed are {', '.join(_STREET_OPTIONS)}"
        )
    options = {**_STREET_OPTIONS, **given}
    condition = options["condition"]
    if condition not in CONDITIONS:
        raise SourceError(f"{spec}: condition {condition!r} is not one of {', '.join(CONDITIONS)}")
    size = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", options["size"])
    if size is None:
        raise SourceError(f"{spec}: size {options['size']!r} is not WIDTHxHEIGHT, such as 320x240")
    try:
        count, seed, start = (int(options[key]) for key in ("frames", "seed", "start"))
    except ValueError:
        raise SourceError(f"{spec}: frames, seed and start are whole numbers") from None
    if count < 1 or start < 0:
        raise SourceError(f"{spec}: frames is at least 1 and start at least 0")
    try:
        camera = StreetCamera(seed=seed, width=int(size[1]), height=int(size[2]))
    except ValueError as error:
        raise SourceError(f"{spec}: {error}") from error

    def frames() -> Iterator[SourceFrame]:
        for index in range(count):
            bgr, label = camera.render(start + index, condition)
            yield SourceFrame(
                name=f"{condition} {start + index}",
                encoding="jpeg",
                image=images.encode_jpeg(bgr),
                label=images.encode_png(label) if wants_label(index) else None,
            )

    return Source(frames=frames(), count=count)
