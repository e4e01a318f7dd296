"""``fleet serve`` and ``fleet join``: the fleet's two processes, in the foreground."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dance_ondevice.daemon.cli import WorkFailed, config_option, state_dir_option
from dance_ondevice.daemon.commands.access import target

if TYPE_CHECKING:
    from dance_ondevice.daemon.system.state import StatePaths

_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


@click.command()
@click.option(
    "--kit",
    "folder",
    required=True,
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The server's kit: DIR/server of `fleet init`.",
)
@click.option(
    "--state",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of offers and versions; by default `state` in the kit.",
)
@click.option(
    "--metrics",
    metavar="HOST:PORT",
    default="127.0.0.1:9749",
    show_default=True,
    help="Where metrics are served; empty for nowhere.",
)
def serve(folder: Path, state: Path | None, metrics: str) -> None:
    """Serve a fleet: admit what boards offer, average it, publish what gains on their frames.

    Prints its endpoint once boards can connect. It gives no orders and needs no torch. Runs until SIGTERM or
    Ctrl-C; its state is safe at any moment. Exit status: 0 stopped as asked, 1 otherwise.
    """
    from dance_ondevice.daemon.fleet.serve import serve as run
    from dance_ondevice.daemon.fleet.shelf import ShelfError
    from dance_ondevice.daemon.security.kit import KitError, open_server
    from dance_ondevice.models.card import CheckpointError

    logging.basicConfig(level=logging.INFO, format=_LOG_FORMAT, force=True)

    def ready(endpoint: str, url: str) -> None:
        click.echo(f"fleet at {endpoint}" + (f", metrics at {url}" if url else ""))

    try:
        kit = open_server(folder, os.environ)
        status = run(kit, state or folder / "state", metrics=metrics, environ=os.environ, ready=ready)
    except (KitError, ShelfError, CheckpointError, OSError) as error:
        raise WorkFailed(str(error)) from error
    raise click.exceptions.Exit(status)


@click.command()
@click.option(
    "--kit",
    "folder",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="This board's kit: DIR/boards/NAME of `fleet init`; by default fleet.kit of the configuration.",
)
@click.option("--once", is_flag=True, help="Exchange what there is and end; exit status 1 if that failed.")
@config_option
@state_dir_option
def join(folder: Path | None, *, once: bool, config_path: Path | None, state_dir: Path | None) -> None:
    """Carry files between this board's daemon and its fleet's server, until it is stopped.

    It connects outward only, keeps nothing itself and needs no torch. Daemon and server may stop, start and
    be away for days meanwhile.
    """
    from dance_ondevice.daemon.fleet.join import run
    from dance_ondevice.daemon.security.kit import KitError, open_board

    logging.basicConfig(level=logging.INFO, format=_LOG_FORMAT, force=True)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        kit = open_board(folder or _configured_kit(config_path, state_dir), os.environ)
    except KitError as error:
        raise WorkFailed(str(error)) from error
    trouble = run(kit, _fleet_socket(config_path, state_dir), stop, once=once)
    if once and trouble:
        raise WorkFailed(trouble)


def _configured_kit(config_path: Path | None, state_dir: Path | None) -> Path:
    from dance_ondevice.daemon.cli import load_config

    configured = load_config(config_path, state_dir).config.fleet.kit
    if not configured:
        raise click.UsageError("name this board's kit with --kit, or fleet.kit in the configuration")
    return Path(configured)


def _fleet_socket(config_path: Path | None, state_dir: Path | None) -> Callable[[], str]:
    """Return what finds the daemon's fleet socket: the daemon may restart at any time.

    Its folder is found once: neither a configuration that is being edited nor a second daemon ends the link.

    Raises:
        click.UsageError, ConfigError: See ``target``.
    """
    from dance_ondevice.daemon.config.load import ConfigError
    from dance_ondevice.daemon.control.fleet import shared_socket

    shared = shared_socket(os.environ)
    if shared is not None:
        return lambda: _of_unit(shared)
    where = target(config_path, state_dir)

    def find() -> str:
        nonlocal where
        if config_path is None and state_dir is None:  # whichever runs, as for other commands
            with contextlib.suppress(ConfigError, click.UsageError):
                where = target(None, None)
        return _published(where)

    return find


def _of_unit(shared: Path) -> str:
    """The socket between the two units.

    Raises:
        NotRunning: It is not there, or this user may not see it.
    """
    from dance_ondevice.daemon.control.client import NotRunning

    if not os.access(shared, os.F_OK):
        raise NotRunning(
            f"{shared} is not there, or not for this user: the daemon does not run, or fleet.kit is not set "
            "in its configuration, which takes a restart"
        )
    return f"ipc://{shared}"


def _published(where: StatePaths) -> str:
    """The socket that the daemon of a state folder has published.

    Raises:
        NotRunning: No daemon runs, or it is in no fleet.
        ClientError: This user may not read the folder.
    """
    from dance_ondevice.daemon.control.client import ClientError, NotRunning
    from dance_ondevice.daemon.control.instances import read_daemon_file

    try:
        found = read_daemon_file(where)
    except OSError as error:
        raise ClientError(f"{error}; `fleet join` runs as the daemon's user, or by its unit") from error
    if found is None:
        raise NotRunning(f"it does not run on {where.root}")
    if found.fleet is None:
        raise NotRunning("it is in no fleet: set fleet.kit in its configuration, and restart it")
    return found.fleet
