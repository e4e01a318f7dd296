"""``dance-ondevice doctor``: checks this machine and the state folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dance_ondevice.daemon.cli import WorkFailed, config_option, json_option, load_config, state_dir_option
from dance_ondevice.daemon.commands.access import target
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.terminal import print_json

if TYPE_CHECKING:
    from dance_ondevice.daemon.config.sections import Config

_COLOURS = {"ok": "green", "warning": "yellow", "failure": "red"}


@click.command()
@config_option
@state_dir_option
@click.option(
    "--rebuild-index",
    is_flag=True,
    help="Make the database anew from the stored files; stop the daemon first.",
)
@json_option
@click.pass_context
def doctor(
    ctx: click.Context,
    *,
    config_path: Path | None,
    state_dir: Path | None,
    rebuild_index: bool,
    as_json: bool,
) -> None:
    """Check this machine and the state folder.

    Each line is ok, a warning or a failure, with a remedy; the exit status is 1 when there is a failure.
    """
    from dance_ondevice.daemon.doctor.checks import run_checks

    config = load_config(config_path).config
    paths = target(config_path, state_dir)
    if rebuild_index:
        _rebuild(paths, config, quiet=as_json)
    checks = list(run_checks(config, paths, os.environ))
    if as_json:
        print_json(checks)
    else:
        for check in checks:
            word = click.style(f"{check.status:<7}", fg=_COLOURS[check.status])
            click.echo(f"{word}  {check.name}: {check.detail}")
            if check.remedy:
                click.echo(f"         {check.remedy}")
    if any(check.status == "failure" for check in checks):
        ctx.exit(1)


def _rebuild(paths: StatePaths, config: Config, *, quiet: bool) -> None:
    """Rebuild the index under the folder's lock, which a running daemon would hold."""
    from dance_ondevice.complexity import make_indicator
    from dance_ondevice.daemon.store.reconcile import rebuild_index
    from dance_ondevice.daemon.store.schema import SchemaTooNew
    from dance_ondevice.daemon.system.owner import command_lock
    from dance_ondevice.daemon.system.state import StateInUse

    if not paths.root.is_dir():
        raise WorkFailed(f"{paths.root} is not there; give the daemon's folder with --state-dir")
    indicator = make_indicator(config.complexity.indicator, config.data_slimming.scales)
    try:
        with command_lock(paths):
            report = rebuild_index(paths, score=lambda grey: indicator.measure(grey).score)
    except (StateInUse, SchemaTooNew, OSError) as error:
        raise WorkFailed(str(error)) from error
    if not quiet:
        click.echo(f"rebuilt: {report.samples} samples and {report.versions} model versions in the index")
        for path in report.moved_aside:
            click.echo(f"the old index is kept as {path}")
