"""``dance-ondevice keys``: make the CURVE keys of the daemon and its clients."""

from __future__ import annotations

from pathlib import Path

import click

from dance_ondevice.daemon.cli import CommandGroup, WorkFailed, json_option
from dance_ondevice.daemon.terminal import print_json, print_table


@click.group(cls=CommandGroup)
def keys() -> None:
    """Make the keys that encrypt sockets and tell clients apart."""


@keys.command()
@click.option(
    "--dir",
    "folder",
    default="keys",
    show_default=True,
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the keys: security.keys_dir of the daemon.",
)
@click.option(
    "--client",
    "clients",
    multiple=True,
    metavar="NAME",
    help="Make a client's keys as well; may be given several times, and later for the same folder.",
)
@json_option
def generate(folder: Path, clients: tuple[str, ...], as_json: bool) -> None:
    """Make the server's keys, unless they are there, and those of clients.

    Each pair is a public file (.key) and a secret one (.key_secret, readable by its owner alone). Nothing is
    ever overwritten. Removing DIR/clients/NAME.key revokes the client NAME.
    """
    from dance_ondevice.daemon.security.keys import CLIENTS, SERVER, KeysError, generate

    try:
        made = generate(folder, clients)
    except KeysError as error:
        raise WorkFailed(str(error)) from error
    if as_json:
        print_json({"dir": folder.absolute(), "certificates": made})
        return
    print_table(
        "keys", ("name", "public", "secret"), [(one.name, str(one.public), str(one.secret)) for one in made]
    )
    if any(one.name != SERVER for one in made):
        click.echo(
            f"Move each client's secret file and a copy of {folder / SERVER}.key to the client's machine; "
            f"the public files stay in {folder / CLIENTS}."
        )
