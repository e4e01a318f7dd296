"""The parts of a running daemon as two values: the core that other parts use, and all parts."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import zmq
from apscheduler.schedulers.background import BackgroundScheduler

from dance_ondevice.daemon.config.reload import Reloader
from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.config.values import parse_duration
from dance_ondevice.daemon.control import status
from dance_ondevice.daemon.energy.budget import BudgetKeeper
from dance_ondevice.daemon.energy.service import EnergyService
from dance_ondevice.daemon.ingest import ingest_config
from dance_ondevice.daemon.metrics.instruments import Instruments
from dance_ondevice.daemon.security.curve import ServerCurve
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system import schedule as scheduler
from dance_ondevice.daemon.versions.versions import Versions
from dance_ondevice.daemon.wire.connections import ConnectionGuard

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Core:
    """The parts that every other part uses; they are started first."""

    instruments: Instruments
    context: zmq.Context[zmq.Socket[bytes]]
    curve: ServerCurve | None
    guard: ConnectionGuard
    store: Store
    versions: Versions
    energy: EnergyService
    budget: BudgetKeeper
    meter_note: str


@dataclass(frozen=True, kw_only=True)
class Running:
    """All parts of a daemon that has started."""

    parts: status.Parts
    budget: BudgetKeeper
    schedule: BackgroundScheduler
    reloader: Reloader

    def apply(self, config: Config) -> None:
        """Pass a configuration that differs only in live keys to the parts that use it."""
        before, parts = self.reloader.config, self.parts
        storage, training = config.storage, config.training
        parts.store.set_limits(quota_bytes=storage.quota_bytes, min_free_bytes=storage.min_free_bytes)
        self.budget.set_limits(config.energy)
        parts.rounds.reconfigure(config)
        if parts.predictor is not None:
            parts.predictor.estimate_at(training.priority)
        parts.ingest.decider.rules = ingest_config.rules(config.data_slimming)
        if (training.interval, training.window) != (before.training.interval, before.training.window):
            interval = parse_duration(training.interval)
            scheduler.change(self.schedule, interval, training.window, parts.rounds.tick)

    def follow_clock(self, what: str, seconds: float) -> None:
        """Keep what is due when the wall clock was set, the board slept or its time zone is another.

        Args:
            what: What happened, for the log.
            seconds: Seconds by which the clock moved.
        """
        log.warning("%s seconds=%+.0f", what, seconds)
        parts = self.parts
        scheduler.follow(self.schedule, parts.rounds.tick)
        # Before Python 3.11 a timed wait for a lock ends by the wall clock: set back, it would not end.
        parts.store.wake()
        parts.rounds.wake()
        if parts.mailbox is not None:
            parts.mailbox.wake()
