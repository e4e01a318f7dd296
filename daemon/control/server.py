"""The control socket: commands such as pause and train-now, one JSON request and one JSON reply each."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
from collections.abc import Callable, Mapping
from hashlib import blake2b
from pathlib import Path

import msgspec
import zmq

from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.control.instances import runtime_dir
from dance_ondevice.daemon.system.service import Service
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.system.waker import Waker
from dance_ondevice.daemon.wire.connections import Connections, Watch, descriptor_of
from dance_ondevice.documents import DocumentError, decode
from dance_ondevice.files import temporary_beside

log = logging.getLogger(__name__)

Handler = Callable[[dict[str, object]], object]

#: Longest path of a Unix socket in bytes (``sun_path`` less its terminating zero).
MAX_SOCKET_PATH = 107
#: Large enough for one label of 1.25 MiB in base64 with the rest of its request.
MAX_REQUEST_BYTES = 7 << 18
_POLL_MS = 500


class ControlError(Exception):
    """A handler's error message, which is sent to the caller unchanged."""


class ControlServer(Service):
    """Serves ``handlers`` at an ``ipc://`` endpoint that only the daemon's user, or its group, can open.

    A request is ``{"cmd": name, ...}``; the handler of that name gets the other members, and its result is
    sent as ``{"ok": true, "result": ...}``. An exception is answered as ``{"ok": false, "error": text}``.
    Handlers run on this thread and must be quick: long work is started and then polled by the caller.
    """

    def __init__(
        self,
        endpoint: str,
        handlers: Mapping[str, Handler],
        *,
        name: str = "control",
        mode: int = 0o600,
        watch: Watch | None = None,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        """Nothing is opened before ``start``.

        Args:
            endpoint: Where to listen, ``ipc://...``.
            handlers: A function for each command.
            name: The thread's name.
            mode: Permissions of the socket's file.
            watch: Bounds the connections of callers.
            on_close: Called on this thread at the end, to close what the handlers own.
        """
        super().__init__(name)
        self._mode = mode
        self._on_close = on_close
        self._watch = watch
        self._connections: Connections | None = None
        self.endpoint = endpoint
        self._handlers = dict(handlers)
        self._path = Path(endpoint.removeprefix("ipc://"))
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._socket: zmq.Socket[bytes] | None = None
        self._waker: Waker | None = None

    def setup(self) -> None:
        """Bind the socket.

        Raises:
            OSError: Another daemon answers at the endpoint, or its folder cannot hold a socket.
        """
        listener = _listen(self._path, self._mode)
        self._waker = Waker()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self._socket.set(zmq.MAXMSGSIZE, MAX_REQUEST_BYTES)
        if self._watch is not None:
            self._connections = self._watch(self._socket)
        self._socket.set(zmq.USE_FD, listener.detach())
        self._socket.bind(self.endpoint)
        log.info("%s listens endpoint=%s", self.name, self.endpoint)

    def run(self) -> None:
        """Answer requests until stopped."""
        assert self._socket is not None
        assert self._waker is not None
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._waker.fileno(), zmq.POLLIN)
        while not self.stopping.is_set():
            self.beat()
            ready = dict(poller.poll(_POLL_MS))
            if self._waker.fileno() in ready:
                self._waker.clear()  # or every poll from now on would return at once
            if self._socket in ready:
                self._serve_one(self._socket)

    def wake(self) -> None:
        """End the wait for the next request."""
        if self._waker is not None:  # else the loop has not begun and will see that it must stop
            self._waker.wake()

    def teardown(self) -> None:
        """Close the socket and remove its file."""
        self._on_close()
        if self._socket is not None:
            self._socket.close()
            self._path.unlink(missing_ok=True)
        if self._context is not None:
            self._context.term()
        if self._waker is not None:
            self._waker.close()

    def _serve_one(self, router: zmq.Socket[bytes]) -> None:
        frames = router.recv_multipart(copy=False)
        if self._connections is not None:
            self._connections.heard(descriptor_of(frames[-1]), asks=False)
        parts = [frame.bytes for frame in frames]
        sender, body = parts[0], parts[1:]
        # Everything up to the first empty part belongs to the caller's socket.
        envelope = body[: body.index(b"") + 1] if b"" in body else []
        reply = self._answer(body[len(envelope) :])
        with contextlib.suppress(zmq.Again):  # the caller left or does not read
            router.send_multipart([sender, *envelope, reply], zmq.NOBLOCK)

    def _answer(self, body: list[bytes]) -> bytes:
        try:
            if len(body) != 1:
                raise ControlError(f"a request is one JSON part; {len(body)} came")
            request = _parse(body[0])
            name = request.pop("cmd")
            handler = self._handlers.get(str(name))
            if handler is None:
                raise ControlError(f"unknown command {name!r}; known: {', '.join(sorted(self._handlers))}")
            return msgspec.json.encode({"ok": True, "result": handler(request)})
        except ControlError as error:
            return _error(str(error))
        except Exception as error:  # the caller gets a handler's error; it never stops the daemon
            log.warning("control command failed error=%r", error, exc_info=True)
            return _error(f"{type(error).__name__}: {error}")


