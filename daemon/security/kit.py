"""Kits: the folders that make a machine a fleet's server or one of its boards.

``DIR/server`` holds the server's keys, the public keys of the boards that it admits (``clients/NAME.key``;
removing one revokes the board) and the fleet's root model. ``DIR/boards/NAME`` holds what one board needs:
its own secret key, the server's public key and the root's description. Secret files have mode 0600.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from dance_ondevice.daemon.security import keys
from dance_ondevice.daemon.security.curve import ClientCurve, ServerCurve, load_server
from dance_ondevice.documents import DocumentError, decode
from dance_ondevice.files import write_durably
from dance_ondevice.fleet.root import Root, RootError, decode_root, encode_root
from dance_ondevice.models.card import CARD_FILE, TENSORS_FILE
from dance_ondevice.policies.fleet.rules import FleetRules

__all__ = [
    "BOARD_SECRET",
    "BoardKit",
    "BoardSettings",
    "KitError",
    "ServerKit",
    "ServerSettings",
    "Written",
    "open_board",
    "open_board_root",
    "open_server",
    "write",
]

_T = TypeVar("_T")

BOARD_SECRET = f"board{keys.SECRET_SUFFIX}"
_SERVER, _BOARDS, _MODEL = "server", "boards", "root"
_ROOT, _SETTINGS = "root.json", "kit.json"


class KitError(Exception):
    """A kit that cannot be made or used; the message says what to do."""


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``server/kit.json``: what the owner of a fleet may change by hand.

    Attributes:
        bind: Where the server listens.
        endpoint: Where boards find it; only for kits that are made later.
        sync_seconds: Seconds after which a board asks for news again.
        most_requests: Requests of one board in a second; more are answered that it shall wait.
        rules: Rules of averaging and publication.
    """

    bind: str
    endpoint: str
    sync_seconds: Annotated[float, msgspec.Meta(ge=0.05)] = 300.0
    most_requests: Annotated[float, msgspec.Meta(ge=1.0)] = 20.0
    rules: FleetRules = FleetRules()


class BoardSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``boards/NAME/kit.json``: who the board is, and where it finds its server."""

    board: str
    endpoint: str
    root: str


@dataclass(frozen=True, kw_only=True)
class ServerKit:
    """An opened server kit; ``model`` is the folder of the root model."""

    folder: Path
    settings: ServerSettings
    root: Root
    model: Path
    curve: ServerCurve


@dataclass(frozen=True, kw_only=True)
class BoardKit:
    """An opened board kit."""

    settings: BoardSettings
    curve: ClientCurve


@dataclass(frozen=True, kw_only=True)
class Written:
    """What ``write`` made: the server's kit, and those of the new boards by name."""

    server: Path
    boards: dict[str, Path]


def write(
    folder: Path, boards: Sequence[str], *, root: Root | None, model: Path | None, bind: str, endpoint: str
) -> Written:
    """Make a fleet's kits, or those of more boards of a fleet that is there.

    Args:
        folder: The fleet's folder.
        boards: Names of the new boards.
        root: Description of the root model; None for a fleet that is there.
        model: Folder of the root model; None for a fleet that is there.
        bind: Where the server listens.
        endpoint: Where boards find it.

    Raises:
        KitError: A name is taken or not allowed, or the folder cannot be written. Then no kit is left, and no
            key that would admit a board that has none.
    """
    server = folder / _SERVER
    fresh: list[Path] = []
    try:
        if (server / _SETTINGS).exists():
            settings, root = _read_settings(server), _read_root(server / _ROOT)
        elif root is None or model is None:
            raise KitError(f"there is no fleet in {folder} yet: name the model that its boards begin with")
        else:
            settings = ServerSettings(bind=bind, endpoint=endpoint)
        for name in boards:
            known = server / keys.CLIENTS / f"{name}{keys.PUBLIC_SUFFIX}"
            if name and os.path.lexists(known):
                raise KitError(
                    f"{name} is a board of this fleet already: {known} admits it; give the new board another "
                    "name, or, where that kit is lost, remove this file, which revokes it, and make it anew"
                )
            if name and os.path.lexists(folder / _BOARDS / name):
                raise KitError(f"{folder / _BOARDS / name} is there already; move it away to make it anew")
        # Kits hold secrets, and who may write here could admit himself.
        for each in (folder, server, folder / _BOARDS):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = keys.generate(server, boards)
        fresh = [path for each in made for path in (each.public, each.secret)]
        fresh += [folder / _BOARDS / name for name in boards]
        if model is not None and not (server / _SETTINGS).exists():
            _place_root(server, root, model)
        written = {
            each.name: _place_board(folder / _BOARDS / each.name, server, each, settings, root)
            for each in made
            if each.name != keys.SERVER or each.secret.parent != server
        }
        # Last: a fleet is there once its settings are.
        if not (server / _SETTINGS).exists():
            write_durably(server / _SETTINGS, _text(settings))
    except BaseException as error:
        _undo(fresh)
        if isinstance(error, keys.KeysError):
            raise KitError(str(error)) from error
        if isinstance(error, OSError):
            raise KitError(f"cannot write kits in {folder}: {error.strerror or error}") from error
        raise
    return Written(server=server, boards=written)


