from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.daemon.console.access import SESSION_SECONDS, Attempts, Sessions

TOKEN = "a-token-of-this-board-alone"


class Clock:
    def __init__(self) -> None:
        self.at = 1_000_000.0

    def __call__(self) -> float:
        return self.at


def test_a_session_lasts_as_long_as_it_should_and_no_longer_than_its_token() -> None:
    clock = Clock()
    sessions = Sessions(TOKEN, now=clock)
    cookie = sessions.begin()
    assert sessions.valid(cookie)
    assert Sessions(TOKEN, now=clock).valid(cookie)
    other = Sessions(TOKEN + "x", now=clock)
    assert not other.valid(cookie)
    # Two boards that are reached at one host name, at two ports, do not take each other's place.
    assert other.cookie != sessions.cookie == Sessions(TOKEN).cookie
    assert other.cookie.startswith("dance_console_")
    assert sessions.csrf(cookie) != sessions.csrf(sessions.begin())
    clock.at += SESSION_SECONDS
    assert not sessions.valid(cookie)


@given(at=st.integers(0, 200), put=st.text(max_size=4))
def test_no_changed_cookie_is_valid(at: int, put: str) -> None:
    sessions = Sessions(TOKEN, now=Clock())
    cookie = sessions.begin()
    changed = cookie[:at] + put + cookie[at + 1 :]
    assert sessions.valid(changed) == (changed == cookie)


@given(st.text(max_size=200))
def test_what_is_no_cookie_is_not_valid(text: str) -> None:
    assert not Sessions(TOKEN).valid(text)


def test_few_wrong_tokens_a_minute_for_one_address_and_for_all() -> None:
    clock = Clock()
    attempts = Attempts(monotonic=clock)
    for _ in range(5):
        assert attempts.wait("one") == 0
        attempts.failed("one")
    assert 1 <= attempts.wait("one") <= 61
    assert attempts.wait("another") == 0
    for number in range(60):
        attempts.failed(str(number))
    assert attempts.wait("a new one") > 0
    clock.at += 61
    assert attempts.wait("one") == attempts.wait("a new one") == 0


def test_attempts_of_any_number_of_addresses_take_little_memory() -> None:
    attempts = Attempts(monotonic=Clock())
    for number in range(3000):
        attempts.failed(str(number))
    assert len(attempts._failed) <= 1024
