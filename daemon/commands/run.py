"""``dance-ondevice run``: the daemon, in the foreground."""

from __future__ import annotations

import faulthandler
import gc
import logging
import os
import sqlite3
from pathlib import Path

import click

from dance_ondevice.daemon.cli import (
    EXIT_BAD_CONFIG,
    WorkFailed,
    config_option,
    load_config,
    state_dir_option,
)
from dance_ondevice.daemon.system.repeats import RepeatLimit


@click.command(short_help="Run the daemon until it is stopped.")
@config_option
@state_dir_option
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="What to log to standard error.",
)
def run(config_path: Path | None, state_dir: Path | None, log_level: str) -> None:
    """Receive frames, keep the useful ones, learn from them when energy allows, and publish masks.

    Runs until SIGTERM or Ctrl-C; its state is safe at any moment. Exit status: 0 stopped as asked, 1 a part
    failed, 78 the configuration is wrong.
    """
    logging.basicConfig(
        level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s", force=True
    )
    for handler in logging.getLogger().handlers:
        handler.addFilter(RepeatLimit())
    # APScheduler would log every request of the schedule at INFO.
    logging.getLogger("apscheduler").setLevel(logging.WARNING)
    loaded = load_config(config_path, state_dir)

    from dance_ondevice.daemon.system.descriptors import raise_limit
    from dance_ondevice.images import codec as images
    from dance_ondevice.runtime.heap import few_arenas

    logging.getLogger(__name__).debug("descriptors limit=%d", raise_limit())
    few_arenas()
    # OpenCV reads its pixel limit when it is loaded, so this comes before any import of it.
    images.limit_pixels(loaded.config.ingest.max_pixels)
    from dance_ondevice.daemon.supervisor import Supervisor
    from dance_ondevice.daemon.versions.versions import VersionError

    # What was imported stays: the collector of garbage need not look at it again while frames come.
    gc.freeze()
    try:
        status = Supervisor(loaded, environ=os.environ, end_within=_end_within).run()
    # OSError covers an address in use or a folder that cannot be written; StateInUse is a RuntimeError.
    except VersionError as error:
        # A restart does not help: the model must be put right first.
        click.echo(str(error), err=True)
        raise click.exceptions.Exit(EXIT_BAD_CONFIG) from error
    except sqlite3.OperationalError as error:
        logging.getLogger(__name__).debug("start failed", exc_info=True)
        raise WorkFailed(
            f"the index in {loaded.config.daemon.state_dir} cannot be opened: {error}; another program may "
            "hold it, or the disk or its permissions be at fault: see `dance-ondevice doctor`"
        ) from error
    except (OSError, RuntimeError) as error:
        logging.getLogger(__name__).debug("start failed", exc_info=True)
        raise WorkFailed(str(error)) from error
    finally:
        faulthandler.cancel_dump_traceback_later()
    # Everything is on disk and closed. A normal exit would unload torch, which takes seconds on a board, of
    # the few that a stop may take.
    logging.shutdown()
    os._exit(status)


def _end_within(seconds: float) -> None:
    """End the process with status 1 after a number of seconds, and print where its threads hang.

    It takes a thread that does not need Python's lock: what hangs may hold it.
    """
    faulthandler.dump_traceback_later(seconds, exit=True, file=2)
