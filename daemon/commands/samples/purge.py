"""``dance-ondevice samples purge``: removes samples for good and lists the versions that know them."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dance_ondevice.daemon.cli import WorkFailed, config_option, json_option, state_dir_option
from dance_ondevice.daemon.commands.access import (
    ask,
    cameras_with_samples,
    daemon_runs,
    index,
    no_sample_of,
    target,
)
from dance_ondevice.daemon.terminal import print_json, print_table

if TYPE_CHECKING:
    from dance_ondevice.daemon.system.state import StatePaths

_SECONDS = re.compile(r"\d+(\.\d+)?")


def _moment(ctx: click.Context, param: click.Parameter, text: str | None) -> float | None:
    """Seconds since the epoch from ISO 8601 (local time without a zone), or from a number of seconds."""
    if text is None:
        return None
    try:
        if _SECONDS.fullmatch(text):
            return float(text)
        # Python 3.10 does not accept the Z of UTC.
        iso = text.removesuffix("Z") + ("+00:00" if text.endswith("Z") else "")
        return datetime.fromisoformat(iso).astimezone().timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise click.BadParameter(
            f"{text!r} is no time: write 2026-05-01, 2026-05-01T18:30, or seconds since 1970", ctx, param
        ) from error


@click.command()
@click.option("--camera", metavar="NAME", help="Only this camera's.")
@click.option(
    "--before", callback=_moment, metavar="TIME", help="Captured before it, such as 2026-05-01T18:30."
)
@click.option("--after", callback=_moment, metavar="TIME", help="Captured at this time or later.")
@click.option("--unreadable", is_flag=True, help="Only those whose image or label cannot be read.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@config_option
@state_dir_option
@json_option
@click.pass_context
def purge(
    ctx: click.Context,
    *,
    camera: str | None,
    before: float | None,
    after: float | None,
    unreadable: bool,
    yes: bool,
    config_path: Path | None,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Remove samples for good: image, label and row. Lists the model versions that had learnt from them.

    At least one of --camera, --before, --after and --unreadable says which ones; of several, all must hold.
    Versions keep what they learnt: roll back to one that is not listed, or start anew, to be rid of that too.
    A sample that a running round uses stays until the round has ended.
    """
    from dance_ondevice.daemon.curation.lineage import versions_knowing
    from dance_ondevice.daemon.curation.purge import Selection, in_running_round, select
    from dance_ondevice.daemon.curation.unreadable import damaged

    if camera is None and before is None and after is None and not unreadable:
        raise click.UsageError(
            "say which samples: --camera, --before, --after, --unreadable, or several of them"
        )
    if as_json and not yes:
        raise click.UsageError("--json asks no question: give --yes, too")
    paths = target(config_path, state_dir)
    with index(paths) as database:
        meant = select(database, Selection(camera=camera, before=before, after=after))
        if unreadable:  # also those that doctor has found and that no round has met yet
            meant = damaged(database, paths.root, meant)
        used = in_running_round(database)
        stored = cameras_with_samples(database)
        ids = [each for each in meant if each not in used]
        knowing = versions_knowing(database, ids)
    if ids and not yes:
        told = f" {len(knowing)} model versions have learnt from them." if knowing else ""
        click.confirm(f"Remove {len(ids)} samples for good?{told}", abort=True)
    removed = _remove(paths, ids, camera)
    if camera is not None and camera not in stored and not as_json:
        click.echo(no_sample_of(camera, stored), err=True)
    left = len(meant) - len(ids)
    if as_json:
        print_json({"removed": removed, "in_running_round": left, "versions": knowing})
    else:
        click.echo(f"{removed} samples removed")
        if knowing:
            print_table(
                "Versions that had learnt from them",
                ("version", "status", "round", "parent", "learnt"),
                [
                    (v.version, v.status, v.round, v.parent, "itself" if v.direct else "by its parent")
                    for v in knowing
                ],
            )
    if left:
        raise WorkFailed(
            f"{left} more are used by a round that has not ended; run the command again after it"
        )


def _remove(paths: StatePaths, ids: list[str], camera: str | None) -> int:
    """Remove samples through the daemon if one runs, else directly; returns how many existed.

    The daemon also forgets cameras without stored samples, even one that never had any.
    """
    import sqlite3

    from dance_ondevice.daemon.curation.purge import MOST_AT_ONCE, SampleInUseError, remove_here
    from dance_ondevice.daemon.system.state import StateInUse

    if daemon_runs(paths):
        chunks = [ids[start : start + MOST_AT_ONCE] for start in range(0, len(ids), MOST_AT_ONCE)]
        cameras = sorted({each.rsplit("-", 2)[0] for each in ids} | ({camera} if camera else set()))
        removed = sum(ask(paths, "remove_samples", timeout=60.0, ids=chunk)["removed"] for chunk in chunks)
        if cameras:
            ask(paths, "remove_samples", timeout=60.0, ids=[], cameras=cameras)
        return int(removed)
    try:
        return remove_here(paths, ids)
    except (StateInUse, SampleInUseError, OSError, sqlite3.Error) as error:
        raise WorkFailed(f"{error}; nothing more was removed") from error
