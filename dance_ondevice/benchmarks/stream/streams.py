"""The streams: labelled frames in order of time, in segments of one light each, and a test for each light."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dance_ondevice.datasets.camvid import VOID_ID, camvid
from dance_ondevice.images.labels import STREET_CLASSES
from dance_ondevice.training.batches import TrainingSample
from dance_ondevice.training.pretraining import render_street

__all__ = ["Segment", "Stream", "camvid_stream", "street_stream"]

#: CamVid's sequences filmed by day, which the base model knows, and the one filmed at dusk.
_DAY, _DUSK = ("0006R0", "0016E5"), ("0001TP",)
#: Where along the street the base model learns, the stream drives and the tests stand: never the same houses.
_STREET_BASE, _STREET_STREAM, _STREET_TESTS = 0, 4000, 9000
_STREET_LIGHTS = ("day", "dusk", "rain", "night")
_STREET_STRIDE = 5


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A part of the stream in one light.

    Attributes:
        name: unique within the stream, such as ``day again``.
        task: which of the stream's tests it should do well on.
        frames: in order of time. All have labels; how many of them a variant may see is the variant's.
    """

    name: str
    task: str
    frames: tuple[TrainingSample, ...]


@dataclass(frozen=True, kw_only=True)
class Stream:
    """What is replayed and what is measured.

    Attributes:
        name: as on the command line.
        about: what the frames are, in words.
        classes: names in the order of their ids.
        size: (height, width) of the frames.
        segments: in order of time. The base model's own training comes before the first.
        tests: task -> its test set, in the order in which the tasks come; the first is the base model's.
        base: what the base model was trained on: rehearsal draws from it, joint training uses all of it.
    """

    name: str
    about: str
    classes: tuple[str, ...]
    size: tuple[int, int]
    segments: tuple[Segment, ...]
    tests: Mapping[str, tuple[TrainingSample, ...]]
    base: tuple[TrainingSample, ...]

    @property
    def joint(self) -> tuple[TrainingSample, ...]:
        """What joint training learns from, by name: the base domain, and all frames of lights new to it."""
        known = next(iter(self.tests))
        new = (s for segment in self.segments if segment.task != known for s in segment.frames)
        return tuple(sorted((*self.base, *new), key=lambda sample: sample.image.name))


def camvid_stream(root: Path, *, day_again: bool) -> Stream:
    """CamVid by day, then dusk: 0001TP's first half as the stream, its second half and ``val`` as tests.

    Args:
        root: CamVid's folder.
        day_again: whether the day comes back at the end, with the first half of ``val``; the second half is
            then the day's test, since the two halves are one drive.

    Raises:
        DatasetError: the folder is not CamVid's.
    """
    dusk, test = _camvid(root, "train", _DUSK), _camvid(root, "test", _DUSK)
    val = _camvid(root, "val", None)
    segments = [Segment(name="dusk", task="dusk", frames=dusk)]
    day_test, day_words = val, f"val ({len(val)} images)"
    if day_again:
        middle = len(val) // 2
        segments.append(Segment(name="day again", task="day", frames=val[:middle]))
        day_test = val[middle:]
        day_words = f"the second half of val ({len(day_test)} images)"
    return Stream(
        name="camvid-day-dusk-day" if day_again else "camvid-day-dusk",
        about=f"CamVid 480x360: the base model knows {' and '.join(_DAY)} by day; the stream is the first "
        f"half of {_DUSK[0]} at dusk ({len(dusk)} images)"
        + (f", then the first half of val by day ({len(segments[-1].frames)} images)" if day_again else "")
        + f"; measured on its second half ({len(test)} images) and, for the day, on {day_words}",
        classes=STREET_CLASSES,
        size=(360, 480),
        segments=tuple(segments),
        tests={"day": day_test, "dusk": test},
        base=_camvid(root, "train", _DAY),
    )


def street_stream(
    folder: Path,
    *,
    seed: int = 0,
    size: tuple[int, int] = (120, 160),
    frames: int = 48,
    tests: int = 24,
    base: int = 96,
) -> Stream:
    """The synthetic street by day, at dusk, in rain, at night, and by day again.

    Args:
        folder: the frames are written there.
        seed: which street.
        size: (height, width) of the frames.
        frames: in each segment.
        tests: frames in the test of each light.
        base: frames by day that the base model learns from.
    """

    def render(first: int, count: int, light: str) -> tuple[TrainingSample, ...]:
        numbers = range(first, first + count * _STREET_STRIDE, _STREET_STRIDE)
        return tuple(render_street(folder, numbers, (light,), seed=seed, size=size))

    segments: list[Segment] = []
    start = _STREET_STREAM
    for light in (*_STREET_LIGHTS, "day"):
        name = light if all(s.name != light for s in segments) else f"{light} again"
        segments.append(Segment(name=name, task=light, frames=render(start, frames, light)))
        start += frames * _STREET_STRIDE
    return Stream(
        name="street",
        about=f"the synthetic street, seed {seed}, {size[1]}x{size[0]}: the base model knows {base} frames "
        f"by day; the stream is {', '.join(s.name for s in segments)}, {frames} frames each; measured on "
        f"{tests} frames of each light from another part of the street",
        classes=STREET_CLASSES,
        size=size,
        segments=tuple(segments),
        tests={light: render(_STREET_TESTS, tests, light) for light in _STREET_LIGHTS},
        base=render(_STREET_BASE, base, "day"),
    )


def _camvid(root: Path, split: str, sequences: Sequence[str] | None) -> tuple[TrainingSample, ...]:
    items = camvid(root, (split,), sequences)
    return tuple(TrainingSample(image=i.image, label=i.label, void=(VOID_ID,)) for i in items)