def default_endpoint(config: Config, paths: StatePaths, environ: Mapping[str, str]) -> str:
    """The endpoint of the control socket: configured, or in the state folder, or in the runtime folder.

    The runtime folder is used when the state folder's path is too long for a Unix socket.
    """
    return config.control.endpoint or endpoint_in(paths, "control.sock", environ)


def endpoint_in(paths: StatePaths, name: str, environ: Mapping[str, str]) -> str:
    """The endpoint of a socket in the state folder, or in the runtime folder where the former has no place.

    Its path may be too long for a Unix socket, or its file system hold none, as FAT and exFAT.
    """
    path = paths.root.absolute() / name
    if len(os.fsencode(path)) > MAX_SOCKET_PATH or not _holds_sockets(paths.root):
        digest = blake2b(os.fsencode(path), digest_size=8).hexdigest()
        path = runtime_dir(environ) / f"{digest}.sock"
    return f"ipc://{path}"


#: What file systems without Unix sockets answer; EIO is that of exFAT by FUSE.
_NO_SOCKETS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EIO)


def _holds_sockets(folder: Path) -> bool:
    """Whether a folder's file system has Unix sockets; what else is wrong with it shows when one is made."""
    probe = temporary_beside(folder / "probe")
    if len(os.fsencode(probe)) > MAX_SOCKET_PATH:
        return True
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as found:
        try:
            found.bind(str(probe))
        except OSError as error:
            return error.errno not in _NO_SOCKETS
        finally:
            with contextlib.suppress(OSError):  # where there are none, a file may be left all the same
                probe.unlink()
    return True


def _listen(path: Path, mode: int) -> socket.socket:
    """A listening Unix socket with a mode that is set before the first caller can connect."""
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        raise OSError(
            f"a Unix socket's path has at most {MAX_SOCKET_PATH} bytes: {path}; set control.endpoint"
        )
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        if path.is_socket():
            if is_served(path):
                raise OSError(f"another daemon answers at {path}; stop it or set control.endpoint")
            path.unlink()
        try:
            listener.bind(str(path))
        except OSError as error:  # of itself it names no path
            why = f"{error.strerror}: remove what lies there, or set control.endpoint"
            raise OSError(error.errno, why, str(path)) from error
        path.chmod(mode)
        listener.listen(16)
    except BaseException:
        listener.close()
        raise
    return listener


def is_served(path: Path) -> bool:
    """Whether a process listens at a Unix socket.

    Raises:
        PermissionError: This user may not open it.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
    return True


def _parse(data: bytes) -> dict[str, object]:
    try:
        request = decode(data, object)
    except DocumentError as error:
        raise ControlError(f"the request is not JSON: {error}") from error
    if not isinstance(request, dict) or not isinstance(request.get("cmd"), str):
        raise ControlError('a request is an object with the text "cmd"')
    return request


def _error(text: str) -> bytes:
    return msgspec.json.encode({"ok": False, "error": text})
