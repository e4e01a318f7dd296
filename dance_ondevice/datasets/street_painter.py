"""How each kind of thing in the synthetic street is drawn."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

from dance_ondevice.datasets.street_canvas import NEAR, Canvas
from dance_ondevice.datasets.street_light import Colour
from dance_ondevice.datasets.street_textures import CROWNS, STYLES, Surfaces
from dance_ondevice.datasets.street_world import FLOOR, Thing
from dance_ondevice.images.labels import STREET_CLASSES

#: Beyond this many metres small things are drawn without their details.
_DETAIL = 22.0
_POLE, _SIGN = STREET_CLASSES.index("pole"), STREET_CLASSES.index("sign")

_CARS: tuple[Colour, ...] = (
    (40, 40, 170),
    (60, 60, 62),
    (200, 202, 204),
    (150, 152, 155),
    (130, 70, 40),
    (30, 32, 34),
    (235, 236, 238),
    (70, 110, 70),
    (40, 120, 190),
)
_CLOTHES: tuple[Colour, ...] = (
    (50, 45, 45),
    (120, 70, 50),
    (50, 50, 150),
    (150, 150, 160),
    (60, 90, 60),
    (190, 200, 210),
    (90, 60, 110),
    (40, 130, 200),
)
_ROOFS: tuple[Colour, ...] = ((60, 66, 116), (78, 74, 72), (58, 84, 128), (92, 88, 84))
_SKIN: Colour = (120, 150, 200)
_HAIR: Colour = (50, 60, 80)
_METAL: Colour = (96, 100, 98)
_RED: Colour = (40, 36, 190)
_WHITE: Colour = (235, 236, 238)
_RUBBER: Colour = (28, 28, 30)
_RIM = tuple((math.cos(math.pi / 5 * i), math.sin(math.pi / 5 * i)) for i in range(10))


def draw(canvas: Canvas, surfaces: Surfaces, thing: Thing, z: float) -> None:
    """Draw one thing whose near end is z metres ahead of the camera (negative: behind it)."""
    if z < NEAR and thing.length == 0:
        return
    class_id, how = _KINDS[thing.kind]
    canvas.begin(class_id, z)
    how(canvas, surfaces, thing, z)


def _building(canvas: Canvas, surfaces: Surfaces, thing: Thing, z: float) -> None:
    x, height, at = thing.x, thing.height, canvas.view.at
    outward = -1 if x < canvas.view.camera_x else 1
    far, back = z + thing.length, x + 9 * outward
    towards_left, towards_right, front = surfaces.facades[thing.style % STYLES]
    top = 1 - height / (6 * FLOOR)
    if height < 2.5 * FLOOR and far > NEAR:  # a pitched roof
        near, ridge = max(z, NEAR), (x + back) / 2
        slope = at(x, height, near), at(ridge, height + 2.8, near), at(ridge, height + 2.8, far)
        canvas.polygon((*slope, at(x, height, far)), _ROOFS[thing.style % len(_ROOFS)])
        if z > NEAR:
            gable = at(x, height, z), at(ridge, height + 2.8, z), at(back, height, z)
            canvas.polygon(gable, (104, 118, 138))
    if z > NEAR and thing.exposed:
        a, b = min(x, back), max(x, back)
        canvas.paste(
            front, (at(a, height, z), at(b, height, z), at(b, 0, z), at(a, 0, z)), part=(0.0, 0.75, top)
        )
    canvas.band(towards_left if outward < 0 else towards_right, thing, z, top=top)


def _fence(canvas: Canvas, surfaces: Surfaces, thing: Thing, z: float) -> None:
    canvas.band(surfaces.fence, thing, z)


def _hedge(canvas: Canvas, surfaces: Surfaces, thing: Thing, z: float) -> None:
    canvas.band(surfaces.hedge, thing, z)


def _railing(canvas: Canvas, surfaces: Surfaces, thing: Thing, z: float) -> None:
    canvas.band(surfaces.railing, thing, z)


def _tree(canvas: Canvas, surfaces: Surfaces, thing: Thing, z: float) -> None:
    x, tip = thing.x, thing.height
    canvas.upright(x, z, (0.3, 0.0, 0.5 * tip), (52, 66, 80), least=1.0)
    half, base, at = 0.31 * tip, 0.34 * tip, canvas.view.at
    quad = at(x - half, tip, z), at(x + half, tip, z), at(x + half, base, z), at(x - half, base, z)
    canvas.paste(surfaces.crowns[thing.style % CROWNS], quad)


def _lamp(canvas: Canvas, _: Surfaces, thing: Thing, z: float) -> None:
    x, top = thing.x, thing.height
    inward = -1.0 if x > 0 else 1.0
    canvas.upright(x, z, (0.17, 0.0, top), _METAL, least=1.3)
    canvas.upright(x + 0.75 * inward, z, (1.5, top - 0.12, top), _METAL)
    canvas.upright(x + 1.5 * inward, z, (0.6, top - 0.25, top), (150, 152, 150))
    if canvas.light.lamps > 0.4:
        canvas.glow(x + 1.5 * inward, top - 0.2, z, 1.6, (130, 190, 230))


def _sign(canvas: Canvas, _: Surfaces, thing: Thing, z: float) -> None:
    x, y, shape = thing.x, thing.height + 0.1, thing.style % 4
    canvas.belongs_to(_POLE)
    canvas.upright(x, z, (0.1, 0.0, y), (120, 122, 120), least=1.2)
    canvas.belongs_to(_SIGN)
    if shape == 0:  # a limit
        canvas.disc(x, y, z, 0.52, _RED)
        canvas.disc(x, y, z, 0.37, _WHITE)
        canvas.upright(x, z, (0.3, y - 0.14, y + 0.14), (40, 40, 40))
    elif shape == 1:  # a warning
        for size, colour in ((0.66, _RED), (0.42, _WHITE)):
            tip = canvas.view.at(x, y + size, z)
            base = (canvas.view.at(x + side * size, y - 0.6 * size, z) for side in (-1, 1))
            canvas.polygon((tip, *base), colour)
    elif shape == 2:  # an instruction
        canvas.disc(x, y, z, 0.52, (170, 90, 30))
        canvas.upright(x, z, (0.16, y - 0.3, y + 0.3), _WHITE)
    else:  # a direction
        canvas.upright(x, z, (1.3, y - 0.35, y + 0.4), (200, 204, 204))
        canvas.upright(x, z, (1.16, y - 0.27, y + 0.32), (150, 80, 30) if thing.style & 8 else (90, 120, 40))
        canvas.upright(x, z, (0.8, y, y + 0.1), _WHITE)


def _zebra(canvas: Canvas, _: Surfaces, thing: Thing, z: float) -> None:
    near, far = max(z, NEAR), z + thing.length
    if far <= near:
        return
    at = canvas.view.at
    for left in (-4.4, -3.4, -2.4, -1.4, -0.4, 0.6, 1.6, 2.6, 3.6):
        right = left + 0.5
        canvas.polygon(
            (at(left, 0, near), at(left, 0, far), at(right, 0, far), at(right, 0, near)), (214,) * 3
        )


def _pedestrian(canvas: Canvas, _: Surfaces, thing: Thing, z: float) -> None:
    h, x = 1.75 * thing.height, thing.x
    trousers, coat = _CLOTHES[thing.style % 5], _CLOTHES[thing.style // 8 % len(_CLOTHES)]
    head = _SKIN if thing.style & 64 else _HAIR
    if z > _DETAIL:
        canvas.upright(x, z, (0.3, 0.0, 0.46 * h), trousers, least=1.0)
    else:
        (hip_x, hip_y), at = canvas.view.at(x, 0.5 * h, z), canvas.view.at
        stride, thick = 0.16 * math.sin(2 * math.pi * thing.phase), 0.075 * canvas.view.focal / z
        for step in (stride, -stride):
            foot_x, foot_y = at(x + step, 0, z)
            leg = (
                (hip_x - thick, hip_y),
                (hip_x + thick, hip_y),
                (foot_x + thick, foot_y),
                (foot_x - thick, foot_y),
            )
            canvas.polygon(leg, trousers)
    canvas.upright(x, z, (0.48, 0.46 * h, 0.84 * h), coat, least=1.2)
    if z < _DETAIL:
        canvas.upright(x + 0.19, z, (0.1, 0.48 * h, 0.8 * h), _dark(coat))
    canvas.disc(x, 0.92 * h, z, 0.13, head)


def _bicyclist(canvas: Canvas, _: Surfaces, thing: Thing, z: float) -> None:
    x, h = thing.x, 1.7 * thing.height
    coat, trousers = _CLOTHES[thing.style // 8 % len(_CLOTHES)], _CLOTHES[thing.style % 5]
    helmet: Colour = (60, 200, 230) if thing.style & 64 else (90, 90, 200)
    if z < _DETAIL:
        _wheel(canvas, x, z + 1.05, 0.34)
        _wheel(canvas, x, z, 0.34)
        kick = 0.12 * math.sin(2 * math.pi * thing.phase)
        for side, lift in ((-0.12, kick), (0.12, -kick)):
            canvas.upright(x + side, z + 0.4, (0.15, 0.22 + lift, 0.95), trousers)
        canvas.upright(x, z + 0.7, (0.56, 1.0, 1.07), (60, 60, 62))
    canvas.upright(x, z, (0.1, 0.0, 0.7), _RUBBER, least=1.0)
    canvas.upright(x, z + 0.4, (0.46, 0.85, 0.86 * h), coat, least=1.2)
    canvas.disc(x, 0.94 * h, z + 0.5, 0.14, helmet)
    if canvas.light.lamps:
        canvas.upright(x, z, (0.1, 0.6, 0.7), (60, 60, 255), glows=True)


def _wheel(canvas: Canvas, x: float, z: float, radius: float) -> None:
    """A wheel that rolls along the street, seen at an angle."""
    if z > NEAR + radius:
        rim = [canvas.view.at(x, radius * (1 + s), z + radius * c) for c, s in _RIM]
        canvas.polygon(rim, _RUBBER)


def _car_ahead(canvas: Canvas, _: Surfaces, thing: Thing, z: float) -> None:
    _car(canvas, thing, z, front=False, lit=True)


def _parked_car(canvas: Canvas, _: Surfaces, thing: Thing, z: float) -> None:
    _car(canvas, thing, z, front=thing.x < 0, lit=False)


def _oncoming_car(canvas: Canvas, _: Surfaces, thing: Thing, z: float) -> None:
    _car(canvas, thing, z, front=True, lit=True)


def _car(canvas: Canvas, thing: Thing, z: float, *, front: bool, lit: bool) -> None:
    far = z + thing.length
    if far < NEAR + 1:
        return
    body = _CARS[thing.style % len(_CARS)]
    _car_side(canvas, thing, z, body)
    if z < NEAR:
        return
    x, roof, half = thing.x, thing.height, 0.86
    at = canvas.view.at
    shell = at(x - half + 0.05, 0.9, z), at(x - 0.66, roof, z + 0.5), at(x + 0.66, roof, z + 0.5)
    canvas.polygon((*shell, at(x + half - 0.05, 0.9, z)), body)
    window = at(x - 0.74, 0.95, z), at(x - 0.6, roof - 0.1, z + 0.4), at(x + 0.6, roof - 0.1, z + 0.4)
    canvas.polygon((*window, at(x + 0.74, 0.95, z)), (84, 74, 62) if front else (60, 54, 48))
    for tyre in (-0.66, 0.66):
        canvas.upright(x + tyre, z, (0.24, 0.0, 0.24), _RUBBER)
    canvas.upright(x, z, (2 * half, 0.22, 0.93), body, least=1.5)
    if z < _DETAIL:
        canvas.upright(x, z, (2 * half, 0.22, 0.4), _dark(body))
        canvas.upright(x, z, (0.5, 0.42, 0.54), _WHITE if front else (40, 190, 220))
    lamps = canvas.light.lamps if lit else 0.0
    if z < 2 * _DETAIL:
        off: Colour = (215, 218, 220) if front else (44, 40, 150)
        on: Colour = (225, 245, 255) if front else (50, 40, 255)
        for side in (-0.64, 0.64):
            canvas.upright(x + side, z, (0.32, 0.62, 0.8), on if lamps else off, glows=lamps > 0)
            if lamps > 0.1:
                canvas.glow(x + side, 0.7, z, 1.3 if front else 0.7, on)


def _car_side(canvas: Canvas, thing: Thing, z: float, body: Colour) -> None:
    x, roof, at = thing.x, thing.height, canvas.view.at
    near, far = max(z, NEAR), z + thing.length
    leftward = 1 if x < canvas.view.camera_x else -1
    flank, inset = x + 0.86 * leftward, x + 0.66 * leftward
    below = [at(x - 0.86, 0, near), at(x - 0.86, 0, far), at(x + 0.86, 0, far), at(x + 0.86, 0, near)]
    canvas.polygon(below, (34, 34, 36))
    side = at(flank, 0.2, near), at(flank, 0.92, near), at(flank, 0.88, far), at(flank, 0.2, far)
    canvas.polygon(side, _dark(body))
    begin, end = max(z, NEAR), max(z + 3.0, NEAR)
    slant = 0.5 if z > NEAR else 0.0  # a car that is cut off by the frame shows no end
    cabin = at(x + 0.81 * leftward, 0.9, begin), at(inset, roof, begin + slant), at(inset, roof, end)
    canvas.polygon((*cabin, at(flank, 0.9, end + 0.5)), _dark(body))
    if z < _DETAIL:
        pane = at(flank, 0.95, begin + slant), at(inset, roof - 0.1, begin + 1.5 * slant)
        canvas.polygon((*pane, at(inset, roof - 0.1, end), at(flank, 0.95, end + 0.3)), (70, 62, 54))
        for hub in (z + 0.75, z + 3.3):
            _wheel(canvas, flank, hub, 0.31)


def _dark(colour: Colour) -> Colour:
    b, g, r = colour
    return 0.68 * b, 0.68 * g, 0.68 * r


_KINDS: Mapping[str, tuple[int, Callable[[Canvas, Surfaces, Thing, float], None]]] = MappingProxyType(
    {
        kind: (STREET_CLASSES.index(name), how)
        for kind, name, how in (
            ("building", "building", _building),
            ("fence", "fence", _fence),
            ("railing", "fence", _railing),
            ("hedge", "tree", _hedge),
            ("tree", "tree", _tree),
            ("lamp", "pole", _lamp),
            ("sign", "sign", _sign),
            ("zebra", "road", _zebra),
            ("pedestrian", "pedestrian", _pedestrian),
            ("bicyclist", "bicyclist", _bicyclist),
            ("ahead", "car", _car_ahead),
            ("oncoming", "car", _oncoming_car),
            ("parked", "car", _parked_car),
        )
    }
)
