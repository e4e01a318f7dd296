"""Which connections give way."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.policies.stream.connections import Connection, surplus


def connection(number: int, address: str = "leaky", messages: int = 1, waiting: int = 0) -> Connection:
    return Connection(number, address, messages, waiting, last=float(number))


def test_nothing_is_closed_within_the_limit() -> None:
    assert surplus([connection(number) for number in range(3)], 3) == []


def test_left_sockets_go_before_one_that_is_used() -> None:
    camera = Connection(0, "leaky", 2, 0, last=0.0)
    assert surplus([camera, *(connection(number) for number in range(1, 6))], 3) == [1, 2, 3]


def test_an_answer_that_is_waited_for_keeps_its_connection() -> None:
    asking = Connection(0, "leaky", 1, 1, last=0.0)
    assert surplus([asking, *(connection(number) for number in range(1, 4))], 2) == [1, 2]


def test_the_address_with_most_connections_loses() -> None:
    others = [connection(number, f"camera-{number}", messages=0) for number in range(3)]
    assert surplus([*others, *(connection(number) for number in range(10, 20))], 6) == list(range(10, 17))


def test_of_readers_the_latest_goes() -> None:
    assert surplus([connection(number) for number in range(5)], 3, newest_first=True) == [4, 3]


def test_no_address_keeps_all_while_another_halves() -> None:
    connections = [connection(number, "abc"[number // 4]) for number in range(12)]
    closed = surplus(connections, 8, newest_first=True)
    left = Counter(each.address for each in connections if each.number not in closed)
    assert sorted(left.values()) == [2, 3, 3]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.integers(0, 1)), max_size=40),
    st.integers(0, 20),
    st.booleans(),
)
def test_exactly_the_limit_is_left_and_no_small_share_is_touched(
    found: list[tuple[str, int, int]], limit: int, newest_first: bool
) -> None:
    connections = [connection(number, *facts) for number, facts in enumerate(found)]
    closed = surplus(connections, limit, newest_first=newest_first)
    assert len(set(closed)) == len(closed) == max(0, len(connections) - limit)
    before = Counter(each.address for each in connections)
    after = Counter(each.address for each in connections if each.number not in closed)
    for address, count in after.items():
        # Who has lost any keeps at least as many, but one, as everybody else.
        if count < before[address]:
            assert count >= max(after.values()) - 1