def open_server(folder: Path, environ: Mapping[str, str]) -> ServerKit:
    """Open a server's kit.

    Raises:
        KitError: Something is missing or damaged, or others may write to it.
    """
    try:
        if not (folder / f"{keys.SERVER}{keys.PUBLIC_SUFFIX}").exists() or (folder / BOARD_SECRET).exists():
            raise KitError(
                f"{folder} is no server's kit: that is the folder `server` which `fleet init` made"
            )
        curve = load_server(str(folder), environ)
    except keys.KeysError as error:
        raise KitError(str(error)) from error
    return ServerKit(
        folder=folder,
        settings=_read_settings(folder),
        root=_read_root(folder / _ROOT),
        model=folder / _MODEL,
        curve=curve,
    )


def open_board(folder: Path, environ: Mapping[str, str]) -> BoardKit:
    """Open a board's kit; systemd may hand its secret over as the credential ``board.key_secret``.

    Raises:
        KitError: Something is missing or damaged, or others may read the secret.
    """
    if (folder / keys.CLIENTS).exists():
        raise KitError(f"{folder} is a server's kit; a board's is the folder boards/NAME of `fleet init`")
    handed = Path(environ.get(keys.CREDENTIALS_VARIABLE, "") or "/nonexistent") / BOARD_SECRET
    try:
        if handed.exists():
            pair = keys.load_pair(handed, private=False)
        else:
            pair = keys.load_pair(folder / BOARD_SECRET, owners=keys.trusted_owners())
        server = keys.load_public(folder / f"{keys.SERVER}{keys.PUBLIC_SUFFIX}")
    except (keys.KeysError, OSError) as error:
        raise KitError(f"{error}; a board's kit is the folder boards/NAME of `fleet init`") from error
    return BoardKit(settings=_decoded(folder / _SETTINGS, BoardSettings), curve=ClientCurve(pair, server))


def open_board_root(folder: Path) -> Root:
    """Read the root's description from a board's kit, which needs no secret.

    Raises:
        KitError: It is missing or damaged.
    """
    return _read_root(folder / _ROOT)


def _undo(paths: Sequence[Path]) -> None:
    """Remove what was written of new kits."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()


def _place_root(server: Path, root: Root, model: Path) -> None:
    kept = server / _MODEL
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir()
    for name in (TENSORS_FILE, CARD_FILE):
        write_durably(kept / name, (model / name).read_bytes())
    write_durably(server / _ROOT, encode_root(root))


def _place_board(
    folder: Path, server: Path, made: keys.Certificate, settings: ServerSettings, root: Root
) -> Path:
    folder.mkdir(mode=0o700)
    public = f"{keys.SERVER}{keys.PUBLIC_SUFFIX}"
    shutil.copyfile(server / public, folder / public)
    write_durably(folder / _ROOT, encode_root(root))
    about = BoardSettings(board=made.name, endpoint=settings.endpoint, root=root.sha256)
    write_durably(folder / _SETTINGS, _text(about))
    for name in (public, _ROOT, _SETTINGS):
        # Whatever root's own habit is: the daemon's user and that of the link read them on the board.
        (folder / name).chmod(0o644)
    made.secret.rename(folder / BOARD_SECRET)
    return folder


def _read_settings(server: Path) -> ServerSettings:
    settings = _decoded(server / _SETTINGS, ServerSettings)
    # The rules are a plain dataclass, of which msgspec would pass over what it does not know.
    written = _decoded(server / _SETTINGS, dict[str, Any]).get("rules", {})
    known = [field.name for field in fields(FleetRules)]
    if unknown := sorted(set(written) - set(known)):
        raise KitError(f"{server / _SETTINGS}: there is no rule {unknown[0]!r}; there are {', '.join(known)}")
    return settings


def _read_root(path: Path) -> Root:
    try:
        return decode_root(path.read_bytes())
    except OSError as error:
        raise KitError(
            f"{path} cannot be read: {error.strerror or error}; `fleet init` makes kits"
        ) from error
    except RootError as error:
        raise KitError(f"{path}: {error}") from error


def _decoded(path: Path, form: type[_T]) -> _T:
    try:
        return decode(path.read_bytes(), form)
    except OSError as error:
        raise KitError(
            f"{path} cannot be read: {error.strerror or error}; `fleet init` makes kits"
        ) from error
    except DocumentError as error:
        raise KitError(f"{path}: {error}") from error


def _text(settings: msgspec.Struct) -> bytes:
    return msgspec.json.format(msgspec.json.encode(settings), indent=2) + b"\n"
