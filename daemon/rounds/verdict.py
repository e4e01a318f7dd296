"""The verdict on a finished round, and the certificate for its candidate's card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dance_ondevice.daemon.children import jobs
from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.config.values import parse_duration
from dance_ondevice.daemon.rounds import gate_table
from dance_ondevice.daemon.rounds import record as round_record
from dance_ondevice.daemon.rounds.watch import RunResult
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.policies.promotion import asking, bootstrap, erosion, losses, promotion
from dance_ondevice.policies.promotion.rules import GateRules, Outcome, Scores, Speed
from dance_ondevice.policies.samples.wanted import WantedLabels

#: What the mIoU of two models' masks is called where a teacher made the labels.
_BY_TEACHER = "agreement with the teacher"


@dataclass(frozen=True)
class Judgement:
    """The gate's verdict, its reasons, and the fields that it adds to the candidate's card."""

    outcome: Outcome
    reasons: tuple[str, ...]
    certificate: Mapping[str, Any]


def judge(
    config: Config,
    store: Store,
    job: jobs.Job,
    result: RunResult,
    facts: Mapping[str, Any],
    *,
    live_card: Mapping[str, Any],
    untrained_live: bool = False,
) -> Judgement:
    """Judge a candidate that is on disk.

    Args:
        config: The whole configuration.
        store: The sample store, which knows where samples come from.
        job: The round's job.
        result: The result of its trainer, whose state is ``done``.
        facts: Values of the round's row, for the certificate.
        live_card: The live version's card.
        untrained_live: Whether the live model has not learnt anything yet.
    """
    origins = store.submit(
        lambda db: round_record.origins(db, [s.id for s in (*job.train, *job.rehearsal, *job.gate)])
    ).result()
    table = gate_table.build(
        Path(job.out).parent,
        {i: origin.capture for i, origin in origins.items()},
        new_since=_new_since(job, origins),
        block_seconds=parse_duration(config.training.gate_block),
        confidence=config.promotion.confidence,
        seed=job.seed,
    )
    assert result.done is not None
    speed = _speed(result, result.done)
    rules, comparison = gate_rules(config), table.whole
    if job.kind_of == "fleet":
        rules, comparison = _within_allowance(config, rules, comparison)
    live, candidate = (result.scores[name].scores() for name in ("live", "candidate"))
    fallen_before = falls_of(live_card)
    verdict = promotion.judge(
        live,
        candidate,
        rules,
        slimmed=_is_slimmer(result),
        classes=config.model.classes,
        comparison=comparison,
        groups=table.groups,
        speed=speed,
        fallen_before=fallen_before,
        untrained_live=untrained_live,
        measure=_BY_TEACHER if job.by_teacher else "mIoU",
    )
    lacking = None
    # A candidate that falls for another reason as well would fall with any number of labels.
    if verdict.decidable and not job.by_teacher:
        lacking = asking.lacking(
            comparison,
            table.groups,
            rules,
            slimmed=_is_slimmer(result),
            fallen_before=fallen_before,
        )
    wanted = _wanted(lacking, config) if lacking else {}
    notes = (
        _would_decide(wanted),
        _part_of_the_way(result.done),
        result.reason,
        result.device_note,
        result.slimmed.note if result.slimmed else "",
        job.note,
    )
    reasons = verdict.reasons + tuple(note for note in notes if note)
    certificate = {
        "gate": {
            "outcome": verdict.outcome,
            "reasons": list(reasons),
            **{name: facts[name] for name in ("miou_before", "miou_after", "miou_frozen", "expected_gain")},
            "samples": result.scores["candidate"].samples,
            **_scores(result, gate_table.in_words(table, config.model.classes), by_teacher=job.by_teacher),
            "confidence": config.promotion.confidence,
            "condition": job.condition,
            "table": {} if job.by_teacher else gate_table.in_words(table, config.model.classes),
            "lacking": wanted,
            "falls": {} if untrained_live else falls(config, live, candidate, table, fallen_before),
            "live_ms": speed.live_ms,
            "candidate_ms": speed.candidate_ms,
        },
        "energy": {k: facts[k] for k in ("joules", "gross_joules", "expected_joules", "method", "seconds")},
        "samples": _samples(job, origins),
        "slimming": _slimming(result),
    }
    return Judgement(verdict.outcome, reasons, certificate)


def _speed(result: RunResult, done: jobs.Done) -> Speed:
    slimmed, timed = result.slimmed, result.timed
    return Speed(
        live_ms=timed.live_ms if timed else 0.0,
        candidate_ms=timed.candidate_ms if timed else 0.0,
        live_macs=slimmed.macs_before if slimmed else 0,
        candidate_macs=done.macs,
    )


def _within_allowance(
    config: Config, rules: GateRules, comparison: bootstrap.Comparison | None
) -> tuple[GateRules, bootstrap.Comparison | None]:
    """Rules and comparison for a version of the fleet: others gain by what this board may lose.

    The figure alone, without its bounds, decides whether that is within the allowance.
    """
    rules = replace(rules, min_gain=-config.fleet.max_own_drop)
    if comparison is not None:
        comparison = replace(comparison, gain=bootstrap.Bounded(comparison.gain.point))
    return rules, comparison


def _scores(result: RunResult, table: Mapping[str, Any], *, by_teacher: bool) -> dict[str, Any]:
    """The scores by class; of a teacher's labels in a column of their own, since they are no accuracy."""
    live, candidate = result.scores["live"], result.scores["candidate"]
    if by_teacher:
        agreed = {"agreement_before": live.miou, "agreement_after": candidate.miou}
        return {"by_teacher": {**agreed, "table": table}}
    return {
        "iou_per_class": list(candidate.iou_per_class),
        "iou_per_class_before": list(live.iou_per_class),
    }


