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
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import zmq
from prometheus_client import CollectorRegistry

from dance_ondevice import complexity
from dance_ondevice.daemon.config.load import Loaded
from dance_ondevice.daemon.config.reload import Reloader
from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.config.values import parse_duration
from dance_ondevice.daemon.config.warnings import warnings as configured_warnings
from dance_ondevice.daemon.control import instances, main_loop, status
from dance_ondevice.daemon.control import notices as control_notices
from dance_ondevice.daemon.control import sockets as control_sockets
from dance_ondevice.daemon.control.next_step import Advisor
from dance_ondevice.daemon.control.running import Core, Running
from dance_ondevice.daemon.control.webhook import Webhook
from dance_ondevice.daemon.energy.budget import BudgetKeeper
from dance_ondevice.daemon.energy.meters import choose_meter, later_meter
from dance_ondevice.daemon.energy.service import CpuAccount, EnergyService
from dance_ondevice.daemon.ingest import ingest_config
from dance_ondevice.daemon.ingest.cameras import stored_cameras
from dance_ondevice.daemon.ingest.last_seen import LastSeen
from dance_ondevice.daemon.ingest.learnt_indicator import served_by
from dance_ondevice.daemon.ingest.mailbox import LatestFrames
from dance_ondevice.daemon.ingest.service import Ingest
from dance_ondevice.daemon.metrics.gauges import SnapshotCollector
from dance_ondevice.daemon.metrics.instruments import Instruments
from dance_ondevice.daemon.metrics.server import MetricsServer
from dance_ondevice.daemon.rounds.context import RoundContext
from dance_ondevice.daemon.rounds.fleet import joining
from dance_ondevice.daemon.rounds.fleet.box import FleetPart
from dance_ondevice.daemon.rounds.service import Rounds
from dance_ondevice.daemon.security import configured
from dance_ondevice.daemon.security.zap import ZapAuthenticator
from dance_ondevice.daemon.store import reconcile
from dance_ondevice.daemon.store.notes import SampleNotes
from dance_ondevice.daemon.store.quota import last_arrivals
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system import clock, cores, descriptors, stopping
from dance_ondevice.daemon.system import schedule as scheduler
from dance_ondevice.daemon.system import systemd as notify
from dance_ondevice.daemon.system.service import Service
from dance_ondevice.daemon.system.signals import Signals, StopWhileStarting
from dance_ondevice.daemon.system.state import StatePaths, state_folder
from dance_ondevice.daemon.versions import base, condition_names, factory, first_model, mend
from dance_ondevice.daemon.versions.versions import Versions, check_intact
from dance_ondevice.daemon.wire.connections import ConnectionGuard
from dance_ondevice.daemon.wire.publisher import MaskPublisher

if TYPE_CHECKING:
    from dance_ondevice.daemon.inference.service import Predictor

log = logging.getLogger(__name__)

AnyService = TypeVar("AnyService", bound=Service)


