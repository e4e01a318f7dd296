"""A round procedure with real collaborators, small enough to run whole rounds in seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from dance_ondevice.daemon.config.sections import (
    UNTRAINED,
    Config,
    Inference,
    Model,
    NetworkSlimming,
    Promotion,
    Training,
)
from dance_ondevice.daemon.config.sections import Energy as EnergySection
from dance_ondevice.daemon.energy.budget import BudgetKeeper
from dance_ondevice.daemon.energy.service import CpuAccount, EnergyService
from dance_ondevice.daemon.metrics.instruments import Instruments
from dance_ondevice.daemon.rounds.context import Outcome, RoundContext
from dance_ondevice.daemon.rounds.procedure import RoundProcedure
from dance_ondevice.daemon.rounds.watch import Progress
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.versions.versions import Versions
from dance_ondevice.energy.model import ModelledMeter
from dance_ondevice.policies.rounds.start import RoundPlan

CONFIG = Config(
    training=Training(
        epochs=1,
        batch_size=4,
        precision="fp32",
        threads=1,
        learning_rate=0.005,
        distillation=0.5,
        priority="normal",  # with the usual one rounds would wait for the tests of other processes
    ),
    model=Model(size=(64, 48), weights=UNTRAINED),
    energy=EnergySection(budget_joules_per_day=1e6),
    promotion=Promotion(min_gain=-1.0, max_class_drop=1.0, max_condition_drop=1.0, max_latency_ratio=100.0),
    network_slimming=NetworkSlimming(step=0.2),
    inference=Inference(engine="torch"),  # else each round exports its candidate for the other engine
)


#: Of a round that is only recorded.
NO_SAMPLES = RoundPlan(train=(), rehearsal=(), gate=(), reason="")


def round_context(
    paths: StatePaths,
    store: Store,
    config: Config,
    instruments: Instruments,
    monotonic: Callable[[], float] = time.monotonic,
) -> RoundContext:
    """Real collaborators of a round: a modelled meter, a budget that is loaded, and versions."""
    cpu = CpuAccount(Path("/proc"), {})
    budget = BudgetKeeper(store, config.energy, now=time.time, monotonic=time.monotonic)
    budget.load(history_lost=False)
    return RoundContext(
        config=config,
        config_file="test.toml",
        paths=paths,
        store=store,
        versions=Versions(paths, store, now=time.time),
        energy=EnergyService(ModelledMeter(cpu.total, 0.0, 4.0, 2), cpu, idle_watts=0.0, store=store),
        budget=budget,
        instruments=instruments,
        live_model=None,
        procfs=Path("/proc"),
        now=time.time,
        monotonic=monotonic,
    )


class Rig:
    """One procedure with its collaborators; ``progress`` sees every step of the trainer."""

    def __init__(self, paths: StatePaths, store: Store, config: Config) -> None:
        self.stopping = threading.Event()
        self.progress: Callable[[Progress | None], None] = lambda progress: None
        self.store = store
        self.paths = paths
        self.registry = CollectorRegistry()
        self.context = round_context(paths, store, config, Instruments(self.registry))
        self.energy, self.budget, self.versions = (
            self.context.energy,
            self.context.budget,
            self.context.versions,
        )
        self.procedure = RoundProcedure(
            self.context,
            on_progress=self._on_progress,
            stopping=self.stopping,
            beat=lambda: None,
        )

    def _on_progress(self, progress: Progress | None) -> None:
        self.progress(progress)  # looked up each time: tests replace it

    def run(self) -> Outcome | str:
        config = self.context.config
        samples = self.procedure.assign_splits(config)
        return self.procedure.run(samples, config=config, trigger="test", reason="asked")

    def round(self) -> Outcome:
        outcome = self.run()
        assert isinstance(outcome, Outcome), outcome
        return outcome

    def rows(self, sql: str) -> list[dict[str, Any]]:
        return self.store.submit(lambda db: list(db.query(sql))).result()
