"""The context that a round works in and the outcome that it ends with, as plain values."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from dance_ondevice.daemon.children.watcher import ChildWatcher
from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.energy.budget import BudgetKeeper
from dance_ondevice.daemon.energy.reservation import Reservation
from dance_ondevice.daemon.energy.service import EnergyService
from dance_ondevice.daemon.metrics.instruments import Instruments
from dance_ondevice.daemon.rounds.fleet.box import FleetPart
from dance_ondevice.daemon.rounds.watch import Progress
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.versions.versions import Versions
from dance_ondevice.policies.budget.usefulness import Usefulness
from dance_ondevice.policies.rounds.stock import Stock
from dance_ondevice.policies.samples.wanted import WantedLabels

if TYPE_CHECKING:
    from dance_ondevice.daemon.inference.cameras import ConditionsSnapshot


class LiveModel(Protocol):
    """The inference thread as the rounds see it: it can be given another version to serve."""

    def prepare(self, directory: Path) -> Callable[[], None]:
        """Load, verify and warm up a version; the returned call makes it serve.

        Raises:
            ValueError: it does not load.
        """


@dataclass(kw_only=True)
class RoundContext:
    """The services, settings and clocks that a round works with; the supervisor owns it.

    Attributes:
        config: The configuration. A reload replaces it as a whole; code that needs several keys that belong
            together reads it once.
        live_model: Loads versions for serving; None while inference is off.
        now: Wall clock in seconds, for records only.
        monotonic: Clock of durations and deadlines, in seconds.
        drift: Returns the latest state of the cameras and its drift alarms; None while inference is off.
        fleet: The board's part in its fleet; None where it is in none.
    """

    config: Config
    config_file: str
    paths: StatePaths
    store: Store
    versions: Versions
    energy: EnergyService
    budget: BudgetKeeper
    instruments: Instruments
    live_model: LiveModel | None
    procfs: Path
    now: Callable[[], float]
    monotonic: Callable[[], float]
    drift: Callable[[], ConditionsSnapshot] | None = None
    fleet: FleetPart | None = None

    def watcher(self, stopping: threading.Event, beat: Callable[[], None]) -> ChildWatcher:
        """A watcher that runs a child on the calling thread and sends that thread's heartbeat by ``beat``."""
        return ChildWatcher(
            cpu=self.energy.cpu,
            procfs=self.procfs,
            stopping=stopping,
            monotonic=self.monotonic,
            beat=beat,
        )

    def reserve(
        self, name: str, joules: float, *, workload: Literal["training", "labelling"] = "training"
    ) -> Reservation:
        """Reserve joules for a piece of work and begin to count; see ``Reservation``."""
        return Reservation(self.budget, self.energy, name, joules, workload=workload)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one round ended; mIoU as fractions of 1, joules gross and above idle."""

    round: str
    outcome: str
    reasons: tuple[str, ...]
    miou_before: float | None
    miou_after: float | None
    miou_frozen: float | None
    joules: float
    gross_joules: float
    method: str
    expected_gain: float | None
    expected_joules: float | None
    steps: int
    seconds: float
    cpu_seconds: float | None
    version: str | None

    def as_dict(self) -> dict[str, Any]:
        """Plain data for the control socket."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, kw_only=True)
class RoundsSnapshot:
    """The state that the rounds thread last published.

    Attributes:
        running: Progress of the round that runs now.
        last: The last finished round.
        counts: Number of rounds by outcome since the daemon started.
        waiting_for: Why no round runs, in words.
        stock: The samples that a round could learn from now.
        stock_of: The labelled samples that there were when the stock was counted, every few seconds.
        refused: Why the last round that was due did not start; empty if it did.
        refused_for_energy: Whether that was for lack of joules, or because of battery or heat.
        budget_joules: The joules that training may spend now.
        paused: Whether the user has paused rounds.
        suspended: Why rounds no longer start by themselves, since learning has not helped; empty otherwise.
        learning: What learning has gained and cost so far; None before it was computed.
        probation: What a version on probation still waits for; empty when none is on probation.
        labelling: State of the teacher, see ``teaching.TeachingState``.
        labels_wanted: Labels that a person is asked for.
    """

    running: Progress | None = None
    last: Outcome | None = None
    counts: dict[str, int]
    waiting_for: str = ""
    stock: Stock = field(default_factory=Stock)
    stock_of: int = 0
    refused: str = ""
    refused_for_energy: bool = False
    budget_joules: float = 0.0
    paused: bool = False
    suspended: str = ""
    learning: Usefulness | None = None
    probation: str = ""
    labelling: Mapping[str, object] = field(default_factory=dict)
    labels_wanted: tuple[WantedLabels, ...] = ()


def outcome_of(
    round_id: str, outcome: str, reasons: tuple[str, ...], facts: Mapping[str, Any], version: str | None
) -> Outcome:
    """Build the outcome of a round from its known facts; any of ``facts`` may be missing."""
    return Outcome(
        round=round_id,
        outcome=outcome,
        reasons=reasons,
        miou_before=facts.get("miou_before"),
        miou_after=facts.get("miou_after"),
        miou_frozen=facts.get("miou_frozen"),
        joules=facts.get("joules", 0.0),
        gross_joules=facts.get("gross_joules", 0.0),
        method=facts.get("method", ""),
        expected_gain=facts.get("expected_gain"),
        expected_joules=facts.get("expected_joules"),
        steps=facts.get("steps", 0),
        seconds=facts.get("seconds", 0.0),
        cpu_seconds=facts.get("cpu_seconds"),
        version=version,
    )
