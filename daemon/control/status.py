"""The daemon's report of itself: the answer to ``status``, systemd's STATUS line, and the gauges.

Reads each part's published snapshot and computes nothing that could block.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from dance_ondevice.daemon.control import fleet
from dance_ondevice.daemon.control.next_step import Advisor, as_dict
from dance_ondevice.daemon.curation.unreadable import REMEDY
from dance_ondevice.daemon.energy.service import EnergyService
from dance_ondevice.daemon.ingest.learnt_indicator import fit_of
from dance_ondevice.daemon.ingest.mailbox import LatestFrames
from dance_ondevice.daemon.ingest.service import Ingest
from dance_ondevice.daemon.metrics.fleet_gauges import FleetFacts
from dance_ondevice.daemon.metrics.gauges import ModelFacts, Snapshot
from dance_ondevice.daemon.metrics.instruments import Instruments
from dance_ondevice.daemon.rounds.context import RoundsSnapshot
from dance_ondevice.daemon.rounds.fleet.box import FleetPart
from dance_ondevice.daemon.rounds.service import Rounds
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.versions import base, first_model
from dance_ondevice.daemon.versions.versions import Versions
from dance_ondevice.images.labels import class_colours
from dance_ondevice.policies.budget.usefulness import Usefulness

if TYPE_CHECKING:
    from dance_ondevice.daemon.inference.service import Predictor


#: A camera whose last frames in a row, so many of them, repeat what is stored is reported.
_STANDING_STILL = 100


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The running parts of the daemon.

    Attributes:
        advisor: Finds what keeps the daemon from learning.
        predictor: The inference thread; None while inference is off, like ``mailbox``.
        fleet: The board's part in its fleet; None where it is in none.
        restart_keys: Returns the keys of the configuration that were changed and take effect after a restart.
        model_changes: Returns what the configuration asks of the model and a start does not do.
        webhook: Returns what became of the notices to ``notify.url``; None where none is named.
    """

    instruments: Instruments
    store: Store
    versions: Versions
    energy: EnergyService
    meter_note: str
    rounds: Rounds
    ingest: Ingest
    advisor: Advisor
    predictor: Predictor | None
    mailbox: LatestFrames | None
    fleet: FleetPart | None = None
    restart_keys: Callable[[], tuple[str, ...]] = tuple
    model_changes: Callable[[], Iterable[object]] = tuple
    webhook: Callable[[], Mapping[str, Any] | None] = lambda: None


def live_version(parts: Parts) -> str | None:
    """The version that serves, or would serve if inference were on."""
    if parts.predictor is not None:
        return parts.predictor.version
    live = parts.versions.live()
    return live.pointer.version if live else None


class FrameRate:
    """Computes frames per second between two calls of ``update``."""

    def __init__(self, now: float) -> None:
        self._then = now
        self._frames = 0.0

    def update(self, frames: float, now: float) -> float:
        """The rate since the last call.

        Args:
            frames: Number of frames that have arrived since the start.
            now: Monotonic seconds.
        """
        rate = (frames - self._frames) / max(1e-9, now - self._then)
        self._then, self._frames = now, frames
        return rate


def line(parts: Parts, frames_per_second: float) -> str:
    """The status line for systemd: recent frames per second, live version, budget, round."""
    rounds = parts.rounds.snapshot()
    running = rounds.running
    return (
        f"{frames_per_second:.1f} frames/s, live {live_version(parts) or 'none'}, "
        f"{rounds.budget_joules:.0f} J to spend, "
        + (f"round {running.round} at step {running.step} of {running.steps}" if running else "no round")
    )


