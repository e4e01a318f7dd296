"""Limits the open connections of the listening sockets, so that file descriptors do not run out.

libzmq has neither a limit of connections nor a call that closes one. Its monitor reports each accepted
connection with its descriptor; if that is shut down, libzmq treats it as a peer that disconnected. When
nobody receives these events, libzmq's thread blocks after a thousand of them and accepts no connection.

libzmq also drops, without a word to either side, a peer of a kind of socket that does not go with ours, and
one whose keys do not. The events tell, so that is logged.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket as sockets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import or_
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias

import zmq
from zmq.utils.monitor import recv_monitor_message

from dance_ondevice.daemon.system.service import Service
from dance_ondevice.daemon.system.waker import Waker
from dance_ondevice.policies.stream.connections import Connection, surplus

log = logging.getLogger(__name__)

#: Called with a new socket before its bind: limits the socket's connections.
Watch: TypeAlias = "Callable[[zmq.Socket[Any]], Connections]"

#: The ends of a handshake that libzmq reports. A refused key is logged where it is refused; a port scan makes
#: the last one.
_HANDSHAKES = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED,
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
    zmq.EVENT_HANDSHAKE_FAILED_AUTH,
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL,
)
_COMINGS = (zmq.EVENT_ACCEPTED, zmq.EVENT_DISCONNECTED, zmq.EVENT_CLOSED, zmq.EVENT_MONITOR_STOPPED)
_EVENTS = reduce(or_, (*_COMINGS, *_HANDSHAKES))
#: Largest number of events of one socket that are received before its limit is applied.
_AT_ONCE = 128
#: Seconds between two log lines about closed connections; the counter has all of them.
_LOG_EVERY = 10.0
#: Seconds between two log lines about peers that one socket drops.
_DROPPED_EVERY = 300.0
#: Seconds that a stop waits until the sockets are closed: while one is open, libzmq's thread would block for
#: ever on its events.
_CLOSING_SECONDS = 3.5


@dataclass(slots=True)
class _Peer:
    """A connection; ``ends`` are its two addresses, which identify it if the descriptor is used again."""

    ends: object
    address: str
    last: float
    messages: int = 0
    waiting: int = 0


class Connections:
    """The open connections of one listening socket; any thread may call."""

    def __init__(
        self,
        name: str,
        limit: int,
        *,
        newest_first: bool = False,
        takes: str = "",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin without connections.

        Args:
            name: Name of the socket for the log and the counter.
            limit: Largest number of open connections.
            newest_first: See ``surplus``.
            takes: What a peer must be, for the log about one that is dropped; "" for no such line.
            monotonic: Clock in seconds.
        """
        self.name = name
        self.limit = limit
        self.takes = takes
        self._newest_first = newest_first
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._peers: dict[int, _Peer] = {}
        #: Handshakes that have ended, and how many had when each open connection came.
        self._handshakes = 0
        self._at_first: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._peers)

    def heard(self, descriptor: int, *, asks: bool = True) -> None:
        """Record a received message, and whether it expects an answer."""
        with self._lock:
            peer = self._peers.get(descriptor)
            if peer is not None:
                peer.last = self._monotonic()
                peer.messages += 1
                peer.waiting += asks

    def answered(self, descriptor: int) -> None:
        """Record that a message was answered."""
        with self._lock:
            peer = self._peers.get(descriptor)
            if peer is not None and peer.waiting:
                peer.waiting -= 1

    def accepted(self, descriptor: int) -> None:
        """Record a new connection."""
        ends = _ends(descriptor)
        with self._lock:
            self._at_first[descriptor] = self._handshakes
            if ends is not None:  # else it has ended already
                self._peers[descriptor] = _Peer(ends, _host(ends[1]), self._monotonic())

    def shook(self) -> None:
        """Record that the handshake of a connection has ended; libzmq does not say of which one."""
        with self._lock:
            self._handshakes += 1

    def gone(self, descriptor: int) -> bool:
        """Record that a connection has ended; returns whether libzmq dropped it amid its handshake.

        It then reports no end of one. Where others have ended meanwhile this one's may be among them.
        """
        with self._lock:
            self._peers.pop(descriptor, None)
            return self._at_first.pop(descriptor, -1) == self._handshakes

    def bound(self) -> int:
        """Close the connections beyond the limit; returns their number."""
        with self._lock:
            open_now = [
                Connection(number, peer.address, peer.messages, peer.waiting, peer.last)
                for number, peer in self._peers.items()
            ]
            going = surplus(open_now, self.limit, newest_first=self._newest_first)
            gone = [(number, self._peers.pop(number)) for number in going]
        return sum(_hang_up(number, peer.ends) for number, peer in gone)


