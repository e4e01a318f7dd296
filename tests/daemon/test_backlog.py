"""The queue's bounds."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.daemon.backlog import Backlog, Queued
from dance_ondevice.daemon.receiver import Origin
from dance_ondevice.daemon.wire import LabelMessage


def item(size: int) -> Queued:
    return Queued(Origin(None), LabelMessage(sample_id="x", label=b""), size, 0.0, 0.0)


def test_oldest_go_when_there_are_too_many() -> None:
    backlog = Backlog(max_messages=2, max_bytes=100)
    items = [item(1) for _ in range(4)]

    gone = [backlog.push(each) for each in items]

    assert gone == [[], [], [items[0]], [items[1]]]
    assert [backlog.pop(), backlog.pop()] == items[2:]


def test_oldest_go_when_they_are_too_large() -> None:
    backlog = Backlog(max_messages=9, max_bytes=100)
    small, other, large = item(40), item(60), item(70)

    assert backlog.push(small) == backlog.push(other) == []
    assert backlog.push(large) == [small, other]


def test_newest_stays_even_if_it_is_too_large() -> None:
    backlog = Backlog(max_messages=9, max_bytes=100)

    assert backlog.push(item(500)) == []
    assert len(backlog) == 1


@given(st.integers(1, 5), st.integers(1, 50), st.lists(st.integers(1, 60) | st.none(), max_size=40))
def test_bounds_hold_and_nothing_is_lost_silently(most: int, size: int, steps: list[int | None]) -> None:
    backlog, inside = Backlog(most, size), deque[Queued]()
    for step in steps:
        if step is None:
            if inside:
                assert backlog.pop() is inside.popleft()
            continue
        inside.append(item(step))
        for gone in backlog.push(inside[-1]):
            assert gone is inside.popleft()
        assert len(backlog) == len(inside) <= most
        assert sum(each.size for each in inside) <= size or len(inside) == 1
