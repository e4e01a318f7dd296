"""The console's token and its socket: what the daemon and the console must agree on."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from dance_ondevice.daemon.system.owner import AS_SERVICE
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.files import temporary_beside

__all__ = [
    "SOCKET_MODE", "SOCKET_VARIABLE", "TokenError", "ensure_token", "read_token", "shared_socket",
    "token_for_daemon",
]  # fmt: skip

log = logging.getLogger(__name__)

#: Names the socket between a daemon and a console of different users; both units set it.
SOCKET_VARIABLE = "DANCE_CONSOLE_SOCKET"
#: The folder of such a socket gives it its group (systemd/dance-ondevice.tmpfiles.conf).
SOCKET_MODE = 0o660
_TOKEN = re.compile(r"[A-Za-z0-9_-]{20,200}")


class TokenError(ValueError):
    """The token cannot be read or made; the message says what to do."""


def ensure_token(paths: StatePaths) -> str:
    """The console's token; made, and written with mode 0600, where there is none.

    Raises:
        TokenError: The file cannot be read or written, or holds no usable token.
    """
    found = read_token(paths)
    if found is not None:
        return found
    token = secrets.token_urlsafe(24)
    try:
        paths.root.mkdir(parents=True, exist_ok=True)
        temporary = temporary_beside(paths.console_token)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, f"{token}\n".encode())
            os.fsync(descriptor)
            # A link and not a rename: of a daemon and a console that start at once, one makes the token.
            with contextlib.suppress(FileExistsError):
                os.link(temporary, paths.console_token)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            temporary.rename(paths.console_token)  # FAT and exFAT have no links
        finally:
            os.close(descriptor)
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise TokenError(f"{paths.console_token} cannot be written: {error.strerror or error}") from error
    return read_token(paths) or token


def token_for_daemon(paths: StatePaths) -> str:
    """The console's token; where its file is no use one that nobody knows: frames need no console."""
    try:
        return ensure_token(paths)
    except TokenError as error:
        log.error("nobody can enter the console until the next start reason=%s", error)
        return secrets.token_urlsafe(24)


def read_token(paths: StatePaths) -> str | None:
    """The console's token; None where there is none yet.

    Raises:
        TokenError: The file cannot be read, or holds no usable token.
    """
    try:
        text = paths.console_token.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise TokenError(f"{paths.console_token} cannot be read: {error}; {AS_SERVICE}") from error
    if not _TOKEN.fullmatch(text):
        raise TokenError(
            f"{paths.console_token} holds no token (20 or more letters, digits, - and _): remove it, "
            "and the next start of daemon or console makes another"
        )
    return text


def shared_socket(environ: Mapping[str, str]) -> Path | None:
    """The socket that ``DANCE_CONSOLE_SOCKET`` names; None where it lies beside the control socket."""
    given = environ.get(SOCKET_VARIABLE, "")
    return Path(given).absolute() if given else None
