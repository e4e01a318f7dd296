"""When a standing camera gets the mask of its last segmented frame again: when the picture shows no change.

A frame is compared as averages over a grid of cells. What a cell changes by while nothing happens is the
scene's noise: a camera's by day is not that by night, so it is learnt for each light. Change is measured from
the frame that was segmented and not from the frame before, so that what moves slowly is not missed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from dance_ondevice.policies.stream.lights import Lights, locate

__all__ = ["MOST_CHANGE", "MOST_SECONDS", "Change", "Scene", "observe", "unchanged"]

#: Seconds for which a mask is used again at most.
MOST_SECONDS = 5.0
#: A change of a cell by more grey levels is none of noise, whatever was learnt. This is what keeps a camera
#: that moves from ever reusing a mask: its frames differ by tens of levels.
MOST_CHANGE = 10.0
#: A change of fewer levels is rounding.
_LEAST_CHANGE = 2.0
#: A largest change of so many times the usual one is noise. In synthetic streets by day, at dusk, at night
#: and in rain the largest of 2700 cells is 2.1 to 2.6 times their 90th percentile while nothing moves.
_FACTOR = 3.0
#: Frames of a light from which its noise is known.
_FEWEST = 4
#: Factor by which the noise that is known may rise with a frame, so that a mistaken low value is forgotten.
_RISE = 1.02


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """Differences of the cells of two frames, in grey levels.

    Attributes:
        usual: 90th percentile over the cells: what moves covers fewer of them as a rule.
        largest: Largest of a cell.
    """

    usual: float
    largest: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Noise:
    """Noise of a camera in one light: number of frames it was learnt from, and usual change of a cell."""

    frames: int = 0
    level: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """State of one camera.

    Attributes:
        lights: Its lights.
        noise: Noise by number of the light.
        light: Number of the light of the last frame; 0 before any.
    """

    lights: Lights = field(default_factory=Lights)
    noise: Mapping[int, Noise] = field(default_factory=dict)
    light: int = 0

    @property
    def threshold(self) -> float | None:
        """Largest change of a cell that is noise in the present light; None while that is unknown."""
        noise = self.noise.get(self.light, Noise())
        if noise.frames < _FEWEST:
            return None
        return min(MOST_CHANGE, max(_LEAST_CHANGE, _FACTOR * noise.level))


def observe(scene: Scene, luma: float, contrast: float, change: Change | None) -> Scene:
    """Learn from the camera's next frame.

    Where little moves, most cells show noise alone; where much does, or the camera, the noise is what was
    least so far.

    Args:
        scene: State before this frame.
        luma: Mean luma, a fraction of full scale.
        contrast: Deviation of luma, a fraction of full scale.
        change: Change since the camera's frame before; None without one of the same size.

    Returns:
        The state after it.

    Raises:
        ValueError: A figure is not finite.
    """
    lights, sighting = locate(scene.lights, luma, contrast)
    before = Noise() if sighting.opened else scene.noise.get(sighting.number, Noise())
    if change is None or scene.light != sighting.number:
        after = before  # the light has changed with the frame
    elif before.frames == 0:
        after = Noise(frames=1, level=change.usual)
    else:
        after = Noise(frames=before.frames + 1, level=min(_RISE * before.level, change.usual))
    return replace(scene, lights=lights, noise={**scene.noise, sighting.number: after}, light=sighting.number)


def unchanged(scene: Scene, change: Change, age: float) -> bool:
    """Return whether a frame shows what the segmented one showed.

    Args:
        scene: State after the frame.
        change: Change since the frame that was segmented last.
        age: Seconds since that one was segmented.
    """
    threshold = scene.threshold
    return threshold is not None and 0 <= age <= MOST_SECONDS and change.largest <= threshold
