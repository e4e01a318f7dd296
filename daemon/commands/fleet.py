"""``dance-ondevice fleet``: make a fleet's kits, serve it, join it, and see how a board stands in it."""

from __future__ import annotations

import logging
import os
import re
import signal
import threading
from pathlib import Path
from typing import Any

import click

from dance_ondevice.daemon.cli import WorkFailed, config_option, json_option, state_dir_option
from dance_ondevice.daemon.commands.access import ask, target
from dance_ondevice.daemon.terminal import print_json, print_table

_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


@click.group()
def fleet() -> None:
    """Let boards learn together without sharing images.

    Boards send weights and counts to a server of yours, and never images, labels or statistics of them.
    """


@fleet.command()
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--boards",
    required=True,
    metavar="N|NAMES",
    help="How many boards, or their names with commas between them; later calls add more.",
)
@click.option(
    "--model",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Model that the boards were installed with; by default the one that comes along.",
)
@click.option(
    "--endpoint",
    default="tcp://127.0.0.1:5590",
    show_default=True,
    metavar="tcp://HOST:PORT",
    help="Where boards find the server.",
)
@click.option(
    "--bind",
    metavar="tcp://ADDRESS:PORT",
    help="Where the server listens; by default the endpoint's port, on loopback if that is the host.",
)
@json_option
def init(
    folder: Path, boards: str, *, model: Path | None, endpoint: str, bind: str | None, as_json: bool
) -> None:
    """Make the kits of a server and of its boards in DIR, or those of more boards.

    DIR/server belongs on the server, DIR/boards/NAME on the board NAME, and nowhere else: each holds a secret
    key of mode 0600. Nothing is ever overwritten. Removing DIR/server/clients/NAME.key revokes a board.
    """
    from dance_ondevice.daemon.security.kit import KitError, write

    names = [f"board{number}" for number in range(1, int(boards) + 1)] if boards.isdigit() else None
    address = re.fullmatch(r"tcp://(\S+):(\d+)", endpoint)
    if address is None:
        raise click.UsageError(f"--endpoint {endpoint!r} is not tcp://HOST:PORT")
    host, port = address.groups()
    local = host in ("127.0.0.1", "localhost", "[::1]")
    listens = bind or (endpoint if local else f"tcp://0.0.0.0:{port}")
    there = (folder / "server" / "kit.json").exists()
    root, source = (None, None) if there else _root(model)
    try:
        made = write(
            folder,
            names if names is not None else [name.strip() for name in boards.split(",")],
            root=root,
            model=source,
            bind=listens,
            endpoint=endpoint,
        )
    except KitError as error:
        raise WorkFailed(str(error)) from error
    if as_json:
        print_json({"server": made.server, "boards": made.boards})
        return
    rows = [("server", str(made.server)), *((name, str(path)) for name, path in made.boards.items())]
    print_table("Kits", ("kit of", "folder"), rows)


def _root(model: Path | None) -> tuple[Any, Path]:
    """The description of the root model, and its folder; the one place of this command that needs torch."""
    from dance_ondevice.fleet.describe import describe
    from dance_ondevice.fleet.root import RootError
    from dance_ondevice.models import packaged
    from dance_ondevice.models.card import CheckpointError

    folder = model or packaged.FOLDER
    try:
        return describe(folder), folder
    except (CheckpointError, RootError) as error:
        raise WorkFailed(str(error)) from error


@fleet.command()
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


@fleet.command()
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


@fleet.command()
@config_option
@state_dir_option
@json_option
def status(config_path: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """Show how this board stands in its fleet: versions, its offer, what it judged, bytes."""
    found = ask(target(config_path, state_dir), "status")["fleet"]
    if as_json:
        print_json(found)
        return
    if found is None:
        raise WorkFailed("this daemon is in no fleet: set fleet.kit in its configuration, and restart it")
    heard = found["heard_at"]
    rows = [
        ("root", found["root"][:12]),
        ("live model goes back to", f"version {found['version']}"),
        ("published", "unknown" if found["published"] is None else f"version {found['published']}"),
        ("scored by volunteers", f"version {found['candidate']}" if found["candidate"] else "none"),
        ("offered", f"{found['offered'] or 'nothing'}: {found['offer']}"),
        ("server heard of", _clock(heard) if heard else "never"),
        ("sent / received", f"{found['sent_bytes'] / 1e6:.2f} / {found['received_bytes'] / 1e6:.2f} MB"),
        ("trouble", found["trouble"] or "none"),
    ]
    if found["set_back"]:
        rows.append(("note", "the server was set back: it does not know the version that this board took"))
    rows += [
        (f"version {each['number']}", f"{each['outcome']} ({each['gain']:+.3f}): {each['reason']}")
        for each in found["judged"]
    ]
    print_table("Fleet", ("what", "state"), rows)


def _clock(at: float) -> str:
    from datetime import datetime

    return datetime.fromtimestamp(at).astimezone().isoformat(sep=" ", timespec="seconds")
