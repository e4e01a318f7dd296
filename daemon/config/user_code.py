"""Finds the code of the user's own networks."""

from __future__ import annotations

from collections.abc import MutableMapping
from os import pathsep
from pathlib import Path

from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.models.registry import MODEL_PATH


def find_code(config: Config, config_file: Path | None, environ: MutableMapping[str, str]) -> None:
    """Let this process and its children import modules from the folder of the configuration.

    Args:
        config: The configuration, which may name factories.
        config_file: The file that it was read from; None for none.
        environ: Environment of this process.
    """
    if config_file is None or not (config.model.factory or config.labels.teacher_factory):
        return
    folder = str(config_file.absolute().parent)
    others = [each for each in environ.get(MODEL_PATH, "").split(pathsep) if each and each != folder]
    environ[MODEL_PATH] = pathsep.join([folder, *others])
