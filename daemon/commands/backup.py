"""``dance-ondevice backup`` and ``restore``: writes a state folder to one file and reads it back."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from dance_ondevice.daemon.cli import WorkFailed, config_option, json_option, state_dir_option
from dance_ondevice.daemon.commands.access import target
from dance_ondevice.daemon.terminal import print_json, show_bytes


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@config_option
@state_dir_option
@json_option
def backup(*, file: Path, config_path: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """Write the state folder into one tar FILE.

    The service may run meanwhile. It holds the index of one moment, all samples and labels that it names, and
    all model versions. Keys and the configuration are not in it.
    """
    import sqlite3

    from dance_ondevice.daemon.curation.backup import BackupError, back_up
    from dance_ondevice.daemon.store.samples import StoreError

    try:
        made = back_up(target(config_path, state_dir), file)
    except (BackupError, StoreError, OSError, sqlite3.Error) as error:
        raise WorkFailed(f"no backup was made: {error}") from error
    if as_json:
        print_json({"file": str(file), **dataclasses.asdict(made)})
        return
    click.echo(f"{file}: {made.files} files, {show_bytes(made.bytes)}, {made.samples} samples")
    if made.missing:
        click.echo(f"{made.missing} files were gone by then: evicted meanwhile, or missing")


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@config_option
@state_dir_option
@json_option
def restore(*, file: Path, config_path: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """Unpack a backup FILE into an empty state folder.

    No daemon may run on it. Everything is compared with the backup's manifest before anything comes to lie in
    the folder.
    """
    from dance_ondevice.daemon.cli import load_config
    from dance_ondevice.daemon.curation import restore as restoring
    from dance_ondevice.daemon.curation.backup import BackupError
    from dance_ondevice.daemon.system.state import StateInUse, StatePaths

    # Never the folder of a daemon that happens to run: only the given or the configured one.
    root = state_dir or Path(load_config(config_path).config.daemon.state_dir)
    try:
        done = restoring.restore(file, StatePaths(root))
    except (BackupError, StateInUse, OSError) as error:
        raise WorkFailed(f"nothing was restored: {error}") from error
    if as_json:
        print_json({"state_dir": str(root), **dataclasses.asdict(done)})
        return
    click.echo(f"{root}: {done.files} files, {show_bytes(done.bytes)}")
