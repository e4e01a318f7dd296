"""Synthetic streets that differ as real ones do: in light, weather, camera, layout and surfaces.

A network for unknown cameras must not learn the appearance of one renderer. So every scene draws all of its
properties at random, from wider ranges than in reality (domain randomization: Tremblay et al., "Training Deep
Networks with Synthetic Data", 2018, arXiv 1804.06516).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from dance_ondevice.datasets.street import CONDITIONS, Mount, StreetCamera
from dance_ondevice.datasets.street_light import LIGHTS, Colour, Light
from dance_ondevice.datasets.street_textures import Pixels
from dance_ondevice.datasets.street_world import Layout, generator
from dance_ondevice.images.labels import STREET_CLASSES

#: Frames of one scene: making its surfaces takes as long as fifty frames.
PER_SCENE = 16
_SCENE, _FRAME = 30, 31
#: How often a scene's light is near one of the camera's conditions: most cameras work by day.
_SHARES = (0.6, 0.2, 0.14, 0.06)
#: Frames from one of a scene to the next: 20 to 60 metres.
_STEP = (30, 100)
_SKY = STREET_CLASSES.index("sky")


def frames(count: int, *, seed: int, size: tuple[int, int]) -> Iterator[tuple[Pixels, Pixels]]:
    """Render ``count`` frames of scenes that all differ.

    Args:
        count: How many frames.
        seed: Decides all of them; another seed shares no scene.
        size: (height, width).

    Yields:
        (H, W, 3) uint8 BGR images with their (H, W) uint8 labels of ``STREET_CLASSES`` ids.
    """
    for scene in range(-(-count // PER_SCENE)):
        rng = generator(seed, _SCENE, scene)
        camera = StreetCamera(
            seed=int(rng.integers(1 << 62)),
            height=size[0],
            width=size[1],
            lights={"here": draw_light(rng)},
            mount=draw_mount(rng),
            layout=draw_layout(rng),
        )
        paint, lens = _Paint(rng), _Lens(rng)
        index = int(rng.integers(1 << 20))
        for number in range(min(PER_SCENE, count - scene * PER_SCENE)):
            index += int(rng.integers(*_STEP))
            image, label = camera.render(index, "here")
            own = generator(seed, _FRAME, scene, number)
            image = lens.see(_shadowed(paint.over(image, label, own), label, own), own)
            if own.random() < 0.5:  # traffic drives on the other side
                image, label = np.ascontiguousarray(image[:, ::-1]), np.ascontiguousarray(label[:, ::-1])
            yield image, label


def draw_light(rng: np.random.Generator) -> Light:
    """A light somewhere between two of the camera's conditions, and a little off both."""
    first, second = rng.choice(CONDITIONS, 2, p=_SHARES)
    a, b, t = LIGHTS[str(first)], LIGHTS[str(second)], float(rng.uniform(0, 0.6))

    def between(x: float, y: float, spread: float = 0.15) -> float:
        return float((x + (y - x) * t) * rng.uniform(1 - spread, 1 + spread))

    def tint(x: Colour, y: Colour, spread: float = 0.12) -> Colour:
        whole = rng.uniform(1 - spread, 1 + spread)
        blue, green, red = (between(p, q, spread / 2) * whole for p, q in zip(x, y, strict=True))
        return blue, green, red

    return replace(
        a,
        gain=tint(a.gain, b.gain, 0.3),
        saturation=min(1.2, between(a.saturation, b.saturation, 0.3)),
        veil=tint(a.veil, b.veil, 0.5),
        haze=tint(a.haze, b.haze),
        sight=between(a.sight, b.sight, 0.5),
        sky_top=tint(a.sky_top, b.sky_top, 0.3),
        sky_low=tint(a.sky_low, b.sky_low),
        clouds=float(rng.uniform(0, 1)),
        cloud_colour=tint(a.cloud_colour, b.cloud_colour),
        sun=float(rng.uniform(0, 0.45)) * (a.sun > 0),
        lamps=min(1.0, between(a.lamps, b.lamps, 0.5)),
        noise=between(a.noise, b.noise, 0.6),
        softness=between(a.softness, b.softness, 0.6),
        wet=between(a.wet, b.wet, 0.5),
        rain=between(a.rain, b.rain, 0.5),
    )


def draw_mount(rng: np.random.Generator) -> Mount:
    """A camera in a car, a van or on a bonnet, with a lens of 45 to 80 degrees."""
    return Mount(
        focal=float(rng.uniform(0.6, 1.2)),
        horizon=float(rng.uniform(0.3, 0.56)),
        x=float(rng.uniform(0.6, 2.4)),
        y=float(rng.uniform(1.1, 2.3)),
    )


