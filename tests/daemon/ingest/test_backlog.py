"""The queue's bounds."""

from __future__ import annotations

from collections import Counter, deque

from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.daemon.ingest.backlog import Backlog, Queued
from dance_ondevice.daemon.wire.messages import LabelMessage
from dance_ondevice.daemon.wire.receiver import Origin


def item(size: int, share: str = "") -> Queued:
    return Queued(Origin(None), LabelMessage(sample_id="x", label=b""), size, 0.0, 0.0, share)


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


def test_whoever_has_most_in_the_queue_gives_way() -> None:
    backlog = Backlog(max_messages=4, max_bytes=100)
    modest, flood = [item(1, "modest") for _ in range(2)], [item(1, "flood") for _ in range(9)]
    for each in (modest[0], flood[0], flood[1], modest[1]):
        assert backlog.push(each) == []

    gone = [backlog.push(each) for each in flood[2:]]

    assert gone == [[each] for each in flood[:7]]
    assert [backlog.pop() for _ in range(4)] == [*modest, *flood[7:]], "the rest leaves in order of arrival"


def test_equal_shares_lose_their_oldest_in_turn() -> None:
    backlog = Backlog(max_messages=3, max_bytes=100)
    first = [item(1, name) for name in "abc"]
    assert [backlog.push(each) for each in first] == [[], [], []]
    assert backlog.push(item(1, "d")) == [first[0]]
    assert backlog.push(item(1, "b")) == [first[1]]


def test_bytes_are_shared_fairly_too() -> None:
    backlog = Backlog(max_messages=9, max_bytes=100)
    small, large = [item(10, "small") for _ in range(3)], [item(40, "large") for _ in range(3)]
    for each in (*small[:2], large[0]):
        assert backlog.push(each) == []
    assert backlog.push(large[1]) == []
    assert backlog.push(small[2]) == [large[0]]
    assert backlog.push(large[2]) == [large[1]], "of large ones alone"
    # The newest stays, even if its share alone is too large.
    assert backlog.push(item(99, "new")) == [large[2], *small]


shares = st.sampled_from("abc")


@given(
    st.integers(1, 6),
    st.integers(1, 50),
    st.lists(st.tuples(st.integers(1, 60), shares) | st.none(), max_size=40),
)
def test_only_those_who_hold_most_lose_anything(
    most: int, size: int, steps: list[tuple[int, str] | None]
) -> None:
    backlog, inside = Backlog(most, size), list[Queued]()
    for step in steps:
        if step is None:
            if inside:
                assert backlog.pop() is inside.pop(0)
            continue
        new = item(*step)
        inside.append(new)
        for gone in backlog.push(new):
            assert gone is not new
            own = [each for each in inside if each.share == gone.share]
            assert own[0] is gone, "the oldest of its share"
            if len(inside) > most:
                others = Counter(each.share for each in inside if each is not new)
                assert len(own) >= max(others.values())
            inside.remove(gone)
        assert len(backlog) == len(inside) <= most
        assert sum(each.size for each in inside) <= size or len(inside) == 1
