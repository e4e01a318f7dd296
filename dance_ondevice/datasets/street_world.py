"""What stands and moves in the synthetic street, in metres: x to the right of the centre line, z along it.

The street is made of blocks, each drawn from its own random generator, so any place can be built on its own.
Moving things sit in lanes: beads on a string that moves along the street at a constant speed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

BLOCK, FLOOR = 12.0, 3.2
ROAD_HALF = 5.0
PAVEMENT_END = 7.6
#: Metres that the camera drives from one frame to the next.
SPEED = 0.6
#: How far ahead things are seen: what is large, and what is small.
SIGHT, SIGHT_OF_SMALL = 84.0, 46.0
CAR_LENGTH, CAR_HEIGHT = 4.1, 1.42

# Generators are keyed by (seed, what, where); block and bead numbers may be negative, generator keys may not.
_KEY_OFFSET = 1 << 40
_SEED_MASK = (1 << 63) - 1
_STREET, _BLOCK, _BEAD, _HOUSE = range(4)


class Thing(NamedTuple):
    """One thing in the street, standing on the ground at (x, z).

    ``z`` counts from the street's origin, ``length`` runs along z, ``style`` picks colours and shapes.
    ``phase`` in [0, 1) is where in its stride a moving thing is; ``exposed`` is whether the side of a house
    that faces the camera can be seen past the house before it.
    """

    kind: str
    x: float
    z: float
    length: float = 0.0
    height: float = 0.0
    style: int = 0
    phase: float = 0.0
    exposed: bool = True


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What sets one street apart from another.

    Attributes:
        breadth: factor of every distance from the centre line; what stands there keeps its size.
        built: added to how built up the street is everywhere, -1 (open) to 1 (town).
        traffic: factor of the share of places in a lane that somebody is at, and of parked cars.
        moving: another factor of those in the lanes alone; at 0 nothing moves.
    """

    breadth: float = 1.0
    built: float = 0.0
    traffic: float = 1.0
    moving: float = 1.0


#: The street of the demo.
LAYOUT = Layout()


class Lane(NamedTuple):
    """Things of one kind that move alike: one about every ``spacing`` metres, ``speed`` in metres a frame."""

    kind: str
    x: float
    spread: float
    speed: float
    spacing: float
    share: float


_LANES = (
    Lane("oncoming", -1.5, 0.15, -0.55, 34.0, 0.75),
    Lane("bicyclist", 2.75, 0.15, 0.3, 15.0, 0.9),
    Lane("bicyclist", -2.95, 0.15, -0.25, 33.0, 0.8),
    Lane("pedestrian", 6.5, 0.7, 0.08, 9.0, 0.85),
    Lane("pedestrian", 6.2, 0.6, -0.09, 15.0, 0.85),
    Lane("pedestrian", -6.5, 0.7, 0.09, 10.0, 0.85),
    Lane("pedestrian", -6.2, 0.6, -0.08, 17.0, 0.85),
)
_LARGE = frozenset({"building", "tree", "lamp", "fence", "hedge"})


def generator(seed: int, *key: int) -> np.random.Generator:
    """A generator that depends on the seed and the key alone; key parts may be negative."""
    return np.random.default_rng([seed & _SEED_MASK, *(part + _KEY_OFFSET for part in key)])


