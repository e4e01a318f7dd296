from __future__ import annotations

import numpy as np

from dance_ondevice.daemon.ingest.last_seen import Judged, LastSeen, Segmented
from dance_ondevice.daemon.ingest.mailbox import PendingFrame

VERDICT = Judged(id="a", kept=True, score=0.5, scale=1.0, reason="kept")
MASK = Segmented(mask=np.zeros((2, 2), np.uint8), confidence=0.9, condition="day", version="v0001")


class Clock:
    at = 100.0

    def __call__(self) -> float:
        return self.at


def frame(camera: str = "front", number: int = 1) -> PendingFrame:
    return PendingFrame(
        id=f"{camera}-{number}",
        camera=camera,
        seq=number,
        captured_at=0.0,
        received=0.0,
        data=b"",
        info=None,
        raw_shape=(2, 2, 3),
        scale=1.0,
        label=None,
    )


def test_frames_are_held_only_while_somebody_watches() -> None:
    clock = Clock()
    seen = LastSeen(monotonic=clock)
    seen.judged("front", VERDICT, frame(), segments=True)
    seen.segmented(frame(), MASK)
    assert seen.view("front") is None
    assert seen.verdicts() == {"front": VERDICT}
    # That look was the first of a spectator: what comes now is held.
    seen.segmented(frame(), MASK)
    view = seen.view("front")
    assert view is not None
    assert view.segmented is MASK
    clock.at += 60
    seen.judged("front", VERDICT, frame(number=2), segments=True)
    assert seen.view("front") is None


def test_a_frame_without_its_mask_never_takes_the_place_of_one_with_it() -> None:
    seen = LastSeen(monotonic=Clock())
    seen.watch()
    seen.judged("front", VERDICT, frame(number=1), segments=True)
    assert seen.views()["front"].segmented is None
    seen.segmented(frame(number=1), MASK)
    seen.judged("front", VERDICT, frame(number=2), segments=True)
    assert seen.views()["front"].frame.id == "front-1"
    # Without inference each frame is shown as it comes.
    seen.judged("front", VERDICT, frame(number=3), segments=False)
    assert seen.views()["front"].frame.id == "front-3"


def test_cameras_are_bounded_and_can_be_forgotten() -> None:
    seen = LastSeen(2, monotonic=Clock())
    seen.watch()
    for camera in ("a", "b", "c"):
        seen.judged(camera, VERDICT, frame(camera), segments=False)
    assert set(seen.views()) == set(seen.verdicts()) == {"b", "c"}
    seen.forget("b")
    assert set(seen.views()) == set(seen.verdicts()) == {"c"}
