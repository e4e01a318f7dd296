"""Imports a model from outside into a state folder that has one already: tries, judges and adopts it.

While the live model is untrained, the new one replaces it at once, since nothing is lost. Otherwise it is a
candidate like that of a round, and the promotion gate compares both on the held-out samples. Its number of
MACs is not judged, because the user has chosen the network's size.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dance_ondevice.daemon.children.counts import paired_counts, score_card
from dance_ondevice.daemon.children.watcher import ChildWatcher
from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.config.values import parse_duration
from dance_ondevice.daemon.rounds import gate_table, verdict
from dance_ondevice.daemon.rounds import record as round_record
from dance_ondevice.daemon.rounds.context import RoundContext
from dance_ondevice.daemon.rounds.probation import compare_versions, comparison_joules
from dance_ondevice.daemon.versions import base
from dance_ondevice.daemon.versions.versions import Pointer, VersionError
from dance_ondevice.policies.promotion import promotion
from dance_ondevice.policies.promotion.rules import Verdict
from dance_ondevice.policies.rounds.start import plan_round
from dance_ondevice.policies.samples.splits import SampleInfo

__all__ = ["Import", "bring_in"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Import:
    """The parts of the rounds thread that an import uses.

    Attributes:
        context: The context of all rounds.
        watcher: Makes a watcher for a child.
        samples: Assigns the split of every labelled sample and returns all of them.
        switch: Makes a version live that was tried already, for a reason.
        begin_probation: Puts a version on probation that is about to go live; called with the version, the
            one before, and its origin.
        beat: Sends the thread's heartbeat.
    """

    context: RoundContext
    watcher: Callable[[], ChildWatcher]
    samples: Callable[[Config], list[SampleInfo]]
    switch: Callable[[str, str], Pointer]
    begin_probation: Callable[[str, str, str], None]
    beat: Callable[[], None]


def bring_in(act: Import, source: Path) -> dict[str, Any]:
    """Import the model in a folder; returns the result for the control socket.

    Raises:
        VersionError: It cannot be used, or there are no joules to judge it; nothing has changed.
        OSError: It cannot be read, or the disk fails.
    """
    c, config = act.context, act.context.config
    scratch = c.paths.models / ".import"
    try:
        card = base.copy_in(source, scratch, config.model.classes, procfs=c.procfs, beat=act.beat)
        if base.is_untrained(card):
            raise VersionError(f"{source} is untrained: there is nothing to bring in")
        fingerprint = str(card.get("sha256") or "")
        live = c.versions.live()
        if live is not None and live.card.get("sha256") == fingerprint:
            raise VersionError(f"{source} is the live model {live.pointer.version} already")
        if live is None or base.is_untrained(live.card):
            version = base.adopt(c.versions, c.paths, scratch, source=str(source), fingerprint=fingerprint)
            reason = "the live model was untrained, so it took its place at once"
            if live is None:
                reason = "there was no live model"
            c.versions.become_first(version)
            act.switch(version, f"imported: {reason}")
            return _answer("live", version, (reason,))
        return _judged(act, config, live.pointer.version, scratch, source)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _judged(act: Import, config: Config, before: str, scratch: Path, source: Path) -> dict[str, Any]:
    """Judge the model at the gate, and adopt it with the verdict."""
    c = act.context
    verdict_found, certificate = _verdict(act, config, before, scratch)
    promoted = verdict_found.outcome == "promoted"
    version = base.adopt(
        c.versions,
        c.paths,
        scratch,
        source=str(source),
        fingerprint=base.fingerprint_of(scratch),
        status="candidate" if promoted else "rejected",
        changes=certificate,
    )
    log.info(
        "model imported version=%s from=%s outcome=%s reasons=%s",
        version, source, verdict_found.outcome, "; ".join(verdict_found.reasons),
    )  # fmt: skip
    if promoted:
        act.begin_probation(version, before, "")
        act.switch(version, f"imported from {source}")
        return _answer("live", version, verdict_found.reasons)
    c.versions.prune()
    return _answer("rejected", version, verdict_found.reasons)


def _verdict(act: Import, config: Config, before: str, scratch: Path) -> tuple[Verdict, dict[str, Any]]:
    """The gate's verdict on the model in the scratch folder, and the fields that it adds to its card."""
    c, training = act.context, config.training
    held_out = plan_round(act.samples(config), max_samples=1, seed=0, max_gate=training.gate_max_samples).gate
    root = c.paths.root.resolve()
    samples = c.store.submit(lambda db: round_record.job_samples(db, held_out, root)).result()
    if not samples:
        reason = "no held-out samples to judge on: label frames, or promote it by hand"
        return Verdict("rejected", (reason,)), {}
    allowance = c.budget.ask(comparison_joules(config, len(samples)))
    if not allowance.allowed:
        raise VersionError(f"it cannot be judged now: {allowance.reason}")
    observed = compare_versions(
        c,
        config,
        act.watcher,
        name=f"import-{before}",
        before=c.versions.directory(before),
        live=scratch,
        samples=samples,
        joules=allowance.joules,
    )
    if observed is None:
        raise VersionError("judging it was interrupted; import it again")
    old = [each.before for each in observed if each.before is not None]
    new = [each.live for each in observed if each.live is not None]
    pairs = paired_counts(old, new)
    origins = c.store.submit(lambda db: round_record.origins(db, [s.id for s in samples])).result()
    captures = {i: origin.capture for i, origin in origins.items()}
    table = gate_table.of_pairs(
        pairs,
        captures,
        new_since={},
        block_seconds=parse_duration(training.gate_block),
        confidence=config.promotion.confidence,
        seed=training.seed,
    )
    scores = score_card(old), score_card(new)
    live, candidate = scores[0].scores(), scores[1].scores()
    fallen_before = verdict.falls_of(c.versions.card(before))
    found = promotion.judge(
        live,
        candidate,
        verdict.gate_rules(config),
        slimmed=False,
        classes=config.model.classes,
        comparison=table.whole,
        groups=table.groups,
        fallen_before=fallen_before,
    )
    gate = {
        "outcome": found.outcome,
        "reasons": list(found.reasons),
        "miou_before": scores[0].miou,
        "miou_after": scores[1].miou,
        "samples": scores[1].samples,
        "iou_per_class": list(scores[1].iou_per_class),
        "iou_per_class_before": list(scores[0].iou_per_class),
        "confidence": config.promotion.confidence,
        "table": gate_table.in_words(table, config.model.classes),
        "falls": verdict.falls(config, live, candidate, table, fallen_before),
    }
    return found, {"gate": gate}


def _answer(outcome: str, version: str, reasons: tuple[str, ...]) -> dict[str, Any]:
    return {"state": "done", "outcome": outcome, "version": version, "reasons": list(reasons)}
