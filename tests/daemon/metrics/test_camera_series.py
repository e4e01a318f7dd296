"""When each camera sent its last frame, whatever the clocks do, and series that go with their camera."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from dance_ondevice.daemon.metrics.cameras import CameraTimes
from dance_ondevice.daemon.metrics.instruments import Instruments


def test_the_age_of_the_last_frame_outlives_a_clock_that_is_set() -> None:
    wall, mono = [100.0], [5.0]
    times = CameraTimes(now=lambda: wall[0], monotonic=lambda: mono[0])
    times.seen("front")
    mono[0] += 30.0
    wall[0] += 30.0
    assert (times.report()["front"].at, times.report()["front"].age) == (100.0, 30.0)
    for leap in (1.7e9, -3600.0):
        wall[0] += leap
        last = times.report()["front"]
        assert last.age == 30.0
        assert abs(last.at - (wall[0] - 30.0)) < 1e-3, "time() - timestamp stays the age"


def test_cameras_of_the_time_before_a_restart_are_known_and_none_of_the_future() -> None:
    times = CameraTimes(now=lambda: 1000.0, monotonic=lambda: 7.0)
    times.known({"front": 400.0, "wall": 9e9})
    assert times.report()["front"].age == 600.0
    assert (times.report()["wall"].at, times.report()["wall"].age) == (1000.0, 0.0)
    times.forget("front")
    assert set(times.report()) == {"wall"}


def test_frames_dated_ahead_are_told_of_until_one_is_not() -> None:
    registry = CollectorRegistry()
    instruments = Instruments(registry)
    instruments.frame("front", "kept")
    instruments.dated("front", 30 * 86_400.0)
    assert instruments.cameras.report()["front"].ahead == 30 * 86_400.0
    instruments.dated("front", 2.0)
    assert instruments.cameras.report()["front"].ahead == 0.0
    assert registry.get_sample_value("dance_frames_ahead_total", {"camera": "front"}) == 1.0


def test_senders_that_take_turns_are_told_of_while_they_do() -> None:
    mono = [5.0]
    times = CameraTimes(now=lambda: 100.0, monotonic=lambda: mono[0])
    times.seen("front")
    shared = []
    for _ in range(3):
        times.sender_changed("front")
        shared.append(times.report()["front"].shared)
    mono[0] += 700.0
    shared.append(times.report()["front"].shared)
    times.sender_changed("front")  # now and then is no sign of two
    assert [*shared, times.report()["front"].shared] == [False, False, True, False, False]


def test_the_series_of_a_removed_camera_go() -> None:
    registry = CollectorRegistry()
    instruments = Instruments(registry)
    for camera in ("front", "wall"):
        instruments.frame(camera, "kept")
        instruments.frame(camera, "rejected")
        instruments.score(camera, 0.5)
        instruments.scale(camera, 0.75)
        instruments.drift_alarm(camera, "luma")
        instruments.dated(camera, 1e6)
        instruments.sender_changed(camera)
    instruments.forget("front")
    shown = generate_latest(registry).decode()
    assert 'camera="front"' not in shown
    assert shown.count('camera="wall"') > 5
    assert set(instruments.cameras.report()) == {"wall"}
    instruments.forget("front")  # nothing is left, and nothing is wrong with that
    instruments.frame("front", "kept")
    assert 'camera="front"' in generate_latest(registry).decode()


def test_rejected_frames_are_no_sign_of_life() -> None:
    instruments = Instruments(CollectorRegistry())
    instruments.frame("front", "rejected")
    assert instruments.cameras.report() == {}
