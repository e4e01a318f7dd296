"""``dance-ondevice run``: the daemon, in the foreground."""

from __future__ import annotations

import logging
import os

import click

from dance_ondevice.daemon import options


@click.command(short_help="Run the daemon in the foreground.")
@options.config
@options.state_dir
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="What to log to standard error.",
)
def run(config_file: str | None, state_dir: str | None, log_level: str) -> None:
    """Receive frames, keep the useful ones, learn from them when energy allows, and publish masks.

    Runs until SIGTERM or Ctrl-C; state is safe at any moment. Exit status: 0 stopped as asked, 1 a part
    failed, 78 the configuration is wrong.
    """
    logging.basicConfig(
        level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s", force=True
    )
    # Every job of the schedule is a line at INFO otherwise.
    logging.getLogger("apscheduler").setLevel(logging.WARNING)
    loaded = options.load(config_file, state_dir)

    from dance_ondevice import images

    images.limit_pixels(loaded.config.ingest.max_pixels)
    from dance_ondevice.daemon.errors import StartError
    from dance_ondevice.daemon.supervisor import Supervisor

    try:
        status = Supervisor(loaded, environ=os.environ).run()
    except StartError as error:
        raise click.ClickException(str(error)) from error
    raise SystemExit(status)
