from __future__ import annotations

import select
import threading
from collections import deque

import pytest

from dance_ondevice.daemon.system.waker import Waker


def readable(waker: Waker) -> bool:
    return bool(select.select([waker.fileno()], [], [], 0)[0])


def test_each_wake_after_a_clear_is_seen() -> None:
    waker = Waker()
    for _ in range(3):
        waker.wake()
        waker.wake()
        assert readable(waker)
        waker.clear()
        assert not readable(waker)
    waker.close()
    waker.wake()


@pytest.mark.parametrize("count", [20_000])
def test_whatever_is_done_before_a_wake_is_found(count: int) -> None:
    """One that only waits misses nothing, however its looks and the wakes of others fall together."""
    waker = Waker()
    todo: deque[int] = deque()

    def give() -> None:
        for number in range(count):
            todo.append(number)
            waker.wake()

    giver = threading.Thread(target=give)
    giver.start()
    taken = 0
    while taken < count:
        assert select.select([waker.fileno()], [], [], 30)[0], f"not woken for {count - taken} of {count}"
        waker.clear()
        while todo:
            todo.popleft()
            taken += 1
    giver.join()
    waker.close()
