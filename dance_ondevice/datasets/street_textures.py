"""Surfaces of the synthetic street under one light: facades, tree crowns, fences, ground, sky, skyline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from dance_ondevice.datasets.street_light import Colour, Light
from dance_ondevice.datasets.street_world import BLOCK, FLOOR, PAVEMENT_END, ROAD_HALF, generator
from dance_ondevice.images.labels import STREET_CLASSES

Pixels = NDArray[np.uint8]

#: Texels a metre of facades and of the ground.
TEXELS = 14
#: The ground's pattern repeats after this many metres along the street, and spans this many across it.
GROUND_LENGTH, GROUND_HALF_WIDTH = 24.0, 18.0
STYLES = 10
CROWNS = 5

_SKY, _BUILDING, _TREE = (STREET_CLASSES.index(name) for name in ("sky", "building", "tree"))
_FACADE, _CROWN, _GROUND, _HEAVEN, _SKYLINE, _FENCE = range(10, 16)
_WALLS: tuple[Colour, ...] = (
    (78, 96, 158),
    (120, 150, 186),
    (170, 190, 205),
    (150, 152, 150),
    (92, 112, 132),
    (196, 204, 208),
    (84, 104, 176),
    (128, 170, 200),
    (110, 118, 128),
    (150, 172, 172),
)


@dataclass(frozen=True)
class Texture:
    """A BGRA picture at full, half, quarter, ... size; alpha says where it is opaque."""

    levels: tuple[Pixels, ...]


@dataclass(frozen=True, kw_only=True)
class Surfaces:
    """Every texture of one light.

    Attributes:
        facades: per style, then (left side of the street, right side, facing the camera).
        crowns: tree crowns, square.
        fence: one block of garden fence.
        hedge: one block of hedge.
        railing: one block of kerbside railing.
        ground: (rows along, columns across, 3) at growing reduction along the street.
        ground_reduction: how much each of ``ground`` is reduced along the street.
        sky: (h, 5 w, 4); the last w columns repeat the first. The fourth channel is the class.
        skyline: (h', 5 w, 4), what stands at the horizon, on its bottom row; class sky where nothing does.
    """

    facades: tuple[tuple[Texture, Texture, Texture], ...]
    crowns: tuple[Texture, ...]
    fence: Texture
    hedge: Texture
    railing: Texture
    ground: tuple[Pixels, ...]
    ground_reduction: tuple[int, ...]
    sky: Pixels
    skyline: Pixels


def make_surfaces(seed: int, light: Light, height: int, width: int, horizon: int) -> Surfaces:
    """Paint every texture for frames of ``height`` by ``width`` pixels with ``horizon`` rows above ground."""
    ground = _ground(seed, light)
    reductions = (1, 4, 16)
    return Surfaces(
        facades=tuple(_facade(seed, light, style) for style in range(STYLES)),
        crowns=tuple(_crown(seed, light, number) for number in range(CROWNS)),
        fence=_fence(seed, light),
        hedge=_hedge(seed, light),
        railing=_railing(light),
        ground=tuple(_reduced(ground, ground.shape[0] // r, ground.shape[1]) for r in reductions),
        ground_reduction=reductions,
        sky=_repeat(_sky(seed, light, horizon, 4 * width), width),
        skyline=_repeat(_skyline(seed, light, max(3, height // 12), 4 * width), width),
    )


def _reduced(picture: Pixels, h: int, w: int) -> Pixels:
    return cast("Pixels", cv2.resize(picture, (w, h), interpolation=cv2.INTER_AREA))


def _repeat(strip: Pixels, columns: int) -> Pixels:
    return np.concatenate([strip, strip[:, :columns]], axis=1)


def _noise(rng: np.random.Generator, shape: tuple[int, int], cell: int, spread: float) -> NDArray[np.float32]:
    """Smooth noise that repeats in both directions, with cells of about ``cell`` texels."""
    coarse = rng.normal(0, spread, (max(2, shape[0] // cell), max(2, shape[1] // cell))).astype(np.float32)
    padded = np.pad(coarse, 2, mode="wrap")
    scale = (shape[0] / coarse.shape[0], shape[1] / coarse.shape[1])
    size = (round(padded.shape[1] * scale[1]), round(padded.shape[0] * scale[0]))
    fine = cast("NDArray[np.float32]", cv2.resize(padded, size, interpolation=cv2.INTER_CUBIC))
    top, left = round(2 * scale[0]), round(2 * scale[1])
    return fine[top : top + shape[0], left : left + shape[1]]


def _flat(shape: tuple[int, int], colour: Colour, *grain: NDArray[np.float32]) -> Pixels:
    """An (h, w, 3) picture of one colour, made lighter and darker by grains."""
    plane = sum(grain, np.ones(shape, np.float32))
    picture: Pixels = np.clip(plane[..., None] * np.asarray(colour, np.float32), 0, 255).astype(np.uint8)
    return picture


def _texture(bgr: Pixels, alpha: NDArray[np.bool_] | None = None) -> Texture:
    opaque = np.full(bgr.shape[:2], 255, np.uint8) if alpha is None else alpha.astype(np.uint8) * 255
    levels = [np.dstack([bgr, opaque])]
    while min(levels[-1].shape[:2]) >= 8:
        h, w = levels[-1].shape[:2]
        levels.append(_reduced(levels[-1], h // 2, w // 2))
    return Texture(tuple(levels))


def _tinted(colour: Colour, factor: float) -> Colour:
    b, g, r = colour
    return b * factor, g * factor, r * factor


def _facade(seed: int, light: Light, style: int) -> tuple[Texture, Texture, Texture]:
    """One block of six floors; lower houses show the lower part of it."""
    rng = generator(seed, _FACADE, style)
    h, w, floor = round(6 * FLOOR * TEXELS), round(BLOCK * TEXELS), round(FLOOR * TEXELS)
    wall = _tinted(_WALLS[style % len(_WALLS)], rng.uniform(0.85, 1.1))
    bgr = _flat((h, w), wall, _noise(rng, (h, w), 3, 0.05), _noise(rng, (h, w), 40, 0.06))
    glow = np.zeros((h, w), np.uint8)
    if style % 2:
        bgr[::floor] = np.clip(bgr[::floor] * 0.75, 0, 255)
        bgr[1::floor] = np.clip(bgr[1::floor] * 1.15, 0, 255)
    columns = int(rng.integers(3, 6))
    pitch = w / columns
    frame = _tinted(wall, 1.35) if rng.uniform() < 0.6 else (225.0, 228.0, 230.0)
    win_w, win_h = pitch * rng.uniform(0.38, 0.6), floor * rng.uniform(0.48, 0.62)
    for level in range(6):
        bottom = h - level * floor - round(0.22 * floor)
        for column in range(columns):
            left = (column + 0.5) * pitch - win_w / 2
            glass = _tinted((78.0, 68.0, 56.0), rng.uniform(0.5, 1.3))
            shine = _tinted((205.0, 190.0, 165.0), rng.uniform(0.6, 1.0))
            lit = rng.uniform() < 0.4
            a, b = (round(left), round(bottom - win_h)), (round(left + win_w), bottom)
            cv2.rectangle(bgr, (a[0] - 1, a[1] - 1), (b[0] + 1, b[1] + 1), frame, -1)
            cv2.rectangle(bgr, a, b, glass, -1)
            cv2.rectangle(bgr, a, (b[0], a[1] + round(win_h * rng.uniform(0.1, 0.6))), shine, -1)
            middle = (a[0] + b[0]) // 2
            cv2.line(bgr, (middle, a[1]), (middle, b[1]), frame, 1)
            if lit:
                cv2.rectangle(glow, a, b, int(rng.integers(140, 255)), -1)
    if style % 3 != 0:  # shops on the ground floor
        for left in (round(0.04 * w), round(0.54 * w)):
            awning = tuple(float(c) for c in rng.integers(40, 220, 3))
            cv2.rectangle(bgr, (left, h - floor + 6), (left + round(0.42 * w), h - 3), (70, 62, 58), -1)
            cv2.rectangle(bgr, (left, h - floor + 2), (left + round(0.42 * w), h - floor + 9), awning, -1)
            cv2.rectangle(glow, (left, h - floor + 10), (left + round(0.42 * w), h - 5), 170, -1)
    else:
        cv2.rectangle(bgr, (w // 2 - 7, h - 30), (w // 2 + 7, h - 1), (48, 44, 60), -1)
    exposures = (1 + light.sun, 1 - light.sun, 1 - 0.6 * light.sun)
    left_side, right_side, front = (
        _texture(_add_lamps(light.shade_image(bgr, exposure), glow, light)) for exposure in exposures
    )
    return left_side, right_side, front


def _add_lamps(bgr: Pixels, glow: Pixels, light: Light) -> Pixels:
    """Lit windows: ``glow`` in warm light, as strong as lamps count in this light."""
    if light.lamps == 0:
        return bgr
    warm = np.asarray((0.45, 0.72, 0.95), np.float32) * (0.8 * light.lamps)
    return np.clip(np.maximum(bgr, glow[..., None] * warm), 0, 255).astype(np.uint8)


def _foliage(rng: np.random.Generator, shape: tuple[int, int], colour: Colour) -> Pixels:
    return _flat(
        shape, colour, _noise(rng, shape, 2, 0.2), _noise(rng, shape, 6, 0.22), _noise(rng, shape, 20, 0.2)
    )


def _crown(seed: int, light: Light, number: int) -> Texture:
    rng = generator(seed, _CROWN, number)
    size = 128
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / (size - 1) * 2 - 1
    ragged = _noise(rng, (size, size), 16, 0.16) + _noise(rng, (size, size), 5, 0.1)
    inside = np.hypot(x, y * rng.uniform(0.9, 1.1)) + ragged < 0.86
    colour = (rng.uniform(28, 60), rng.uniform(80, 120), rng.uniform(50, 95))
    bgr = _foliage(rng, (size, size), colour)
    bgr = np.clip(bgr * (1.15 - 0.35 * (y + 1) / 2 - 0.1 * x)[..., None], 0, 255).astype(np.uint8)
    return _texture(light.shade_image(bgr), inside)


def _hedge(seed: int, light: Light) -> Texture:
    rng = generator(seed, _FENCE, 0)
    h, w = 24, round(BLOCK * TEXELS)
    top = 3 + _noise(rng, (1, w), 6, 1.5)[0]
    inside = np.arange(h)[:, None] >= top
    return _texture(light.shade_image(_foliage(rng, (h, w), (38, 84, 58))), inside)


def _fence(seed: int, light: Light) -> Texture:
    """Boards, some darker than others, between posts."""
    rng = generator(seed, _FENCE, 1)
    h, w = 20, round(BLOCK * TEXELS)
    boards = np.repeat(rng.normal(0, 0.12, -(-w // 4)), 4)[:w].astype(np.float32)
    bgr = _flat((h, w), (88, 116, 142), np.broadcast_to(boards, (h, w)), _noise(rng, (h, w), 2, 0.06))
    bgr[:, ::4] = (42, 52, 62)
    bgr[3:5] = (70, 92, 112)
    for post in range(0, w, 28):
        bgr[:, post : post + 4] = (62, 78, 92)
    return _texture(light.shade_image(bgr))


def _railing(light: Light) -> Texture:
    """A kerbside railing; like in CamVid, what shows between its bars belongs to it as well."""
    h, w = 20, round(BLOCK * TEXELS)
    bgr = np.full((h, w, 3), (112, 116, 116), np.uint8)
    bgr[:, ::4] = (52, 58, 58)
    bgr[:, 1::4] = (70, 76, 76)
    bgr[:3] = bgr[-3:] = (190, 194, 194)
    for post in range(0, w, 28):
        bgr[:, post : post + 4] = (190, 194, 194)
    return _texture(light.shade_image(bgr))


def _ground(seed: int, light: Light) -> Pixels:
    """Asphalt with markings, kerb, slabs and grass; rows run along the street, columns across it."""
    rng = generator(seed, _GROUND)
    h, w = round(GROUND_LENGTH * TEXELS), round(2 * GROUND_HALF_WIDTH * TEXELS)
    across = (np.arange(w) + 0.5) / TEXELS - GROUND_HALF_WIDTH
    along = (np.arange(h) + 0.5) / TEXELS
    grain = _noise(rng, (h, w), 1, 0.06)
    bgr = _foliage(rng, (h, w), (52, 104, 84))
    asphalt = _flat((h, w), (92, 90, 90), grain, _noise(rng, (h, w), 30, 0.06))
    slabs = _flat((h, w), (142, 146, 152), grain, _noise(rng, (h, w), 12, 0.05))
    slabs[(along % 0.9 < 0.08)] = (112, 115, 118)
    slabs[:, (np.abs(across) % 0.9 < 0.08)] = (112, 115, 118)
    for _ in range(6):  # repairs
        x, y = int(rng.integers(w // 2 - 60, w // 2 + 60)), int(rng.integers(0, h - 50))
        patch = asphalt[y : y + int(rng.integers(12, 40)), x : x + int(rng.integers(8, 24))]
        patch[:] = np.clip(patch * rng.uniform(0.82, 0.94), 0, 255)
    track = 1 - 0.08 * np.exp(-(((np.abs(np.abs(across) - 1.6) - 0.75) / 0.3) ** 2))
    asphalt = np.clip(asphalt * track[None, :, None], 0, 255).astype(np.uint8)
    paint = np.clip(218 * (1 + grain[..., None] * 1.5), 0, 255).astype(np.uint8)
    dashes = (np.abs(across) < 0.09)[None, :] & (along % 6 < 3)[:, None]
    edges = np.broadcast_to(np.abs(np.abs(across) - 4.72) < 0.07, (h, w))
    asphalt = np.where((dashes | edges)[..., None], paint, asphalt)
    road, pavement = np.abs(across) < ROAD_HALF, np.abs(across) < PAVEMENT_END
    kerb = pavement & (np.abs(across) < ROAD_HALF + 0.2)
    bgr[:, pavement] = slabs[:, pavement]
    bgr[:, kerb] = np.clip(slabs[:, kerb] * 1.2, 0, 255)
    bgr[:, road] = asphalt[:, road]
    shaded = light.shade_image(bgr)
    if light.wet:  # a wet road is darker
        shaded[:, road] = np.clip(shaded[:, road] * (1 - 0.35 * light.wet), 0, 255)
    return shaded


def _sky(seed: int, light: Light, h: int, w: int) -> Pixels:
    rng = generator(seed, _HEAVEN)
    down = (np.linspace(0, 1, h, dtype=np.float32) ** 1.6)[:, None, None]
    top, low = (np.asarray(c, np.float32) for c in (light.sky_top, light.sky_low))
    sky = np.broadcast_to(top + (low - top) * down, (h, w, 3))
    billow = _noise(rng, (h, w), max(2, w // 24), 0.5) + _noise(rng, (h, w), max(2, w // 80), 0.22)
    cover = light.clouds * np.clip(billow + 0.1, 0, 1)[..., None]
    sky = np.clip(sky + (np.asarray(light.cloud_colour, np.float32) - sky) * cover, 0, 255)
    return np.dstack([sky.astype(np.uint8), np.full((h, w), _SKY, np.uint8)])


def _skyline(seed: int, light: Light, h: int, w: int) -> Pixels:
    """Roofs and tree tops far away, standing on the bottom row."""
    rng = generator(seed, _SKYLINE)
    up = np.arange(h, 0, -1, dtype=np.float32)[:, None] / h
    bumps = _noise(rng, (1, w), max(2, w // 90), 0.22) + _noise(rng, (1, w), max(2, w // 300), 0.1)
    trees = up < 0.42 + bumps
    roofs = np.zeros(w, np.float32)
    colours = np.zeros((w, 3), np.float32)
    x = 0
    while x < w:
        wide = int(rng.integers(max(2, w // 160), max(4, w // 50)))
        roofs[x : x + wide] = rng.uniform(0.3, 0.85) if rng.uniform() < 0.5 else 0.0
        colours[x : x + wide] = _tinted(_WALLS[int(rng.integers(len(_WALLS)))], 0.9)
        x += wide
    houses = up < roofs
    bgr = np.broadcast_to(colours, (h, w, 3)).astype(np.uint8)
    leaves = _foliage(rng, (h, w), (58, 92, 72))
    bgr = np.where(trees[..., None], leaves, bgr)
    shaded = _hazed(light.shade_image(bgr), light, 90.0)
    return np.dstack([shaded, np.where(trees, _TREE, np.where(houses, _BUILDING, _SKY)).astype(np.uint8)])


def _hazed(bgr: Pixels, light: Light, z: float) -> Pixels:
    t = light.transmission(z)
    return np.clip(bgr * t + np.asarray(light.haze, np.float32) * (1 - t), 0, 255).astype(np.uint8)


def level_for(texture: Texture, texels: float, pixels: float) -> Pixels:
    """The smallest level of a texture that still has a texel for each of ``pixels``."""
    levels: Sequence[Pixels] = texture.levels
    chosen = 0
    while chosen + 1 < len(levels) and texels >= 2 * pixels:
        texels /= 2
        chosen += 1
    return levels[chosen]
