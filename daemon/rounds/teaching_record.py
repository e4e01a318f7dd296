"""Records of labelling by a teacher, in the store and the state folder, as plain functions."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from dance_ondevice.daemon.children.teacher_jobs import TeachSample
from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.store.labelled import BOUNDED, labelled_samples
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.versions.versions import Versions
from dance_ondevice.documents import decode
from dance_ondevice.files import read_regular, write_durably
from dance_ondevice.policies.samples import labelling
from dance_ondevice.policies.samples.splits import SampleInfo
from dance_ondevice.policies.samples.teacher_trust import Trust, trust

__all__ = [
    "Plan",
    "TeacherFacts",
    "close_run",
    "configured",
    "fail_open_runs",
    "keep_calibration",
    "mark",
    "may_judge",
    "open_run",
    "plan",
]

#: The most labelled samples that a teacher is calibrated on, and where its labels may judge.
CALIBRATION_SAMPLES, _JUDGE_SAMPLES = 16, 40
#: A teacher is measured anew once more than this share of the labels have changed that it was measured on.
_CHANGED_SHARE = 0.25
#: Number of latest runs from which the cost of an image is computed.
_COST_RUNS = 5
_CALIBRATION_FILE = "calibration.json"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The work of one run.

    Attributes:
        samples: Samples to label, the most valuable first.
        calibration: Labelled samples to measure the teacher on; empty when ``thresholds`` are valid.
        thresholds: Thresholds of an earlier run; empty when the run calibrates.
        measured: Digest of each label in ``calibration``, by sample.
        labelled: Number of samples that were labelled by somebody other than a model.
        joules_per_image: Mean gross joules of an image over the last runs; None before the first.
    """

    samples: tuple[TeachSample, ...]
    calibration: tuple[TeachSample, ...]
    thresholds: tuple[float, ...]
    measured: Mapping[str, str]
    labelled: int
    joules_per_image: float | None


def plan(db: Database, paths: StatePaths, facts: TeacherFacts, config: Config) -> Plan:
    """Plan the next run from what is stored."""
    labelled = labelled_samples(db)
    trusted = [sample for sample in labelled if not sample.by_machine]
    thresholds = () if _relabelled(db, paths) else _calibration(paths, facts, config, len(trusted))
    chosen = labelling.choose_for_labelling(
        labelling.shortlist(_unseen(db, facts.name), config.labels.teacher_samples),
        config.labels.teacher_samples,
        labelled=labelled,
    )
    most = _JUDGE_SAMPLES if config.labels.teacher_may_judge else CALIBRATION_SAMPLES
    calibration = _files(db, paths, () if thresholds else _spread(trusted, most))
    return Plan(
        samples=_files(db, paths, chosen.ids),
        calibration=calibration,
        thresholds=thresholds,
        measured={each.id: _digest(each) for each in calibration},
        labelled=len(trusted),
        joules_per_image=_joules_per_image(db),
    )


def open_run(db: Database, run_id: str, teacher: str, now: float) -> None:
    """Record that a run has begun."""
    db.execute("INSERT INTO labelling (id, started_at, teacher) VALUES (?, ?, ?)", [run_id, now, teacher])


def close_run(db: Database, run_id: str, changes: Mapping[str, object]) -> None:
    """Record how a run ended."""
    db.table("labelling").update(run_id, dict(changes))


def fail_open_runs(db: Database, now: float) -> None:
    """Close the runs that a crash left open; the ledger settles their joules."""
    db.execute(
        "UPDATE labelling SET outcome = 'failed', finished_at = ?, reason = 'the daemon ended while it ran' "
        "WHERE outcome IS NULL",
        [now],
    )


def mark(db: Database, sample: str, teacher: str, uncertainty: float | None) -> None:
    """Record that a teacher, and with ``uncertainty`` the live model too, has segmented a sample."""
    db.execute(
        "UPDATE samples SET taught_by = ?, uncertainty = coalesce(?, uncertainty) WHERE id = ?",
        [teacher, uncertainty, sample],
    )


