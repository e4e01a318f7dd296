"""What is remembered of a camera's stream while its frames are decided on, and what is known of a frame."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from dance_ondevice.policies.stream.lights import Lights
from dance_ondevice.policies.stream.repeats import Picture

__all__ = ["FrameFigures", "Kind", "KindName", "StreamState", "initial_state"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameFigures:
    """What is known of a frame when it is decided on.

    Attributes:
        score: spatial complexity, finite; higher means that downsampling would lose more.
        luma: mean luma, a fraction of full scale.
        contrast: deviation of luma, a fraction of full scale.
        condition: that the camera is in; "" where nobody tells conditions apart.
        code: signature of the picture, see ``similarity.code``; None where unknown.
        label: what tells its label from others, such as a digest; "" without one.
        flat_below: whether the lower part is one flat colour, as decoders leave it that lost data.
    """

    score: float
    luma: float = 0.5
    contrast: float = 0.2
    condition: str = ""
    code: int | None = None
    label: str = ""
    flat_below: bool = False


#: A condition ("" where none is known) and the number of a light.
KindName = tuple[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """What is remembered of frames that are alike.

    Attributes:
        seen: frames so far.
        recent: the latest scores, oldest first, at most ``window_frames`` of them.
        ordered: the same scores in ascending order.
        account: drops that the kind may still give, see ``data_slimming``.
    """

    seen: int = 0
    recent: tuple[float, ...] = ()
    ordered: tuple[float, ...] = ()
    account: float = 0.0

    def quantile(self, score: float, u: float) -> float:
        """Mid-rank of a new score among the latest, in [0, 1); ties fall by ``u``, uniform in [0, 1)."""
        lower = bisect_left(self.ordered, score)
        equal = bisect_right(self.ordered, score, lo=lower) - lower
        return (lower + u * (equal + 1)) / (len(self.ordered) + 1)

    def with_score(self, score: float, window: int) -> Kind:
        """The kind after a frame of a score, of which the latest ``window`` are remembered."""
        # Usually one score leaves; more when a shorter window is asked for than before.
        leaving = max(0, len(self.recent) + 1 - window)
        ordered = list(self.ordered)
        for old in self.recent[:leaving]:
            del ordered[bisect_left(ordered, old)]
        insort(ordered, score)
        recent = (*self.recent[leaving:], score)
        return replace(self, seen=self.seen + 1, recent=recent, ordered=tuple(ordered))


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamState:
    """What is remembered of one camera's stream; `decide` returns the next one.

    Attributes:
        camera: the camera's name.
        seen: frames decided on so far.
        lights: that the camera has shown.
        kinds: what is alike, the one seen last at the end.
        pictures: kept last, oldest first.
        account: drops that the camera may still give, see ``data_slimming``.
        flat: of the last frames, newest in the lowest bit, whether their lower part was flat.
        standing: frames in a row that repeated what was kept.
    """

    camera: str
    seen: int = 0
    lights: Lights = field(default_factory=Lights)
    kinds: Mapping[KindName, Kind] = field(default_factory=dict)
    pictures: tuple[Picture, ...] = ()
    account: float = 0.0
    flat: int = 0
    standing: int = 0


def initial_state(camera: str) -> StreamState:
    """The state of a camera that has shown nothing yet."""
    return StreamState(camera=camera)
