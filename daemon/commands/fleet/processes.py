"""``fleet serve`` and ``fleet join``: the fleet's two processes, in the foreground."""

from __future__ import annotations

import logging
import os
import signal
import threading
from pathlib import Path

import click

from dance_ondevice.daemon.cli import WorkFailed, config_option, state_dir_option
from dance_ondevice.daemon.commands.access import target

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
    trouble = run(kit, lambda: _fleet_socket(config_path, state_dir), stop, once=once)
    if once and trouble:
        raise WorkFailed(trouble)


def _configured_kit(config_path: Path | None, state_dir: Path | None) -> Path:
    from dance_ondevice.daemon.cli import load_config

    configured = load_config(config_path, state_dir).config.fleet.kit
    if not configured:
        raise click.UsageError("name this board's kit with --kit, or fleet.kit in the configuration")
    return Path(configured)


def _fleet_socket(config_path: Path | None, state_dir: Path | None) -> str:
    """Where the daemon's fleet socket is.

    Raises:
        NotRunning: No daemon runs, or it is in no fleet.
    """
    from dance_ondevice.daemon.control.client import NotRunning
    from dance_ondevice.daemon.control.fleet import shared_socket
    from dance_ondevice.daemon.control.instances import read_daemon_file

    shared = shared_socket(os.environ)
    if shared is not None:
        return f"ipc://{shared}"
    found = read_daemon_file(target(config_path, state_dir))
    if found is None:
        raise NotRunning("it does not run")
    if found.fleet is None:
        raise NotRunning("it is in no fleet: set fleet.kit in its configuration, and restart it")
    return found.fleet
