"""CURVE on sockets: the options of both ends, and where the daemon's keys come from.

CURVE encrypts and gives the server the client's public key; ZAP decides whether that key is known
(https://rfc.zeromq.org/spec/25/, https://rfc.zeromq.org/spec/27/).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq

from dance_ondevice.daemon.security.clients import ClientKeys
from dance_ondevice.daemon.security.keys import (
    CLIENTS,
    CREDENTIALS_VARIABLE,
    SECRET_SUFFIX,
    SERVER,
    KeyPair,
    KeysError,
    load_pair,
    trusted_owners,
)

#: The ZAP domain of all sockets of the daemon.
DOMAIN = b"dance-ondevice"
#: Milliseconds after which a client that has not proved its key is disconnected.
_HANDSHAKE_MS = 10_000


@dataclass(frozen=True)
class ServerCurve:
    """The daemon's side: its own key pair and the clients that it admits."""

    pair: KeyPair
    clients: ClientKeys


@dataclass(frozen=True)
class ClientCurve:
    """A sender's side: its own key pair and the daemon's public key (Z85)."""

    pair: KeyPair
    server_key: bytes


def serve(socket: zmq.Socket[Any], pair: KeyPair) -> None:
    """Make a socket require CURVE and a ZAP verdict of each client; call it before the bind.

    The domain is enforced: with no authenticator in the context no client is admitted, while libzmq alone
    would admit every client.
    """
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt(zmq.CURVE_SECRETKEY, pair.secret)
    socket.setsockopt(zmq.ZAP_DOMAIN, DOMAIN)
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
    socket.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)


def join(socket: zmq.Socket[Any], pair: KeyPair, server_key: bytes) -> None:
    """Make a socket connect as ``pair``, only to the holder of ``server_key``; call it before connecting."""
    socket.setsockopt(zmq.CURVE_SERVERKEY, server_key)
    socket.setsockopt(zmq.CURVE_PUBLICKEY, pair.public)
    socket.setsockopt(zmq.CURVE_SECRETKEY, pair.secret)


def load_server(
    keys_dir: str, environ: Mapping[str, str], owners: Collection[int] | None = None
) -> ServerCurve:
    """Load the daemon's keys from ``security.keys_dir`` and from systemd's credentials.

    The secret key is taken from ``$CREDENTIALS_DIRECTORY/server.key_secret`` if that is there, else from
    ``keys_dir``. Clients are the files ``keys_dir/clients/NAME.key``; without ``keys_dir`` they are the
    credentials ``clients_NAME.key``, which is what ``LoadCredential=clients:FOLDER`` makes of a folder.

    Args:
        keys_dir: ``security.keys_dir``.
        environ: where systemd says what it hands over.
        owners: users who may own keys and folders; None for root and this process's own.

    Raises:
        KeysError: Keys are missing or cannot be used, or this libzmq has no CURVE.
    """
    if not zmq.has("curve"):
        raise KeysError("this libzmq was built without CURVE; install pyzmq's own wheel")
    owners = trusted_owners() if owners is None else owners
    credentials = Path(environ[CREDENTIALS_VARIABLE]) if environ.get(CREDENTIALS_VARIABLE) else None
    handed_over = credentials / f"{SERVER}{SECRET_SUFFIX}" if credentials else None
    if handed_over is not None and handed_over.exists():
        # systemd sets the modes of its credentials.
        pair = load_pair(handed_over, private=False)
    elif keys_dir:
        path = Path(keys_dir) / f"{SERVER}{SECRET_SUFFIX}"
        if not path.exists():
            raise KeysError(f"{path} is not there; run: dance-ondevice keys generate --dir {keys_dir}")
        pair = load_pair(path, owners=owners)
    else:
        raise KeysError(
            f"there is neither security.keys_dir nor ${CREDENTIALS_VARIABLE}/{SERVER}{SECRET_SUFFIX}; make "
            "keys with: dance-ondevice keys generate --dir FOLDER"
        )
    if keys_dir:
        clients = ClientKeys(Path(keys_dir) / CLIENTS, owners=owners)
    else:
        assert credentials is not None
        clients = ClientKeys(credentials, prefix=f"{CLIENTS}_")
    try:
        clients.scan()
    except OSError as error:
        raise KeysError(f"{clients.folder} cannot be read: {error.strerror or error}") from error
    return ServerCurve(pair, clients)
