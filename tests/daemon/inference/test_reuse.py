from __future__ import annotations

from dataclasses import replace

import numpy as np

from dance_ondevice.daemon.inference.reuse import Mask, MaskMemory
from dance_ondevice.daemon.ingest.mailbox import PendingFrame

SIZE = (240, 320)
VERSION = object()


class Street:
    """A standing camera's grey images, with noise."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)
        self._scene = self._rng.integers(60, 200, SIZE)

    def frame(self, camera: str = "front", person: bool = False) -> PendingFrame:
        grey = self._scene + self._rng.normal(0, 3, SIZE)
        if person:
            grey[100:112, 60:66] = 20
        return PendingFrame(
            id="1",
            camera=camera,
            seq=0,
            captured_at=0.0,
            received=0.0,
            data=b"",
            info=None,
            raw_shape=(*SIZE, 3),
            scale=0.75,
            label=None,
            grey=np.clip(grey, 0, 255).astype(np.uint8),
        )


def mask(condition: str = "base") -> Mask:
    return Mask(png=b"png", scale=0.75, mean_confidence=0.9, size=SIZE, made_by=VERSION, condition=condition)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def settled(clock: Clock) -> tuple[Street, MaskMemory]:
    street, memory = Street(), MaskMemory(2, monotonic=clock)
    for _ in range(8):
        memory.look(street.frame(), SIZE, VERSION, "base")
    memory.keep("front", mask())
    return street, memory


def test_a_scene_without_change_gets_its_mask_again_until_somebody_comes() -> None:
    street, memory = settled(Clock())
    assert memory.look(street.frame(), SIZE, VERSION, "base") == mask()
    assert memory.look(street.frame(person=True), SIZE, VERSION, "base") is None
    memory.keep("front", mask())
    assert memory.look(street.frame(), SIZE, VERSION, "base") is None, "the person has left"


def test_nothing_is_reused_across_versions_conditions_sizes_labels_or_time() -> None:
    clock = Clock()
    street, memory = settled(clock)
    assert memory.look(street.frame(), SIZE, object(), "base") is None
    assert memory.look(street.frame(), SIZE, VERSION, "c1") is None
    assert memory.look(street.frame(), (480, 640), VERSION, "base") is None
    assert memory.look(replace(street.frame(), label=b"png"), SIZE, VERSION, "base") is None
    assert memory.look(street.frame(), SIZE, VERSION, "base") is not None
    clock.now = 60.0
    assert memory.look(street.frame(), SIZE, VERSION, "base") is None


def test_cameras_are_told_apart_and_bounded() -> None:
    street, memory = settled(Clock())
    for camera in ("a", "b", "c"):
        assert memory.look(street.frame(camera), SIZE, VERSION, "base") is None
    assert memory.look(street.frame(), SIZE, VERSION, "base") is None
