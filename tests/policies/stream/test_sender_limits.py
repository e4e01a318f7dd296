"""One sender gets its rate and a burst, never more, and never silence."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.policies.stream.sender_limits import BURST_SECONDS, SenderLimits, full, take


def taken(limits: SenderLimits, messages: list[tuple[float, int]]) -> list[str | None]:
    """The verdicts on messages of (seconds since the one before, bytes)."""
    now, verdicts = 100.0, []
    allowance = full(limits, now)
    for pause, size in messages:
        now += pause
        allowance, beyond = take(limits, allowance, size, now)
        verdicts.append(beyond)
    return verdicts


def test_without_limits_everything_passes() -> None:
    assert not SenderLimits()
    assert taken(SenderLimits(), [(0.0, 10**9)] * 100) == [None] * 100


def test_a_burst_then_the_rate() -> None:
    limits = SenderLimits(frames_per_second=5)
    assert limits
    at_once = taken(limits, [(0.0, 1)] * 20)
    assert at_once == [None] * 10 + ["frames"] * 10
    # What was refused cost nothing: a sender at twice its rate gets every other frame through.
    steady = taken(limits, [(0.0, 1)] * 10 + [(0.1, 1)] * 100)[10:]
    assert 49 <= steady.count(None) <= 51


def test_bytes_are_paid_for_afterwards_when_a_message_is_larger_than_the_burst() -> None:
    limits = SenderLimits(bytes_per_second=100)
    assert taken(limits, [(0.0, 700), (0.0, 1), (4.9, 1), (0.2, 1)]) == [None, "bytes", "bytes", None]


def test_a_rate_below_one_frame_a_second_still_lets_frames_through() -> None:
    limits = SenderLimits(frames_per_second=0.1)
    assert taken(limits, [(0.0, 1), (1.0, 1), (9.1, 1)]) == [None, "frames", None]


@given(
    st.floats(0.1, 50),
    st.floats(10, 1e6),
    st.lists(st.tuples(st.floats(0, 3), st.integers(1, 10**6)), min_size=1, max_size=60),
)
def test_never_more_than_the_rate_the_burst_and_one_message(
    frames: float, octets: float, messages: list[tuple[float, int]]
) -> None:
    limits = SenderLimits(frames_per_second=frames, bytes_per_second=octets)
    passed = [v is None for v in taken(limits, messages)]
    seconds = sum(pause for pause, _ in messages)
    sizes = [size for (_, size), ok in zip(messages, passed, strict=True) if ok]
    assert len(sizes) <= frames * (seconds + BURST_SECONDS) + 1 + 1e-6
    assert sum(sizes) <= octets * (seconds + BURST_SECONDS) + max(sizes, default=0) + 1e-6
    # Nor less: silence for as long as the debt takes opens the way again.
    patient = [*messages, (1 / frames + 10**6 / octets * len(messages) + 1e-3, 1)]
    assert taken(limits, patient)[-1] is None
