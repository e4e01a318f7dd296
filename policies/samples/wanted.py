"""Which labels a person is asked for, and how many: what has changed and has no label teaches nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Unlabelled", "WantedLabels", "after_drift"]


@dataclass(frozen=True, kw_only=True, slots=True)
class WantedLabels:
    """A request for labels.

    Attributes:
        camera: Name of the camera; empty where any will do.
        condition: Name of the condition; empty where it is not known.
        frames: How many frames want a label.
        why: The reason, as the end of a sentence that begins with the request.
    """

    camera: str
    condition: str
    frames: int
    why: str

    @property
    def words(self) -> str:
        """The request as a sentence, such as "12 frames of front at c1 want labels: it has drifted"."""
        one = self.frames == 1
        where = f" of {self.camera}" * bool(self.camera) + f" at {self.condition}" * bool(self.condition)
        return f"{self.frames} frame{'' if one else 's'}{where} want{'s' if one else ''} labels: {self.why}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Unlabelled:
    """Frames of one camera and condition that came since the camera drifted.

    Attributes:
        condition: Name of the condition; empty if unknown.
        unlabelled: How many have no label, and can be read.
        labelled: How many have one that no round has learnt from.
    """

    condition: str
    unlabelled: int
    labelled: int


def after_drift(
    camera: str, signals: Sequence[str], stored: Sequence[Unlabelled], needed: int
) -> tuple[WantedLabels, ...]:
    """Return what to ask for of a camera that has drifted; nothing where enough has come with labels.

    Conditions are asked for in the order of what there is most of, since that is what the camera sees now.

    Args:
        camera: Name of the camera.
        signals: What has changed, such as ``luma``.
        stored: What came since, by condition.
        needed: Labelled frames that a round after a drift needs.
    """
    missing = needed - sum(each.labelled for each in stored)
    found = []
    for each in sorted(stored, key=lambda one: (-one.unlabelled, one.condition)):
        frames = min(missing, each.unlabelled)
        if frames <= 0:
            break
        missing -= frames
        why = f"its {', '.join(signals)} changed, and no round can learn from it without"
        found.append(WantedLabels(camera=camera, condition=each.condition, frames=frames, why=why))
    return tuple(found)
