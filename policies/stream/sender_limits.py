"""Rate limits of one sender: messages and bytes a second, each a token bucket.

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
    """Rate limits of one sender in the long run; 0 is no limit.

    Attributes:
        frames_per_second: Messages a second, frames and labels alike.
        bytes_per_second: Bytes a second of all message parts.
    """

    frames_per_second: float = 0.0
    bytes_per_second: float = 0.0

    def __bool__(self) -> bool:
        """Return whether there is any limit."""
        return self.frames_per_second > 0 or self.bytes_per_second > 0


@dataclass(frozen=True, slots=True)
class Allowance:
    """Messages and bytes that a sender may still send.

    Attributes:
        frames: Messages in its bucket; below zero after a message that exceeded it.
        bytes: Bytes in its bucket, likewise.
        at: Time of this state in monotonic seconds.
    """

    frames: float
    bytes: float
    at: float


def full(limits: SenderLimits, now: float) -> Allowance:
    """Return the state of a sender that has not sent anything yet."""
    return Allowance(limits.frames_per_second * BURST_SECONDS, limits.bytes_per_second * BURST_SECONDS, now)


def take(
    limits: SenderLimits, allowance: Allowance, size: int, now: float
) -> tuple[Allowance, Literal["frames", "bytes"] | None]:
    """Take one message out of a sender's allowance, if it is within the limits.

    Args:
        limits: Limits of every sender.
        allowance: State of this sender.
        size: Size of the message in bytes.
        now: Time in monotonic seconds, not before ``allowance.at``.

    Returns:
        The next state, and None if the message is within the limits, else the exceeded limit. A refused
        message takes nothing from the bucket: a sender that never pauses still gets its rate.
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