def labels_wanted(card: Mapping[str, Any]) -> WantedLabels | None:
    """The labels that would decide on a rejected version, from its card; None where labels would not."""
    lacking = (card.get("gate") or {}).get("lacking")
    if not lacking:
        return None
    thin = lacking["thin"]
    only = (
        f"; {', '.join(thin)} {'is' if len(thin) == 1 else 'are'} held out in a single block" if thin else ""
    )
    return WantedLabels(
        camera="",
        condition=lacking["condition"],
        frames=lacking["frames"],
        why=f"they would decide on {card.get('version')}, which its few held-out labels could not{only}",
    )


def _is_slimmer(result: RunResult) -> bool:
    slimmed = result.slimmed
    return slimmed is not None and slimmed.macs_after < slimmed.macs_before


def _wanted(lacking: asking.Lacking, config: Config) -> dict[str, Any]:
    """What the verdict lacked, as plain data for the version's card."""
    classes = config.model.classes
    return {
        "condition": gate_table.condition_of(lacking.group),
        "units": lacking.units,
        "frames": asking.frames_to_label(lacking, config.training.gate_share),
        "thin": [classes[number] for number in lacking.thin if number < len(classes)],
    }


def _part_of_the_way(done: jobs.Done) -> str:
    if done.share == 1:
        return ""
    return f"{100 * done.share:.0f} % of the way from the live weights to the trained ones"


def _would_decide(wanted: Mapping[str, Any]) -> str:
    if not wanted:
        return ""
    where = f" at {wanted['condition']}" if wanted["condition"] else ""
    return f"labels of about {wanted['frames']} more frames{where} would decide"


def recorded(card: Mapping[str, Any]) -> tuple[Judgement, dict[str, Any]]:
    """The verdict in a version's card, and the facts of its round that the card holds."""
    gate, energy = card["gate"], card.get("energy", {})
    judgement = Judgement(gate["outcome"], tuple(gate["reasons"]), {})
    facts = {name: gate.get(name) for name in ("miou_before", "miou_after", "miou_frozen", "expected_gain")}
    facts |= {name: energy.get(name) for name in ("expected_joules", "method", "seconds")}
    return judgement, facts | {"steps": card["training"].get("steps"), "macs_after": card.get("macs")}


def gate_rules(config: Config) -> GateRules:
    """The user's rules for a candidate."""
    gate = config.promotion
    return GateRules(
        min_gain=gate.min_gain,
        max_class_drop=gate.max_class_drop,
        slim_tolerance=gate.slim_tolerance,
        max_condition_drop=gate.max_condition_drop,
        max_latency_ratio=gate.max_latency_ratio,
    )


def falls_of(card: Mapping[str, Any]) -> dict[str, erosion.Fall]:
    """What a version lost on its way, by its card: see `policies/promotion/erosion.py`."""
    gate = card.get("gate")
    return erosion.decode(gate.get("falls")) if isinstance(gate, Mapping) else {}


def falls(
    config: Config,
    live: Scores,
    candidate: Scores,
    table: gate_table.GateTable,
    fallen_before: Mapping[str, erosion.Fall],
) -> dict[str, list[float]]:
    """What a candidate will have lost once it is live, for its card."""
    return erosion.encode(
        losses.falls_after(
            live,
            candidate,
            gate_rules(config),
            config.model.classes,
            comparison=table.whole,
            groups=table.groups,
            fallen_before=fallen_before,
        )
    )


def _new_since(job: jobs.Job, origins: Mapping[str, round_record.Origin]) -> dict[str, float]:
    since: dict[str, float] = {}
    for sample in job.train:
        if sample.id in origins:
            capture = origins[sample.id].capture
            since[capture.camera] = min(capture.captured_at, since.get(capture.camera, capture.captured_at))
    return since


def _samples(job: jobs.Job, origins: Mapping[str, round_record.Origin]) -> dict[str, Any]:
    """Number of samples by role, and of training samples by label source and by condition."""

    def count(field: str) -> dict[str, int]:
        found: dict[str, int] = {}
        for sample in (*job.train, *job.rehearsal):
            origin = origins.get(sample.id)
            name = (getattr(origin, field) if origin else "") or "unknown"
            found[name] = found.get(name, 0) + 1
        return dict(sorted(found.items()))

    return {
        "new": len(job.train),
        "rehearsal": len(job.rehearsal),
        "gate": len(job.gate),
        "label_sources": count("label_source"),
        "conditions": count("condition"),
    }


def _slimming(result: RunResult) -> dict[str, Any]:
    if result.slimmed is None:
        return {}
    return {
        "macs_before": result.slimmed.macs_before,
        "macs_after": result.slimmed.macs_after,
        "parameters_before": result.slimmed.parameters_before,
        "parameters_after": result.slimmed.parameters_after,
    }
