"""The energy account of this device: the policy's figures, kept in the ledger, read from real clocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from dance_ondevice.daemon import ledger
from dance_ondevice.daemon.config_sections import Energy
from dance_ondevice.daemon.meters import full_load_watts
from dance_ondevice.daemon.store import Store
from dance_ondevice.energy.conditions import read_conditions
from dance_ondevice.policies import energy_budget as policy

_DAY = 86_400.0
#: While no round has told what a step costs: multiply-accumulates a second that even a small board does.
_SLOW_MACS_PER_SECOND = 4e9
#: Seconds of full load that a round takes beside its steps: interpreter, loading, scoring.
_OVERHEAD_SECONDS = 60.0


class BudgetKeeper:
    """Reserves, settles and refills; used by the rounds thread alone."""

    def __init__(
        self,
        store: Store,
        energy: Energy,
        *,
        now: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._store = store
        self._energy = energy
        self._now = now
        self._monotonic = monotonic
        self._boot = ledger.boot_id(Path(energy.procfs_root))
        self.rules = policy.BudgetRules(joules_per_day=energy.budget_joules_per_day)
        self._account = policy.Account(0.0, monotonic())
        self._reserved = 0.0

    def load(self, *, history_lost: bool) -> None:
        """Take up the account where the last run left it.

        Args:
            history_lost: the ledger was lost with its database: start empty, never full.
        """
        cap_seconds = self.rules.cap_days * _DAY

        def read(db: Database) -> ledger.SavedBudget | None:
            return ledger.load_budget(db, self._boot, self._monotonic(), self._now(), cap_seconds)

        saved = self._store.submit(read).result()
        if saved is not None:
            then = self._monotonic() - saved.elapsed_seconds
            self._account = policy.Account(saved.balance_joules, then)
        elif history_lost:
            self._account = policy.Account(0.0, self._monotonic())
        else:
            self._account = policy.initial_account(self.rules, self._monotonic())
        self._save(lambda db: None)

    def balance(self) -> float:
        """Joules that may be spent now."""
        self._account = policy.refill(self.rules, self._account, self._monotonic())
        return self._account.balance_joules

    def predict(self, past: Sequence[tuple[int, float]], steps: int, batch_size: int, macs: int) -> float:
        """Gross joules that a round of ``steps`` steps will take.

        Args:
            past: (steps, gross joules) of earlier rounds.
            steps: of the coming one.
            batch_size: images a step.
            macs: multiply-accumulates of one image's forward pass.
        """
        watts = full_load_watts(self._energy)
        # A backward pass costs twice the forward pass.
        step_seconds = 3 * macs * batch_size / _SLOW_MACS_PER_SECOND
        default = watts * (step_seconds + _OVERHEAD_SECONDS / max(1, steps))
        return policy.predict_joules(past, steps, default)

    def ask(self, predicted_joules: float) -> policy.Allowance:
        """Whether a round may start, and what it may spend."""
        conditions = read_conditions(Path(self._energy.sysfs_root))
        return policy.may_start(
            self.rules,
            policy.EnergyStatus(
                balance_joules=self.balance(),
                predicted_joules=predicted_joules,
                battery_percent=conditions.battery_percent,
                temperature_c=conditions.temperature_c,
                battery_floor_percent=self._energy.battery_floor_percent,
                max_temperature_c=self._energy.max_temperature_c,
            ),
        )

    def must_stop(self, *, spent: float, allowance: float) -> str | None:
        """Why the running round must end now, or None."""
        conditions = read_conditions(Path(self._energy.sysfs_root))
        return policy.must_stop(
            spent,
            allowance,
            battery_percent=conditions.battery_percent,
            temperature_c=conditions.temperature_c,
            battery_floor_percent=self._energy.battery_floor_percent,
            max_temperature_c=self._energy.max_temperature_c,
        )

    def reserve(self, round_id: str, joules: float) -> None:
        """Take a round's joules out of the account, durably, before it spends any."""
        self.balance()
        self._account = policy.reserve(self._account, joules)
        self._reserved = joules
        self._save(
            lambda db: ledger.reserve(db, round_id, joules, self._boot, self._monotonic(), self._now())
        )

    def settle(self, round_id: str, *, gross: float, attributed: float, method: str) -> None:
        """Pay what the round really used; what is left of its reservation comes back."""
        self.balance()
        self._account = policy.settle(self._account, self._reserved, gross)
        self._save(lambda db: ledger.settle(db, round_id, gross, attributed, method, self._now()))

    def _save(self, change: Callable[[Database], Any]) -> None:
        balance = self._account.balance_joules

        def write(db: Database) -> None:
            change(db)
            ledger.save_budget(db, balance, self._boot, self._monotonic(), self._now())

        self._store.submit(write).result()