def report(parts: Parts, *, uptime: float, metrics_url: str) -> dict[str, Any]:
    """The report that ``dance-ondevice status`` shows."""
    rounds = parts.rounds.snapshot()
    store = parts.store.snapshot()
    live = parts.versions.live()
    pointer, card = (live.pointer, live.card) if live else (None, {})
    classes = card.get("classes") or ()
    predictor = parts.predictor
    return {
        "ready": True,
        "uptime_s": uptime,
        "version": live_version(parts),
        "previous_version": pointer.previous if pointer else None,
        "frozen_version": pointer.frozen if pointer else None,
        "about_model": first_model.about(card),
        "untrained": base.is_untrained(card),
        "architecture": card.get("architecture") or card.get("factory"),
        "macs": card.get("macs"),
        "parameters": card.get("parameters"),
        "classes": list(classes),
        "palette": class_colours(len(classes)) if classes else [],
        "scale_loss": _learnt_scales(card),
        "paused": rounds.paused,
        "frames": parts.instruments.frame_counts(),
        "cameras": {
            name: {"last_frame_at": last.at, "last_frame_s": last.age, "ahead_s": last.ahead}
            for name, last in parts.instruments.cameras.report().items()
        },
        "frames_by_condition": _frames_by_condition(parts.instruments.condition_counts()),
        "samples": {
            "labelled": store.samples_labelled,
            "unlabelled": store.samples_unlabelled,
            "bytes": store.bytes,
            "free_bytes": store.free_bytes,
            "unreadable": store.unreadable,
        },
        "disk": {"rounds_bytes": parts.rounds.folder_bytes},
        "inference": {
            "enabled": predictor is not None,
            "engine": predictor.engine if predictor else None,
            "device": predictor.device if predictor else None,
            "threads": predictor.threads if predictor else None,
            "masks": predictor.masks if predictor else 0,
            "skipped": parts.mailbox.skipped if parts.mailbox else 0,
            "failed": predictor.failed if predictor else 0,
        },
        "conditions": predictor.conditions.report() if predictor else None,
        "miou": _miou(parts),
        "rounds": _rounds(rounds),
        "fleet": fleet.report(parts.fleet, live) if parts.fleet else None,
        "next_step": as_dict(parts.advisor.now()),
        "labelling": dict(rounds.labelling),
        "energy": _energy(parts, rounds),
        "endpoints": {
            "ingest": list(parts.ingest.endpoints),
            "subscribe_bind": list(parts.ingest.visited_endpoints),
            "masks": predictor.endpoint if predictor else None,
            "metrics": metrics_url or None,
        },
        "labels_wanted": [
            {**msgspec.to_builtins(each), "words": each.words} for each in rounds.labels_wanted
        ],
        "notify": parts.webhook(),
        # What anybody may send to the board is told here alone, not sent on to notify.url.
        "warnings": [*_warnings(parts, card), *_refused(parts.instruments)],
    }


