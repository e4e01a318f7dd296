"""State of a camera's stream in data slimming, and the figures of a frame."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from dance_ondevice.policies.stream.lights import Lights
from dance_ondevice.policies.stream.repeats import Picture

__all__ = ["FrameFigures", "Kind", "KindName", "StreamState", "initial_state"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameFigures:
    """Figures of a frame that the decision depends on.

    Attributes:
        score: Spatial complexity, finite; higher means that downsampling would lose more.
        scored_by: What makes scores comparable: they are ranked only among those with the same.
        luma: Mean luma, a fraction of full scale.
        contrast: Deviation of luma, a fraction of full scale.
        condition: Condition of the camera; "" if conditions are not distinguished.
        code: Signature of the picture, see ``similarity.code``; None if unknown.
        label: Identification of its label, such as a digest; "" without a label.
        flat_below: True if the lower part is one flat colour, as decoders leave it after lost data.
    """

    score: float
    scored_by: str = ""
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
    """State of a kind of similar frames.

    Attributes:
        seen: Number of frames so far.
        recent: Latest scores, oldest first, at most ``window_frames`` of them.
        ordered: The same scores in ascending order.
        scored_by: What makes these scores comparable.
        account: Number of frames of the kind that may still be dropped, see ``data_slimming``.
    """

    seen: int = 0
    recent: tuple[float, ...] = ()
    ordered: tuple[float, ...] = ()
    scored_by: str = ""
    account: float = 0.0

    def comparable_to(self, frame: FrameFigures) -> Kind:
        """The kind without its scores where they are not comparable to a frame's: another fit made them."""
        if self.scored_by == frame.scored_by:
            return self
        return replace(self, recent=(), ordered=(), scored_by=frame.scored_by)

    def quantile(self, score: float, u: float) -> float:
        """Mid-rank of a new score among the latest, in [0, 1); ties fall by ``u``, uniform in [0, 1)."""
        lower = bisect_left(self.ordered, score)
        equal = bisect_right(self.ordered, score, lo=lower) - lower
        return (lower + u * (equal + 1)) / (len(self.ordered) + 1)

    def with_score(self, score: float, window: int, *, account: float) -> Kind:
        """The kind after a frame of a score, of which the latest ``window`` are remembered."""
        # Usually one score leaves; more when a shorter window is asked for than before.
        leaving = max(0, len(self.recent) + 1 - window)
        ordered = list(self.ordered)
        for old in self.recent[:leaving]:
            del ordered[bisect_left(ordered, old)]
        insort(ordered, score)
        recent = (*self.recent[leaving:], score)
        return Kind(
            seen=self.seen + 1,
            recent=recent,
            ordered=tuple(ordered),
            scored_by=self.scored_by,
            account=account,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamState:
    """State of one camera's stream; `decide` returns the next one.

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
    """Return the state of a camera without any frame yet."""
    return StreamState(camera=camera)
