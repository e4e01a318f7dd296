"""``dance-ondevice fleet``: make a fleet's kits, and see how a board stands in it."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from dance_ondevice.daemon.cli import CommandGroup, WorkFailed, config_option, json_option, state_dir_option
from dance_ondevice.daemon.commands.access import ask, target
from dance_ondevice.daemon.commands.fleet.processes import join, serve
from dance_ondevice.daemon.terminal import print_json, print_table

#: Kits of one call: each is a folder with a key of its own.
_MOST_BOARDS = 100_000


@click.group(cls=CommandGroup)
def fleet() -> None:
    """Let boards learn together without sharing images.

    Boards send weights and counts to a server of yours, and never images, labels or statistics of them.
    """


fleet.add_command(serve)
fleet.add_command(join)


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
@click.pass_context
def init(
    ctx: click.Context,
    folder: Path,
    boards: str,
    *,
    model: Path | None,
    endpoint: str,
    bind: str | None,
    as_json: bool,
) -> None:
    """Make the kits of a server and of its boards in DIR, or those of more boards.

    DIR/server belongs on the server, DIR/boards/NAME on the board NAME, and nowhere else: each holds a secret
    key of mode 0600. Nothing is ever overwritten. Removing DIR/server/clients/NAME.key revokes a board.
    """
    from dance_ondevice.daemon.security.kit import KitError, write

    # Kits are moved to their boards; whom the server admits stays.
    taken = {path.name for path in (folder / "boards").glob("board*")}
    taken |= {path.stem for path in (folder / "server" / "clients").glob("board*.key")}
    free = (name for number in itertools.count(1) if (name := f"board{number}") not in taken)
    if boards.isdecimal() and int(boards) > _MOST_BOARDS:
        raise click.UsageError(
            f"--boards {boards} is more than {_MOST_BOARDS:,}: add boards by further calls"
        )
    if boards.isdecimal():
        names = list(itertools.islice(free, int(boards)))
    else:
        names = [name.strip() for name in boards.split(",")]
    if not names or "" in names:
        raise click.UsageError(f"--boards {boards!r} names no board: give a number, or names with commas")
    address = re.fullmatch(r"tcp://(\S+):(\d+)", endpoint)
    if address is None:
        raise click.UsageError(f"--endpoint {endpoint!r} is not tcp://HOST:PORT")
    host, port = address.groups()
    local = host in ("127.0.0.1", "localhost", "[::1]")
    everywhere = "[::]" if host.startswith("[") else "0.0.0.0"
    listens = bind or (endpoint if local else f"tcp://{everywhere}:{port}")
    there = (folder / "server" / "kit.json").exists()
    for option in ("model", "endpoint", "bind") if there else ():
        if ctx.get_parameter_source(option) is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"--{option} is for a new fleet, and {folder} holds one: its addresses are in "
                f"{folder / 'server' / 'kit.json'}, and of each board in its kit's; its model stays"
            )
    root, source = (None, None) if there else _root(model)
    try:
        made = write(
            folder,
            names,
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
@config_option
@state_dir_option
@json_option
def status(config_path: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """Show how this board stands in its fleet: versions, its offer, what it judged, bytes."""
    told = ask(target(config_path, state_dir), "status")
    found = told["fleet"]
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
        ("offered", _offered(found, told["rounds"].get("probation"))),
        ("server heard of", _heard(heard, quiet=found.get("quiet", False) and not found["trouble"])),
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


def _offered(found: dict[str, Any], probation: str | None) -> str:
    """What became of the offer; before there is one, what it waits for."""
    if found["offered"]:
        return f"{found['offered']}: {found['offer']}"
    return f"nothing yet: {probation or 'that begins with the first round that is promoted'}"


def _heard(at: float | None, *, quiet: bool) -> str:
    """When the server was heard of; where nothing tries to any more, what to look at."""
    words = _clock(at) if at else "never"
    if at and not quiet:
        return words
    return f"{words}: `dance-ondevice fleet join` carries the files, as the service dance-ondevice-fleet"


def _clock(at: float) -> str:
    from datetime import datetime

    return datetime.fromtimestamp(at).astimezone().isoformat(sep=" ", timespec="seconds")
