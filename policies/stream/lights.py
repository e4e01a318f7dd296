"""Lights of one camera's stream: clusters of two figures of each frame's grey picture, mean and contrast.

A light is a cluster in the plane of those figures. Frames that are far from every known centre open a new
one; its centre is the mean of its first frames and then stays, so that a slow dusk cannot shift the day
(leader clustering: Hartigan, "Clustering Algorithms", 1975, chapter 3). Unlike a condition it needs neither
colours nor inference, and is known at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

__all__ = ["MOST_LIGHTS", "Light", "Lights", "Sighting", "locate"]

#: Usual spreads of the luma's mean and deviation within one light, as fractions of full scale.
_SPREADS = (0.04, 0.025)
#: Largest distance in spreads of a frame from the centre of its light.
_REACH = 2.5
#: Number of first frames whose mean is the centre.
_SETTLED = 16
#: Largest number of lights of a camera; the one not seen for longest is replaced by a new one.
MOST_LIGHTS = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Light:
    """One light.

    Attributes:
        number: Number from 1; that of a replaced light is used again.
        frames: Number of frames so far.
        luma: Mean luma at the centre, a fraction of full scale.
        contrast: Deviation of luma at the centre, a fraction of full scale.
        last: Number of the camera's last frame of this light.
    """

    number: int
    frames: int
    luma: float
    contrast: float
    last: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Lights:
    """The lights of one camera, and how many frames it has shown."""

    known: tuple[Light, ...] = ()
    frames: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Sighting:
    """Light of one frame.

    Attributes:
        number: Number of its light.
        opened: True if that light is new, so that the state of an earlier one with its number is void.
    """

    number: int
    opened: bool


def locate(lights: Lights, luma: float, contrast: float) -> tuple[Lights, Sighting]:
    """Find the light of the camera's next frame.

    Args:
        lights: Lights known before this frame.
        luma: Mean luma of the frame, a fraction of full scale.
        contrast: Deviation of its luma, a fraction of full scale.

    Returns:
        The lights after this frame, and the frame's light.

    Raises:
        ValueError: A figure is not finite.
    """
    if not (math.isfinite(luma) and math.isfinite(contrast)):
        raise ValueError(f"luma {luma} and contrast {contrast} of a frame must be finite")
    frames = lights.frames + 1
    nearest = min(lights.known, key=lambda each: _distance(each, luma, contrast), default=None)
    if nearest is not None and _distance(nearest, luma, contrast) <= _REACH:
        after = _seen(nearest, luma, contrast, frames)
        known = tuple(after if each is nearest else each for each in lights.known)
        return Lights(known=known, frames=frames), Sighting(number=nearest.number, opened=False)
    known, number = lights.known, len(lights.known) + 1
    if len(known) >= MOST_LIGHTS:
        oldest = min(known, key=lambda each: each.last)
        known = tuple(each for each in known if each is not oldest)
        number = oldest.number
    new = Light(number=number, frames=1, luma=luma, contrast=contrast, last=frames)
    return Lights(known=(*known, new), frames=frames), Sighting(number=number, opened=True)


def _distance(light: Light, luma: float, contrast: float) -> float:
    return math.hypot((luma - light.luma) / _SPREADS[0], (contrast - light.contrast) / _SPREADS[1])


def _seen(light: Light, luma: float, contrast: float, now: int) -> Light:
    frames = light.frames + 1
    if frames > _SETTLED:
        return Light(number=light.number, frames=frames, luma=light.luma, contrast=light.contrast, last=now)
    return replace(
        light,
        frames=frames,
        luma=light.luma + (luma - light.luma) / frames,
        contrast=light.contrast + (contrast - light.contrast) / frames,
        last=now,
    )