def _learnt_scales(card: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the live model's rounds have learnt about smaller images; None if nothing."""
    found = card.get("scale_loss")
    if not isinstance(found, Mapping):
        return None
    return {
        "frames": found.get("frames"),
        "agreement": found.get("agreement"),
        "better_than_chance": fit_of(card) is not None,
    }


def metrics_snapshot(parts: Parts) -> Snapshot:
    """The values of all gauges."""
    rounds = parts.rounds.snapshot()
    energy = parts.energy.snapshot()
    store = parts.store.snapshot()
    live = parts.versions.live()
    model = None
    if live is not None:
        card = live.card
        model = ModelFacts(
            version=live.pointer.version,
            architecture=card.get("architecture") or card.get("factory") or "",
            macs=card.get("macs") or 0,
            parameters=card.get("parameters") or 0,
            untrained=base.is_untrained(card),
            miou=_miou(parts),
        )
    return Snapshot(
        samples_labelled=store.samples_labelled,
        samples_unlabelled=store.samples_unlabelled,
        labels_stored=store.labels_stored,
        samples_unreadable=store.unreadable,
        rounds_bytes=parts.rounds.folder_bytes,
        last_frames={name: last.at for name, last in parts.instruments.cameras.report().items()},
        store_bytes=store.bytes,
        store_quota_bytes=parts.store.quota_bytes,
        store_free_bytes=store.free_bytes,
        store_min_free_bytes=parts.store.min_free_bytes,
        energy=energy.reading,
        workload_joules=energy.workloads,
        budget_joules=rounds.budget_joules,
        round_joules=rounds.last.gross_joules if rounds.last else 0.0,
        learning_joules=rounds.learning.joules if rounds.learning else 0.0,
        learning_gain=rounds.learning.gain if rounds.learning else None,
        learning_gain_per_kilojoule=rounds.learning.gain_per_kilojoule if rounds.learning else None,
        inference_skipped=parts.mailbox.skipped if parts.mailbox else 0,
        drop_fraction=parts.ingest.decider.rules.drop_fraction,
        conditions=len(parts.predictor.conditions.snapshot().known) if parts.predictor else 0,
        learning_blocked=parts.advisor.now().reasons,
        labels_wanted=rounds.labels_wanted,
        model=model,
        fleet=_fleet(parts),
    )


def _fleet(parts: Parts) -> FleetFacts | None:
    if parts.fleet is None:
        return None
    found = parts.fleet.box.snapshot()
    news = found.facts.news
    return FleetFacts(
        version=fleet.version_of(parts.fleet, parts.versions.live()),
        published=news.published.number if news else 0,
        heard_at=parts.fleet.box.heard_at,
        troubled=bool(found.trouble),
        sent=found.sent,
        received=found.received,
        judged=found.judged,
        gain=found.facts.judged[-1].gain if found.facts.judged else 0.0,
    )


def _frames_by_condition(counts: Mapping[tuple[str, str, str], int]) -> dict[str, dict[str, dict[str, int]]]:
    """Camera -> condition -> outcome -> frames."""
    found: dict[str, dict[str, dict[str, int]]] = {}
    for (camera, condition, outcome), frames in sorted(counts.items()):
        found.setdefault(camera, {}).setdefault(condition, {})[outcome] = frames
    return found


def _refused(instruments: Instruments) -> Iterator[str]:
    refused = instruments.refusals.recent()
    if refused is not None:
        count, camera = refused.frames, f" of camera {refused.camera}" if refused.camera else ""
        yield (
            f"{count} frame{' was' if count == 1 else 's were'} refused lately, the last{camera} "
            f"{refused.age:.0f} s ago: {refused.text}"
        )


def _about_cameras(instruments: Instruments) -> Iterator[str]:
    for camera, frames in sorted(instruments.standing_still().items()):
        if frames >= _STANDING_STILL:
            yield (
                f"camera {camera} stands still: its last {frames} frames repeat what is stored already; "
                "look whether it is frozen or covered"
            )
    damaged = Counter[str]()
    for (camera, _, outcome), frames in instruments.condition_counts().items():
        damaged[camera] += frames if outcome == "damaged" else 0
    for camera, frames in sorted(damaged.items()):
        if frames:
            yield (
                f"camera {camera}: {frames} frames with a flat grey or green lower part were not stored; "
                "its decoder or its link loses data"
            )


def _rounds(rounds: RoundsSnapshot) -> dict[str, Any]:
    running = rounds.running
    return {
        "running": running.round if running else None,
        "step": running.step if running else None,
        "steps": running.steps if running else None,
        "progress": running.as_dict() if running else None,
        "count": sum(rounds.counts.values()),
        **rounds.counts,
        "last": rounds.last.as_dict() if rounds.last else None,
        "waiting_for": rounds.waiting_for,
        "suspended": rounds.suspended or None,
        "probation": rounds.probation or None,
        "learning": _learning(rounds.learning),
    }


def _learning(learning: Usefulness | None) -> dict[str, Any] | None:
    if learning is None:
        return None
    return {
        "gain": learning.gain,
        "joules": learning.joules,
        "gain_per_kilojoule": learning.gain_per_kilojoule,
    }


def _energy(parts: Parts, rounds: RoundsSnapshot) -> dict[str, Any]:
    energy, meter = parts.energy.snapshot(), parts.energy.meter
    return {
        "source": meter.source,
        "method": meter.method,
        "about": meter.about,
        "watts": {
            domain.domain: domain.watts for domain in energy.reading.domains if domain.watts is not None
        },
        "gross_joules": energy.gross_joules,
        "idle_joules": energy.idle_joules,
        "workload_joules": dict(energy.workloads),
        "budget_joules": rounds.budget_joules,
        "unmeasured_seconds": energy.reading.unmeasured_seconds,
    }


def _miou(parts: Parts) -> dict[str, float]:
    learning = parts.rounds.snapshot().learning
    found = {
        "gate": learning.live if learning else None,
        "frozen": learning.frozen if learning else None,
        "prequential": parts.predictor.prequential_miou if parts.predictor else None,
    }
    return {split: value for split, value in found.items() if value is not None}


def _span(seconds: float) -> str:
    for unit, length in (("days", 86_400.0), ("hours", 3600.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 60:.0f} minutes"


def warnings(parts: Parts) -> list[str]:
    """The sentences that ``status`` shows as warnings."""
    live = parts.versions.live()
    return _warnings(parts, live.card if live else {})


def _warnings(parts: Parts, card: Mapping[str, Any]) -> list[str]:
    warnings = []
    about_model = first_model.warning(card)
    if about_model is not None:
        warnings.append(about_model)
    if parts.versions.note:
        warnings.append(parts.versions.note)
    if parts.meter_note:
        warnings.append(parts.meter_note)
    if parts.energy.later:
        warnings.append(parts.energy.later)
    if (store := parts.store.snapshot()).trouble:
        warnings.append(f"frames that are to be kept are not stored: {store.trouble}")
    if store.unreadable:
        count = store.unreadable
        warnings.append(
            f"{count} stored sample{'' if count == 1 else 's'} cannot be read and "
            f"{'is' if count == 1 else 'are'} left out of rounds ({store.first_unreadable}): {REMEDY}"
        )
    if parts.rounds.anchors_unreadable:
        warnings.append(
            f"{len(parts.rounds.anchors_unreadable)} anchors cannot be read and are left out of rounds "
            f"({parts.rounds.anchors_unreadable[0]}): mend or remove them in training.anchors"
        )
    for name, last in parts.instruments.cameras.report().items():
        if last.ahead:
            warnings.append(
                f"camera {name} dates its frames {_span(last.ahead)} ahead of this board's clock: set the "
                "clock that is wrong (`dance-ondevice doctor` tells of this board's)"
            )
        if last.shared:
            warnings.append(
                f"several senders take turns under the camera name {name}, and their frames are ranked and "
                "judged as one camera's: give each a name of its own"
            )
    warnings += _about_cameras(parts.instruments)
    warnings.extend(map(str, parts.model_changes()))
    if (hook := parts.webhook()) and hook["trouble"]:
        warnings.append(
            f"notices do not arrive ({hook['trouble']}): look at notify.url and at what listens there"
        )
    if keys := parts.restart_keys():
        warnings.append(f"restart the daemon to apply the changed configuration keys: {', '.join(keys)}")
    return warnings
