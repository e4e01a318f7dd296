"""Lights of one camera's stream, told from two figures of each frame's grey picture: mean and contrast.

A light is a place in the plane of those figures. The first frames that are far from every known place open a
new one; its centre is the mean of its first frames and then stays, so that a dusk which comes slowly cannot
pull the day along (leader clustering: Hartigan, "Clustering Algorithms", 1975, chapter 3). Unlike a
condition it needs neither colours nor inference, and is known from a frame's first moment.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

__all__ = ["MOST_LIGHTS", "Light", "Lights", "Sighting", "locate"]

#: What mean and deviation of the luma, as fractions of full scale, usually vary by within one light.
_SPREADS = (0.04, 0.025)
#: A frame farther from a light's centre than so many spreads is not of that light.
_REACH = 2.5
#: A centre is the mean of so many first frames.
_SETTLED = 16
#: Lights of a camera at most; the one not seen for longest makes room for another.
MOST_LIGHTS = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Light:
    """One light.

    Attributes:
        number: from 1; that of a light which made room is used again.
        frames: seen so far.
        luma: mean luma at the centre, a fraction of full scale.
        contrast: deviation of luma at the centre, a fraction of full scale.
        last: number of the camera's frame that was the last of this light.
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
    """What one frame led to.

    Attributes:
        number: of its light.
        opened: whether that light is new: what was remembered of an earlier one of its number is void.
    """

    number: int
    opened: bool


def locate(lights: Lights, luma: float, contrast: float) -> tuple[Lights, Sighting]:
    """Find the light of the camera's next frame.

    Args:
        lights: known before this frame.
        luma: mean luma of the frame, a fraction of full scale.
        contrast: its deviation, a fraction of full scale.

    Returns:
        The lights after this frame, and what it led to.

    Raises:
        ValueError: a figure is not finite.
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
        return replace(light, frames=frames, last=now)
    return replace(
        light,
        frames=frames,
        luma=light.luma + (luma - light.luma) / frames,
        contrast=light.contrast + (contrast - light.contrast) / frames,
        last=now,
    )
