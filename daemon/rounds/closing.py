"""Closes a round's record: writes its outcome and joules, and removes its temporary files."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from typing import Any

from dance_ondevice.daemon.children.jobs import LINKS
from dance_ondevice.daemon.energy import ledger
from dance_ondevice.daemon.rounds import record as round_record
from dance_ondevice.daemon.rounds.context import Outcome, RoundContext, outcome_of
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.versions.condition_file import CONDITIONS_FILE

__all__ = ["close", "paid"]

log = logging.getLogger(__name__)


def paid(store: Store, round_id: str) -> dict[str, float]:
    """Gross and attributed joules of all parts of a round, read from the ledger."""
    gross, attributed = store.submit(lambda db: ledger.round_totals(db, round_id)).result()
    return {"gross_joules": gross, "joules": attributed}


def close(  # noqa: PLR0917
    context: RoundContext,
    round_id: str,
    outcome: str,
    reasons: tuple[str, ...],
    facts: Mapping[str, Any],
    version: str | None = None,
    *,
    served: bool = False,
) -> Outcome:
    """Record how a round ended, with the joules that the ledger has for it, and remove its temporary files.

    The joules come from the ledger because a crash may have cut an earlier part of the round short.

    Args:
        context: The context of all rounds.
        round_id: The round.
        outcome: ``promoted``, ``rejected``, ``stopped`` or ``failed``.
        reasons: The reasons for the outcome, in words.
        facts: Values of the round's row, as far as they are known.
        version: The version that the round has made, if it made one.
        served: Whether its training samples count as used.
    """
    facts = {**facts, **paid(context.store, round_id)}
    changes = {
        **{name: fact for name, fact in facts.items() if name != "cpu_seconds"},
        "finished_at": context.now(),
        "outcome": outcome,
        "reasons": json.dumps(list(reasons)),
        "candidate": version,
    }
    context.store.submit(lambda db: round_record.close_round(db, round_id, changes, served=served)).result()
    context.store.submit(round_record.tidy).result()
    folder = context.paths.rounds / round_id
    for leftover in ("checkpoint", "candidate", "gathered", LINKS):
        shutil.rmtree(folder / leftover, ignore_errors=True)
    (folder / CONDITIONS_FILE).unlink(missing_ok=True)
    log.info("round finished round=%s outcome=%s reasons=%s", round_id, outcome, "; ".join(reasons))
    return outcome_of(round_id, outcome, reasons, facts, version)
