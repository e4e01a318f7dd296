"""Checks of the addresses that the service binds: that they do not collide, and that their paths fit."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.config.values import listen_address, tcp_address

__all__ = ["ENDPOINTS", "from_folder", "wrong_endpoints"]

#: Keys with endpoints of ZMQ, one or a list.
ENDPOINTS = (
    "ingest.bind",
    "ingest.subscribe",
    "ingest.subscribe_bind",
    "inference.publish",
    "control.endpoint",
)

#: Bytes of a Unix socket's path, the last one a zero (unix(7)).
_LONGEST_PATH = 107
_IPC = "ipc://"
#: A socket of any free name, as port ``*`` is any free port.
_ANY_PATH = "ipc://*"
#: Hosts that stand for every IPv4 address of the machine; ``::`` stands for these and every IPv6 one.
_EVERY = frozenset({"*", "0.0.0.0", "::"})


def from_folder(value: object, folder: Path) -> object:
    """Return an endpoint, or several, with relative paths of sockets made absolute; others are unchanged."""
    if isinstance(value, (list, tuple)):
        return tuple(from_folder(each, folder) for each in value)
    if not isinstance(value, str) or not value.startswith(_IPC) or value == _ANY_PATH:
        return value
    path = value[len(_IPC) :]
    return value if path[:1] in ("", "/", "@") else f"{_IPC}{folder / path}"


def wrong_endpoints(config: Config) -> Iterator[tuple[str, object, str]]:
    """Find endpoints that no start could bind: the key, what was found, and what is allowed."""
    ingest, inference = config.ingest, config.inference
    bound = [("ingest.bind", each) for each in ingest.bind]
    bound += [("ingest.subscribe_bind", each) for each in ingest.subscribe_bind]
    if inference.enabled:
        bound.append(("inference.publish", inference.publish))
    if config.metrics.enabled:
        bound.append(("metrics.listen", config.metrics.listen))
    paths = [*bound, *(("ingest.subscribe", each) for each in ingest.subscribe)]
    for key, endpoint in [*paths, ("control.endpoint", config.control.endpoint)]:
        if endpoint.startswith(_IPC) and len(os.fsencode(endpoint[len(_IPC) :])) > _LONGEST_PATH:
            yield key, endpoint, f"the path of a socket with at most {_LONGEST_PATH} bytes"
    yield from _collisions(bound)


def _collisions(bound: Sequence[tuple[str, str]]) -> Iterator[tuple[str, object, str]]:
    for (first, one), (second, other) in combinations(bound, 2):
        if _collide(one, other):
            yield second, other, f"an endpoint that {first} does not use"


def _collide(one: str, other: str) -> bool:
    """Whether the second of two addresses could not be bound beside the first."""
    if one.startswith(_IPC) or other.startswith(_IPC):
        return one == other != _ANY_PATH
    (here, port), (there, same) = _address(one), _address(other)
    if port != same or port == 0:
        return False
    hosts = {here, there}
    mixed = len({":" in host for host in hosts}) == 2  # an IPv4 and an IPv6 address
    return here == there or "::" in hosts or (bool(_EVERY & hosts) and not mixed)


def _address(text: str) -> tuple[str, int]:
    """Host and port of an endpoint or of an address to listen at; port 0 where any will do."""
    host, port = tcp_address(text) or listen_address(text)
    return {"localhost": "127.0.0.1", "lo": "127.0.0.1"}.get(host, host), port
