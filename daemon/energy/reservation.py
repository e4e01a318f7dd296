"""The joules of one piece of work in a child process: reserved before it, held to, and settled after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dance_ondevice.daemon.energy.budget import BudgetKeeper
from dance_ondevice.daemon.energy.service import EnergyService

__all__ = ["Bill", "Reservation"]


@dataclass(frozen=True, kw_only=True)
class Bill:
    """The cost of a piece of work.

    Attributes:
        gross: Joules that the board used meanwhile, as the account is charged; see ``BudgetKeeper.charge``.
        attributed: Joules of the work itself, above idle.
        method: How the meter comes by its joules.
        meter: Sources and domains of the meter.
    """

    gross: float
    attributed: float
    method: str
    meter: str


class Reservation:
    """Joules that a piece of work may spend; whoever makes one settles it, whatever happens meanwhile."""

    def __init__(
        self,
        budget: BudgetKeeper,
        energy: EnergyService,
        name: str,
        joules: float,
        *,
        workload: Literal["training", "labelling"] = "training",
    ) -> None:
        """Reserve the joules, durably, and begin to count.

        Args:
            budget: The account.
            energy: The thread that measures.
            name: Name of the entry in the ledger, such as a round's id.
            joules: Gross joules that the work may use.
            workload: The workload that the child's share is attributed to.
        """
        self._budget = budget
        self._energy = energy
        self._name = name
        self._joules = joules
        self._workload = workload
        budget.reserve(name, joules, labelling=workload == "labelling")
        self._before = energy.sample()
        #: Gross joules that were spent when it was last asked; None before.
        self.spent: float | None = None

    def must_stop(self, ahead: float = 0.0) -> str | None:
        """Why the work must end now, or None; ``ahead`` are joules that it must still be able to spend."""
        self.spent = self._budget.charge(self._energy.used_since(self._before))
        return self._budget.must_stop(spent=self.spent, allowance=self._joules, step_joules=ahead)

    def settle(self) -> Bill:
        """Charge what was used. If this fails, the next start charges the reserved joules."""
        after = self._energy.sample()
        before = self._before.workloads.get(self._workload, 0.0)
        bill = Bill(
            gross=self._budget.charge(after.since(self._before)),
            attributed=after.workloads.get(self._workload, 0.0) - before,
            method=self._energy.meter.method,
            meter=after.meter,
        )
        self._budget.settle(self._name, gross=bill.gross, attributed=bill.attributed, method=bill.method)
        self._energy.persist()  # so that `energy` shows them at once
        return bill
