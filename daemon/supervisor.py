"""Starts every part in order, watches them, and stops them in order: the daemon's main thread.

Parts know nothing of each other but what is handed to them here. The first one that fails stops all.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import zmq
from prometheus_client import CollectorRegistry

from dance_ondevice import complexity
from dance_ondevice.daemon.config.load import ConfigError, Loaded
from dance_ondevice.daemon.config.reload import Changes, Reloader
from dance_ondevice.daemon.config.sections import UNTRAINED, Config
from dance_ondevice.daemon.config.values import parse_duration
from dance_ondevice.daemon.control import handlers as control_handlers
from dance_ondevice.daemon.control import instances, status
from dance_ondevice.daemon.control import server as control
from dance_ondevice.daemon.energy.budget import BudgetKeeper
from dance_ondevice.daemon.energy.meters import choose_meter
from dance_ondevice.daemon.energy.service import CpuAccount, EnergyService
from dance_ondevice.daemon.inference.cameras import ConditionSettings
from dance_ondevice.daemon.ingest import ingest_config
from dance_ondevice.daemon.ingest.ingest_config import admission
from dance_ondevice.daemon.ingest.mailbox import LatestFrames
from dance_ondevice.daemon.ingest.service import Ingest
from dance_ondevice.daemon.metrics.gauges import MetricsServer, SnapshotCollector
from dance_ondevice.daemon.metrics.instruments import Instruments
from dance_ondevice.daemon.rounds.context import RoundContext
from dance_ondevice.daemon.rounds.service import Rounds
from dance_ondevice.daemon.security import configured
from dance_ondevice.daemon.security.curve import ServerCurve
from dance_ondevice.daemon.security.zap import ZapAuthenticator
from dance_ondevice.daemon.store import reconcile
from dance_ondevice.daemon.store.notes import SampleNotes
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system import schedule as scheduler
from dance_ondevice.daemon.system import stopping
from dance_ondevice.daemon.system import systemd as notify
from dance_ondevice.daemon.system.service import Service
from dance_ondevice.daemon.system.signals import RELOAD, STOP, Signals, StopWhileStarting
from dance_ondevice.daemon.system.state import StateLock, StatePaths
from dance_ondevice.daemon.versions import first_model
from dance_ondevice.daemon.versions.versions import Versions, check_intact

if TYPE_CHECKING:
    from dance_ondevice.daemon.inference.service import Predictor

log = logging.getLogger(__name__)

AnyService = TypeVar("AnyService", bound=Service)

_TICK_SECONDS = 1.0
_STATUS_SECONDS = 5.0


class Supervisor:
    """One running daemon, from its configuration to its last closed file."""

    def __init__(
        self,
        loaded: Loaded,
        *,
        environ: Mapping[str, str],
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        end_within: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        """``end_within`` is called when the stop begins: the process ends so much later, whatever hangs."""
        self._config = loaded.config
        self._config_file = str(loaded.path or "built-in defaults")
        self._environ = environ
        self._now = now
        self._monotonic = monotonic
        self._end_within = end_within
        self._started = monotonic()
        self.paths = StatePaths(Path(self._config.daemon.state_dir))
        self._signals = Signals()
        self._reloader = Reloader(loaded, self._apply)
        self._services: list[Service] = []
        self._metrics_server = contextlib.ExitStack()
        self._cleanup = contextlib.ExitStack()

    def run(self) -> int:
        """Start, watch until a signal or a failure, stop; returns the exit status.

        Raises:
            ConfigError, StateInUse, AddressInUse, ...: what kept the daemon from starting.
        """
        with self._signals, self._cleanup:
            failed = False
            try:
                with self._signals.starting():
                    self._start()
                failed = self._watch()
            except StopWhileStarting:
                log.info("stopped while starting")
            finally:
                self._stop()
        return 1 if failed else 0

    def _start(self) -> None:
        config, paths, keep = self._config, self.paths, self._cleanup
        try:
            keep.enter_context(StateLock(paths))
            for folder in (paths.samples, paths.models, paths.rounds):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(
                f"cannot write in the state folder {paths.root}: {error.strerror or error}; choose another "
                "with --state-dir or daemon.state_dir, or give this user the right to write there"
            ) from error
        # The score is that of the smallest scale; what the others would lose is nobody's question here.
        indicator = complexity.make_indicator(
            config.complexity.indicator, (min(config.data_slimming.scales),)
        )
        report = reconcile.reconcile(
            paths,
            score=lambda grey: indicator.measure(grey).score,
            # A rebuild reads every image: systemd is asked for a minute more as long as it goes on.
            on_progress=self._ask_for_time,
        )

        registry = CollectorRegistry()
        instruments = Instruments(registry)
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        keep.callback(self._end_sockets, context)
        curve = configured.curve(config, self._config_file, self._environ)
        if curve is not None:
            # Before any socket is bound: without it nobody gets in.
            self._begin(
                ZapAuthenticator(context, curve.clients.name_of, on_refused=instruments.connection_refused)
            )

        self._store = self._begin(
            Store(
                paths,
                quota_bytes=config.storage.quota_bytes,
                min_free_bytes=config.storage.min_free_bytes,
            )
        )
        self._versions = Versions(paths, self._store, now=self._now)
        procfs = Path(config.energy.procfs_root)
        by_name: dict[str, Callable[[], int | None]] = {"main": lambda: threading.main_thread().native_id}
        cpu = CpuAccount(procfs, by_name, sysfs=Path(config.energy.sysfs_root))
        meter, meter_note = choose_meter(config.energy, cpu.total)
        log.info("energy meter source=%s method=%s about=%r", meter.source, meter.method, meter.about)
        self._energy = EnergyService(
            meter, cpu, idle_watts=config.energy.idle_watts, store=self._store, monotonic=self._monotonic
        )
        self._budget = BudgetKeeper(self._store, config.energy, now=self._now, monotonic=self._monotonic)
        self._budget.load(history_lost=report.history_lost)
        self._begin(self._energy)

        mailbox, self._predictor = self._start_inference(context, instruments, curve)
        round_context = RoundContext(
            config=config,
            config_file=self._config_file,
            paths=paths,
            store=self._store,
            versions=self._versions,
            energy=self._energy,
            budget=self._budget,
            instruments=instruments,
            live_model=self._predictor,
            procfs=procfs,
            now=self._now,
            monotonic=self._monotonic,
            drift=self._predictor.conditions.snapshot if self._predictor else None,
        )
        self._rounds = self._begin(
            Rounds(
                round_context,
                min_new_samples=config.training.min_new_samples,
                window=config.training.window,
            )
        )
        self._ingest = self._begin(self._build_ingest(context, indicator, mailbox, instruments, curve))
        self._parts = status.Parts(
            instruments=instruments,
            store=self._store,
            versions=self._versions,
            energy=self._energy,
            meter_note=meter_note,
            rounds=self._rounds,
            ingest=self._ingest,
            predictor=self._predictor,
            mailbox=mailbox,
            restart_keys=lambda: self._reloader.waiting,
        )
        self._start_outside(context, registry)
        for service in self._services:
            if service is not self._predictor:
                by_name[service.name] = lambda s=service: s.native_id  # type: ignore[misc]
                by_name.update((name, of) for workers in service.workers for name, of in workers.threads())
        log.info(
            "ready ingest=%s masks=%s metrics=%s state=%s",
            ",".join(self._ingest.endpoints),
            self._predictor.endpoint if self._predictor else "off",
            self._metrics_url or "off",
            paths.root,
        )
        self._frame_rate = status.FrameRate(self._monotonic())
        notify.notify(f"READY=1\nSTATUS={self._status_line()}", self._environ)

    def _ask_for_time(self) -> None:
        notify.notify("EXTEND_TIMEOUT_USEC=60000000", self._environ)

    def _begin(self, service: AnyService) -> AnyService:
        # Known before it runs: a start that is interrupted stops it as well.
        self._services.append(service)
        service.start()
        return service

    def _start_inference(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        instruments: Instruments,
        curve: ServerCurve | None,
    ) -> tuple[LatestFrames | None, Predictor | None]:
        config = self._config
        self._versions.fall_back(check_intact)
        if not config.inference.enabled:
            if self._versions.pointer() is not None or config.model.weights not in ("", UNTRAINED):
                first_model.ensure(config, self._config_file, self.paths, self._versions)
            return None, None
        # Only here does the daemon load torch.
        from dance_ondevice.daemon.inference.service import Predictor

        first_model.ensure(config, self._config_file, self.paths, self._versions)
        mailbox = LatestFrames()
        predictor: Predictor = self._begin(
            Predictor(
                mailbox=mailbox,
                publish=config.inference.publish,
                instruments=instruments,
                context=context,
                threads=config.inference.threads or os.cpu_count() or 1,
                engine=config.inference.engine,
                curve=curve,
                conditions=ConditionSettings(
                    enabled=config.conditions.enabled,
                    most=config.conditions.max,
                    min_frames=config.conditions.min_frames,
                    probation_every=config.conditions.probation_every,
                ),
                notes=SampleNotes(self._store, monotonic=self._monotonic),
            )
        )
        installs: list[Callable[[], None]] = []
        self._versions.fall_back(lambda directory: installs.append(predictor.prepare(directory)))
        installs[-1]()
        return mailbox, predictor

    def _build_ingest(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        indicator: complexity.Indicator,
        mailbox: LatestFrames | None,
        instruments: Instruments,
        curve: ServerCurve | None,
    ) -> Ingest:
        return Ingest(
            ingest_config.settings(self._config.ingest, self._config.security.publishers),
            context=context,
            indicator=indicator,
            rules=ingest_config.rules(self._config.data_slimming),
            n_classes=len(self._config.model.classes),
            store=self._store,
            mailbox=mailbox,
            instruments=instruments,
            admission=admission(self._config, curve),
            curve=curve,
        )

    def _start_outside(self, context: zmq.Context[zmq.Socket[bytes]], registry: CollectorRegistry) -> None:
        """What others reach the daemon by: metrics, control socket, schedule, the files that name them."""
        config = self._config
        self._metrics_url = ""
        if config.metrics.enabled:
            registry.register(SnapshotCollector(lambda: status.metrics_snapshot(self._parts)))
            server = MetricsServer(config.metrics.listen, registry)
            self._metrics_url = server.start()
            self._metrics_server.callback(server.close)
        endpoint = control.default_endpoint(config, self.paths, self._environ)
        self._begin(
            control.ControlServer(
                endpoint,
                control_handlers.handlers(
                    rounds=self._rounds,
                    store=self._store,
                    report=lambda: status.report(
                        self._parts, uptime=self._uptime(), metrics_url=self._metrics_url
                    ),
                    reload=self._reload,
                ),
            )
        )
        self._clockwork = scheduler.build(
            parse_duration(config.training.interval), config.training.window, self._rounds.tick
        )
        self._clockwork.start()
        self._cleanup.callback(self._clockwork.shutdown, wait=False)
        facts = instances.DaemonFile(
            pid=os.getpid(),
            control=endpoint,
            ingest=tuple(self._ingest.endpoints),
            metrics=self._metrics_url or None,
            inference=self._predictor.endpoint if self._predictor else None,
        )
        instances.write_daemon_file(self.paths, facts)
        self._cleanup.callback(self.paths.daemon_file.unlink, missing_ok=True)
        try:
            registration = instances.register(self.paths.root, endpoint, self._environ)
        except OSError as error:
            # Commands then need --state-dir; nothing else depends on it.
            log.warning("not registered error=%s", error)
        else:
            self._cleanup.callback(registration.unlink, missing_ok=True)

    def _uptime(self) -> float:
        return self._monotonic() - self._started

    def _apply(self, config: Config) -> None:
        """Hand a configuration that differs in live keys alone to the parts that decide by it."""
        before, self._config = self._config, config
        storage, training = config.storage, config.training
        self._store.set_limits(quota_bytes=storage.quota_bytes, min_free_bytes=storage.min_free_bytes)
        self._budget.set_limits(config.energy)
        self._rounds.reconfigure(config)
        self._ingest.set_rules(ingest_config.rules(config.data_slimming))
        if (training.interval, training.window) != (before.training.interval, before.training.window):
            scheduler.change(
                self._clockwork, parse_duration(training.interval), training.window, self._rounds.tick
            )

    def _reload(self) -> Changes:
        notify.notify(
            f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}",
            self._environ,
        )
        try:
            return self._reloader.reload()
        finally:
            notify.notify("READY=1", self._environ)

    def _watch(self) -> bool:
        """Feed the watchdog while all is well; returns whether a service failed."""
        interval = notify.watchdog_interval(self._environ)
        tick = _TICK_SECONDS if interval is None else min(_TICK_SECONDS, interval / 3)
        last_status = self._monotonic()
        while True:
            number = self._signals.next(tick)
            if number in STOP:
                return False
            if number == RELOAD:
                # Refused: the log has the reasons, the daemon goes on as it was.
                with contextlib.suppress(ConfigError):
                    self._reload()
            for service in self._services:
                if not service.alive:
                    log.critical("stopping because=%s failed error=%r", service.name, service.failure)
                    return True
            stale = [s.name for s in self._services if self._monotonic() - s.last_beat > s.max_silence]
            if stale:
                # Not fed on purpose: systemd restarts a daemon whose thread hangs.
                log.error("no heartbeat from=%s", ",".join(stale))
            elif interval is not None:
                notify.notify("WATCHDOG=1", self._environ)
            if self._monotonic() - last_status >= _STATUS_SECONDS:
                last_status = self._monotonic()
                notify.notify(f"STATUS={self._status_line()}", self._environ)

    def _status_line(self) -> str:
        frames = sum(self._parts.instruments.frame_counts().values())
        return status.line(self._parts, self._frame_rate.update(frames, self._monotonic()))

    def _stop(self) -> None:
        self._end_within(stopping.END_SECONDS)
        notify.notify("STOPPING=1", self._environ)
        for service in self._services:
            if isinstance(service, EnergyService) and service.alive:
                service.persist()
        stopping.stop(self._services, close_metrics=self._metrics_server.close, monotonic=self._monotonic)

    def _end_sockets(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        # It would wait for the sockets of a thread that hangs; they end with the process.
        if not any(service.alive for service in self._services):
            context.term()