class ConnectionGuard(Service):
    """The thread that receives the events of connections and closes those beyond the limits."""

    def __init__(
        self,
        *,
        on_closed: Callable[[str, int], None] = lambda _name, _count: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin without sockets.

        Args:
            on_closed: Called with a socket's name and the number of its connections that were closed.
            monotonic: Clock in seconds.
        """
        super().__init__("connections")
        self._on_closed = on_closed
        self._monotonic = monotonic
        self._waker = Waker()
        self._new: SimpleQueue[tuple[zmq.Socket[Any], Connections]] = SimpleQueue()
        self._watched: dict[zmq.Socket[Any], Connections] = {}
        self._logged_at: dict[str, float] = {}
        self._dropped_at: dict[str, float] = {}

    def bounding(self, name: str, limit: int, *, newest_first: bool = False, takes: str = "") -> Watch:
        """Return what limits a socket's connections when called before the bind; see ``Connections``."""

        def watch(socket: zmq.Socket[Any]) -> Connections:
            connections = Connections(
                name, limit, newest_first=newest_first, takes=takes, monotonic=self._monotonic
            )
            self.watch(socket, connections)
            return connections

        return watch

    def watch(self, socket: zmq.Socket[Any], connections: Connections) -> None:
        """Receive events of a socket's connections until it is closed; the owner calls it before the bind."""
        endpoint = f"inproc://connections-{connections.name}-{secrets.token_hex(8)}"
        socket.monitor(endpoint, _EVENTS)
        # Created here, and used by the guard's thread alone once it is handed over.
        events: zmq.Socket[Any] = socket.context.socket(zmq.PAIR)
        events.setsockopt(zmq.LINGER, 0)
        # A burst is what libzmq accepts before it waits for its events to be taken: its own thousand of them
        # and those that may wait on this side, by default as many again.
        events.setsockopt(zmq.RCVHWM, 1)
        events.connect(endpoint)
        self._new.put((events, connections))
        self._waker.wake()

    def run(self) -> None:
        """Receive events until stopped and all sockets are closed."""
        poller = zmq.Poller()
        poller.register(self._waker.fileno(), zmq.POLLIN)
        end: float | None = None
        while end is None or (self._watched and self._monotonic() < end):
            self.beat()
            try:
                ready = dict(poller.poll(100 if end else 1000))
            except zmq.ContextTerminated:  # an error of one of the sockets; the poll does not say which one
                self._forget_terminated(poller)
                continue
            if end is None and self.stopping.is_set():
                end = self._monotonic() + _CLOSING_SECONDS
            if self._waker.fileno() in ready:
                self._waker.clear()
                self._take_new(poller)
            for events in [each for each in self._watched if each in ready]:
                self._read(events, poller)

    def wake(self) -> None:
        """End the wait for events."""
        self._waker.wake()

    def teardown(self) -> None:
        """Stop hearing."""
        self._waker.close()
        with contextlib.suppress(Empty):
            while True:
                self._new.get_nowait()[0].close()
        # The monitor of an open socket stays: without it libzmq's thread would block.

    def _take_new(self, poller: zmq.Poller) -> None:
        with contextlib.suppress(Empty):
            while True:
                events, connections = self._new.get_nowait()
                self._watched[events] = connections
                poller.register(events, zmq.POLLIN)

    def _read(self, events: zmq.Socket[Any], poller: zmq.Poller) -> None:
        connections = self._watched[events]
        for _ in range(_AT_ONCE):
            try:
                told = recv_monitor_message(events, zmq.NOBLOCK)
            except zmq.Again:
                break
            except zmq.ContextTerminated:
                return  # the next poll meets it
            if told["event"] == zmq.EVENT_MONITOR_STOPPED:
                self._forget(events, poller)
                return
            descriptor = int(told["value"])
            kind = told["event"]
            if kind in _HANDSHAKES:
                connections.shook()
                dropped = kind == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
            elif kind == zmq.EVENT_ACCEPTED:
                connections.accepted(descriptor)
                dropped = False
            else:
                dropped = connections.gone(descriptor)
            if dropped and connections.takes:
                self._tell_dropped(connections)
        self._bound(connections)

    def _forget_terminated(self, poller: zmq.Poller) -> None:
        for events in list(self._watched):
            try:
                events.poll(0)
            except zmq.ContextTerminated:
                self._forget(events, poller)

    def _forget(self, events: zmq.Socket[Any], poller: zmq.Poller) -> None:
        poller.unregister(events)
        events.close()
        del self._watched[events]

    def _tell_dropped(self, connections: Connections) -> None:
        now = self._monotonic()
        if now - self._dropped_at.get(connections.name, -_DROPPED_EVERY) >= _DROPPED_EVERY:
            self._dropped_at[connections.name] = now
            log.warning(
                "a peer was dropped at its handshake socket=%s reason=%r", connections.name, connections.takes
            )

    def _bound(self, connections: Connections) -> None:
        closed = connections.bound()
        if not closed:
            return
        self._on_closed(connections.name, closed)
        now = self._monotonic()
        if now - self._logged_at.get(connections.name, -_LOG_EVERY) >= _LOG_EVERY:
            self._logged_at[connections.name] = now
            log.warning(
                "connections closed socket=%s count=%d reason=%r",
                connections.name,
                closed,
                f"more than {connections.limit} are open; a sender should keep one socket, not open one a "
                "frame, or raise the limit of open files",
            )


def descriptor_of(frame: zmq.Frame) -> int:
    """Return the descriptor of the connection that a message came over; -1 where libzmq does not say."""
    try:
        return int(frame.get(zmq.SRCFD))
    except zmq.ZMQError:  # from a peer of before libzmq 4 (ZMTP 1 and 2)
        return -1


def _ends(descriptor: int) -> tuple[object, object] | None:
    """Return both addresses of a connected socket; None for anything else."""
    try:
        socket = sockets.socket(fileno=descriptor)
    except OSError:
        return None
    try:
        return socket.getsockname(), socket.getpeername()
    except OSError:
        return None
    finally:
        socket.detach()  # it is libzmq's to close


def _host(address: object) -> str:
    return str(address[0]) if isinstance(address, tuple) else ""


def _hang_up(descriptor: int, ends: object) -> bool:
    """Shut a connection down if the descriptor still belongs to it; returns whether it did."""
    # A duplicate cannot be closed and used for another file between the check and the shutdown.
    try:
        mine, owned = os.dup(descriptor), True
    except OSError:  # it has ended, or no descriptor is free for a duplicate: use the descriptor itself
        mine, owned = descriptor, False
    try:
        if _ends(mine) != ends:
            return False
        socket = sockets.socket(fileno=mine)
        try:
            socket.shutdown(sockets.SHUT_RDWR)
        finally:
            socket.detach()
    except OSError:  # the peer has disconnected
        return False
    finally:
        if owned:
            os.close(mine)
    return True
