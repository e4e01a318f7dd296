"""The doctor's checks of the network: whether the daemon's addresses are free, or in use by the daemon."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.config.values import listen_address
from dance_ondevice.daemon.control.instances import DaemonFile, read_daemon_file, start_time
from dance_ondevice.daemon.doctor.finding import Check
from dance_ondevice.daemon.system.state import StatePaths


def check_ports(config: Config, paths: StatePaths) -> Iterator[Check]:
    """One result for each address that the configuration binds."""
    published = running(paths)
    taken = _ports(published) if published else frozenset()
    for endpoint in config.ingest.bind:
        yield _check_endpoint("ingest", "ingest.bind", endpoint, taken)
    for endpoint in config.ingest.subscribe_bind:
        yield _check_endpoint("ingest", "ingest.subscribe_bind", endpoint, taken)
    if config.inference.enabled:
        yield _check_endpoint("masks", "inference.publish", config.inference.publish, taken)
    if config.metrics.enabled:
        listen = config.metrics.listen
        yield _check_tcp("metrics", "metrics.listen", listen, listen_address(listen), taken)
    else:
        yield Check("metrics", "ok", "off")


def _check_endpoint(name: str, key: str, endpoint: str, taken: frozenset[int]) -> Check:
    if endpoint.startswith("ipc://"):
        folder = Path(endpoint.removeprefix("ipc://")).parent
        if not os.access(folder, os.W_OK | os.X_OK):
            remedy = f"make {folder} and give it to the daemon's user, or change {key}"
            return Check(name, "failure", f"{endpoint}: no socket can be made in {folder}", remedy)
        return Check(name, "ok", f"{endpoint} can be made")
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    if port in ("*", "0"):
        return Check(name, "ok", f"{endpoint}: any free port")
    return _check_tcp(name, key, endpoint, (host.strip("[]"), int(port)), taken)


def _check_tcp(name: str, key: str, shown: str, address: tuple[str, int], taken: frozenset[int]) -> Check:
    host, port = address
    try:
        _try_bind("" if host == "*" else host, port)
    except OSError as error:
        if port in taken:
            return Check(name, "ok", f"{shown} is held by the running daemon")
        return Check(name, "failure", f"{shown}: {error.strerror or error}", _remedy(error, key, port))
    return Check(name, "ok", f"{shown} is free")


def _try_bind(host: str, port: int) -> None:
    if host in {interface for _, interface in socket.if_nameindex()}:
        # ZMQ accepts an interface's name as its address; the port can be tried on any address.
        host = ""
    family, kind, _, _, address = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)


def _remedy(error: OSError, key: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"stop what holds it (ss -ltnp 'sport = :{port}' names it), or change {key}"
    if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return f"no interface of this board has this address: change {key}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"ports below 1024 are not for the daemon's user: change {key}"
    return f"change {key}"


def running(paths: StatePaths) -> DaemonFile | None:
    """What the daemon of a state folder wrote of itself; None when none runs, or it is not to be known."""
    try:
        published = read_daemon_file(paths)
    except PermissionError:
        return None
    return published if published is not None and start_time(published.pid) is not None else None


def _ports(published: DaemonFile) -> frozenset[int]:
    addresses = (*published.ingest, *published.subscribe_bind, published.inference, published.metrics)
    return frozenset(port for address in addresses if address and (port := urlsplit(address).port))
