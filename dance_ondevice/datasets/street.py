"""The synthetic street camera: labelled frames of a drive by day, at dusk, in rain and at night.

Made for the demo and the tests, which need drift, labels and nothing to download. The classes are CamVid's.
``street_world`` places the objects, ``street_light`` describes light and weather, ``street_textures`` makes
surfaces, ``street_painter`` draws objects on a ``street_canvas``, and this module contains the camera.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import cv2
import numpy as np

from dance_ondevice.datasets.street_canvas import Canvas, View
from dance_ondevice.datasets.street_light import LIGHTS, Light
from dance_ondevice.datasets.street_painter import draw
from dance_ondevice.datasets.street_textures import (
    GROUND_HALF_WIDTH,
    GROUND_LENGTH,
    TEXELS,
    Pixels,
    Surfaces,
    make_surfaces,
)
from dance_ondevice.datasets.street_world import (
    LAYOUT,
    PAVEMENT_END,
    ROAD_HALF,
    SPEED,
    Layout,
    Thing,
    World,
    generator,
)
from dance_ondevice.images.labels import STREET_CLASSES

CONDITIONS: tuple[str, ...] = ("day", "dusk", "rain", "night")

MIN_HEIGHT, MIN_WIDTH = 48, 64

_SKY, _ROAD, _PAVEMENT, _TREE = (STREET_CLASSES.index(name) for name in ("sky", "road", "pavement", "tree"))
#: Distance in metres from which each reduction of the ground's texture is used.
_GROUND_BANDS = (0.0, 7.0, 22.0)
_NOISE, _GRAIN, _RAIN = 20, 21, 22
#: Farthest row of ground, metres; beyond it the skyline stands.
_FARTHEST = 400.0
#: How far from the centre line each layer of things begins; what stands farther out is painted first.
_LAYERS = (7.55, 5.3, ROAD_HALF, 0.0)
_SPARE = 48


@dataclass(frozen=True, kw_only=True)
class Mount:
    """Position and lens of the camera in the car.

    Attributes:
        focal: Focal length as a multiple of the frame's width.
        horizon: Row of the horizon as a share of the frame's height from its top.
        x: Position right of the street's centre line, metres.
        y: Height above ground, metres.
    """

    focal: float = 0.8
    horizon: float = 0.43
    x: float = 1.5
    y: float = 1.5


#: A car's windscreen, as the demo's camera has it.
MOUNT = Mount()


def day_frames(size: tuple[int, int], indices: Sequence[int]) -> list[Pixels]:
    """Frames of a street by day, (H, W, 3) uint8 BGR, at any (height, width).

    What is too small for the street is rendered larger and shrunk.
    """
    height, width = size
    camera = StreetCamera(seed=0, height=max(height, MIN_HEIGHT), width=max(width, MIN_WIDTH))
    frames = [camera.render(index, "day")[0] for index in indices]
    if (camera.height, camera.width) == (height, width):
        return frames
    shrunk = (cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA) for frame in frames)
    return [cast("Pixels", frame) for frame in shrunk]


class StreetCamera:
    """A camera in a car that drives along a synthetic street.

    A frame is a function of (seed, size, index, condition) alone. Neighbouring indices are about a tenth of a
    second apart; the street goes on for ever in both directions, from open road to dense town and back. All
    conditions show the same street, so labels do not depend on them.

    Args:
        seed: Seed of the street.
        height: Rows of a frame, at least 48.
        width: Columns of a frame, at least 64.
        lights: Condition -> light and weather of the scene.
        mount: Position and lens of the camera.
        layout: Properties of the street.
        standing_at: Frame at whose place the camera stands for ever, while others pass; None to drive.

    Raises:
        ValueError: The frame is too small.
    """

    def __init__(
        self,
        seed: int = 0,
        height: int = 240,
        width: int = 320,
        *,
        lights: Mapping[str, Light] = LIGHTS,
        mount: Mount = MOUNT,
        layout: Layout = LAYOUT,
        standing_at: int | None = None,
    ) -> None:
        if height < MIN_HEIGHT or width < MIN_WIDTH:
            raise ValueError(f"frames of {width}x{height} are too small, at least {MIN_WIDTH}x{MIN_HEIGHT}")
        self.seed = seed
        self.height = height
        self.width = width
        self._lights = lights
        self._mount = mount
        self._standing_at = standing_at
        self._world = World(seed, layout)
        self._focal = mount.focal * width
        self._horizon = mount.horizon * height
        self._ground = _Ground(mount, layout, height, width)
        self._stage = lru_cache(maxsize=None)(self._make_stage)

    def render(self, index: int, condition: str = "day") -> tuple[Pixels, Pixels]:
        """Render one frame.

        Args:
            index: Number of the frame, any integer.
            condition: One of ``lights``.

        Returns:
            The (H, W, 3) uint8 BGR image and its (H, W) uint8 label of ``STREET_CLASSES`` ids, none ignored.

        Raises:
            ValueError: The condition is unknown.
        """
        if condition not in self._lights:
            raise ValueError(f"unknown condition {condition!r}; choose one of {', '.join(self._lights)}")
        place = index if self._standing_at is None else self._standing_at
        stage, here = self._stage(condition), place * SPEED
        pixels = np.empty((self.height, self.width, 4), np.uint8)
        view = View(
            focal=self._focal,
            centre=(self.width - 1) / 2,
            horizon=self._horizon,
            camera_x=self._mount.x,
            camera_y=self._mount.y,
            bend=self._world.bend(here),
        )
        self._paint_background(pixels, stage, place)
        self._ground.paint(pixels, stage, here, view.bend)
        canvas = Canvas(pixels, view=view, light=stage.light, haze=stage.haze)
        for thing in sorted(self._things(index), key=self._painting_order):
            draw(canvas, stage.surfaces, thing, thing.z - here)
        label = pixels[..., 3].copy()
        bgr = cast("Pixels", cv2.cvtColor(pixels, cv2.COLOR_BGRA2BGR))
        return self._expose(bgr, label, stage, generator(self.seed, _NOISE, index)), label

    def _things(self, index: int) -> Iterator[Thing]:
        if self._standing_at is None:
            return self._world.around(index)
        return self._world.around(index, self._standing_at * SPEED)

    def _painting_order(self, thing: Thing) -> tuple[int, float]:
        """Far to near. What stands farther from the road never hides what stands nearer to it."""
        if thing.kind == "zebra":
            return -1, -thing.z
        aside = abs(thing.x) / self._world.layout.breadth
        layer = next(number for number, begin in enumerate(_LAYERS) if aside >= begin)
        # A house is as far as its far end, so that trees beside it come later; a fence hides the trees
        # behind it.
        return layer, -(thing.z + (thing.length if thing.kind == "building" else 0.0))

    def _paint_background(self, pixels: Pixels, stage: _Stage, index: int) -> None:
        turned = self._focal * self._world.heading(index * SPEED)
        rows, surfaces = self._ground.first_row, stage.surfaces
        period = surfaces.sky.shape[1] - self.width
        left = round(turned + 0.15 * index) % period  # clouds drift
        pixels[:rows] = surfaces.sky[:, left : left + self.width]
        left, high = round(turned) % period, surfaces.skyline.shape[0]
        skyline = surfaces.skyline[:, left : left + self.width]
        stands = skyline[..., 3] != _SKY
        cv2.copyTo(skyline, stands.view(np.uint8), pixels[rows - high : rows])

    def _expose(self, bgr: Pixels, label: Pixels, stage: _Stage, rng: np.random.Generator) -> Pixels:
        """Add the effects of weather, optics and sensor."""
        light, row = stage.light, self._ground.first_row
        if light.wet:
            ground, sky = bgr[row:], bgr[:row]
            mirrored = cv2.resize(sky[::-1], (self.width, self.height - row), interpolation=cv2.INTER_AREA)
            mirrored = cv2.blur(mirrored, (3, max(3, self.height // 24)))
            mirrored = cv2.addWeighted(ground, 1 - light.wet, mirrored, light.wet, 0)
            cv2.copyTo(mirrored, (label[row:] == _ROAD).view(np.uint8), ground)
        if light.rain:
            y, x = rng.integers(0, _SPARE, 2)
            cv2.add(bgr, stage.rain[y : y + self.height, x : x + self.width], dst=bgr)
        soft = cv2.GaussianBlur(bgr, (0, 0), light.softness * max(self.width, 160) / 320)
        y, x = rng.integers(0, _SPARE, 2)
        noise = stage.noise[y : y + self.height, x : x + self.width]
        return cast("Pixels", cv2.addWeighted(soft, 1.0, noise, 1.0, -128.0))

    def _make_stage(self, condition: str) -> _Stage:
        light = self._lights[condition]
        number = list(self._lights).index(condition)
        shape = (self.height + _SPARE, self.width + _SPARE, 3)
        grain = generator(self.seed, _GRAIN, number).normal(128, light.noise, shape)
        gain, haze = self._ground.seen_through(light)
        return _Stage(
            light=light,
            surfaces=make_surfaces(self.seed, light, self.height, self.width, self._ground.first_row),
            haze=np.full((self.height, self.width, 4), [*np.round(light.haze), 0], np.uint8),
            noise=np.clip(np.round(grain), 0, 255).astype(np.uint8),
            rain=_streaks(generator(self.seed, _RAIN), shape, light.rain),
            ground_gain=gain,
            ground_haze=haze,
        )


@dataclass(frozen=True, kw_only=True)
class _Stage:
    """What frames of one condition share."""

    light: Light
    surfaces: Surfaces
    haze: Pixels
    noise: Pixels
    rain: Pixels
    ground_gain: Pixels
    ground_haze: Pixels


class _Ground:
    """The plane below the horizon: which point of the street each of its pixels shows."""

    _UNIT = 64  # gain maps hold 64 for "as it is"

    def __init__(self, mount: Mount, layout: Layout, height: int, width: int) -> None:
        focal, horizon = mount.focal * width, mount.horizon * height
        self._mount, self._breadth = mount, layout.breadth
        below = np.arange(height) - horizon
        self.first_row = int(np.searchsorted(below, focal * mount.y / _FARTHEST, side="right"))
        self._z = (focal * mount.y / below[self.first_row :]).astype(np.float32)
        across = (np.arange(width, dtype=np.float32) - (width - 1) / 2) / focal
        self._x = (across[None, :] * self._z[:, None] + mount.x).astype(np.float32)

    def paint(self, pixels: Pixels, stage: _Stage, here: float, bend: float) -> None:
        """Fill picture and classes below the horizon for a camera ``here`` metres along the street."""
        x = (self._x - (bend * self._z**2)[:, None]) / self._breadth
        aside = np.abs(x)
        ids = np.full(x.shape, _TREE, np.uint8)
        ids[aside < PAVEMENT_END] = _PAVEMENT
        ids[aside < ROAD_HALF] = _ROAD
        texel_x = np.clip((x + GROUND_HALF_WIDTH) * TEXELS - 0.5, 0, 2 * GROUND_HALF_WIDTH * TEXELS - 1)
        along = (self._z + here % GROUND_LENGTH) % GROUND_LENGTH
        ends = [*_GROUND_BANDS[1:], np.inf]
        surfaces, ground = stage.surfaces, np.empty((*x.shape, 3), np.uint8)
        for texture, reduction, near, far in zip(
            surfaces.ground, surfaces.ground_reduction, _GROUND_BANDS, ends, strict=True
        ):
            rows = np.flatnonzero((self._z >= near) & (self._z < far))
            if not rows.size:
                continue
            band = slice(int(rows[0]), int(rows[-1]) + 1)
            texel_y = np.repeat((along[band] * TEXELS / reduction - 0.5)[:, None], x.shape[1], axis=1)
            cv2.remap(
                texture,
                texel_x[band],
                texel_y,
                cv2.INTER_LINEAR,
                dst=ground[band],
                borderMode=cv2.BORDER_WRAP,
            )
        cv2.multiply(ground, stage.ground_gain, dst=ground, scale=1 / self._UNIT)
        cv2.add(ground, stage.ground_haze, dst=ground)
        below = pixels[self.first_row :]
        cv2.cvtColor(ground, cv2.COLOR_BGR2BGRA, dst=below)
        cv2.insertChannel(ids, below, 3)

    def seen_through(self, light: Light) -> tuple[Pixels, Pixels]:
        """Factor (in 1/64) and addend for the ground's pixels: haze, and the pool of the car's own lamps."""
        t = np.exp(-self._z / light.sight)[:, None]
        beam = np.exp(-(((self._x - self._mount.x) / (2.0 + 0.12 * self._z[:, None])) ** 2))
        pool = 1 + 2.2 * light.lamps * beam * np.exp(-self._z / 16)[:, None]
        gain = np.clip(np.round(self._UNIT * t * pool), 0, 255).astype(np.uint8)
        haze = np.round((1 - t)[..., None] * np.asarray(light.haze)).astype(np.uint8)
        return np.dstack([gain] * 3), np.ascontiguousarray(np.broadcast_to(haze, (*gain.shape, 3)))


def _streaks(rng: np.random.Generator, shape: tuple[int, int, int], brightness: float) -> Pixels:
    """Falling rain, for adding to a frame."""
    plane = np.zeros(shape[:2], np.uint8)
    h, w = plane.shape
    for _ in range(round(h * w / 420) if brightness else 0):
        x, y = int(rng.integers(w)), int(rng.integers(h))
        long = int(rng.uniform(0.02, 0.09) * h) + 2
        cv2.line(plane, (x, y), (x + long // 5, y + long), float(brightness * rng.uniform(0.3, 1.0)), 1)
    return np.dstack([cv2.GaussianBlur(plane, (0, 0), 0.6)] * 3)
