"""``dance-ondevice models``: versions of the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dance_ondevice.daemon.cli import CommandGroup, WorkFailed, config_option, json_option, state_dir_option
from dance_ondevice.daemon.commands.access import ask, index, target
from dance_ondevice.daemon.commands.models.certificate import print_certificate
from dance_ondevice.daemon.commands.models.engines import engines
from dance_ondevice.daemon.commands.models.export import export
from dance_ondevice.daemon.commands.models.importing import import_
from dance_ondevice.daemon.commands.rounds import await_request
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.terminal import print_json, print_table, show_time
from dance_ondevice.documents import decode
from dance_ondevice.files import read_regular

_COLUMNS = (
    "version",
    "status",
    "parent",
    "created_at",
    "architecture",
    "macs",
    "parameters",
    "miou_gate",
    "round_id",
)

#: Column names of the list and what they show; a narrow terminal leaves out the last ones.
_SHOWN = (
    ("version", "version"),
    ("status", "status"),
    ("mIoU (gate)", "miou_gate"),
    ("created", "created_at"),
    ("round", "round_id"),
    ("parent", "parent"),
    ("MACs", "macs"),
    ("parameters", "parameters"),
    ("architecture", "architecture"),
)


@click.group(cls=CommandGroup)
def models() -> None:
    """List, show, import, promote, roll back and export model versions."""


models.add_command(engines)
models.add_command(export)
models.add_command(import_)


@models.command(name="list")
@config_option
@state_dir_option
@json_option
def list_(config_path: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """List the versions, oldest first."""
    with index(target(config_path, state_dir)) as database:
        rows = list(
            database.query(f"select {', '.join(_COLUMNS)} from versions order by created_at, version")
        )
    if as_json:
        print_json(rows)
        return
    print_table(
        "Models",
        tuple(name for name, _ in _SHOWN),
        [[{**row, "created_at": show_time(row["created_at"])}[key] for _, key in _SHOWN] for row in rows],
    )


@models.command()
@click.argument("version", required=False)
@config_option
@state_dir_option
@json_option
def show(version: str | None, config_path: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """Show the birth certificate of a version, by default of the live one; --json prints all of its card."""
    card = _read_card(target(config_path, state_dir), version)
    if as_json:
        print_json(card)
        return
    try:
        print_certificate(card)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        # A card may be incomplete and still be shown; of one that somebody changed, anything may be wrong.
        raise WorkFailed(
            f"the card of {card.get('version') or version} is damaged ({error}); --json prints it as it is"
        ) from error


@models.command()
@click.argument("version")
@config_option
@state_dir_option
@json_option
def promote(version: str, config_path: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """Make a version live, whatever the gate's verdict was."""
    _switch(target(config_path, state_dir), as_json, "promote", version=version)


@models.command()
@click.option(
    "--to", metavar="VERSION", help="Version to go back to; by default the one that was live before."
)
@config_option
@state_dir_option
@json_option
def rollback(to: str | None, config_path: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """Make the version that was live before live again."""
    _switch(target(config_path, state_dir), as_json, "rollback", to=to)


def _switch(paths: StatePaths, as_json: bool, cmd: str, **args: Any) -> None:
    result = ask(paths, cmd, **args)
    if isinstance(result, dict) and "request" in result:
        result = await_request(paths, result["request"])
    if result.get("outcome") in ("failed", "refused"):
        raise WorkFailed("; ".join(result.get("reasons") or ["the daemon gave no reason; see its log"]))
    if as_json:
        print_json(result)
    else:
        before = result.get("previous")
        told = f" (before it {before}, to which a rollback would go now)" if before else ""
        click.echo(f"live: {result.get('version')}{told}")


def _read_card(paths: StatePaths, version: str | None) -> dict[str, Any]:
    if version is None:
        if not paths.live_file.exists():
            raise WorkFailed(
                f"{paths.root} has no live version yet: the daemon makes one at its first round, or at its "
                "start with inference on; `dance-ondevice models import DIR` brings one in"
            )
        try:
            version = str(decode(read_regular(paths.live_file), dict[str, Any])["version"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise WorkFailed(f"no live version at {paths.live_file}: {error}") from error
    from dance_ondevice.daemon.versions.versions import age_key

    names = sorted((path.parent.name for path in paths.models.glob("[!.]*/card.json")), key=age_key)
    if version not in names:
        raise WorkFailed(f"no version {version!r}; there are: {', '.join(names) or 'none'}")
    path = paths.models / version / "card.json"
    try:
        card = decode(read_regular(path), dict[str, Any])
    except (OSError, ValueError) as error:
        raise WorkFailed(f"{path} cannot be read: {error}") from error
    return card
