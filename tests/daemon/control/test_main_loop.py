"""A daemon whose thread hangs: a manager is not told that it is well; without one, it ends by itself."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import Any

import pytest

from dance_ondevice.daemon.control import main_loop, status


class Looks:
    """Signals of which none comes, until so many looks have passed; a second passes with each."""

    def __init__(self, most: int) -> None:
        self.now, self._left = 0.0, most

    def next(self, _timeout: float) -> int | None:
        self.now += 1.0
        self._left -= 1
        return signal.SIGTERM if self._left == 0 else None


@pytest.mark.parametrize(
    ("watched", "beats", "failed"),
    [
        (False, lambda now: 0.0, True),
        (True, lambda now: 0.0, False),
        (False, lambda now: now // 50 * 50, False),
    ],
    ids=["nobody watches", "systemd watches", "slow but alive"],
)
def test_a_thread_that_hangs(
    watched: bool, beats: Any, failed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "line", lambda *_: "")
    looks = Looks(400)

    class Thread:
        name, alive, failure, max_silence = "ingest", True, None, 20.0

        @property
        def last_beat(self) -> float:
            return float(beats(looks.now))

    parts = SimpleNamespace(instruments=SimpleNamespace(frame_counts=dict))
    found = main_loop.run(
        SimpleNamespace(parts=parts),  # type: ignore[arg-type]  # all that it looks at
        [Thread()],  # type: ignore[list-item]  # a service is a thread, and this one only beats
        looks,  # type: ignore[arg-type]  # an event that is never set, and counts who waits for it
        environ={"WATCHDOG_USEC": "60000000"} if watched else {},
        now=lambda: 1_700_000_000.0 + looks.now,
        monotonic=lambda: looks.now,
        since_boot=lambda: looks.now,
    )
    assert found is failed
    assert (looks.now < 100) is failed
