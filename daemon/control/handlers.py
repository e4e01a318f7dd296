"""Handlers of the commands that come over the control socket."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dance_ondevice.daemon.config.load import ConfigError
from dance_ondevice.daemon.config.reload import Changes
from dance_ondevice.daemon.control import labels
from dance_ondevice.daemon.control.server import ControlError, Handler
from dance_ondevice.daemon.curation import purge as sample_purge
from dance_ondevice.daemon.rounds.service import Rounds
from dance_ondevice.daemon.store.service import Store


def handlers(
    *,
    rounds: Rounds,
    store: Store,
    forget: Callable[[str], None],
    report: Callable[[], Mapping[str, Any]],
    reload: Callable[[], Changes],
    n_classes: int,
    max_pixels: int,
) -> Mapping[str, Handler]:
    """A handler for each command; see ``control.server.ControlServer``.

    Args:
        rounds: The rounds thread, for long work; its answers are read with ``train_status``.
        store: The sample store, for removing samples and for labels.
        forget: Frees the name of a camera that has no samples any more, and drops its metrics.
        report: Returns the answer to ``status``.
        reload: Reads the configuration again.
        n_classes: Number of the model's classes; the ids of a label must be below it.
        max_pixels: The most pixels of a label.
    """
    return {
        "status": lambda _: report(),
        "reload": lambda _: _reload(reload),
        "pause": lambda _: _pause(rounds, True),
        "resume": lambda _: _pause(rounds, False),
        "train_now": lambda _: {"request": rounds.train_now()},
        "train_status": lambda query: _answer(rounds, query),
        "promote": lambda query: {"request": rounds.promote(str(query["version"]))},
        "import_model": lambda query: {"request": rounds.bring_in(str(query["folder"]))},
        "rollback": lambda query: _rollback(rounds, query),
        "import_labels": lambda query: labels.import_through(
            store, query, n_classes=n_classes, max_pixels=max_pixels
        ),
        "undo_labels": lambda query: labels.undo_through(store, query),
        "remove_samples": lambda query: remove_samples(store, query, forget),
    }


def _reload(reload: Callable[[], Changes]) -> dict[str, Any]:
    try:
        return reload().as_dict()
    except ConfigError as error:
        raise ControlError(f"nothing changed:\n{error}") from error


def _pause(rounds: Rounds, paused: bool) -> dict[str, object]:
    (rounds.pause if paused else rounds.resume)()
    return {"paused": paused}


def _rollback(rounds: Rounds, query: Mapping[str, Any]) -> dict[str, object]:
    to = query.get("to")
    return {"request": rounds.rollback(None if to is None else str(to))}


def _answer(rounds: Rounds, query: Mapping[str, Any]) -> dict[str, Any]:
    answer = rounds.answer(int(query["request"]))
    if answer is None:
        raise ControlError(f"no request {query['request']} since the daemon started")
    running = rounds.snapshot().running
    if answer.get("state") != "done" and running is not None:
        answer["progress"] = running.as_dict()
    return answer


def remove_samples(
    store: Store, query: Mapping[str, Any], forget: Callable[[str], None] = lambda camera: None
) -> dict[str, int]:
    """Remove the samples that a request names, and the series of those ``cameras`` that have none left.

    Raises:
        ControlError: The request is malformed, or a running round uses one of the samples.
    """
    try:
        removed = sample_purge.remove_through(store, query.get("ids"))
        cameras = query.get("cameras")
        for camera in cameras if isinstance(cameras, list) else ():
            if isinstance(camera, str) and sample_purge.is_gone(store, camera):
                forget(camera)
    except sample_purge.PurgeError as error:
        raise ControlError(str(error)) from error
    return {"removed": removed}
