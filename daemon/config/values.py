"""Forms of configuration values: durations, addresses, ranges and choices.

A function such as ``integer`` returns what a rule needs: the allowed values in words, and the test of a value
of the right type.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_address
from urllib.parse import urlsplit

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s*([smhd])")
_TCP = re.compile(r"tcp://(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):(\d{1,5}|\*)")
_LISTEN = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):(\d{1,5})")


def parse_duration(text: str) -> float:
    """Parse a duration such as ``45s``, ``30m``, ``2h`` or ``1d``; returns seconds.

    Raises:
        ValueError: The text is not a number followed by s, m, h or d.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a duration; write a number and a unit, such as 45s, 30m, 2h or 1d")
    return float(match[1]) * _SECONDS[match[2]]


def listen_address(text: str) -> tuple[str, int]:
    """Parse ``host:port``; an IPv6 host is in brackets.

    Raises:
        ValueError: The text has another form.
    """
    match = _LISTEN.fullmatch(text)
    if match is None or int(match[2]) > 65535:
        raise ValueError(f"{text!r} is not host:port")
    return match[1].strip("[]"), int(match[2])


def is_loopback(host: str) -> bool:
    """Whether a bind to ``host`` can only be reached from this machine."""
    if host in ("localhost", "lo"):
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:  # a host name, an interface name or "*"
        return False


def tcp_address(endpoint: str) -> tuple[str, int] | None:
    """The host and port of a ``tcp://`` endpoint, port 0 for any free one; None for other transports."""
    match = _TCP.fullmatch(endpoint)
    return (match[1].strip("[]"), 0 if match[2] == "*" else int(match[2])) if match else None


def tcp_host(endpoint: str) -> str | None:
    """The host of a ``tcp://`` endpoint; None for other transports."""
    address = tcp_address(endpoint)
    return address[0] if address else None


def is_endpoint(value: str, *, bind: bool) -> bool:
    """Whether a ZMQ socket can connect to the endpoint or, with ``bind``, be bound to it."""
    if value.startswith("ipc://"):
        return len(value) > len("ipc://") and "\0" not in value
    match = _TCP.fullmatch(value)
    if match is None:
        return False
    if match[2] == "*" or int(match[2]) == 0:
        return bind
    return int(match[2]) <= 65535


def is_webhook(value: str) -> bool:
    """Whether a text is an address to post to over HTTP(S), without a name or password of a user in it."""
    try:
        parts = urlsplit(value)
        port = parts.port  # raises for one that is no number, or too large
    except ValueError:
        return False
    plain = value.isascii() and value.isprintable() and not re.search(r"[\s@]", value)
    return plain and parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0


def is_listen(value: str) -> bool:
    """Whether ``listen_address`` can parse the text."""
    try:
        listen_address(value)
    except ValueError:
        return False
    return True


def integer(low: int, high: int) -> tuple[str, Callable[[int], bool]]:
    """Rule of a whole number between two limits, both allowed."""
    return f"an integer from {low} to {high}", lambda value: low <= value <= high


def number(low: float, high: float) -> tuple[str, Callable[[float], bool]]:
    """Rule of a number between two limits, both allowed."""
    return f"a number from {low:g} to {high:g}", lambda value: low <= value <= high


def below(low: float, high: float) -> tuple[str, Callable[[float], bool]]:
    """Rule of a number between two limits, the upper one not allowed."""
    return f"a number from {low:g} to below {high:g}", lambda value: low <= value < high


def one_of(*names: str) -> tuple[str, Callable[[str], bool]]:
    """Rule of one of several names."""
    return "one of " + ", ".join(f'"{name}"' for name in names), lambda value: value in names


def boolean() -> tuple[str, Callable[[bool], bool]]:
    """Rule of a boolean."""
    return "true or false", lambda value: True


def boolean_or(name: str) -> tuple[str, Callable[[bool | str], bool]]:
    """Rule of a boolean, or of one name instead."""
    return f'"{name}", true or false', lambda value: True


def duration(low: str, high: str) -> tuple[str, Callable[[str], bool]]:
    """Rule of a duration, as ``parse_duration`` reads it, between two limits, both allowed."""

    def test(value: str) -> bool:
        try:
            return parse_duration(low) <= parse_duration(value) <= parse_duration(high)
        except ValueError:
            return False

    return f'a duration from "{low}" to "{high}": a number and s, m, h or d', test


def absolute_path() -> tuple[str, Callable[[str], bool]]:
    """Rule of an absolute path."""
    return "an absolute path", lambda value: value.startswith("/") and "\0" not in value


def optional(allowed: str, pattern: re.Pattern[str]) -> tuple[str, Callable[[str], bool]]:
    """Rule of a text that is empty or matches the pattern as a whole."""
    return allowed, lambda value: not value or pattern.fullmatch(value) is not None
