"""Makes a daemon one of a fleet, where the configuration names a kit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dance_ondevice.daemon.config.load import ConfigError, Problem
from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.rounds.fleet.box import Box, FleetPart
from dance_ondevice.daemon.security.kit import KitError, open_board_root
from dance_ondevice.daemon.store.quota import free_bytes
from dance_ondevice.daemon.system.state import StatePaths

__all__ = ["part"]


def part(
    config: Config, config_file: str, paths: StatePaths, *, now: Callable[[], float]
) -> FleetPart | None:
    """The board's part in its fleet; None where ``fleet.kit`` names no kit.

    Raises:
        ConfigError: The kit cannot be used.
    """
    if not config.fleet.kit:
        return None
    try:
        root = open_board_root(Path(config.fleet.kit))
    except KitError as error:
        problem = Problem(config_file, "fleet.kit", str(error), "a folder boards/NAME that `fleet init` made")
        raise ConfigError((problem,)) from error
    floor = config.storage.min_free_bytes
    box = Box(paths.root / "fleet", now=now, free_bytes=lambda: free_bytes(paths.root) - floor)
    return FleetPart(box=box, root=root)
