"""CURVE certificates as files in the format of ``zmq.auth``: creates and reads them, and checks their modes.

One folder holds ``server.key`` and ``server.key_secret`` of the daemon, and ``clients/NAME.key`` of each
client that it admits. ``NAME.key_secret`` is created beside that and belongs on the client's machine.
Removing ``clients/NAME.key`` revokes the client.
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import zmq
from zmq.auth import load_certificate
from zmq.utils import z85

from dance_ondevice.daemon.system.state import CAMERA_NAME

SERVER = "server"
CLIENTS = "clients"
#: Environment variable with the folder where systemd puts the files of LoadCredential=.
CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"
PUBLIC_SUFFIX = ".key"
SECRET_SUFFIX = ".key_secret"

_PUBLIC_MODE = 0o644
_SECRET_MODE = 0o600
_FOLDER_MODE = 0o700
_KEY_BYTES = 32


class KeysError(Exception):
    """Keys that cannot be made or used; the message names the file and says what to do."""


@dataclass(frozen=True)
class KeyPair:
    """A CURVE key pair, each key as 40 characters of Z85."""

    public: bytes
    secret: bytes = field(repr=False)


@dataclass(frozen=True)
class Certificate:
    """A pair of files; ``name`` is a client's name, or "server"."""

    name: str
    key: str
    public: Path
    secret: Path


def generate(folder: Path, clients: Sequence[str]) -> tuple[Certificate, ...]:
    """Create the server's certificate, unless there is one already, and one for each client.

    Args:
        folder: The folder of keys, created with mode 0700 if it is missing.
        clients: Client names; they follow the rules of camera names, since a client may be bound to the
            camera of its name.

    Returns:
        The new certificates. Secret files have mode 0600, public ones 0644.

    Raises:
        KeysError: A name is not allowed or given twice, a file exists already, there is nothing to do, or the
            folder cannot be written. Then nothing has been written.
    """
    for name in clients:
        if CAMERA_NAME.fullmatch(name) is None:
            raise KeysError(
                f"{name!r} is no client name: up to 64 letters, digits and _.- that begin with a letter or "
                "digit"
            )
    if len(set(clients)) != len(clients):
        raise KeysError("a client is named twice; each needs a name of its own")
    server = _certificate_paths(folder, SERVER)
    has_server = all(path.exists() for path in server)
    if has_server and not clients:
        raise KeysError(
            f"{server[0]} is there already; name clients to add with --client, or move the old keys away "
            "first: senders that know the old public key cannot connect to a daemon with a new one"
        )
    names = ([] if has_server else [(SERVER, folder)]) + [(name, folder / CLIENTS) for name in clients]
    planned = [(name, *_certificate_paths(parent, name)) for name, parent in names]
    taken = [str(path) for _, *paths in planned for path in paths if os.path.lexists(path)]
    if taken:
        raise KeysError(f"keys are never overwritten; move away first: {', '.join(taken)}")
    written: list[Path] = []
    try:
        for parent in (folder, folder / CLIENTS):
            parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
            # Whose it is does not matter yet: root may make keys for the daemon's user.
            check_folder(parent, {parent.stat().st_uid})
        return tuple(_make(name, public, secret, written) for name, public, secret in planned)
    except BaseException as error:
        for path in written:
            with contextlib.suppress(OSError):
                path.unlink()
        if isinstance(error, OSError):
            raise KeysError(f"cannot write keys in {folder}: {error.strerror or error}") from error
        raise


def load_pair(path: Path, *, private: bool = True, owners: Collection[int] | None = None) -> KeyPair:
    """Read a secret certificate.

    Args:
        path: A ``.key_secret`` file.
        private: Whether a file that other users may read is refused.
        owners: Users who may own the file; None for any.

    Raises:
        KeysError: The file is not readable, readable by other users, another user's, or not a certificate, or
            its two keys do not belong together.
    """
    public, secret = _load(path)
    if secret is None:
        raise KeysError(f"{path} holds no secret key; give the file that ends in {SECRET_SUFFIX}")
    facts = path.stat()
    mode = stat.S_IMODE(facts.st_mode)
    if private and mode & 0o077:
        raise KeysError(f"{path} has mode {mode:04o}, others may read it; run: chmod 600 {path}")
    if owners is not None:
        check_access(path, facts, owners)
    if zmq.curve_public(secret) != public:
        raise KeysError(f"{path}: its public key is not that of its secret key; make new ones")
    return KeyPair(public, secret)


