"""When footage and live frames are sent, and how they are dated."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from sender_harness import frames

from dance_ondevice.daemon.wire.sender import stream
from dance_ondevice.daemon.wire.sources import Source, SourceFrame


class FakeSender:
    """Notes what it is given; time passes only when it idles."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.sent: list[tuple[int, float, float]] = []
        self.finished = False

    def send(self, frame: SourceFrame, *, seq: int, captured_at: float) -> None:
        self.sent.append((seq, captured_at, self.now))

    def idle(self, until: float) -> None:
        self.now = max(self.now, until)

    def finish(self) -> None:
        self.finished = True

    def has_room(self) -> bool:
        return not 1000.15 < self.now < 1000.45  # the line is down for a moment


def streamed(source: Source, **options: Any) -> list[tuple[int, float, float]]:
    """(seq, captured_at, moment) of each frame; the wall clock is 5000 s ahead of the other."""
    sender = FakeSender()
    stream(
        source,
        sender,  # type: ignore[arg-type]  # it has all that is asked of one
        clock=lambda: sender.now + 5000.0,
        monotonic=lambda: sender.now,
        **options,
    )
    assert sender.finished
    return sender.sent


def test_stored_images_are_dated_a_second_apart_and_end_now() -> None:
    sent = streamed(Source(frames=frames(4), count=4))

    assert sent == [(0, 5997.0, 1000.0), (1, 5998.0, 1000.0), (2, 5999.0, 1000.0), (3, 6000.0, 1000.0)]


def test_stored_video_is_dated_at_its_own_rate() -> None:
    assert [at for _, at, _ in streamed(Source(frames=frames(3), count=3, fps=4.0))] == [
        5999.5,
        5999.75,
        6000.0,
    ]


def test_fps_sets_the_pace_and_the_dates() -> None:
    sent = streamed(Source(frames=frames(3), count=3, fps=25.0), fps=2.0)

    assert sent == [(0, 5999.0, 1000.0), (1, 5999.5, 1000.5), (2, 6000.0, 1001.0)]


def test_a_camera_is_read_on_while_there_is_no_room_and_a_remote_file_waits() -> None:
    def read(source: Source) -> list[float]:
        sender = FakeSender()

        def camera() -> Iterator[SourceFrame]:
            for frame in source.frames:
                yield frame
                sender.now += 0.1

        stream(
            dataclasses.replace(source, frames=camera()),
            sender,  # type: ignore[arg-type]  # it has all that is asked of one
            limit=4,
            clock=lambda: sender.now,
            monotonic=lambda: sender.now,
        )
        assert [seq for seq, _, _ in sender.sent] == [0, 1, 2, 3]
        return [round(at - 1000.0, 1) for _, at, _ in sender.sent]

    assert read(Source(frames=frames(9), live=True, endless=True)) == [0.0, 0.1, 0.5, 0.6]
    assert read(Source(frames=frames(9), live=True)) == [0.0, 0.1, 0.2, 0.3]


def test_video_of_variable_rate_keeps_its_own_times_and_none_lies_ahead() -> None:
    """Its header has a rate, and a count by that rate, that hold for no part of it."""
    times = (0.0, 0.1, 4.0, 9.5)
    timed = [dataclasses.replace(frame, at=at) for frame, at in zip(frames(4), times, strict=True)]

    def dates(count: int, **options: float) -> list[float]:
        sent = streamed(Source(frames=iter(timed), count=count, fps=25.0), **options)
        return [round(at - 6000.0, 2) for _, at, _ in sent]

    assert dates(251) == [-10.0, -9.9, -6.0, -0.5]
    assert dates(101) == [-4.0, -3.9, 0.0, 0.0]


def test_limit_shortens_the_footage() -> None:
    assert [at for _, at, _ in streamed(Source(frames=frames(9), count=9), limit=2)] == [5999.0, 6000.0]


def test_live_frames_are_dated_when_they_are_read_and_thinned_to_the_rate() -> None:
    sender_time = [1000.0]

    def camera() -> Iterator[SourceFrame]:
        for frame in frames(9):
            yield frame
            sender_time[0] += 0.1

    sender = FakeSender()

    def tick() -> float:
        sender.now = sender_time[0]
        return sender.now

    stream(
        Source(frames=camera(), live=True),
        sender,  # type: ignore[arg-type]  # it has all that is asked of one
        fps=4.0,
        clock=lambda: sender.now + 5000.0,
        monotonic=tick,
    )

    # Of one frame each 0.1 s, the first after each 0.25 s.
    assert [seq for seq, _, _ in sender.sent] == [0, 1, 2, 3]
    assert [round(at - 6000.0, 3) for _, at, _ in sender.sent] == [0.0, 0.3, 0.5, 0.8]
