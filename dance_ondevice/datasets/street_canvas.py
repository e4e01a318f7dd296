"""The canvas of the synthetic street: shapes given in metres, drawn in perspective, with their class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dance_ondevice.datasets.street_light import Colour, Light
from dance_ondevice.datasets.street_textures import Texture, level_for
from dance_ondevice.datasets.street_world import Thing

#: Nothing nearer than this many metres is drawn.
NEAR = 1.1
#: Corners are given to OpenCV in eighths of a pixel.
_SHIFT, _STEPS = 3, 8

Point = tuple[float, float]
Quad = tuple[Point, Point, Point, Point]


@dataclass(frozen=True, kw_only=True)
class View:
    """The camera of one frame: focal length, image centre and horizon in pixels, the street's bend in 1/m.

    ``camera_x`` and ``camera_y`` are metres right of the centre line and above ground.
    """

    focal: float
    centre: float
    horizon: float
    camera_x: float
    camera_y: float
    bend: float

    def at(self, x: float, y: float, z: float) -> Point:
        """The pixel of the point x right of the centre line, y above ground and z ahead (metres)."""
        scale = self.focal / z
        return (
            self.centre + (x - self.camera_x + self.bend * z * z) * scale,
            self.horizon + (self.camera_y - y) * scale,
        )


class Canvas:
    """(H, W, 4) uint8: blue, green, red and the class id, so that picture and label cannot disagree.

    Paint from far to near; ``z`` is metres ahead of the camera.
    """

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        *,
        view: View,
        light: Light,
        haze: NDArray[np.uint8],
    ) -> None:
        self.pixels = pixels
        self.view = view
        self.light = light
        self._haze = haze
        self._through = 1.0
        self._class = 0

    def begin(self, class_id: int, z: float) -> None:
        """Give what comes next this class and the haze of z metres of air."""
        self._class = class_id
        self._through = self.light.transmission(max(z, NEAR))

    def belongs_to(self, class_id: int) -> None:
        """Give what comes next this class."""
        self._class = class_id

    def _seen(self, colour: Colour, *, glows: bool = False) -> tuple[float, float, float, int]:
        """What to write for a surface of this colour, at the distance and of the class being painted."""
        b, g, r = colour if glows else self.light.shade(colour)
        t, (hb, hg, hr) = self._through, self.light.haze
        f = 1 - t
        return t * b + f * hb, t * g + f * hg, t * r + f * hr, self._class

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        """Fill a convex polygon."""
        corners = (np.array(points) * _STEPS).astype(np.int32)
        cv2.fillConvexPoly(self.pixels, corners, self._seen(colour), cv2.LINE_8, _SHIFT)

    def upright(
        self,
        x: float,
        z: float,
        size: tuple[float, float, float],
        colour: Colour,
        *,
        least: float = 0.0,
        glows: bool = False,
    ) -> None:
        """A rectangle facing the camera: (width, bottom, top) in metres, at least ``least`` pixels wide."""
        width, bottom, top = size
        half = max(width * self.view.focal / z, least) / 2
        (centre, y0), (_, y1) = self.view.at(x, bottom, z), self.view.at(x, top, z)
        a = (int((centre - half) * _STEPS), int(y1 * _STEPS))
        b = (int((centre + half) * _STEPS), int(y0 * _STEPS))
        cv2.rectangle(self.pixels, a, b, self._seen(colour, glows=glows), cv2.FILLED, cv2.LINE_8, _SHIFT)

    def disc(self, x: float, y: float, z: float, radius: float, colour: Colour) -> None:
        """A disc facing the camera; radius in metres."""
        cx, cy = self.view.at(x, y, z)
        centre, r = (int(cx * _STEPS), int(cy * _STEPS)), int(radius * self.view.focal / z * _STEPS)
        cv2.circle(self.pixels, centre, r, self._seen(colour), cv2.FILLED, cv2.LINE_8, _SHIFT)

    def glow(self, x: float, y: float, z: float, radius: float, colour: Colour) -> None:
        """Light that spills around a lamp, added to what is there."""
        (cx, cy), r = self.view.at(x, y, z), radius * self.view.focal / z
        x0, x1, y0, y1 = self._clip((cx - r, cx + r), (cy - r, cy + r))
        if x0 >= x1 or y0 >= y1 or r < 1:
            return
        dx = (np.arange(x0, x1, dtype=np.float32) - cx) / r
        dy = (np.arange(y0, y1, dtype=np.float32) - cy) / r
        fall = np.clip(1 - np.sqrt(dx[None] ** 2 + dy[:, None] ** 2), 0, 1) ** 2
        strength = np.asarray((*colour, 0), np.float32) * (self._through * self.light.lamps)
        region = self.pixels[y0:y1, x0:x1]
        cv2.add(region, (fall[..., None] * strength).astype(np.uint8), dst=region)

    def _clip(self, xs: Sequence[float], ys: Sequence[float]) -> tuple[int, int, int, int]:
        """The part of the canvas that holds all of these coordinates, as x from and to, y from and to."""
        h, w = self.pixels.shape[:2]
        x0, x1 = max(0, math.floor(min(xs))), min(w, math.ceil(max(xs)) + 1)
        return x0, x1, max(0, math.floor(min(ys))), min(h, math.ceil(max(ys)) + 1)

    def paste(
        self, texture: Texture, quad: Quad, *, part: tuple[float, float, float] = (0.0, 1.0, 0.0)
    ) -> None:
        """Map a texture onto a quadrilateral (top left, top right, bottom right, bottom left).

        ``part`` is the share of the texture to show: from and to (left to right), and from (top).
        """
        ys = [p[1] for p in quad]
        x0, x1, y0, y1 = self._clip([p[0] for p in quad], ys)
        if x0 >= x1 or y0 >= y1:
            return
        full = texture.levels[0].shape[0] * (1 - part[2])
        bgra = level_for(texture, full, max(ys[3] - ys[0], ys[2] - ys[1], 1.0))
        h, w = bgra.shape[:2]
        left, right, top = part[0] * w - 0.5, part[1] * w - 0.5, part[2] * h - 0.5
        size = (x1 - x0, y1 - y0)
        if quad[0][1] == quad[1][1] and quad[0][0] == quad[3][0]:  # upright: scale and shift are enough
            across, down = (quad[1][0] - quad[0][0]) / (right - left), (ys[3] - ys[0]) / (h - 0.5 - top)
            affine = (across, 0, quad[0][0] - x0 - across * left), (0, down, ys[0] - y0 - down * top)
            warped = cv2.warpAffine(bgra, np.array(affine), size)
        else:
            source = np.array([(left, top), (right, top), (right, h - 0.5), (left, h - 0.5)], np.float32)
            target = np.array([(x - x0, y - y0) for x, y in quad], np.float32)
            warped = cv2.warpPerspective(bgra, cv2.getPerspectiveTransform(source, target), size)
        mask = cv2.threshold(cv2.extractChannel(warped, 3), 127, 255, cv2.THRESH_BINARY)[1]
        t = self._through
        cv2.addWeighted(warped, t, self._haze[: size[1], : size[0]], 1 - t, 0, dst=warped)
        warped[..., 3] = self._class
        cv2.copyTo(warped, mask, self.pixels[y0:y1, x0:x1])

    def band(self, texture: Texture, thing: Thing, z: float, *, top: float = 0.0) -> None:
        """A vertical surface along the street, from z to z + length; ``top`` as in ``part`` above."""
        near, far = max(z, NEAR), z + thing.length
        if far <= near + 0.05:
            return
        start = (near - z) / thing.length
        at, x, height = self.view.at, thing.x, thing.height
        if x < self.view.camera_x:
            a, b, part = near, far, (start, 1.0, top)
        else:
            a, b, part = far, near, (0.0, 1.0 - start, top)
        self.paste(texture, (at(x, height, a), at(x, height, b), at(x, 0, b), at(x, 0, a)), part=part)
