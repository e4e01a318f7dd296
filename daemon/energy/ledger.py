"""The ledger of joules: what rounds reserved and used, what each day used, and what may still be spent.

Plain functions over a connection, to be run through ``Store.submit``: those called in one function there are
one transaction. A reservation is on the disk before a round spends its first joule, so neither a crash nor a
power cut ever gives joules back.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlite_utils import Database


class LedgerError(RuntimeError):
    """The state of the ledger does not allow this entry."""


@dataclass(frozen=True, kw_only=True)
class CrashedReservation:
    """A reservation that was open when the daemon last ended, now settled in full.

    Attributes:
        round_id: The round that made it.
        joules: The reserved joules, which count as spent.
        opened_at: Wall-clock seconds since the epoch.
    """

    round_id: str
    joules: float
    opened_at: float


@dataclass(frozen=True, kw_only=True)
class SavedBudget:
    """The budget account as it was last saved.

    Attributes:
        balance_joules: The joules that could be spent then.
        elapsed_seconds: Seconds since then, as far as they can be trusted; never negative.
        reserved_joules: Joules reserved by the round that ran then.
        spent: Age in seconds then, and joules, of what had been spent in the 24 hours before.
        labelling: The entries of ``spent`` that labelling spent.
        reserved_for_labelling: Whether ``reserved_joules`` were reserved for labelling.
    """

    balance_joules: float
    elapsed_seconds: float
    reserved_joules: float = 0.0
    spent: tuple[tuple[float, float], ...] = ()
    labelling: tuple[tuple[float, float], ...] = ()
    reserved_for_labelling: bool = False


def boot_id(procfs_root: Path) -> str:
    """The id of this boot, or ``""`` where the kernel does not report one.

    Monotonic seconds can be compared only within one boot.
    """
    try:
        return (procfs_root / "sys" / "kernel" / "random" / "boot_id").read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def reserve(  # noqa: PLR0917
    db: Database, round_id: str, joules: float, boot_id: str, monotonic: float, now: float
) -> None:
    """Open an entry before a round starts to spend.

    Args:
        db: The store's connection.
        round_id: The round; an interrupted round that was settled reserves again when it is resumed.
        joules: Gross joules that it may spend.
        boot_id: The result of ``boot_id``.
        monotonic: Monotonic seconds of this boot.
        now: Wall-clock seconds since the epoch.

    Raises:
        LedgerError: The round has an open entry already, or ``joules`` is not a valid amount.
    """
    _amount("reserved", joules)
    if _open_entry(db, round_id) is not None:
        raise LedgerError(f"round {round_id} has reserved joules already: settle that entry first")
    db.execute(
        "INSERT INTO ledger (round_id, reserved_joules, opened_at, boot_id, opened_monotonic) "
        "VALUES (?, ?, ?, ?, ?)",
        [round_id, joules, now, boot_id, monotonic],
    )


def settle(  # noqa: PLR0917
    db: Database, round_id: str, gross: float | None, attributed: float | None, method: str, now: float
) -> None:
    """Close a round's entry with what was used.

    Args:
        db: The store's connection.
        round_id: The round.
        gross: Joules of the whole board while it ran; None or not a number when the meter had no value: then
            all that was reserved counts as spent.
        attributed: The trainer's share above idle, in joules; None or not a number when unknown.
        method: The method of measurement: ``counter``, ``integrated`` or ``modelled``.
        now: Wall-clock seconds since the epoch.

    Raises:
        LedgerError: The round has no open entry, or a value is not a valid amount.
    """
    entry = _open_entry(db, round_id)
    if entry is None:
        raise LedgerError(f"round {round_id} has no open reservation: reserve before spending")
    identifier, reserved = entry
    known_gross = None if gross is None or math.isnan(gross) else _amount("gross", gross)
    known_share = None if attributed is None or math.isnan(attributed) else _amount("attributed", attributed)
    db.execute(
        "UPDATE ledger SET settled_joules = ?, attributed_joules = ?, method = ?, closed_at = ? WHERE id = ?",
        [reserved if known_gross is None else known_gross, known_share, method, now, identifier],
    )


def settle_crashed(db: Database, now: float) -> list[CrashedReservation]:
    """At start-up: close every entry that the last run left open, at the reserved amount.

    Returns:
        The entries, oldest first.
    """
    crashed = [
        CrashedReservation(round_id=row[0], joules=row[1], opened_at=row[2])
        for row in db.execute(
            "SELECT round_id, reserved_joules, opened_at FROM ledger WHERE closed_at IS NULL ORDER BY id"
        )
    ]
    db.execute(
        "UPDATE ledger SET settled_joules = reserved_joules, method = 'reserved', closed_at = ? "
        "WHERE closed_at IS NULL",
        [now],
    )
    return crashed


def add_energy(  # noqa: PLR0917
    db: Database, day: str, workload: str, source: str, method: str, joules: float
) -> None:
    """Add joules to a day's sum.

    Args:
        db: The store's connection.
        day: UTC date, ``YYYY-MM-DD``.
        workload: The workload that used them.
        source: Name of the meter.
        method: ``counter``, ``integrated`` or ``modelled``.
        joules: Number of joules.

    Raises:
        LedgerError: ``joules`` is not a valid amount.
    """
    _amount("used", joules)
    db.execute(
        "INSERT INTO energy (day, workload, source, method, joules) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (day, workload, source, method) DO UPDATE SET joules = joules + excluded.joules",
        [day, workload, source, method, joules],
    )


def round_totals(db: Database, round_id: str) -> tuple[float, float]:
    """Settled gross and attributed joules of all parts of a round (an interrupted one has several)."""
    row = db.execute(
        "SELECT coalesce(sum(settled_joules), 0.0), coalesce(sum(attributed_joules), 0.0) FROM ledger "
        "WHERE round_id = ?",
        [round_id],
    ).fetchone()
    return float(row[0]), float(row[1])


def save_budget(  # noqa: PLR0917
    db: Database,
    balance_joules: float,
    boot_id: str,
    monotonic: float,
    now: float,
    reserved_joules: float = 0.0,
    spent: Sequence[tuple[float, float]] = (),
    labelling: Sequence[tuple[float, float]] = (),
    *,
    reserved_for_labelling: bool = False,
) -> None:
    """Save the budget account as it is now.

    The wall clock of the record never goes back: a board without a real-time clock starts in the past, and
    the years until its clock is set must not count, boot after boot, as time in which joules flow in.

    Args:
        db: The store's connection.
        balance_joules: Joules that may be spent; negative when a round overspent.
        boot_id: The result of ``boot_id``.
        monotonic: Monotonic seconds of this boot.
        now: Wall-clock seconds since the epoch.
        reserved_joules: Joules reserved by the round that runs.
        spent: Age in seconds, and joules, of what was spent in the last 24 hours.
        labelling: The entries of ``spent`` that labelling spent.
        reserved_for_labelling: Whether ``reserved_joules`` were reserved for labelling.

    Raises:
        LedgerError: ``balance_joules`` is not finite.
    """
    if not math.isfinite(balance_joules):
        raise LedgerError(f"the balance is {balance_joules} J: it must be finite")
    db.execute(
        "INSERT OR REPLACE INTO budget (id, balance_joules, updated_at, boot_id, monotonic, day) "
        "VALUES (1, ?, max(?, coalesce((SELECT updated_at FROM budget), ?)), ?, ?, ?)",
        [
            balance_joules,
            now,
            now,
            boot_id,
            monotonic,
            json.dumps(
                {
                    "reserved": reserved_joules,
                    "spent": [list(each) for each in spent],
                    "labelling": [list(each) for each in labelling],
                    "reserved_for_labelling": reserved_for_labelling,
                }
            ),
        ],
    )


def load_budget(
    db: Database, boot_id: str, monotonic: float, now: float, cap_seconds: float
) -> SavedBudget | None:
    """Read the budget account, and how long ago it was saved.

    Within one boot the monotonic clock gives the time. Across boots only the wall clock can, and that may
    have gone backwards (then no time has passed) or jumped by years (then ``cap_seconds`` have): joules that
    flow in over ``cap_seconds`` fill the account to its cap, so no clock ever refills more.

    Args:
        db: The store's connection.
        boot_id: The result of ``boot_id``.
        monotonic: Monotonic seconds of this boot.
        now: Wall-clock seconds since the epoch.
        cap_seconds: The most that may have elapsed.

    Returns:
        The account, or None when none was saved yet.
    """
    row = db.execute("SELECT balance_joules, updated_at, boot_id, monotonic, day FROM budget").fetchone()
    if row is None:
        return None
    same_boot = boot_id != "" and row[2] == boot_id and monotonic >= row[3]
    elapsed = monotonic - row[3] if same_boot else now - row[1]
    day = json.loads(row[4] or "{}")
    return SavedBudget(
        balance_joules=row[0],
        elapsed_seconds=min(max(elapsed, 0.0), cap_seconds),
        reserved_joules=float(day.get("reserved", 0.0)),
        spent=_pairs(day.get("spent", ())),
        labelling=_pairs(day.get("labelling", ())),  # missing in records of an earlier build
        reserved_for_labelling=bool(day.get("reserved_for_labelling", False)),
    )


def _pairs(found: Sequence[Sequence[float]]) -> tuple[tuple[float, float], ...]:
    return tuple((float(age), float(joules)) for age, joules in found)


def _open_entry(db: Database, round_id: str) -> tuple[int, float] | None:
    row = db.execute(
        "SELECT id, reserved_joules FROM ledger WHERE round_id = ? AND closed_at IS NULL", [round_id]
    ).fetchone()
    return None if row is None else (row[0], row[1])


def _amount(name: str, joules: float) -> float:
    if not (math.isfinite(joules) and joules >= 0.0):
        raise LedgerError(f"{joules} J {name}: an amount must be finite and not negative")
    return joules
