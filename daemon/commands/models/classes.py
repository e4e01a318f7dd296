"""``dance-ondevice classes``: the classes of a state folder."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

import click

from dance_ondevice.daemon.cli import CommandGroup, WorkFailed, config_option, json_option, state_dir_option
from dance_ondevice.daemon.commands.access import model_classes, target
from dance_ondevice.daemon.commands.offline import offline_versions
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.terminal import print_json
from dance_ondevice.files import read_regular


@click.group(cls=CommandGroup)
def classes() -> None:
    """Show the classes of a state folder, or append one."""


@classes.command(name="list")
@config_option
@state_dir_option
@json_option
def list_(config_path: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """List the classes in the order of their ids."""
    found = _known(target(config_path, state_dir), config_path)
    if as_json:
        print_json(list(found))
        return
    for number, name in enumerate(found):
        click.echo(f"{number} {name}")


@classes.command()
@click.argument("name")
@config_option
@state_dir_option
@json_option
def append(name: str, config_path: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """Append a class: samples and labels are kept, the model gets a head for it.

    The daemon must be stopped. The live and the first version are widened, and every mask stays as it was
    until a round has learnt the new class. Afterwards put the list that is printed into model.classes.
    """
    from dance_ondevice.daemon.versions.classes import append as append_class

    paths = target(config_path, state_dir)
    with offline_versions(paths, time.time) as versions:
        found = append_class(paths, versions, _known(paths, config_path), name)
    if as_json:
        print_json(list(found))
        return
    click.echo(f"{name} is class {len(found) - 1}; now set this under [model] and start the daemon:")
    click.echo(f"classes = {json.dumps(list(found), ensure_ascii=False)}")


def _known(paths: StatePaths, config_path: Path | None) -> tuple[str, ...]:
    from dance_ondevice.daemon.versions.classes import known

    if not paths.root.is_dir():
        raise WorkFailed(f"{paths.root} is not there; give the daemon's folder with --state-dir")
    with contextlib.suppress(
        FileNotFoundError
    ):  # where this user may not look, the configuration's are no answer
        read_regular(paths.root / "classes.json")
    return known(paths) or model_classes(paths, config_path)
