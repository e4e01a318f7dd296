from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.daemon.ingest.mailbox import LatestFrames, PendingFrame


def frame(camera: str, seq: int = 0) -> PendingFrame:
    return PendingFrame(
        id=f"{camera}-0-{seq}",
        camera=camera,
        seq=seq,
        captured_at=0.0,
        received=0.0,
        data=b"",
        info=None,
        raw_shape=None,
        scale=1.0,
        label=None,
    )


def test_a_newer_frame_replaces_the_older_one_and_is_counted() -> None:
    box = LatestFrames()
    for seq in range(5):
        box.offer(frame("a", seq))
    taken = box.take(0)
    assert taken is not None
    assert taken.seq == 4
    assert box.skipped == 4
    assert box.take(0) is None


def test_a_fast_camera_neither_starves_a_slow_one_nor_loses_its_turn() -> None:
    box = LatestFrames()
    box.offer(frame("fast", 0))
    box.offer(frame("slow", 0))
    box.offer(frame("fast", 1))
    order = []
    for seq in (2, 3):
        taken = box.take(0)
        assert taken is not None
        order.append((taken.camera, taken.seq))
        box.offer(frame("fast", seq))
    assert order == [("fast", 1), ("slow", 0)]


@given(st.lists(st.sampled_from(["a", "b", "c", None])))
def test_every_frame_is_taken_or_skipped_or_still_there(steps: list[str | None]) -> None:
    box = LatestFrames()
    offered = taken = 0
    waiting: list[str] = []  # cameras in the order of their turns
    for camera in steps:
        if camera is None:
            got = box.take(0)
            assert (got.camera if got else None) == (waiting.pop(0) if waiting else None)
            taken += got is not None
        else:
            box.offer(frame(camera, offered))
            offered += 1
            if camera not in waiting:
                waiting.append(camera)
    assert offered == taken + box.skipped + len(waiting)


def test_more_cameras_than_slots_skip_the_longest_waiting() -> None:
    box = LatestFrames(max_cameras=2)
    for camera in ("a", "b", "c"):
        box.offer(frame(camera))
    assert [f.camera for f in (box.take(0), box.take(0)) if f] == ["b", "c"]
    assert box.skipped == 1


def test_a_waiting_taker_is_woken_by_an_offer() -> None:
    box = LatestFrames()
    got: list[PendingFrame | None] = []
    taker = threading.Thread(target=lambda: got.append(box.take(60)))
    taker.start()
    box.offer(frame("a", 7))
    taker.join(30)
    assert [f.seq for f in got if f] == [7]


def test_closing_ends_every_wait() -> None:
    box = LatestFrames()
    takers = [threading.Thread(target=box.take, args=(60,)) for _ in range(3)]
    for taker in takers:
        taker.start()
    box.close()
    for taker in takers:
        taker.join(30)
    assert not any(taker.is_alive() for taker in takers)
    box.offer(frame("a"))
    assert box.take(60) is None


def test_decoded_pixels_that_wait_are_bounded() -> None:
    box = LatestFrames()
    pixels = np.zeros((1000, 2000, 3), np.uint8)
    for number in range(8):
        box.offer(replace(frame(str(number)), pixels=pixels))
    found = [box.take(0) for _ in range(8)]
    with_pixels = [each is not None and each.pixels is not None for each in found]
    assert with_pixels == [True, True, *[False] * 6]
    box.offer(replace(frame("again"), pixels=pixels))
    taken = box.take(0)
    assert taken is not None
    assert taken.pixels is pixels


def test_the_share_that_is_taken_follows_the_latest_frames() -> None:
    box = LatestFrames()
    for seq in range(100):
        box.offer(frame("a", seq))
    assert box.taken_share() < 0.1
    for seq in range(200):
        box.take(0)
        box.offer(frame("a", seq))
    assert box.taken_share() > 0.9