def keep_calibration(
    paths: StatePaths,
    facts: TeacherFacts,
    config: Config,
    thresholds: Sequence[float],
    labelled: int,
    *,
    frames: Sequence[tuple[int, int]] = (),
    measured: Mapping[str, str] | None = None,
) -> None:
    """Store a teacher's thresholds, the labels at that time, and its agreement with each frame."""
    if not frames:
        # A run that used earlier thresholds has measured nothing: what they were measured on stays.
        kept = _kept(paths)
        if kept.get("of") == _of(facts, config) and kept.get("thresholds") == list(thresholds):
            return
    content = {
        "of": _of(facts, config),
        "thresholds": list(thresholds),
        "labelled": labelled,
        "frames": [list(frame) for frame in frames],
        "measured": dict(measured or {}),
    }
    write_durably(paths.root / "teaching" / _CALIBRATION_FILE, json.dumps(content).encode())


def _of(facts: TeacherFacts, config: Config) -> list[object]:
    """The values that a calibration depends on, other than the labels."""
    labels = config.labels
    found = [facts.name, list(config.model.classes), labels.teacher_confidence, labels.teacher_agreement]
    # More frames are measured where they decide more.
    return [*found, "judges"] if labels.teacher_may_judge else found


def _kept(paths: StatePaths) -> dict[str, Any]:
    """What ``keep_calibration`` stored; empty where it cannot be read."""
    try:
        return decode((paths.root / "teaching" / _CALIBRATION_FILE).read_bytes(), dict[str, Any])
    except (OSError, ValueError):
        return {}


def may_judge(paths: StatePaths, config: Config, versions: Versions) -> Trust:
    """Whether the configured teacher's labels may judge candidates."""
    if not config.labels.teacher_may_judge:
        return trust(False, (), target=1.0)
    facts = configured(config, versions)
    if not isinstance(facts, TeacherFacts) or facts.source != "teacher":
        return Trust(False, "no teacher is configured that could judge")
    kept = _kept(paths)
    frames: list[tuple[int, int]] = []
    if kept.get("of") == _of(facts, config):
        with contextlib.suppress(TypeError, ValueError):
            frames = [(int(agreed), int(believed)) for agreed, believed in kept.get("frames") or ()]
    return trust(True, frames, target=config.labels.teacher_agreement, confidence=config.promotion.confidence)


def _calibration(paths: StatePaths, facts: TeacherFacts, config: Config, labelled: int) -> tuple[float, ...]:
    """The valid thresholds: of this teacher, and measured on at least half of the labels that exist now."""
    try:
        kept = _kept(paths)
        thresholds = tuple(float(threshold) for threshold in kept["thresholds"])
        current = kept["of"] == _of(facts, config) and len(thresholds) == len(config.model.classes)
        return thresholds if current and labelled < max(1, 2 * int(kept["labelled"])) else ()
    except (ValueError, KeyError, TypeError):
        return ()  # not measured yet, or unreadable: calibrate


def _relabelled(db: Database, paths: StatePaths) -> bool:
    """Whether so many of the labels that a teacher was measured on have changed since that they say nothing.

    An import of wrong labels would else keep a good teacher out long after it was taken back.
    """
    measured = _kept(paths).get("measured")
    if not isinstance(measured, dict) or not measured:
        return False
    still_there = _files(db, paths, list(measured))
    changed = sum(_digest(each) != measured[each.id] for each in still_there)
    return bool(changed > _CHANGED_SHARE * len(measured))


def _digest(sample: TeachSample) -> str:
    """Digest of a sample's label; empty where there is none."""
    try:
        png = read_regular(Path(sample.label)) if sample.label else b""
    except OSError:
        return ""
    return hashlib.blake2b(png, digest_size=16).hexdigest() if png else ""


