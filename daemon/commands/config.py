"""``dance-ondevice config``: write, check and show the configuration."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from dance_ondevice.daemon import config as configuration
from dance_ondevice.daemon.cli import (
    EXIT_BAD_CONFIG,
    config_option,
    json_option,
    load_config,
    state_dir_option,
)
from dance_ondevice.daemon.output import print_json, print_table


@click.group()
def config() -> None:
    """Write, check and show the configuration."""


@config.command()
def init() -> None:
    """Print a complete, commented configuration with the defaults."""
    click.echo(configuration.template(), nl=False)


@config.command()
@config_option
@json_option
@click.pass_context
def check(ctx: click.Context, config_path: Path | None, as_json: bool) -> None:
    """List everything that is wrong with a configuration; exit 78 if anything is."""
    path = configuration.find(config_path)
    problems: tuple[configuration.Problem, ...] = ()
    try:
        configuration.load(path)
    except configuration.ConfigError as error:
        if not as_json:
            raise
        problems = error.problems
    if as_json:
        print_json({"file": path, "valid": not problems, "problems": problems})
    else:
        click.echo(f"{path or 'built-in defaults'}: valid")
    if problems:
        ctx.exit(EXIT_BAD_CONFIG)


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