class World:
    """One endless street, made from a seed."""

    def __init__(self, seed: int, layout: Layout = LAYOUT) -> None:
        self.seed = seed
        self.layout = layout
        self._town_phase, self._bend_phase, self._lead_phase = generator(seed, _STREET).uniform(size=3)
        # Blocks and beads are pure in their number: the caches only save time.
        self._block = lru_cache(maxsize=64)(self._make_block)
        self._bead = lru_cache(maxsize=512)(self._make_bead)
        self._house = lru_cache(maxsize=64)(self._make_house)

    def density(self, z: float) -> float:
        """How built up the street is at z, from 0 (open) to 1 (town); rises and falls every 160 m or so."""
        wave = math.sin(2 * math.pi * (z / 163 + self._town_phase))
        return min(
            1.0, max(0.0, 0.5 + self.layout.built + 0.45 * wave + 0.2 * math.sin(2 * math.pi * z / 71))
        )

    def bend(self, z: float) -> float:
        """Curvature at z: a thing d metres ahead appears bend * d^2 metres to the right."""
        return 0.0011 * math.sin(2 * math.pi * (z / 230 + self._bend_phase))

    def heading(self, z: float) -> float:
        """Direction of the street at z in radians: what the bend has added up to."""
        return -2 * 0.0011 * 230 / (2 * math.pi) * math.cos(2 * math.pi * (z / 230 + self._bend_phase))

    def around(self, index: int, here: float | None = None) -> Iterator[Thing]:
        """Everything between the camera of frame ``index`` and the end of sight, in no order.

        Args:
            index: Number of the frame.
            here: Where a standing camera is, in metres; None for one that drives, with others ahead of it.
        """
        for thing in self._around(index, here):
            yield thing._replace(x=thing.x * self.layout.breadth)

    def _around(self, index: int, standing: float | None) -> Iterator[Thing]:
        here = index * SPEED if standing is None else standing
        for block in range(math.floor(here / BLOCK) - 1, math.ceil((here + SIGHT) / BLOCK)):
            for thing in self._block(block):
                if thing.z < here + (SIGHT if thing.kind in _LARGE else SIGHT_OF_SMALL):
                    yield thing
        for lane, (kind, x, spread, speed, spacing, share) in enumerate(_LANES):
            start = here - speed * index
            for bead in range(math.floor(start / spacing) - 1, math.ceil((start + SIGHT_OF_SMALL) / spacing)):
                offset, aside, there, style = self._bead(lane, bead)
                if there < share * self.layout.traffic * self.layout.moving:
                    z = (bead + 0.6 * offset) * spacing + speed * index
                    stride = (0.11 * index + offset) % 1.0
                    length, height = (
                        (CAR_LENGTH, CAR_HEIGHT) if kind == "oncoming" else (0.0, 0.9 + 0.2 * aside)
                    )
                    yield Thing(kind, x + spread * (2 * aside - 1), z, length, height, style, stride)
        if standing is not None:
            return
        for number, (distance, swing, period) in enumerate(((13.0, 5.5, 173), (31.0, 8.0, 241))):
            ahead = distance + swing * math.sin(2 * math.pi * (index / period + self._lead_phase))
            yield Thing("ahead", 1.4 + 0.1 * number, here + ahead, CAR_LENGTH, CAR_HEIGHT, 3 + 2 * number)

    def _make_bead(self, lane: int, bead: int) -> tuple[float, float, float, int]:
        rng = generator(self.seed, _BEAD, lane, bead)
        offset, aside, there = rng.uniform(size=3)
        return float(offset), float(aside), float(there), int(rng.integers(1 << 16))

    def _make_house(self, block: int, side: int) -> tuple[float, float]:
        """Where the front of the house of a block stands and its height; height 0 where there is none."""
        rng, density = generator(self.seed, _HOUSE, block, side), self.density(block * BLOCK)
        if density + rng.normal(0, 0.12) <= 0.45:
            return 0.0, 0.0
        floors = int(np.clip(round(rng.normal(2 + 3.2 * density, 1.0)), 2, 6))
        return PAVEMENT_END + 0.8 * float(rng.uniform()), FLOOR * floors

    def _make_block(self, block: int) -> tuple[Thing, ...]:
        rng = generator(self.seed, _BLOCK, block)
        z = block * BLOCK
        density = self.density(z)
        things = []
        for side in (-1, 1):

            def put(kind: str, x: float, along: float, length: float = 0, height: float = 0) -> None:
                style = int(rng.integers(1 << 16))
                things.append(Thing(kind, side * x, z + along, length, height, style))  # noqa: B023

            x, height = self._house(block, side)
            if height:
                x_before, height_before = self._house(block - 1, side)
                exposed = height_before < height or x_before > x + 0.3
                style = int(rng.integers(1 << 16))
                things.append(Thing("building", side * x, z, BLOCK, height, style, exposed=exposed))
            else:
                put("hedge" if rng.uniform() < 0.35 else "fence", PAVEMENT_END + 0.1, 0.0, BLOCK, 1.3)
                if rng.uniform() < 0.45:
                    put("building", 15.0 + 4 * rng.uniform(), 1.5, BLOCK - 3, 6.4)
                if rng.uniform() < 0.6:
                    put("tree", 9.5 + 2 * rng.uniform(), BLOCK * rng.uniform(), height=6 + 2 * rng.uniform())
            if rng.uniform() < 0.3 + 0.25 * density:
                put("tree", 6.9, BLOCK * rng.uniform(), height=5 + 2.5 * rng.uniform())
            if (block + (side > 0)) % 2 == 0:
                put("lamp", 5.4, 2 + 3 * rng.uniform(), height=6.5)
            if (2 * block + (side > 0)) % 3 == 0:
                put("sign", 5.6, 6 + 5 * rng.uniform(), height=2.3)
            railed = rng.uniform() < 0.2 * density or (block + (side > 0)) % 4 == 0
            if railed:
                put("railing", 5.25, 1.0, BLOCK - 2, 1.0)
            for slot in range(0 if railed else 2):  # nobody parks along a railing
                if rng.uniform() < (0.15 + 0.5 * density) * self.layout.traffic:
                    tall = 0.3 * (rng.uniform() < 0.25)
                    put("parked", 4.2, 6 * slot + 1.5 * rng.uniform(), CAR_LENGTH, CAR_HEIGHT + tall)
        if block % 9 == 4:
            things.append(Thing("zebra", 0.0, z + 3, 3.0))
        return tuple(things)
