"""The daemon's keys, loaded as its configuration says."""

from __future__ import annotations

from collections.abc import Mapping

from dance_ondevice.daemon.config.load import ConfigError, Problem, toml_value
from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.security.curve import ServerCurve, load_server
from dance_ondevice.daemon.security.keys import KeysError


def curve(config: Config, config_file: str, environ: Mapping[str, str]) -> ServerCurve | None:
    """Load the keys; None while ``security.curve`` is off.

    Raises:
        ConfigError: The keys are missing or cannot be used.
    """
    if not config.security.curve:
        return None
    try:
        return load_server(config.security.keys_dir, environ)
    except KeysError as error:
        found = f"{toml_value(config.security.keys_dir)}: {error}"
        problem = Problem(config_file, "security.keys_dir", found, "keys that can be used, with curve = true")
        raise ConfigError((problem,)) from error
