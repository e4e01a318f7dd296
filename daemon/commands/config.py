"""``dance-ondevice config``: write, check and show the configuration."""

from __future__ import annotations

import os
from pathlib import Path

import click
import msgspec

from dance_ondevice.daemon.cli import (
    EXIT_BAD_CONFIG,
    CommandGroup,
    config_option,
    json_option,
    load_config,
    state_dir_option,
)
from dance_ondevice.daemon.commands.access import ask, target
from dance_ondevice.daemon.config import load as configuration
from dance_ondevice.daemon.config.warnings import warnings
from dance_ondevice.daemon.control import instances
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.terminal import print_json, print_table


@click.group(cls=CommandGroup)
def config() -> None:
    """Write, check and show the configuration."""


@config.command()
def init() -> None:
    """Print a complete, commented configuration with the defaults: `config init > site.toml`."""
    click.echo(configuration.template(), nl=False)


@config.command()
@config_option
@state_dir_option
@json_option
@click.pass_context
def check(ctx: click.Context, config_path: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """List everything that is wrong with a configuration; exit 78 if anything is.

    A network of your own (`model.factory`) may be one that no round could train where the state folder has a
    version of it already, which serves on; that is a warning then.
    """
    path = configuration.find(config_path)
    problems: tuple[configuration.Problem, ...] = ()
    notes: list[str] = []
    try:
        loaded = load_config(config_path, state_dir)
        notes = list(warnings(loaded.config))
        if loaded.config.model.factory or loaded.config.labels.teacher_factory:
            # The user's own code can only be checked by running it, with torch.
            from dance_ondevice.daemon.versions import factory

            if found := tuple(factory.problems(loaded.config, str(path))):
                raise configuration.ConfigError(found)
            model = loaded.config.model
            if factory.has_model(loaded.config) and (
                weak := factory.weakness(model.factory, len(model.classes))
            ):
                notes.append(weak)
    except configuration.ConfigError as error:
        if not as_json:
            raise
        problems = error.problems
    if as_json:
        report = {"file": path, "valid": not problems, "problems": problems}
        print_json(report | ({"warnings": notes} if notes else {}))
    else:
        click.echo(f"{path or 'built-in defaults'}: valid")
        for note in notes:
            click.echo(f"warning: {note}", err=True)
    if problems:
        ctx.exit(EXIT_BAD_CONFIG)


@config.command()
@config_option
@state_dir_option
@json_option
def reload(config_path: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """Have the running daemon read its configuration again.

    Lists the keys that take effect now and those that need a restart. A file that cannot be used changes
    nothing: its problems are listed and the exit status is 1.
    """
    paths = _running(config_path, state_dir)
    changes = ask(paths, "reload")
    if as_json:
        print_json(changes)
        return
    unapplied = changes.get("unapplied", {})
    if not changes["applied"] and not changes["restart"] and not unapplied:
        click.echo("nothing has changed")
    for title, name in (("holds from now on", "applied"), ("needs a restart", "restart")):
        for key, values in changes[name].items():
            old, new = map(configuration.toml_value, (values["from"], values["to"]))
            click.echo(f"{title}: {key} = {new} (was {old})")
    for key, what in unapplied.items():
        click.echo(f"not applied, nor by a restart: {key}: {what}")


def _running(config_path: Path | None, state_dir: Path | None) -> StatePaths:
    """The state folder of the daemon, found even when the configuration file has mistakes."""
    try:
        return target(config_path, state_dir)
    except configuration.ConfigError:
        only = instances.running(os.environ)
        if len(only) != 1:
            raise
        return StatePaths(Path(only[0].state_dir))


@config.command()
@config_option
@state_dir_option
@json_option
def show(config_path: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """Show the effective values and where each came from."""
    loaded = load_config(config_path, state_dir)
    values = dict(configuration.items(loaded.config))
    if as_json:
        sections: dict[str, dict[str, object]] = msgspec.to_builtins(loaded.config)
        for path, origin in loaded.origins.items():
            section, _, key = path.partition(".")
            sections[section][key] = {"value": sections[section][key], "origin": origin}
        print_json({"file": loaded.path, "values": sections})
        return
    print_table(
        "Configuration",
        ("key", "value", "from"),
        [(path, configuration.toml_value(value), loaded.origins[path]) for path, value in values.items()],
    )
