"""Limits of one sender: messages and bytes a second, each a token bucket.

A bucket fills at the limit's rate up to a burst, and a message is taken while it holds anything; the message
may then draw it below zero, so that one larger than the burst still gets through and is paid for afterwards.
Over any ``t`` seconds a sender gets at most ``rate * (t + BURST_SECONDS)``, plus one message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["BURST_SECONDS", "Allowance", "SenderLimits", "full", "take"]

#: Seconds of the rate that a sender who was silent may send at once.
BURST_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class SenderLimits:
    """The most that one sender may send in the long run; 0 is no limit.

    Attributes:
        frames_per_second: messages, frames and labels alike.
        bytes_per_second: of all parts.
    """

    frames_per_second: float = 0.0
    bytes_per_second: float = 0.0

    def __bool__(self) -> bool:
        """Whether anything is limited."""
        return self.frames_per_second > 0 or self.bytes_per_second > 0


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a sender may still send.

    Attributes:
        frames: messages in its bucket; below zero after a message that was more than the bucket held.
        bytes: likewise.
        at: monotonic seconds of this state.
    """

    frames: float
    bytes: float
    at: float


def full(limits: SenderLimits, now: float) -> Allowance:
    """The state of a sender who has not sent anything yet."""
    return Allowance(limits.frames_per_second * BURST_SECONDS, limits.bytes_per_second * BURST_SECONDS, now)


def take(
    limits: SenderLimits, allowance: Allowance, size: int, now: float
) -> tuple[Allowance, Literal["frames", "bytes"] | None]:
    """Whether a sender may send one message now, and its state afterwards.

    Args:
        limits: of every sender.
        allowance: of this one.
        size: bytes of the message.
        now: monotonic seconds, not before ``allowance.at``.

    Returns:
        The next state, and None if the message is within the limits, else the limit that it is beyond. What
        is beyond costs nothing: a sender that never pauses gets its rate, not silence.
    """
    frames = _refilled(allowance.frames, limits.frames_per_second, now - allowance.at)
    octets = _refilled(allowance.bytes, limits.bytes_per_second, now - allowance.at)
    if limits.frames_per_second > 0 and frames <= 0.0:
        return Allowance(frames, octets, now), "frames"
    if limits.bytes_per_second > 0 and octets <= 0.0:
        return Allowance(frames, octets, now), "bytes"
    return Allowance(frames - 1.0, octets - size, now), None


def _refilled(tokens: float, rate: float, seconds: float) -> float:
    return min(rate * BURST_SECONDS, tokens + rate * max(0.0, seconds))
