"""Starts and stops the server's parts; the process of ``dance-ondevice fleet serve``."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import zmq
from prometheus_client import CollectorRegistry

from dance_ondevice.daemon.fleet.desk import open_desk
from dance_ondevice.daemon.fleet.server import FleetServer, Maker
from dance_ondevice.daemon.fleet.shelf import Shelf
from dance_ondevice.daemon.metrics.fleet_gauges import ServerCollector, ServerFacts
from dance_ondevice.daemon.metrics.server import MetricsServer
from dance_ondevice.daemon.security.kit import ServerKit
from dance_ondevice.daemon.security.zap import ZapAuthenticator
from dance_ondevice.daemon.system import systemd as notify
from dance_ondevice.daemon.system.descriptors import limit, raise_limit
from dance_ondevice.daemon.system.service import Service
from dance_ondevice.daemon.system.signals import STOP, Signals
from dance_ondevice.daemon.wire.connections import ConnectionGuard
from dance_ondevice.fleet.versions import read_arrays

__all__ = ["serve"]

log = logging.getLogger(__name__)

_AnyService = TypeVar("_AnyService", bound=Service)

#: Descriptors that connections leave to files.
_OWN = 64


def serve(
    kit: ServerKit,
    state: Path,
    *,
    metrics: str,
    environ: Mapping[str, str],
    ready: Callable[[str, str], None],
    now: Callable[[], float] = time.time,
) -> int:
    """Serve a fleet until SIGTERM or Ctrl-C; returns the exit status.

    Args:
        kit: The server's kit.
        state: Folder of offers and versions, created if missing.
        metrics: ``host:port`` of metrics; empty for none.
        environ: Where systemd says how it is notified.
        ready: Called with the endpoint and the metrics' URL once boards can connect.
        now: Wall clock in seconds.

    Raises:
        ShelfError: The state is damaged.
        CheckpointError: The kit's root model is damaged.
        OSError: An address is in use, or the state cannot be used.
    """
    raise_limit()
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    services: list[Service] = []
    with Signals() as signals, contextlib.ExitStack() as stack, _locked(state):
        _, tensors, _ = read_arrays(kit.model)
        rules = kit.settings.rules
        shelf, desk = open_desk(
            state,
            kit.root,
            tensors,
            rules,
            sync_seconds=kit.settings.sync_seconds,
            now=now,
            admitted=lambda: kit.curve.clients.by_name,
        )
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        context.set(zmq.MAX_SOCKETS, 64)
        stack.callback(_end, services, context)
        guard = _begin(services, ConnectionGuard())
        refused = desk.tallies.unknown_key
        _begin(services, ZapAuthenticator(context, kit.curve.clients.name_of, on_refused=refused))
        server = FleetServer(
            context,
            kit.settings.bind,
            kit.curve,
            desk,
            lambda wake: Maker(kit.root, rules, on_done=wake),
            most_requests=kit.settings.most_requests,
            watch=guard.bounding("fleet", max(16, limit() - _OWN)),
        )
        _begin(services, server)
        url = ""
        if metrics:
            registry = CollectorRegistry()
            registry.register(ServerCollector(lambda: _facts(shelf, server)))
            pages = MetricsServer(metrics, registry)
            url = pages.start()
            stack.callback(pages.close)
        ready(server.endpoint, url)
        notify.notify("READY=1", environ)
        while True:
            if signals.next(1.0) in STOP:
                notify.notify("STOPPING=1", environ)
                return 0
            for service in (*services, server.maker):
                if not service.alive:
                    log.critical("stopping reason=%s failed error=%r", service.name, service.failure)
                    return 1


def _facts(shelf: Shelf, server: FleetServer) -> ServerFacts:
    """Facts of the server's thread, read by another: one may be a moment older than the next."""
    published, tallies = shelf.published, server.desk.tallies
    return ServerFacts(
        boards=server.desk.presence.lately(),
        waiting=len(server.desk.waiting()),
        published=published.number,
        published_at=published.made_at,
        making_seconds=server.maker.seconds,
        offers=tallies.offers,
        versions=tallies.versions,
        bytes=tallies.bytes,
        refused=tallies.refused,
    )


def _begin(services: list[Service], service: _AnyService) -> _AnyService:
    services.append(service)
    service.start()
    return service


def _end(services: list[Service], context: zmq.Context[zmq.Socket[bytes]]) -> None:
    for service in services:
        service.ask_to_stop()
    ended = [service.stop() for service in reversed(services)]
    if all(ended):
        context.term()


@contextlib.contextmanager
def _locked(state: Path) -> Iterator[None]:
    """The exclusive right to write in the state folder, which ends with the process."""
    descriptor = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(f"{state} is in use by another server; stop it or choose another --state") from None
        yield
    finally:
        os.close(descriptor)
