"""The rows of the store's database that a round reads and writes, as plain functions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from dance_ondevice.daemon.children.counts import SampleCapture
from dance_ondevice.daemon.children.jobs import JobSample
from dance_ondevice.daemon.store.labelled import BOUNDED, UNUSED
from dance_ondevice.policies.rounds.rehearsal import is_anchor
from dance_ondevice.policies.rounds.start import RoundPlan
from dance_ondevice.policies.samples.splits import CORRECTED

#: Number of latest rounds of which the role of every sample stays on record.
_KEPT_ROUNDS = 50


def job_samples(db: Database, ids: Sequence[str], state_dir: Path) -> tuple[JobSample, ...]:
    """The files and weights of samples, in the order of ``ids``; evicted samples are left out."""
    found: dict[str, JobSample] = {}
    for chunk in _chunks(ids, 500):
        marks = ",".join("?" * len(chunk))
        for row in db.query(
            "select id, path, label_path, label_source, weight, condition from samples "
            f"where id in ({marks})",
            list(chunk),
        ):
            if row["label_path"]:
                found[row["id"]] = JobSample(
                    id=row["id"],
                    image=str(state_dir / row["path"]),
                    label=str(state_dir / row["label_path"]),
                    weight=row["weight"] or 1.0,
                    condition=row["condition"] or "",
                    corrected=row["label_source"] == CORRECTED,
                )
    return tuple(found[i] for i in ids if i in found)


@dataclass(frozen=True)
class Origin:
    """Where and when a sample was captured, and who labelled it."""

    capture: SampleCapture
    label_source: str

    @property
    def condition(self) -> str:
        """The condition in which the sample was captured; empty where it is not known."""
        return self.capture.condition


def origins(db: Database, ids: Sequence[str]) -> dict[str, Origin]:
    """Where samples come from, by id; samples that are gone are left out."""
    found: dict[str, Origin] = {}
    for chunk in _chunks(ids, 500):
        marks = ",".join("?" * len(chunk))
        for row in db.query(
            f"select id, camera, {BOUNDED}, condition, label_source from samples where id in ({marks})",
            list(chunk),
        ):
            capture = SampleCapture(
                camera=row["camera"], captured_at=row["captured_at"], condition=row["condition"] or ""
            )
            found[row["id"]] = Origin(capture, row["label_source"] or "")
    return found


def open_round(db: Database, row: Mapping[str, object], plan: RoundPlan) -> None:
    """Record that a round begins, and the role of each of its samples, which are not evicted from now on.

    Samples that were evicted since the plan was made are left out.
    """
    roles = {
        **dict.fromkeys(plan.train, "new"),
        **dict.fromkeys(plan.rehearsal, "rehearsal"),
        **dict.fromkeys(plan.gate, "gate"),
    }
    there = {s.id for s in job_samples(db, list(roles), Path())}
    db.table("rounds").upsert(dict(row), pk="id")
    db.execute(
        "update rounds set new_samples = :new, arrivals = (select arrivals from sample_totals) "
        "where id = :id",
        {"id": row["id"], "new": sum(sample_id in there for sample_id in plan.train)},
    )
    db.table("round_samples").insert_all(
        (
            {"round_id": row["id"], "sample_id": sample_id, "role": role}
            for sample_id, role in roles.items()
            if sample_id in there or is_anchor(sample_id) is not None
        ),
        pk=("round_id", "sample_id"),
        replace=True,
    )


def close_round(db: Database, round_id: str, changes: Mapping[str, object], *, served: bool) -> None:
    """Record how a round ended; ``served`` marks its training samples as used.

    The samples of a rejected round are marked as well, since the same round over the same samples would end
    the same way. They still serve as rehearsal. One whose label changed meanwhile is not marked. What is
    unused then is not new to the next round's decision.
    """
    db.table("rounds").update(round_id, dict(changes))
    if served:
        db.execute(
            "update samples set rounds_used = rounds_used + 1 where id in "
            "(select sample_id from round_samples where round_id = ? and role in ('new', 'rehearsal'))",
            [round_id],
        )
    unused = f"(select count(*) from samples where {UNUSED})"
    db.execute(f"update rounds set left_over = {unused} where id = ?", [round_id])


def tidy(db: Database) -> None:
    """Remove records of samples in ended rounds that are not needed any more.

    These are the records of samples that are gone, and, of all rounds but the latest, those of gate samples
    and of the samples of a candidate that never went live and has no descendants.
    """
    db.execute(
        "delete from round_samples where round_id in (select id from rounds where outcome is not null) and ("
        "sample_id not in (select id from samples) or ("
        f"round_id not in (select id from rounds order by rowid desc limit {_KEPT_ROUNDS}) "
        "and (role = 'gate' or ("
        "round_id not in (select round_id from versions where round_id is not null) and "
        "round_id not in (select id from rounds where outcome in ('promoted', 'rolled_back')) and "
        "round_id not in (select made.id from rounds made join rounds child on child.parent = made.candidate)"
        "))))"
    )


def keep_seconds(db: Database, round_id: str, seconds: float) -> None:
    """Record how many seconds a round that is still open has run."""
    db.execute("update rounds set seconds = ? where id = ? and outcome is null", [seconds, round_id])


def count_resume(db: Database, round_id: str) -> None:
    """Record that an interrupted round is resumed once more."""
    db.execute("update rounds set resumes = resumes + 1 where id = ?", [round_id])


def unfinished_rounds(db: Database) -> list[dict[str, Any]]:
    """Rounds that a stop or a crash left open, oldest first."""
    return list(db.query("select * from rounds where outcome is null order by rowid"))


def finished_rounds(db: Database, limit: int = 20) -> list[dict[str, Any]]:
    """The latest finished rounds that trained, oldest first, in the order in which they were opened.

    The order does not depend on the wall clock: if it was once ahead, later rounds would not be found.
    """
    rows = list(
        db.query(
            "select * from rounds where outcome is not null and fleet_release is null "
            "order by rowid desc limit ?",
            [limit],
        )
    )
    return rows[::-1]


def verdicts_on(db: Database, release: str) -> list[dict[str, Any]]:
    """The rounds that judged a release of the fleet and came to a verdict, oldest first."""
    return list(
        db.query(
            "select * from rounds where fleet_release = ? "
            "and outcome in ('promoted', 'rejected', 'rolled_back') order by rowid",
            [release],
        )
    )


def spent_joules(db: Database) -> float:
    """Gross joules that learning has cost: rounds, probation, and labelling on the board."""
    found = db.execute("select coalesce(sum(settled_joules), 0.0) from ledger where closed_at is not null")
    return float(found.fetchone()[0])


@dataclass(frozen=True)
class SeenSample:
    """A stored frame for the evaluation of a version on probation; its label is empty where there is none."""

    sample: JobSample
    capture: SampleCapture


def newest_sample(db: Database) -> int:
    """Number of the sample that was stored last, 0 when there never was one.

    Numbers of arrival follow the order of storing, whatever the wall clock does, and none is used twice.
    """
    return int(db.execute("select arrivals from sample_totals").fetchone()[0])


def seen_since(
    db: Database,
    arrival: int | None,
    since: float,
    most: int,
    state_dir: Path,
    *,
    condition: str | None = None,
) -> list[SeenSample]:
    """The newest frames that were stored after a moment and not learnt from, labelled ones first.

    Args:
        db: The store's connection.
        arrival: The result of ``newest_sample`` at that moment. Samples that were rebuilt from their files
            are left out, because it is not known when they were stored.
        since: Wall-clock second of that moment, used where ``arrival`` is None.
        most: The most frames to return.
        state_dir: The state folder, which stored paths are relative to.
        condition: The condition in which the frames were captured; None for all.
    """
    rows = db.query(
        # A label made by a model is no evidence here: such a frame counts as unlabelled.
        f"select id, camera, {BOUNDED}, condition, path, "
        "iif(label_source in ('teacher', 'self'), null, label_path) as label from samples "
        "where iif(:after is null, received_at > :since, arrival > :after and origin <> 'rebuilt') "
        "and rounds_used = 0 and unreadable is null and (:of is null or condition = :of) "
        "order by label is null, arrival desc limit :most",
        {"after": arrival, "since": since, "of": condition, "most": most},
    )
    return [
        SeenSample(
            JobSample(
                id=row["id"],
                image=str(state_dir / row["path"]),
                label=str(state_dir / row["label"]) if row["label"] else "",
                condition=row["condition"] or "",
            ),
            SampleCapture(
                camera=row["camera"], captured_at=row["captured_at"], condition=row["condition"] or ""
            ),
        )
        for row in rows
    ]


def mark_rolled_back(db: Database, round_id: str, reason: str) -> None:
    """Record that a promotion was taken back, so that later decisions do not count it as a gain."""
    row = db.execute("select reasons from rounds where id = ?", [round_id]).fetchone()
    if row is not None:
        reasons = [*json.loads(row[0] or "[]"), f"rolled back on probation: {reason}"]
        db.table("rounds").update(round_id, {"outcome": "rolled_back", "reasons": json.dumps(reasons)})


def mark_missed_rollbacks(db: Database) -> None:
    """Record promotions that were taken back just before the daemon ended."""
    missed = db.execute(
        "select rounds.id from rounds join versions on round_id = rounds.id "
        "where outcome = 'promoted' and status = 'rolled_back'"
    ).fetchall()
    for (round_id,) in missed:
        mark_rolled_back(db, round_id, "the daemon ended before it was on record why")


def _chunks(ids: Sequence[str], size: int) -> Iterable[Sequence[str]]:
    return (ids[i : i + size] for i in range(0, len(ids), size))
