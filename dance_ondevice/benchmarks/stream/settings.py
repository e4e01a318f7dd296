"""What is the same for every variant."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Settings"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How streams are lived, the same for every variant.

    Attributes:
        fading: of the prequential confusion matrix.
        frames_per_second: of the stream's labelled frames: 1 in CamVid.
        macs_per_second: of the modelled board while it trains. A round's weights go live when its MACs would
            be done; the stream goes on meanwhile.
        watts: of a busy core above idle, for the modelled joules.
        round_frames: new frames of a segment that start a round; its end starts another.
        few: a round needs at least so many labelled frames to hold some out.
        held_out: frames at the end of each round's new ones that are never trained on; the one before them is
            left out, too.
        estimate_frames: unlabelled frames that statistics are estimated from.
        teacher_frames: frames a segment that a teacher labels.
        anchors: frames of the base domain that tell what its light looks like, and that rehearsal draws from.
    """

    fading: float = 0.97
    frames_per_second: float = 1.0
    macs_per_second: float = 16e9
    watts: float = 2.0
    round_frames: int = 31
    few: int = 12
    held_out: int = 7
    estimate_frames: int = 16
    teacher_frames: int = 16
    anchors: int = 64
