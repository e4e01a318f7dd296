"""The energy account of this device: the policy's values, kept in the ledger and driven by real clocks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from sqlite_utils import Database

from dance_ondevice.daemon.config.sections import Energy
from dance_ondevice.daemon.energy import ledger
from dance_ondevice.daemon.energy.meters import full_load_watts
from dance_ondevice.daemon.energy.service import Usage
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.energy.battery import find_batteries
from dance_ondevice.energy.board import Conditions, read_conditions, read_hindrances
from dance_ondevice.policies.budget import energy_budget as policy
from dance_ondevice.policies.budget import round_size

_DAY = 86_400.0
#: Multiply-accumulates a second that even a small board does, assumed until a round has measured a step.
_SLOW_MACS_PER_SECOND = 4e9
#: Seconds at full load that a round takes besides its steps: start, loading, scoring.
_OVERHEAD_SECONDS = 60.0
#: Seconds after which battery, temperature and supply are read again; a step may take less.
_CONDITIONS_SECONDS = 2.0
#: Seconds for which the last charge of a battery holds whose gauge does not answer; then it is none at all.
_CHARGE_SECONDS = 60.0


def assumed_cost(energy: Energy, batch_size: int, macs: int) -> round_size.Cost:
    """The cost of a round that is assumed until one was measured.

    Args:
        energy: The section ``[energy]``.
        batch_size: Images in a step.
        macs: Multiply-accumulates of one image's forward pass.
    """
    watts = full_load_watts(energy)
    # A backward pass costs twice the forward pass.
    return round_size.Cost(watts * _OVERHEAD_SECONDS, watts * 3 * macs * batch_size / _SLOW_MACS_PER_SECOND)


class BudgetKeeper:
    """The energy account: reserves, settles and refills joules, on the rounds thread alone."""

    def __init__(
        self,
        store: Store,
        energy: Energy,
        *,
        now: Callable[[], float],
        monotonic: Callable[[], float],
        hindrances: Callable[[], tuple[str, ...]] | None = None,
    ) -> None:
        """``hindrances`` returns, in words, what else forbids training; by default a Pi's power supply."""
        sysfs = Path(energy.sysfs_root)
        self._store = store
        self._energy = energy
        self._now = now
        self._monotonic = monotonic
        self._boot = ledger.boot_id(Path(energy.procfs_root))
        self._hindrances = hindrances or (lambda: read_hindrances(sysfs))
        self._conditions: tuple[float, Conditions, tuple[str, ...]] | None = None
        self._charge: tuple[float, float] | None = None
        self.rules = policy.BudgetRules(joules_per_day=energy.budget_joules_per_day)
        self._account = policy.Account(0.0, monotonic())

    def load(self, *, history_lost: bool) -> None:
        """Load the account as the last run left it; joules that a crash left reserved count as spent.

        Args:
            history_lost: Whether the ledger was lost with its database; the account then starts empty, never
                full.
        """
        cap_seconds = self.rules.cap_days * _DAY

        def read(db: Database) -> ledger.SavedBudget | None:
            return ledger.load_budget(db, self._boot, self._monotonic(), self._now(), cap_seconds)

        saved = self._store.submit(read).result()
        if saved is not None:
            then = self._monotonic() - saved.elapsed_seconds
            self._account = policy.Account(
                saved.balance_joules,
                then,
                saved.reserved_joules,
                tuple((then - age, joules) for age, joules in saved.spent),
                tuple((then - age, joules) for age, joules in saved.labelling),
                saved.reserved_for_labelling,
            )
            self.balance()
            self._account = policy.settle_crashed(self._account)
        elif history_lost:
            self._account = policy.Account(0.0, self._monotonic())
        else:
            self._account = policy.initial_account(self.rules, self._monotonic())
        self._save(lambda db: None)

    def set_limits(self, energy: Energy) -> None:
        """Use other limits: the day's joules, the battery floor and the highest temperature; from any thread.

        The balance stays, up to the cap of the new budget.
        """
        self._energy = msgspec.structs.replace(
            self._energy,
            budget_joules_per_day=energy.budget_joules_per_day,
            battery_floor_percent=energy.battery_floor_percent,
            max_temperature_c=energy.max_temperature_c,
        )
        self.rules = dataclasses.replace(self.rules, joules_per_day=energy.budget_joules_per_day)

    def balance(self) -> float:
        """Joules on the account that may be spent now; see ``spendable``."""
        self._account = policy.refill(self.rules, self._account, self._monotonic())
        return self._account.balance_joules

    def spendable(self) -> float:
        """Joules that a round may be predicted to take now, within the margin and the day's limit."""
        left = min(self.balance(), policy.day_left(self.rules, self._account))
        return max(0.0, left) / self.rules.margin

    def ask(self, predicted_joules: float) -> policy.Allowance:
        """Ask whether a round may start, and what it may spend."""
        conditions, hindrances = self._read_conditions()
        return policy.may_start(
            self.rules,
            policy.EnergyStatus(
                balance_joules=self.balance(),
                predicted_joules=predicted_joules,
                day_left_joules=policy.day_left(self.rules, self._account),
                battery_percent=conditions.battery_percent,
                temperature_c=conditions.temperature_c,
                battery_floor_percent=self._energy.battery_floor_percent,
                max_temperature_c=self._energy.max_temperature_c,
                hindrances=hindrances,
            ),
        )

    def must_stop(self, *, spent: float, allowance: float, step_joules: float = 0.0) -> str | None:
        """Why the running round must end now, or None.

        It may spend no more than the day's limit leaves, also where that was lowered after it began.
        """
        conditions, hindrances = self._read_conditions()
        self.balance()
        beyond = min(0.0, policy.day_left(self.rules, self._account))  # its own joules are reserved already
        reason = policy.must_stop(
            spent,
            max(0.0, allowance + beyond),
            step_joules=step_joules,
            battery_percent=conditions.battery_percent,
            temperature_c=conditions.temperature_c,
            battery_floor_percent=self._energy.battery_floor_percent,
            max_temperature_c=self._energy.max_temperature_c,
            hindrances=hindrances,
        )
        if reason is None or beyond == 0.0:
            return reason
        return f"the budget was lowered to {self.rules.joules_per_day:,.0f} J a day: {reason}"

    def charge(self, used: Usage) -> float:
        """Joules that a round is charged for its use; unmeasured time is charged at full load, never at 0."""
        return used.gross_joules + used.unmeasured_seconds * full_load_watts(self._energy)

    def labelling_spent(self) -> float:
        """Joules that labelling spent within the last 24 hours of the monotonic clock."""
        self.balance()
        return policy.labelling_spent(self._account)

    def reserve(self, round_id: str, joules: float, *, labelling: bool = False) -> None:
        """Take the joules of a round, or of labelling, out of the account, durably, before any is spent."""
        self.balance()
        self._account = policy.reserve(self._account, joules, labelling=labelling)
        self._save(
            lambda db: ledger.reserve(db, round_id, joules, self._boot, self._monotonic(), self._now())
        )

    def settle(self, round_id: str, *, gross: float, attributed: float, method: str) -> None:
        """Charge the joules that the round used, and return the rest of its reservation to the account."""
        self.balance()
        self._account = policy.settle(self._account, self._account.reserved_joules, gross)
        self._save(lambda db: ledger.settle(db, round_id, gross, attributed, method, self._now()))

    def _read_conditions(self) -> tuple[Conditions, tuple[str, ...]]:
        now = self._monotonic()
        if self._conditions is None or not 0 <= now - self._conditions[0] < _CONDITIONS_SECONDS:
            conditions, lost = self._charged(read_conditions(Path(self._energy.sysfs_root)), now)
            self._conditions = now, conditions, (*self._hindrances(), *lost)
        return self._conditions[1:]

    def _charged(self, found: Conditions, now: float) -> tuple[Conditions, tuple[str, ...]]:
        """The charge of a battery whose gauge fell silent, as an emptying one does: unknown is not full."""
        if found.battery_percent is not None:
            self._charge = now, found.battery_percent
        elif self._charge is not None and find_batteries(Path(self._energy.sysfs_root)):
            at, percent = self._charge
            if now - at > _CHARGE_SECONDS:
                return found, ("the battery's gauge no longer tells its charge",)
            return dataclasses.replace(found, battery_percent=percent), ()
        return found, ()

    def _save(self, change: Callable[[Database], Any]) -> None:
        account = self._account

        def write(db: Database) -> None:
            change(db)
            ledger.save_budget(
                db,
                account.balance_joules,
                self._boot,
                account.updated_at,
                self._now(),
                account.reserved_joules,
                _ages(account, account.spent),
                _ages(account, account.labelling),
                reserved_for_labelling=account.reserved_for_labelling,
            )

        self._store.submit(write).result()


def _ages(account: policy.Account, spent: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    return [(account.updated_at - at, joules) for at, joules in spent]