class Supervisor:
    """One running daemon, from its configuration to its last closed file."""

    def __init__(
        self,
        loaded: Loaded,
        *,
        environ: Mapping[str, str],
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        since_boot: Callable[[], float] = clock.since_boot,
        end_within: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        """``end_within`` is called when the stop begins, with the seconds until the process must end."""
        self._config = loaded.config
        self._config_file = str(loaded.path or "built-in defaults")
        self._environ = environ
        self._now = now
        self._monotonic = monotonic
        self._since_boot = since_boot
        self._end_within = end_within
        self._started = monotonic()
        self.paths = StatePaths(Path(self._config.daemon.state_dir))
        self._shares = descriptors.shares(descriptors.limit(), self._config.ingest.max_cameras)
        self._signals = Signals()
        self._seen = LastSeen(self._config.ingest.max_cameras, monotonic=monotonic)
        self._loaded = loaded
        self._fleet: FleetPart | None = None
        self._services: list[Service] = []
        self._webhook: Webhook | None = None
        self._metrics_server = contextlib.ExitStack()
        self._cleanup = contextlib.ExitStack()

    def run(self) -> int:
        """Start, watch until a signal or a failure, stop; returns the exit status.

        Raises:
            ConfigError, StateInUse, AddressInUse, ...: The daemon cannot start.
        """
        with self._signals, self._cleanup:
            failed = False
            try:
                with self._signals.starting():
                    running = self._start()
                failed = main_loop.run(
                    running,
                    self._services,
                    self._signals,
                    environ=self._environ,
                    now=self._now,
                    monotonic=self._monotonic,
                    since_boot=self._since_boot,
                )
            except StopWhileStarting:
                log.info("stopped while starting")
            finally:
                self._stop()
        return 1 if failed else 0

    def _start(self) -> Running:
        """Start all parts in this order; ``stopping.stop`` ends them in the reverse order, the store last.

        1. the lock of the state folder, and the reconciliation of index and files
        2. the authenticator, if connections are encrypted: without it no client is admitted
        3. the store, then the energy account
        4. inference
        5. rounds
        6. ingest: frames are accepted from here on
        7. the schedule of rounds, metrics, the control socket and its files: they reach all other parts
        """
        config = self._config
        self._cleanup.enter_context(state_folder(self.paths))
        self._fleet = joining.part(config, self._config_file, self.paths, now=self._now)
        for note in configured_warnings(config):
            log.warning("configuration %s", note)
        # Only the loss at the smallest scale is used as the score, so only that scale is measured.
        indicator = complexity.make_indicator(
            config.complexity.indicator, (min(config.data_slimming.scales),)
        )
        report = reconcile.reconcile(
            self.paths,
            score=lambda grey: indicator.measure(grey).score,
            # A rebuild reads every image: systemd is asked for one more minute as long as it goes on.
            on_progress=self._ask_for_time,
        )
        registry = CollectorRegistry()
        core = self._start_core(Instruments(registry), history_lost=report.history_lost)
        mailbox, predictor = self._start_inference(core)
        rounds = self._begin(self._build_rounds(core, predictor))
        if predictor is not None:
            predictor.fall_back_by(lambda: rounds.rollback(None))
        ingest = self._begin(self._build_ingest(core, indicator, mailbox, predictor))

        def apply(changed: Config) -> None:
            running.apply(changed)  # no request can come before the parts are open to others

        changes = base.ModelChanges(config, core.versions, self.paths)
        reloader = Reloader(self._loaded, apply, changes.unapplied)
        training = config.training
        asked = scheduler.AskedFile(self.paths.root / "asked", self._now)
        interval = parse_duration(training.interval)
        schedule = scheduler.build(interval, training.window, rounds.tick, asked=asked)
        running = Running(
            parts=status.Parts(
                instruments=core.instruments,
                store=core.store,
                versions=core.versions,
                energy=core.energy,
                meter_note=core.meter_note,
                rounds=rounds,
                ingest=ingest,
                advisor=Advisor(
                    store=core.store,
                    energy=core.energy,
                    rounds=rounds,
                    config=lambda: reloader.config,
                    next_look=lambda window_open: scheduler.next_look(schedule, window_open),
                    untrained=lambda: first_model.is_untrained_live(core.versions),
                ),
                predictor=predictor,
                mailbox=mailbox,
                fleet=self._fleet,
                restart_keys=lambda: reloader.waiting,
                model_changes=changes.found,
                webhook=lambda: self._webhook.report if self._webhook else None,
            ),
            budget=core.budget,
            schedule=schedule,
            reloader=reloader,
        )
        metrics_url = self._open_to_others(core, running, registry)
        core.energy.cpu.list_threads(service for service in self._services if service is not predictor)
        log.info(
            "ready ingest=%s masks=%s metrics=%s state=%s",
            ",".join(ingest.endpoints),
            predictor.endpoint if predictor else "off",
            metrics_url or "off",
            self.paths.root,
        )
        log.info("learning: %s", running.parts.advisor.now().line)
        return running

    def _start_core(self, instruments: Instruments, *, history_lost: bool) -> Core:
        config, paths = self._config, self.paths
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._cleanup.callback(self._end_sockets, context)
        guard = self._begin(ConnectionGuard(on_closed=instruments.connections_closed))
        curve = configured.curve(config, self._config_file, self._environ)
        if curve is not None:
            # Before any socket is bound: without the authenticator no client is admitted.
            self._begin(
                ZapAuthenticator(context, curve.clients.name_of, on_refused=instruments.connection_refused)
            )
        store = self._begin(
            Store(
                paths,
                quota_bytes=config.storage.quota_bytes,
                min_free_bytes=config.storage.min_free_bytes,
                on_written=lambda frames, seconds: instruments.frame_cpu("store", seconds, frames),
            )
        )
        instruments.cameras.known(store.submit(last_arrivals).result())
        cpu = CpuAccount(
            Path(config.energy.procfs_root),
            {"main": lambda: threading.main_thread().native_id},
            sysfs=Path(config.energy.sysfs_root),
            inference=config.inference.enabled,
        )
        meter, meter_note = choose_meter(config.energy, cpu.total)
        log.info("energy meter source=%s method=%s about=%r", meter.source, meter.method, meter.about)
        energy = EnergyService(
            meter, cpu, idle_watts=config.energy.idle_watts, store=store, monotonic=self._monotonic
        )
        energy.look_again = lambda: later_meter(config.energy, meter)
        budget = BudgetKeeper(store, config.energy, now=self._now, monotonic=self._since_boot)
        budget.load(history_lost=history_lost)
        self._begin(energy)
        mended = mend.live_file(paths, store)
        versions = Versions(paths, store, now=self._now)
        versions.note = mended
        return Core(
            instruments=instruments,
            context=context,
            curve=curve,
            guard=guard,
            store=store,
            versions=versions,
            energy=energy,
            budget=budget,
            meter_note=meter_note,
        )

    def _build_rounds(self, core: Core, predictor: Predictor | None) -> Rounds:
        config = self._config
        return Rounds(
            RoundContext(
                config=config,
                config_file=self._config_file,
                paths=self.paths,
                store=core.store,
                versions=core.versions,
                energy=core.energy,
                budget=core.budget,
                instruments=core.instruments,
                live_model=predictor,
                procfs=Path(config.energy.procfs_root),
                now=self._now,
                monotonic=self._monotonic,
                drift=predictor.conditions.snapshot if predictor else None,
                fleet=self._fleet,
            )
        )

    def _ask_for_time(self) -> None:
        notify.notify("EXTEND_TIMEOUT_USEC=60000000", self._environ)

    def _begin(self, service: AnyService) -> AnyService:
        # Listed before it runs, so that an interrupted start stops it as well.
        self._services.append(service)
        service.start()
        return service

    def _start_inference(self, core: Core) -> tuple[LatestFrames | None, Predictor | None]:
        config, versions = self._config, core.versions
        model = (config, self._config_file, self.paths, versions)
        first_model.come_up(*model, store=core.store, loads=check_intact)
        if not config.inference.enabled:
            return None, None
        # A daemon without inference does without what it takes.
        from dance_ondevice.daemon.inference.estimation import Estimation
        from dance_ondevice.daemon.inference.service import Predictor

        pointer = first_model.ensure(config, self._config_file, self.paths, versions)
        factory.check(versions.card(pointer.version), config, self._config_file)
        mailbox = LatestFrames()
        predictor: Predictor = self._begin(
            Predictor(
                mailbox=mailbox,
                masks=self._masks(core),
                instruments=core.instruments,
                threads=cores.usable(config.inference.threads),
                engine=config.inference.serves_by,
                device=config.inference.device,
                estimation=Estimation(
                    self.paths.models / ".estimation",
                    core.energy.cpu,
                    procfs=Path(config.energy.procfs_root),
                    priority=config.training.priority,
                    monotonic=self._monotonic,
                ),
                max_cameras=config.ingest.max_cameras,
                reuse=config.inference.reuse,
                conditions=config.conditions,
                conditions_opened=condition_names.opened(self.paths, core.store),
                notes=SampleNotes(core.store, monotonic=self._monotonic),
                seen=self._seen,
            )
        )
        installs: list[Callable[[], None]] = []
        first_model.start(*model, lambda directory: installs.append(predictor.prepare(directory)))
        installs[-1]()
        return mailbox, predictor

    def _masks(self, core: Core) -> Callable[[], MaskPublisher] | None:
        endpoint = self._config.inference.publish
        watch = core.guard.bounding("masks", self._shares.readers, newest_first=True)
        if not endpoint:
            return None
        return partial(MaskPublisher, core.context, endpoint, curve=core.curve, watch=watch)

    def _build_ingest(
        self,
        core: Core,
        indicator: complexity.Indicator,
        mailbox: LatestFrames | None,
        predictor: Predictor | None,
    ) -> Ingest:
        config = self._config
        # Those who ask and those who only publish come to a socket of their own.
        sockets = bool(config.ingest.bind) + bool(config.ingest.subscribe_bind)
        return Ingest(
            config.ingest,
            context=core.context,
            indicator=served_by(config.complexity.indicator, indicator, core.versions.live),
            rules=ingest_config.rules(config.data_slimming),
            n_classes=len(config.model.classes),
            store=core.store,
            mailbox=mailbox,
            instruments=core.instruments,
            condition_of=predictor.conditions.named_condition_of if predictor else lambda _camera: "",
            admission=ingest_config.admission(config, core.curve),
            curve=core.curve,
            publishers=config.security.publishers,
            cameras=core.store.submit(stored_cameras).result(),
            watch=core.guard.bounding(
                "ingest", self._shares.senders // max(1, sockets), takes=ingest_config.takes(config)
            ),
            seen=self._seen,
        )

    def _open_to_others(self, core: Core, running: Running, registry: CollectorRegistry) -> str:
        """Start the schedule, metrics and control socket once all parts run; returns the metrics' URL."""
        config, parts = self._config, running.parts
        running.schedule.start()
        self._cleanup.callback(running.schedule.shutdown, wait=False)
        metrics_url = ""
        if config.metrics.enabled:
            registry.register(SnapshotCollector(lambda: status.metrics_snapshot(parts)))
            cpu = parts.energy.cpu
            server = MetricsServer(config.metrics.listen, registry, spent=cpu.charge_upkeep)
            metrics_url = server.start()
            cpu.threads["metrics"] = lambda: server.native_id
            self._metrics_server.callback(server.close)
        if url := config.notify.url:
            self._webhook = self._begin(Webhook(url, lambda: control_notices.notices(parts)))
        sockets = control_sockets.make(
            config,
            self.paths,
            running,
            config_file=self._loaded.path,
            seen=self._seen,
            environ=self._environ,
            uptime=self._uptime,
            metrics_url=metrics_url,
            reload=lambda: main_loop.reload(running, self._environ),
            watch=lambda name: core.guard.bounding(name, self._shares.commands),
        )
        endpoint = self._begin(sockets.control).endpoint
        facts = instances.DaemonFile(
            pid=os.getpid(),
            state_dir=str(self.paths.root.absolute()),
            control=endpoint,
            console=self._begin(sockets.console).endpoint,
            fleet=self._begin(sockets.fleet).endpoint if sockets.fleet else None,
            ingest=tuple(parts.ingest.endpoints),
            subscribe_bind=parts.ingest.visited_endpoints,
            metrics=metrics_url or None,
            inference=parts.predictor.endpoint if parts.predictor else None,
        )
        instances.write_daemon_file(self.paths, facts)
        self._cleanup.callback(self.paths.daemon_file.unlink, missing_ok=True)
        try:
            registration = instances.register(self.paths.root, endpoint, self._environ)
        except OSError as error:  # commands then need --state-dir; nothing else depends on it
            log.warning("not registered error=%s", error)
        else:
            self._cleanup.callback(registration.unlink, missing_ok=True)
        return metrics_url

    def _uptime(self) -> float:
        return self._monotonic() - self._started

    def _stop(self) -> None:
        self._end_within(stopping.END_SECONDS)
        notify.notify("STOPPING=1", self._environ)
        for service in self._services:
            if isinstance(service, EnergyService) and service.alive:
                service.persist()
        stopping.stop(self._services, close_metrics=self._metrics_server.close, monotonic=self._monotonic)

    def _end_sockets(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        # term() would wait for the sockets of a thread that hangs; they end with the process.
        if not any(service.alive for service in self._services):
            context.term()
