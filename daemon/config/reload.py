"""Reloading the configuration of a running daemon: which keys change at once, and which after a restart."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from dance_ondevice.daemon.config.load import COMMAND_LINE, ConfigError, Loaded, find, items, load, toml_value
from dance_ondevice.daemon.config.rules import RULES
from dance_ondevice.daemon.config.sections import Config

log = logging.getLogger(__name__)

#: What stands for the value of a key that may open a door.
_HIDDEN = "(not shown)"
#: Keys that a running daemon can change, because they are read anew for every decision. All other keys were
#: used to build something (a socket, a meter, a model) and change at the next start.
LIVE_KEYS = frozenset(
    {
        "storage.quota_bytes",
        "storage.min_free_bytes",
        "data_slimming.enabled",
        "data_slimming.drop_fraction",
        "data_slimming.choice",
        "data_slimming.loss_weighting",
        "data_slimming.warmup_frames",
        "data_slimming.window_frames",
        "data_slimming.screen",
        "network_slimming.enabled",
        "network_slimming.target_macs_fraction",
        "network_slimming.step",
        "labels.teacher",
        "labels.teacher_factory",
        "labels.teacher_confidence",
        "labels.teacher_agreement",
        "labels.teacher_samples",
        "labels.budget_share",
        "labels.self_training",
        "labels.teacher_may_judge",
        "training.anchors",
        "training.anchor_share",
        "training.interval",
        "training.window",
        "training.min_new_samples",
        "training.min_new_samples_after_drift",
        "training.max_round_duration",
        "training.batch_size",
        "training.max_samples",
        "training.epochs",
        "training.learning_rate",
        "training.rehearsal_share",
        "training.gate_share",
        "training.gate_block",
        "training.gate_max_samples",
        "training.precision",
        "training.device",
        "training.threads",
        "training.priority",
        "training.seed",
        "training.early_stopping",
        "training.distillation",
        "training.suspend_after_rounds",
        "fleet.max_own_drop",
        "promotion.min_gain",
        "promotion.max_class_drop",
        "promotion.confidence",
        "promotion.slim_tolerance",
        "promotion.max_condition_drop",
        "promotion.max_latency_ratio",
        "promotion.probation_samples",
        "promotion.probation_drop",
        "energy.budget_joules_per_day",
        "energy.battery_floor_percent",
        "energy.max_temperature_c",
    }
)


@dataclass(frozen=True, kw_only=True)
class Changes:
    """The differences between a new configuration and the one that the daemon runs with.

    Attributes:
        applied: Keys that changed and take effect now, with old and new value.
        restart: Keys that changed and take effect after a restart, with old and new value.
        config: The configuration from now on: the old one with the applied keys.
        unapplied: Keys that changed and that even a restart does not apply, with what to do instead.
    """

    applied: Mapping[str, tuple[object, object]]
    restart: Mapping[str, tuple[object, object]]
    config: Config
    unapplied: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for the control socket."""
        waiting = {key: pair for key, pair in self.restart.items() if key not in self.unapplied}
        return {
            "applied": _as_dict(self.applied),
            "restart": _as_dict(waiting),
            "unapplied": dict(self.unapplied),
        }


def _as_dict(changes: Mapping[str, tuple[object, object]]) -> dict[str, Any]:
    return {
        key: {"from": _HIDDEN, "to": _HIDDEN} if RULES[key].secret else {"from": old, "to": new}
        for key, (old, new) in changes.items()
    }


def compare(running: Config, wanted: Config) -> Changes:
    """Compare two configurations by what changes at once and what after a restart; changes nothing."""
    new = dict(items(wanted))
    changed = {key: (old, new[key]) for key, old in items(running) if old != new[key]}
    applied = {key: pair for key, pair in changed.items() if key in LIVE_KEYS}
    return Changes(
        applied=applied,
        restart={key: pair for key, pair in changed.items() if key not in LIVE_KEYS},
        config=_replace(running, {key: pair[1] for key, pair in applied.items()}),
    )


class Reloader:
    """Reads the daemon's configuration again and passes it to the running parts; callable from any thread."""

    def __init__(
        self,
        loaded: Loaded,
        apply: Callable[[Config], None],
        unapplied: Callable[[Config], Mapping[str, str]] = lambda _config: {},
    ) -> None:
        """Start with a loaded configuration.

        Args:
            loaded: The configuration that the daemon runs with.
            apply: Gives the parts a configuration that differs only in live keys; it must not fail.
            unapplied: Returns the keys of a configuration that even a restart would not apply, with what to
                do instead.
        """
        self._unapplied = unapplied
        self._loaded = loaded
        self._config = loaded.config
        self._apply = apply
        self._lock = threading.Lock()
        self._waiting: tuple[str, ...] = ()

    @property
    def config(self) -> Config:
        """The configuration that the daemon runs with."""
        return self._config

    @property
    def waiting(self) -> tuple[str, ...]:
        """Keys that were changed in the file and take effect after a restart."""
        return self._waiting

    def reload(self) -> Changes:
        """Read the file again, check all of it, and apply its live keys; values of the command line stay.

        Raises:
            ConfigError: The file cannot be used; nothing has changed.
        """
        with self._lock:
            try:
                # A daemon that was started without a file uses the system's file once there is one.
                wanted = load(find(self._loaded.path), self._overrides())
            except ConfigError as error:
                log.error("configuration not reloaded, nothing changed: %s", error)
                raise
            changes = compare(self._config, wanted.config)
            kept = self._unapplied(wanted.config) if changes.restart else {}
            unapplied = {key: kept[key] for key in changes.restart if key in kept}
            changes = replace(changes, unapplied=unapplied)
            if changes.applied:
                self._apply(changes.config)
                self._config = changes.config
            self._waiting = tuple(key for key in changes.restart if key not in unapplied)
            log.info(
                "configuration reloaded file=%s applied=%s restart=%s",
                wanted.path or "none",
                _shown(changes.applied) or "nothing",
                _shown(changes.restart) or "nothing",
            )
            for key, what in unapplied.items():
                log.warning("a restart will not apply %s: %s", key, what)
            return changes

    def _overrides(self) -> dict[str, object]:
        values = dict(items(self._loaded.config))
        return {key: values[key] for key, origin in self._loaded.origins.items() if origin == COMMAND_LINE}


def _shown(changes: Mapping[str, tuple[object, object]]) -> str:
    return ", ".join(
        f"{key}={_HIDDEN if RULES[key].secret else toml_value(new)}" for key, (_, new) in changes.items()
    )


def _replace(config: Config, values: Mapping[str, object]) -> Config:
    sections: dict[str, dict[str, object]] = {}
    for key, value in values.items():
        section, _, name = key.partition(".")
        sections.setdefault(section, {})[name] = value
    changed = {
        name: msgspec.structs.replace(getattr(config, name), **keys) for name, keys in sections.items()
    }
    return msgspec.structs.replace(config, **changed)