def draw_layout(rng: np.random.Generator) -> Layout:
    """A lane or an avenue, open or built up, empty or busy."""
    return Layout(
        breadth=float(rng.uniform(0.7, 1.3)),
        built=float(rng.uniform(-0.35, 0.4)),
        traffic=float(rng.uniform(0.4, 1.5)),
    )


class _Paint:
    """Other colours and another grain for the surfaces of each class: one draw a scene."""

    def __init__(self, rng: np.random.Generator) -> None:
        n = len(STREET_CLASSES)
        whole = rng.normal(0, 0.22, (n, 1)) + rng.normal(0, 0.12, (n, 3))
        # Real cameras burn the sky out when they expose for the street.
        whole[_SKY] = rng.normal(0.15, 0.12) if rng.random() < 0.6 else rng.uniform(0.3, 1.2)
        self._gain = np.exp(whole).astype(np.float32)
        self._grain = rng.uniform(0.0, 0.16, n).astype(np.float32)
        self._grain[_SKY] *= 0.2
        self._cells = rng.integers(2, 24, 2)

    def over(self, image: Pixels, label: Pixels, rng: np.random.Generator) -> Pixels:
        """The frame in this scene's paint."""
        h, w = label.shape
        grain = np.zeros((h, w), np.float32)
        for cell in self._cells:
            coarse = rng.normal(0, 1, (h // int(cell) + 2, w // int(cell) + 2)).astype(np.float32)
            grain += cv2.resize(coarse, (w, h), interpolation=cv2.INTER_CUBIC)
        factor = self._gain[label] * (1 + self._grain[label] * grain)[..., None]
        return np.clip(image * factor, 0, 255).astype(np.uint8)


def _shadowed(image: Pixels, label: Pixels, rng: np.random.Generator) -> Pixels:
    """The frame with up to four shadows across street and houses, as trees and walls throw them."""
    h, w = label.shape
    shade: NDArray[np.float32] = np.ones((h, w), np.float32)
    for _ in range(int(rng.integers(0, 5))):
        corners = rng.uniform((-0.3 * w, 0.25 * h), (1.3 * w, 1.1 * h), (4, 2)).astype(np.int32)
        cv2.fillConvexPoly(shade, cv2.convexHull(corners), float(rng.uniform(0.35, 0.85)))
    shade = cast("NDArray[np.float32]", cv2.GaussianBlur(shade, (0, 0), float(rng.uniform(0.5, 3))))
    shade[label == _SKY] = 1
    shadowed: Pixels = np.clip(image * shade[..., None], 0, 255).astype(np.uint8)
    return shadowed


class _Lens:
    """What optics, sensor and encoder of one camera do to its frames: one draw a scene."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._gamma = float(np.exp(rng.normal(0, 0.3)))
        self._balance = np.exp(rng.normal(0, 0.08, 3)).astype(np.float32)
        self._contrast = float(rng.uniform(0.75, 1.35))
        self._saturation = float(rng.uniform(0.2, 1.2))
        self._vignette = float(rng.uniform(0, 0.35))
        self._blur = float(rng.uniform(0, 0.9))
        self._noise = float(rng.uniform(0, 6))
        self._quality = int(rng.integers(35, 96))

    def see(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        """The frame as this camera gives it."""
        h, w = image.shape[:2]
        gamma = self._gamma * float(np.exp(rng.normal(0, 0.08)))
        light = cast("NDArray[np.float32]", (image.astype(np.float32) / 255) ** gamma)
        grey = light @ np.asarray((0.114, 0.587, 0.299), np.float32)
        light = (grey[..., None] + self._saturation * (light - grey[..., None])) * self._balance
        light = (light - 0.45) * self._contrast + 0.45 + float(rng.normal(0, 0.03))
        y, x = np.ogrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j]
        light *= (1 - self._vignette * (x**2 + y**2) / 2).astype(np.float32)[..., None]
        if self._blur > 0.3:
            light = cast("NDArray[np.float32]", cv2.GaussianBlur(light, (0, 0), self._blur))
        light += rng.normal(0, self._noise / 255, light.shape).astype(np.float32)
        seen = np.clip(light * 255, 0, 255).astype(np.uint8)
        data = cv2.imencode(".jpg", seen, [cv2.IMWRITE_JPEG_QUALITY, self._quality])[1]
        return cast("Pixels", cv2.imdecode(data, cv2.IMREAD_COLOR))
