"""Light and weather of the synthetic street: how each condition changes a colour at a distance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

Colour = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Light:
    """How a scene looks under one condition. Colours are BGR in grey levels, distances metres.

    A surface of colour c at distance z is seen as ``t * (desaturate(c * gain) + veil) + (1 - t) * haze`` with
    ``t = exp(-z / sight)`` (Koschmieder's law).
    """

    gain: Colour
    saturation: float
    veil: Colour
    haze: Colour
    sight: float
    sky_top: Colour
    sky_low: Colour
    clouds: float
    cloud_colour: Colour
    sun: float  # how much brighter the sunny side of the street is than the mean, as a fraction
    lamps: float  # 0 no lamp is lit, 1 lamps dominate
    noise: float  # standard deviation of sensor noise, grey levels
    softness: float  # blur of the optics, standard deviation in pixels at 320 pixels width
    wet: float  # reflectivity of the road
    rain: float  # brightness of streaks, grey levels

    def transmission(self, z: float) -> float:
        """Share of a surface's own colour that arrives from z metres."""
        return math.exp(-z / self.sight)

    def shade(self, colour: Colour) -> Colour:
        """The colour of a lit surface, before haze."""
        (b, g, r), (gain_b, gain_g, gain_r), (veil_b, veil_g, veil_r) = colour, self.gain, self.veil
        b, g, r = b * gain_b, g * gain_g, r * gain_r
        s, grey = self.saturation, (1 - self.saturation) * (0.114 * b + 0.587 * g + 0.299 * r)
        return s * b + grey + veil_b, s * g + grey + veil_g, s * r + grey + veil_r

    def shade_image(self, bgr: NDArray[np.uint8], exposure: float = 1.0) -> NDArray[np.uint8]:
        """:meth:`shade` for (h, w, 3) uint8 arrays, made brighter or darker by ``exposure``."""
        gain, s = np.asarray(self.gain) * exposure, self.saturation
        matrix = s * np.diag(gain) + (1 - s) * np.outer(np.ones(3), np.asarray((0.114, 0.587, 0.299)) * gain)
        return cast("NDArray[np.uint8]", cv2.transform(bgr, np.column_stack([matrix, self.veil])))


LIGHTS: Mapping[str, Light] = MappingProxyType(
    {
        "day": Light(
            gain=(1.0, 1.0, 1.0),
            saturation=1.0,
            veil=(8, 6, 4),
            haze=(228, 216, 204),
            sight=260.0,
            sky_top=(205, 150, 92),
            sky_low=(238, 222, 200),
            clouds=0.75,
            cloud_colour=(246, 243, 240),
            sun=0.22,
            lamps=0.0,
            noise=3.0,
            softness=0.5,
            wet=0.0,
            rain=0.0,
        ),
        "dusk": Light(
            gain=(0.7, 0.56, 0.52),
            saturation=0.75,
            veil=(26, 18, 16),
            haze=(118, 108, 130),
            sight=120.0,
            sky_top=(134, 90, 70),
            sky_low=(122, 158, 228),
            clouds=0.6,
            cloud_colour=(112, 98, 142),
            sun=0.06,
            lamps=0.5,
            noise=6.5,
            softness=0.75,
            wet=0.0,
            rain=0.0,
        ),
        "rain": Light(
            gain=(0.72, 0.70, 0.68),
            saturation=0.45,
            veil=(30, 28, 26),
            haze=(188, 184, 178),
            sight=65.0,
            sky_top=(178, 173, 167),
            sky_low=(203, 199, 194),
            clouds=0.35,
            cloud_colour=(156, 152, 148),
            sun=0.0,
            lamps=0.25,
            noise=4.5,
            softness=0.75,
            wet=0.42,
            rain=38.0,
        ),
        "night": Light(
            gain=(0.17, 0.15, 0.16),
            saturation=0.6,
            veil=(7, 5, 5),
            haze=(30, 24, 26),
            sight=70.0,
            sky_top=(20, 12, 10),
            sky_low=(52, 42, 46),
            clouds=0.25,
            cloud_colour=(44, 38, 42),
            sun=0.0,
            lamps=1.0,
            noise=10.0,
            softness=0.8,
            wet=0.0,
            rain=0.0,
        ),
    }
)
