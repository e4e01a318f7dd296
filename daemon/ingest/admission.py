"""Admission of messages: whether the sender is known, may send for the camera, and is within the limits."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable

from dance_ondevice.daemon.security.clients import ClientKeys
from dance_ondevice.daemon.security.keys import KeysError
from dance_ondevice.daemon.system.state import parse_sample_id
from dance_ondevice.daemon.wire.messages import ForeignFrame, LabelMessage, Message, WireError
from dance_ondevice.daemon.wire.receiver import Origin
from dance_ondevice.policies.stream.sender_limits import Allowance, SenderLimits, full, take

log = logging.getLogger(__name__)

#: Seconds between two scans of the key folder; a revoked key is noticed after that.
SCAN_EVERY = 1.0
#: Seconds between two log lines about keys that cannot be read for the same reason.
_LOG_EVERY = 600.0
#: The most senders whose use is remembered; the one that was silent for longest is forgotten first.
_REMEMBERED = 1024


class Admission:
    """Checks each message as it arrives; used by the ingest thread alone."""

    def __init__(
        self,
        *,
        clients: ClientKeys | None = None,
        bind_cameras: bool = False,
        limits: SenderLimits | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start with all allowances unused.

        Args:
            clients: The known keys; None without CURVE, when anyone who can connect may send.
            bind_cameras: Whether a client may send frames and labels only of the camera of its own name.
            limits: Limits of each client, or without CURVE of each connection; None for no limits.
            monotonic: Monotonic clock, in seconds.
        """
        self._clients = clients
        self._bind_cameras = bind_cameras and clients is not None
        self._limits = limits or SenderLimits()
        self._monotonic = monotonic
        self._allowances: OrderedDict[str, Allowance] = OrderedDict()
        self._scan_at = monotonic() + SCAN_EVERY
        #: Why the keys cannot be read; "" while they can.
        self._unread = ""
        self._log_at = 0.0

    def rescan_keys(self) -> bool:
        """Read the known keys again if it is time; returns whether they were read.

        If they cannot be read now, the known keys stay valid: too many open files must not turn cameras away.
        """
        if self._clients is None or self._monotonic() < self._scan_at:
            return False
        self._scan_at = self._monotonic() + SCAN_EVERY
        try:
            self._clients.scan()
        except (OSError, KeysError) as error:
            self._log_unread(str(error))
            return False
        if self._unread:
            log.info("client keys read again folder=%s", self._clients.folder)
            self._unread = ""
        return True

    def _log_unread(self, error: str) -> None:
        """Say that the keys cannot be read: when it begins, when the reason changes, and now and then."""
        assert self._clients is not None
        now = self._monotonic()
        if error != self._unread or now >= self._log_at:
            log.error("client keys not read folder=%s error=%s", self._clients.folder, error)
            self._unread, self._log_at = error, now + _LOG_EVERY

    def draw(self, origin: Origin, size: int) -> str:
        """Charge a message of ``size`` bytes to its sender; returns the limit that it exceeds, or ""."""
        if not self._limits:
            return ""
        sender = self._name(origin) or origin.source
        now = self._monotonic()
        allowance = self._allowances.pop(sender, None) or full(self._limits, now)
        self._allowances[sender], beyond = take(self._limits, allowance, size, now)
        if len(self._allowances) > _REMEMBERED:
            self._allowances.popitem(last=False)
        return beyond or ""

    def admit(self, origin: Origin, message: Message, beyond: str) -> str:
        """Accept a message or refuse it.

        Args:
            origin: The message's sender.
            message: The message.
            beyond: The result of ``draw`` for it.

        Returns:
            The owner of its share of the queue: the client, or without CURVE the camera.

        Raises:
            WireError: The sender's key was revoked, the camera is not the sender's, or a limit is exceeded.
        """
        name = self._name(origin)
        if self._clients is not None and name is None:
            raise addressed(message, WireError("revoked", "the key of this connection is not known any more"))
        if self._bind_cameras and name is not None and not _is_of(message, name):
            raise addressed(
                message,
                WireError(
                    "foreign_camera",
                    f"the client {name} may send only for the camera {name} (security.bind_camera_names)",
                ),
            )
        if beyond:
            key, limit = (
                ("max_frames_per_second", self._limits.frames_per_second)
                if beyond == "frames"
                else ("max_bytes_per_second", self._limits.bytes_per_second)
            )
            raise addressed(
                message, WireError("rate", f"rejected: more than {limit:g} {beyond} a second (ingest.{key})")
            )
        return name or camera_of(message)

    def _name(self, origin: Origin) -> str | None:
        return None if self._clients is None else self._clients.known.get(origin.source)


def camera_of(message: Message) -> str:
    """The camera that a message claims to come from; for a label, the camera in its sample's id."""
    if isinstance(message, LabelMessage):
        return message.sample_id.rsplit("-", 2)[0]
    return message.camera


def addressed(message: Message, error: WireError) -> WireError:
    """The same error with the camera, number or sample id of the message that it answers."""
    if isinstance(message, LabelMessage):
        return WireError(error.reason, str(error), sample_id=message.sample_id)
    if isinstance(message, ForeignFrame):
        return WireError(error.reason, str(error), camera=message.camera, protocol=message.protocol)
    return WireError(error.reason, str(error), camera=message.camera, seq=message.seq)


def _is_of(message: Message, camera: str) -> bool:
    if isinstance(message, LabelMessage):
        return parse_sample_id(camera, message.sample_id) is not None
    return message.camera == camera
