"""The sockets by which a running daemon is asked: the command line's, the console's and the fleet's."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dance_ondevice.daemon.config.reload import Changes
from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.control import fleet, handlers, status
from dance_ondevice.daemon.control.console import Console
from dance_ondevice.daemon.control.console_access import SOCKET_MODE, shared_socket, token_for_daemon
from dance_ondevice.daemon.control.running import Running
from dance_ondevice.daemon.control.server import ControlServer, default_endpoint, endpoint_in
from dance_ondevice.daemon.ingest.last_seen import LastSeen
from dance_ondevice.daemon.store.quota import free_bytes
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.viewing.checkup import Checkup, options_of
from dance_ondevice.daemon.viewing.copying import Copying
from dance_ondevice.daemon.viewing.handwork import HandLabels
from dance_ondevice.daemon.viewing.worklist import Worklist
from dance_ondevice.daemon.wire.connections import Watch

__all__ = ["ControlSockets", "make"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ControlSockets:
    """The servers, which the caller starts and stops; ``fleet`` is None where the board is in no fleet."""

    control: ControlServer
    console: ControlServer
    fleet: ControlServer | None


def make(
    config: Config,
    paths: StatePaths,
    running: Running,
    *,
    config_file: Path | None,
    seen: LastSeen,
    environ: Mapping[str, str],
    uptime: Callable[[], float],
    metrics_url: str,
    reload: Callable[[], Changes],
    watch: Callable[[str], Watch],
) -> ControlSockets:
    """Make the servers of a daemon that has started.

    Args:
        config: The whole configuration.
        paths: The state folder.
        running: All parts.
        config_file: Where the configuration is from; None for the built-in defaults.
        seen: The cameras' last frames, for people who watch.
        environ: Environment variables.
        uptime: Returns the seconds since the start.
        metrics_url: Where metrics are served; empty if they are off.
        reload: Reads the configuration again.
        watch: Returns what bounds the connections of the socket of a name.
    """
    parts = running.parts
    commands = handlers.handlers(
        rounds=parts.rounds,
        store=parts.store,
        forget=parts.ingest.forget_camera,
        report=lambda: status.report(parts, uptime=uptime(), metrics_url=metrics_url),
        reload=reload,
        n_classes=len(config.model.classes),
        max_pixels=config.ingest.max_pixels,
    )
    predictor = parts.predictor
    console = Console(
        paths=paths,
        control=commands,
        token=token_for_daemon(paths),
        seen=seen,
        instruments=parts.instruments,
        hand=HandLabels(
            root=paths.root,
            store=parts.store,
            segment=_segment(predictor) if predictor is not None else None,
            n_classes=len(config.model.classes),
        ),
        worklist=Worklist(paths),
        checkup=Checkup(options_of(config_file, paths.root)),
        copying=Copying(
            paths.root,
            options_of(config_file, paths.root),
            # The disk of the state folder, which need not be that of the samples.
            lambda: free_bytes(paths.root) - parts.store.min_free_bytes,
        ),
        hours=parts.energy.hours.rows,
        fleet=lambda: fleet.overview(parts.fleet, parts.versions.live()),
    )
    shared = shared_socket(environ)
    if shared is not None and not shared.parent.is_dir():
        log.warning("console socket is in the state folder reason=%s is not there", shared.parent)
        shared = None
    return ControlSockets(
        ControlServer(default_endpoint(config, paths, environ), commands, watch=watch("control")),
        ControlServer(
            f"ipc://{shared}" if shared else endpoint_in(paths, "console.sock", environ),
            console.handlers(),
            name="console",
            mode=SOCKET_MODE if shared else 0o600,
            watch=watch("console"),
            on_close=console.close,
        ),
        _fleet(running, paths, environ, watch),
    )


def _fleet(
    running: Running, paths: StatePaths, environ: Mapping[str, str], watch: Callable[[str], Watch]
) -> ControlServer | None:
    part = running.parts.fleet
    if part is None:
        return None
    shared = fleet.shared_socket(environ)
    return ControlServer(
        f"ipc://{shared}" if shared else endpoint_in(paths, "fleet.sock", environ),
        fleet.handlers(part, running.parts.versions.live),
        name="fleet",
        mode=SOCKET_MODE if shared else 0o600,
        watch=watch("fleet"),
    )


def _segment(predictor: Any) -> Any:
    """The live model as ``HandLabels`` asks it; typed loosely, since this room never imports torch."""
    return predictor.asked.put
