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
from dance_ondevice.daemon.versions.versions import VersionError, read_pointer
from dance_ondevice.fleet.releases import encode_release
from dance_ondevice.fleet.root import Root
from dance_ondevice.fleet.versions import read_arrays
from dance_ondevice.models.card import CheckpointError

__all__ = ["own_release", "part"]


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
    box = Box(
        paths.root / "fleet",
        root,
        now=now,
        free_bytes=lambda: free_bytes(paths.root) - floor,
        own_release=lambda: own_release(paths, root),
    )
    return FleetPart(box=box, root=root)


def own_release(paths: StatePaths, root: Root) -> bytes | None:
    """The root's release, made of this board's first model; None where that is not the root.

    Its file need not be the root's: a first model is written anew, with its channel numbers. Were its values
    others, the release would have a name that no server knows, and whole files would be exchanged.
    """
    try:
        pointer = read_pointer(paths)
        if pointer is None:
            return None
        card, tensors, _ = read_arrays(paths.models / pointer.frozen)
    except (VersionError, CheckpointError, OSError):  # then the server's is fetched
        return None
    dense = {name: layer.channels for name, layer in root.layers.items()}
    is_root = card.root == root.sha256 and (not card.channels or dict(card.channels) == dense)
    return encode_release(root, tensors) if is_root else None