def load_public(path: Path) -> bytes:
    """Read a public key, 40 characters of Z85, from a public or secret certificate.

    Raises:
        KeysError: The file is not readable or not a certificate.
    """
    return _load(path)[0]


def is_credential(path: Path, environ: Mapping[str, str]) -> bool:
    """Whether systemd provided the file (LoadCredential=), which then restricts who may read it."""
    folder = environ.get(CREDENTIALS_VARIABLE)
    return bool(folder) and path.resolve().is_relative_to(Path(folder or "").resolve())


def trusted_owners() -> frozenset[int]:
    """The users whose key files are trusted: root and this process's own user."""
    return frozenset({0, os.geteuid()})


def check_folder(folder: Path, owners: Collection[int] | None = None) -> None:
    """Refuse a folder of keys that belongs to other users, or that they may write to.

    Args:
        folder: The folder of keys.
        owners: Users who may own it; None for ``trusted_owners``.

    Raises:
        KeysError: Every user may write to it, and so could admit itself.
        OSError: The folder cannot be read.
    """
    check_access(folder, folder.stat(), trusted_owners() if owners is None else owners)


def check_access(path: Path, facts: os.stat_result, owners: Collection[int]) -> None:
    """Refuse what belongs to others or may be written by them, as ssh does.

    Args:
        path: a file or folder, for the message.
        facts: what it looks like.
        owners: who may own it.

    Raises:
        KeysError: whoever can write there can admit himself.
    """
    mode = stat.S_IMODE(facts.st_mode)
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        who = "anybody" if mode & stat.S_IWOTH else "its group"
        what = "add keys" if stat.S_ISDIR(facts.st_mode) else "change the key"
        bits = ((stat.S_IWOTH, "o-w"), (stat.S_IWGRP, "g-w"))
        remedy = f"chmod {','.join(change for bit, change in bits if mode & bit)} {path}"
        raise KeysError(f"{path} has mode {mode:04o}, {who} may {what}; run: {remedy}")
    if facts.st_uid not in owners:
        raise KeysError(
            f"{path} belongs to user {facts.st_uid}, who may change it; "
            f"run: chown {os.geteuid()} {path} (root may own it as well)"
        )


def _certificate_paths(parent: Path, name: str) -> tuple[Path, Path]:
    return parent / f"{name}{PUBLIC_SUFFIX}", parent / f"{name}{SECRET_SUFFIX}"


def _make(name: str, public: Path, secret: Path, written: list[Path]) -> Certificate:
    public_key, secret_key = (key.decode("ascii") for key in zmq.curve_keypair())
    # The public file admits the client, so it is written last.
    for path, mode, kind, lines in (
        (secret, _SECRET_MODE, "secret: keep it from everybody else", (public_key, secret_key)),
        (public, _PUBLIC_MODE, "public", (public_key,)),
    ):
        keys = "".join(
            f'    {word}-key = "{key}"\n' for word, key in zip(("public", "secret"), lines, strict=False)
        )
        text = f'# CURVE certificate of "{name}", {kind}.\nmetadata\n    name = "{name}"\ncurve\n{keys}'
        _write_new(path, text.encode("ascii"), mode)
        written.append(path)
    return Certificate(name, public_key, public, secret)


def _write_new(path: Path, data: bytes, mode: int) -> None:
    """Write a new file completely or not at all, with its mode from the start."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)  # whatever root's own habit is: the service's user reads public keys
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        with contextlib.suppress(OSError):
            path.unlink()
        raise


#: The format, for keys that were made by other programs, such as libzmq's curve_keygen.
_EXPECTED = (
    '; expected the line public-key = "..." with 40 characters (Z85), in a secret file secret-key as well'
)


def _load(path: Path) -> tuple[bytes, bytes | None]:
    try:
        public, secret = load_certificate(path)
        keys = [key for key in (public, secret) if key is not None]
        if not all(len(z85.decode(key)) == _KEY_BYTES for key in keys):
            raise ValueError("a key is not 40 characters long")
    except (OSError, ValueError, KeyError, struct.error) as error:
        # z85 raises KeyError for a character outside its alphabet, and struct.error for five characters that
        # encode more than 32 bits.
        raise KeysError(
            f"{path} is no readable CURVE certificate: {error}"
            + ("" if isinstance(error, OSError) else _EXPECTED)
        ) from error
    return public, secret
