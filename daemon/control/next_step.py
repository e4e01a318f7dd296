"""The reason why the daemon does not learn now, from its parts' snapshots, for status, log and metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.energy.service import EnergyService
from dance_ondevice.daemon.rounds.service import Rounds
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.policies.rounds import start
from dance_ondevice.policies.rounds.next_step import LearningFacts, NextStep, next_step

__all__ = ["Advisor", "as_dict"]


@dataclass(frozen=True, kw_only=True)
class Advisor:
    """Finds the reason why the daemon does not learn.

    Attributes:
        config: The present configuration.
        next_look: Returns, given whether the window is open, when a round is next considered; None if
            unknown.
        untrained: Whether the live model has not learnt anything yet.
    """

    store: Store
    energy: EnergyService
    rounds: Rounds
    config: Callable[[], Config]
    next_look: Callable[[bool], datetime | None]
    untrained: Callable[[], bool]
    local_time: Callable[[], datetime] = datetime.now

    def now(self) -> NextStep:
        """The present reason and the next step."""
        config, rounds, store = self.config(), self.rounds.snapshot(), self.store.snapshot()
        training, at = config.training, self.local_time()
        window_open = start.in_window(training.window, at.hour * 60 + at.minute)
        # Labels that came since the last count have no place yet; who has just imported some asks at once.
        fresh = max(0, store.samples_labelled - rounds.stock_of)
        new_labelled, needed = rounds.stock.new_labelled + fresh, max(1, training.min_new_samples)
        reading = self.energy.snapshot().reading
        known = {domain.domain for domain in reading.domains} - set(reading.faults)
        faults = "" if known else "; ".join(f"{name}: {why}" for name, why in reading.faults.items())
        return next_step(
            LearningFacts(
                labelled=store.samples_labelled,
                unlabelled=store.samples_unlabelled,
                untrained=self.untrained(),
                running=rounds.running.round if rounds.running else "",
                new_labelled=new_labelled,
                needed=needed,
                enough=rounds.stock.enough or new_labelled >= needed,
                judging=rounds.stock.judging + fresh,
                paused=rounds.paused,
                suspended=rounds.suspended,
                window=training.window,
                window_open=window_open,
                joules_per_day=config.energy.budget_joules_per_day,
                joules=rounds.budget_joules,
                meter_fault=faults,
                refused=rounds.refused,
                refused_for_energy=rounds.refused_for_energy,
                not_stored=store.trouble,
                interval=training.interval,
                looks_at=_clock(self.next_look(window_open), at),
            )
        )


def as_dict(step: NextStep) -> Mapping[str, Any]:
    """Plain data for ``status --json``."""
    return {
        "line": step.line,
        "reasons": list(step.reasons),
        "looks_again": step.looks or None,
        "command": step.command or None,
    }


def _clock(moment: datetime | None, now: datetime) -> str:
    """A time of day, with its date if that is not today."""
    if moment is None:
        return ""
    local = moment.astimezone()
    return local.strftime("%H:%M" if local.date() == now.date() else "%Y-%m-%d %H:%M")
