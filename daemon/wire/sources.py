"""Sources of frames to send: image folders, videos, cameras, network streams, the synthetic street."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl

import numpy as np

from dance_ondevice.daemon.wire import capture
from dance_ondevice.daemon.wire.capture import Capture, Silence
from dance_ondevice.datasets.camvid import VOID_ID
from dance_ondevice.files import read_regular
from dance_ondevice.images import codec as images
from dance_ondevice.images.headers import ImageError, check_complete, probe
from dance_ondevice.images.labels import IGNORE

#: Endings of the files of a folder that are sent.
_ENDINGS = (".jpg", ".jpeg", ".png", ".webp")
_DEVICE = re.compile(r"/dev/video(\d+)")
_SYNTHETIC = "synthetic:street"
_STDIN = "/dev/stdin"
#: What a pipe must carry, as it cannot be read twice.
_AT_URLS = ": look whether it is switched on and reachable, and at address, port, user and password"
_AT_DEVICES = (
    ": `ls -l /dev/video*` names the cameras; it may be in use by another program, or your user not be in "
    "the group video; one on a Raspberry Pi's ribbon comes in by `stream -`"
)
_IN_PIPES = (
    ": expected MJPEG, H.264, MPEG-TS, Matroska or Y4M, which begin with all that is needed to read on"
)
_STREET_OPTIONS = {"condition": "day", "frames": "200", "seed": "0", "size": "320x240", "start": "0"}


class SourceError(ValueError):
    """A source cannot be read; the message says what was expected."""


@dataclass(frozen=True, kw_only=True)
class SourceFrame:
    """An encoded image, with its label if there is one and it was asked for.

    ``at`` is its time in seconds after the first frame of the same recording; None where it is unknown.
    """

    name: str
    encoding: Literal["jpeg", "png", "webp"]
    image: bytes
    label: bytes | None = None
    at: float | None = None


@dataclass(frozen=True, kw_only=True)
class Source:
    """Frames in order of time.

    Attributes:
        frames: The frames, which can be read once.
        live: Whether a frame is captured at the moment it is read.
        endless: Whether it goes on by itself, as a camera does and a remote file does not.
        count: Number of frames; None when it is unknown.
        fps: Frames per second of the recording; None when it is unknown.
        passed_over: Entries of the folder that are not sent: number of files by suffix, and number of
            folders.
        unreadable: Files of the folder that could not be read or are no image, and why: filled while the
            frames are read.
    """

    frames: Iterator[SourceFrame]
    live: bool = False
    endless: bool = False
    count: int | None = None
    fps: float | None = None
    passed_over: Mapping[str, int] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[SourceFrame]:
        return self.frames


def iter_frames(
    spec: str,
    *,
    labels: Path | None = None,
    match: str = "",
    void: Sequence[int] | None = None,
    wants_label: Callable[[int], bool] = lambda index: True,
    silence: Silence = Silence(),  # noqa: B008 - frozen
    open_capture: Callable[[str | int], Capture] | None = None,
) -> Source:
    """Open a source.

    Args:
        spec: A folder of images, an image, a video file, ``/dev/videoN`` or a link to it such as those of
            ``/dev/v4l/by-id``, a URL such as ``rtsp://...``, ``-`` for the standard input or a named pipe, or
            ``synthetic:street?condition=day&frames=200&seed=0&size=320x240&start=0``.
        labels: Folder with one ``<stem>.png`` an image; images without one are sent unlabelled.
        match: Text that the names of images must contain.
        void: Ids in label files that mean "unlabelled" and become 255. None means 11 for a folder that is
            named like CamVid's (``trainannot``), else none.
        wants_label: Returns for a frame's index, from 0, whether to read its label.
        silence: Rules for a live source that sends nothing.
        open_capture: Opens videos and cameras; None takes OpenCV with the timeout of ``silence``.

    Raises:
        SourceError: The source is missing, or is not what was expected.
    """
    path = Path(_STDIN if spec == "-" else spec)
    opener = open_capture or partial(capture.open_capture, timeout=silence.timeout)
    is_folder = path.is_dir() or (path.suffix.lower() in _ENDINGS and path.is_file())
    if not is_folder and (labels is not None or match):
        raise SourceError(f"labels and match go with a folder of images, which {spec} is not")
    if is_folder:
        return _folder(path, labels, match, void, wants_label)
    if spec.partition("?")[0] == _SYNTHETIC:
        return _street(spec, wants_label)
    if _device_number(spec) is not None:
        return _video(spec, partial(_open_device, spec, opener), silence, live=True)
    if "://" in spec:
        return _video(spec, partial(opener, spec), silence, live=True)
    if path.is_fifo():
        return _video(spec, partial(opener, str(path)), silence, live=True, piped=True)
    if path.is_file():
        return _video(spec, partial(opener, str(path)), silence, live=False)
    raise SourceError(
        f"{spec} is not there: expected a folder of images, a video, /dev/videoN or a link to it, a URL, "
        f"a pipe (- for the standard input) or {_SYNTHETIC}"
    )


def _folder(
    path: Path,
    labels: Path | None,
    match: str,
    void: Sequence[int] | None,
    wants_label: Callable[[int], bool],
) -> Source:
    # Hidden files are no images: macOS writes ._x.jpg beside each x.jpg on disks of other systems.
    candidates = [file for file in path.iterdir() if file.name[:1] != "."] if path.is_dir() else [path]
    files = sorted(
        (file for file in candidates if file.suffix.lower() in _ENDINGS and not file.is_dir()), key=_natural
    )
    chosen = [file for file in files if match in file.name]
    if not chosen:
        kinds = ", ".join(_ENDINGS)
        raise SourceError(
            f"none of the {len(files)} images in {path} has {match!r} in its name"
            if files
            else f"no images ({kinds}) in {path}" + told_passed_over(_passed_over(candidates))
        )
    if labels is not None:
        if not labels.is_dir():
            raise SourceError(f"{labels} is not a folder of labels")
        if not any((labels / f"{file.stem}.png").is_file() for file in chosen):
            raise SourceError(f"no label in {labels} is named as an image, such as {chosen[0].stem}.png")
    if void is None:
        void = (VOID_ID,) if labels is not None and labels.name.endswith("annot") else ()

    unreadable: dict[str, str] = {}

    def frames() -> Iterator[SourceFrame]:
        for index, file in enumerate(chosen):
            label = labels / f"{file.stem}.png" if labels is not None and wants_label(index) else None
            try:
                image = read_regular(file)
                info = probe(image)
                check_complete(image, info)  # half a copy, which the daemon would refuse without its name
                frame = SourceFrame(
                    name=file.name,
                    encoding=info.format,  # programs keep an ending where they change the format
                    image=image,
                    label=_read_label(label, void) if label is not None and label.is_file() else None,
                )
            except OSError as error:  # removed since, a link that leads nowhere, a bad sector: others follow
                if error.errno is None or not path.exists():  # with its disk
                    raise
                unreadable[str(error.filename or file)] = error.strerror or str(error)
                continue
            except ImageError as error:
                unreadable[str(file)] = str(error)
                continue
            yield frame

    return Source(
        frames=frames(), count=len(chosen), passed_over=_passed_over(candidates), unreadable=unreadable
    )


def _passed_over(candidates: Sequence[Path]) -> dict[str, int]:
    """Entries of a folder that are not sent, by suffix."""
    kinds = Counter(
        "folders" if file.is_dir() else file.suffix.lower() or "without an ending"
        for file in candidates
        if file.is_dir() or file.suffix.lower() not in _ENDINGS
    )
    return dict(sorted(kinds.items()))


def told_passed_over(kinds: Mapping[str, int]) -> str:
    """A text about the entries of a folder that are not sent; "" for none."""
    if not kinds:
        return ""
    return "; passed over: " + ", ".join(f"{count} {kind}" for kind, count in kinds.items())


def _read_label(path: Path, void: Sequence[int]) -> bytes:
    """A label file unchanged, or rewritten where its void ids have to become 255."""
    data = read_regular(path)
    if not void:
        return data
    try:
        label = images.decode_label(data)
    except ImageError:
        return data  # the daemon reports what is wrong with it, and the stream goes on
    outside = np.isin(label, void)
    return images.encode_label(np.where(outside, np.uint8(IGNORE), label)) if outside.any() else data


def _natural(path: Path) -> list[str | int]:
    """Sort key that puts frame 10 after frame 9; text and numbers alternate, so they are never compared."""
    parts = re.split(r"(\d+)", path.name)
    return [int(part) if index % 2 else part for index, part in enumerate(parts)]


def _device_number(spec: str) -> int | None:
    """N of ``/dev/videoN``, or of what a link of udev leads to now: numbers change with each plugging in."""
    device = _DEVICE.fullmatch(os.path.realpath(spec) if Path(spec).is_symlink() else spec)
    return int(device[1]) if device else None


def _open_device(spec: str, opener: Callable[[str | int], Capture]) -> Capture:
    number = _device_number(spec)
    return capture.Unplugged() if number is None else opener(number)


def _video(
    spec: str, reopen: Callable[[], Capture], silence: Silence, *, live: bool, piped: bool = False
) -> Source:
    import cv2

    opened = reopen()
    if not opened.isOpened():
        opened.release()
        kind = "video" if piped or not live else "camera"
        hint = _IN_PIPES if piped else _AT_URLS if "://" in spec else _AT_DEVICES if live else ""
        raise SourceError(f"{spec} cannot be opened as a {kind}{hint}")
    count, fps = int(opened.get(cv2.CAP_PROP_FRAME_COUNT)), opened.get(cv2.CAP_PROP_FPS)
    if not live and count > 0 and (seconds := capture.duration(Path(spec))):
        fps = min(fps, count / seconds)  # the mean of a variable rate
    # A URL with a known number of frames is a remote file: it ends.
    endless = live and count <= 0
    timed = (
        ((None, bgr) for bgr in capture.live(spec, opened, reopen, silence))
        if endless and not piped  # who wrote into a pipe and has gone does not come back
        else capture.footage(opened)
    )
    return Source(
        frames=(
            SourceFrame(name=str(index), encoding="jpeg", image=images.encode_jpeg(bgr), at=at)
            for index, (at, bgr) in enumerate(capture.told_if_unchanging(spec, timed, silence.say))
        ),
        live=live,
        endless=endless,
        count=count if not live and count > 0 else None,
        fps=fps if fps > 0 else None,
    )


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
                label=images.encode_label(label) if wants_label(index) else None,
            )

    return Source(frames=frames(), count=count)
