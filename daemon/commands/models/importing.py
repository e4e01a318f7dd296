"""``dance-ondevice models import``: a model from outside becomes a version of this state folder."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from dance_ondevice.daemon.cli import WorkFailed, config_option, json_option, state_dir_option
from dance_ondevice.daemon.commands.access import ask, daemon_runs, model_classes, no_daemon, target
from dance_ondevice.daemon.commands.offline import offline_versions
from dance_ondevice.daemon.commands.rounds import await_request
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.terminal import print_json
from dance_ondevice.models.card import CARD_FILE, TENSORS_FILE

#: Beginning of the name of a copy for the service, and the seconds after which no command needs it any more.
_COPY, _LEFT_SECONDS = ".incoming-", 86_400.0


@click.command(name="import")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@config_option
@state_dir_option
@json_option
def import_(folder: Path, config_path: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """Bring in a model: a folder with model.safetensors and card.json, as `pretrain --out` makes.

    While the live model is untrained it takes its place at once. Else the daemon judges it on the held-out
    samples, like the candidate of a round. Exit status 0: it is live; 1: it is not, for the reasons printed.
    """
    paths = target(config_path, state_dir)
    folder = folder.absolute()
    if not folder.exists():  # at once, not when the round that runs now is done
        raise WorkFailed(f"{folder} is not there; give a folder with model.safetensors and card.json")
    if daemon_runs(paths):
        with _within_reach(paths, folder) as readable:
            result = ask(paths, "import_model", folder=str(readable))
            result = await_request(paths, result["request"])
    else:
        result = _without_daemon(paths, folder, model_classes(paths, config_path))
    if result.get("outcome") in ("failed", "refused"):
        raise WorkFailed("; ".join(result.get("reasons") or ["the daemon gave no reason; see its log"]))
    version = result.get("version")
    if as_json:
        print_json(result)
    elif result.get("outcome") == "live":
        click.echo(f"live: {version}")
    if result.get("outcome") != "live":
        reasons = "; ".join(result.get("reasons") or [])
        raise WorkFailed(
            f"kept as {version} and not live: {reasons}\n`dance-ondevice models promote {version}` makes it "
            "live all the same"
        )


@contextmanager
def _within_reach(paths: StatePaths, folder: Path) -> Iterator[Path]:
    """The model where the daemon can read it.

    Where root asks a service that is another user, and sees neither home folders nor what is root's, a copy
    in the state folder, under the model's own name, while the request lasts.
    """
    from dance_ondevice.daemon.versions.base import folder_of

    source, owner = folder_of(folder), paths.root.stat()
    if os.geteuid() != 0 or owner.st_uid == 0 or not (source / CARD_FILE).is_file():
        yield folder
        return
    for left in paths.root.glob(f"{_COPY}*"):  # by a command that was killed
        with suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > _LEFT_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_COPY, dir=paths.root) as scratch:
        copy = Path(scratch) / (source.resolve().name or "model")
        try:
            copy.mkdir()
            for name in (TENSORS_FILE, CARD_FILE):
                shutil.copyfile(source / name, copy / name)
                os.chown(copy / name, owner.st_uid, owner.st_gid)
            for made in (copy, scratch):  # from the inside: until then nobody else can reach it
                os.chown(made, owner.st_uid, owner.st_gid)
        except OSError as error:
            raise WorkFailed(f"{folder} cannot be copied to the service: {error}") from error
        yield copy


def _without_daemon(paths: StatePaths, folder: Path, classes: tuple[str, ...]) -> dict[str, Any]:
    from dance_ondevice.daemon.versions import base
    from dance_ondevice.daemon.versions.versions import VersionError

    with offline_versions(paths, time.time) as versions:
        live = versions.live()
        if live is not None and not base.is_untrained(live.card):
            raise WorkFailed(
                f"{live.pointer.version} has learnt, so the gate has to compare the two, and that takes the "
                f"daemon: {no_daemon(paths)}, and import again"
            )
        scratch = paths.models / ".import"
        try:
            card = base.copy_in(folder, scratch, classes)
            if base.is_untrained(card):
                raise WorkFailed(f"{folder} is untrained: there is nothing to bring in")
        except (VersionError, OSError, ValueError) as error:
            raise WorkFailed(str(error)) from error
        fingerprint = str(card.get("sha256") or "")
        version = base.adopt(versions, paths, scratch, source=str(folder), fingerprint=fingerprint)
        versions.make_live(version, reason=f"imported from {folder}", first=True)
    return {"outcome": "live", "version": version, "reasons": []}
