"""Access of commands to the daemon: its state folder, control socket, index, classes, and a client's keys."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dance_ondevice.daemon.cli import WorkFailed, load_config
from dance_ondevice.daemon.system.owner import AS_SERVICE
from dance_ondevice.files import read_regular

if TYPE_CHECKING:
    from sqlite_utils import Database

    from dance_ondevice.daemon.security.curve import ClientCurve
    from dance_ondevice.daemon.system.state import StatePaths

#: The unit as `make install-service` puts it.
UNIT_FILE = Path("/etc/systemd/system/dance-ondevice.service")


def target(config_path: Path | None, state_dir: Path | None) -> StatePaths:
    """The state folder that ``--config`` and ``--state-dir`` select; see ``instances.locate``.

    Networks of the user's own are found beside the configuration from then on.

    Raises:
        click.UsageError: several daemons run and nothing says which one is meant.
        ConfigError: the configuration cannot be used.
    """
    from dance_ondevice.daemon.config.load import ConfigError
    from dance_ondevice.daemon.control.instances import AmbiguousInstanceError, locate
    from dance_ondevice.daemon.system.state import StatePaths

    try:
        paths = StatePaths(locate(config_path, state_dir, os.environ))
    except AmbiguousInstanceError as error:
        raise click.UsageError(str(error)) from error
    with contextlib.suppress(ConfigError):  # of a folder that is named by itself, its file need not be right
        load_config(config_path)
    return paths


def no_daemon(paths: StatePaths) -> str:
    """Tells that no daemon runs on the state folder, and by what it is started.

    That is the service where the folder is the service's, since by hand root's daemon would leave files there
    that the service cannot write; else ``run`` with the options that this command was given: without the
    configuration it would start with other classes and other sockets.
    """
    from dance_ondevice.daemon.config.sections import Daemon

    said = f"no daemon runs on {paths.root}; start it with"
    if UNIT_FILE.exists() and paths.root == Path(Daemon().state_dir):
        return f"{said} `sudo systemctl start dance-ondevice`"
    context = click.get_current_context(silent=True)
    given = context.params if context is not None else {}
    options = [
        part
        for option, value in (("--config", given.get("config_path")), ("--state-dir", given.get("state_dir")))
        if value is not None
        for part in (option, str(value))
    ]
    other = "" if options else ", or name the folder of another one with --state-dir or --config"
    return f"{said} `{shlex.join(['dance-ondevice', 'run', *options])}`{other}"


def ask(paths: StatePaths, cmd: str, *, timeout: float = 10.0, **args: object) -> Any:
    """The running daemon's answer to a control command.

    Raises:
        WorkFailed: no daemon runs on the state folder, or it refused.
    """
    from dance_ondevice.daemon.control import client, instances

    try:
        published = instances.read_daemon_file(paths)
        if published is None:
            raise WorkFailed(no_daemon(paths))
        return client.request(published.control, cmd, timeout, **args)
    except client.NotRunning as error:
        raise WorkFailed(no_daemon(paths)) from error
    except client.ClientError as error:
        raise WorkFailed(str(error)) from error
    except PermissionError as error:
        raise WorkFailed(f"{error}; {AS_SERVICE}") from error


def daemon_runs(paths: StatePaths) -> bool:
    """Whether a daemon runs on the state folder: one that a power cut has ended left its file behind."""
    from dance_ondevice.daemon.control import instances
    from dance_ondevice.daemon.control.server import is_served

    try:
        published = instances.read_daemon_file(paths)
        return published is not None and is_served(Path(published.control.removeprefix("ipc://")))
    except OSError:  # another user's: asking it says so
        return True


def model_classes(paths: StatePaths, config_path: Path | None) -> tuple[str, ...]:
    """The class names that a state folder's labels are for, in the order of their ids.

    They are those that the daemon has stored, else those of the live model. Only a folder without either has
    those of the configuration, which the command may not have been given.

    Raises:
        ConfigError: the configuration cannot be used.
    """
    from dance_ondevice.daemon.cli import load_config
    from dance_ondevice.documents import decode

    with contextlib.suppress(OSError, ValueError):
        if kept := decode(read_regular(paths.root / "classes.json"), list[str]):
            return tuple(kept)
    try:
        version = decode(read_regular(paths.live_file), dict[str, Any])["version"]
        card = decode(read_regular(paths.models / version / "card.json"), dict[str, Any])
        return tuple(card["classes"])
    except (OSError, ValueError, KeyError, TypeError):
        return tuple(load_config(config_path).config.model.classes)


@contextmanager
def index(paths: StatePaths) -> Iterator[Database]:
    """The database of a state folder, read-only; of an earlier version's a migrated copy.

    Raises:
        WorkFailed: there is none, or it cannot be read.
    """
    import sqlite3

    from dance_ondevice.daemon.store.samples import StoreError
    from dance_ondevice.daemon.store.schema import up_to_date
    from dance_ondevice.daemon.store.service import open_reader

    if not paths.has_database():
        raise WorkFailed(f"{paths.database} is not there; give the daemon's folder with --state-dir")
    try:
        database = open_reader(paths)
        try:
            database = up_to_date(database)
            yield database
        finally:
            database.close()
    except StoreError as error:
        raise WorkFailed(str(error)) from error
    except sqlite3.Error as error:
        raise WorkFailed(
            f"{paths.database}: {error}; run `dance-ondevice doctor --state-dir {paths.root}`"
        ) from error


def client_key_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--keys`` and ``--server-key`` to a command that connects to a daemon with CURVE."""
    server_key = click.option(
        "--server-key",
        "server_key_file",
        metavar="FILE",
        envvar="DANCE_SERVER_KEY",
        type=click.Path(path_type=Path),
        help="Public key file of the daemon (server.key).",
    )
    keys = click.option(
        "--keys",
        "keys_file",
        metavar="FILE",
        envvar="DANCE_KEYS",
        type=click.Path(path_type=Path),
        help="Secret key file of this client (NAME.key_secret), for a daemon with CURVE.",
    )
    return keys(server_key(command))


def client_curve(keys_file: Path | None, server_key_file: Path | None) -> ClientCurve | None:
    """Load the keys that ``--keys`` and ``--server-key`` name; None where neither is given.

    Raises:
        click.UsageError: Only one of them is given.
        WorkFailed: A file is missing or holds no such key.
    """
    if keys_file is None and server_key_file is None:
        return None
    if keys_file is None or server_key_file is None:
        raise click.UsageError(
            "--keys and --server-key go together: this client's secret and the daemon's public key"
        )
    from dance_ondevice.daemon.security.curve import ClientCurve
    from dance_ondevice.daemon.security.keys import KeysError, is_credential, load_pair, load_public

    try:
        pair = load_pair(keys_file, private=not is_credential(keys_file, os.environ))
        return ClientCurve(pair, load_public(server_key_file))
    except KeysError as error:
        raise WorkFailed(str(error)) from error


def cameras_with_samples(database: Database) -> list[str]:
    """Names of the cameras of which a sample is stored."""
    return [row[0] for row in database.execute("SELECT DISTINCT camera FROM samples ORDER BY camera")]


def no_sample_of(camera: str, stored: Sequence[str]) -> str:
    """Tells that a camera has no samples, and which ones have: the name may be mistyped."""
    return f"no sample of camera {camera!r} is stored; samples are of: {', '.join(stored) or 'no camera yet'}"