def _unseen(db: Database, teacher: str) -> list[SampleInfo]:
    """Samples without a label that this teacher has not seen."""
    rows: Any = db.query(
        f"select id, camera, {BOUNDED}, score, uncertainty, condition, signature from samples "
        "where label_path is null and unreadable is null and taught_by is not ?",
        [teacher],
    )
    return [
        SampleInfo(
            id=row["id"],
            camera=row["camera"],
            captured_at=row["captured_at"],
            score=row["score"] or 0.0,
            labelled=False,
            uncertainty=row["uncertainty"],
            condition=row["condition"] or "",
            signature=row["signature"] or "",
        )
        for row in rows
    ]


def _files(db: Database, paths: StatePaths, ids: Sequence[str]) -> tuple[TeachSample, ...]:
    root = paths.root.resolve()
    found: list[TeachSample] = []
    for identifier in ids:
        row = db.execute(
            "SELECT path, label_path, native_height, native_width FROM samples WHERE id = ?", [identifier]
        ).fetchone()
        if row is not None:
            found.append(
                TeachSample(
                    id=identifier,
                    image=str(root / row[0]),
                    label=str(root / row[1]) if row[1] else "",
                    size=(row[2], row[3]),
                )
            )
    return tuple(found)


def _joules_per_image(db: Database) -> float | None:
    """Mean gross joules of an image, including the start of the process; None before the first run."""
    row = db.execute(
        "SELECT sum(gross_joules), sum(looked_at + coalesce(calibrated_on, 0)) FROM (SELECT * FROM labelling "
        f"WHERE outcome = 'done' AND looked_at > 0 ORDER BY rowid DESC LIMIT {_COST_RUNS})"
    ).fetchone()
    return float(row[0]) / row[1] if row[0] and row[1] else None


def _spread(samples: Sequence[SampleInfo], count: int) -> list[str]:
    """Ids of at most ``count`` samples, evenly spread over time."""
    if len(samples) <= count:
        return [sample.id for sample in samples]
    return [samples[index * len(samples) // count].id for index in range(count)]


@dataclass(frozen=True, kw_only=True)
class TeacherFacts:
    """The identity of a teacher.

    Attributes:
        name: Its kind and what identifies it; samples that a teacher of this name has seen are not shown
            again.
        source: Label source of its masks, ``teacher`` or ``self``.
        teacher: See ``TeacherJob``.
        factory: See ``TeacherJob``.
        needs_labels: Whether it may label only after it was measured on labels; true for the live model
            itself.
    """

    name: str
    source: str
    teacher: str
    factory: str = ""
    needs_labels: bool = False


def configured(config: Config, versions: Versions) -> TeacherFacts | str | None:
    """The configured teacher, None when there is none, or a text that says what is wrong with it."""
    labels = config.labels
    if labels.teacher or labels.teacher_factory:
        try:
            mark = _fingerprint(Path(labels.teacher)) if labels.teacher else ""
        except OSError as error:
            return f"the teacher {labels.teacher} cannot be read: {error.strerror or error}"
        name = " ".join(filter(None, (labels.teacher_factory, Path(labels.teacher).name, mark)))
        return TeacherFacts(
            name=name, source="teacher", teacher=labels.teacher, factory=labels.teacher_factory
        )
    pointer = versions.pointer() if labels.self_training else None
    if pointer is None:
        return None
    return TeacherFacts(
        name=f"self {pointer.version}",
        source="self",
        teacher=str(versions.directory(pointer.version).resolve()),
        needs_labels=True,
    )


def _fingerprint(path: Path) -> str:
    """Hex digits that change with the file; for a checkpoint, with its card, which has its tensors' hash."""
    file = path / "card.json" if path.is_dir() else path
    status = file.stat()
    return hashlib.blake2b(
        f"{file.resolve()} {status.st_size} {status.st_mtime_ns}".encode(), digest_size=4
    ).hexdigest()
