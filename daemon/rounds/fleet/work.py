"""A board's work for its fleet, on the rounds thread: it offers, and scores and judges what comes in."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dance_ondevice.daemon.children.counts import Counts
from dance_ondevice.daemon.children.jobs import JobSample
from dance_ondevice.daemon.children.watcher import ChildWatcher
from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.rounds import record as round_record
from dance_ondevice.daemon.rounds.context import Outcome, RoundContext
from dance_ondevice.daemon.rounds.fleet.box import Ballot, BoxFacts, FleetPart, Judged
from dance_ondevice.daemon.rounds.fleet.prepare import IMAGES, gather, prepare
from dance_ondevice.daemon.rounds.prepare import RoundPart
from dance_ondevice.daemon.rounds.probation import compare_versions, comparison_joules
from dance_ondevice.daemon.versions.versions import Live
from dance_ondevice.daemon.wire.fleet_messages import Release
from dance_ondevice.fleet.layers import Array, PlacementError
from dance_ondevice.fleet.lineage import lineage, samples_since
from dance_ondevice.fleet.offers import About, encode_offer
from dance_ondevice.fleet.releases import ReleaseError, decode_release, release_name
from dance_ondevice.fleet.root import Root
from dance_ondevice.fleet.versions import read_arrays
from dance_ondevice.models.card import CheckpointError
from dance_ondevice.policies.fleet.rules import Tally, miou_of, next_share
from dance_ondevice.policies.rounds.start import plan_round
from dance_ondevice.policies.samples.splits import SampleInfo

__all__ = ["FleetWork"]

log = logging.getLogger(__name__)

#: Images of its own that a board needs before it can estimate the statistics of other values.
_LEAST_IMAGES = 8
#: A release that does not fit this board's model.
_UNFIT = (CheckpointError, PlacementError, ReleaseError)


@dataclass(frozen=True, kw_only=True)
class FleetWork:
    """What the rounds thread does for the fleet.

    Attributes:
        context: The context of all rounds.
        part: The board's part in the fleet.
        samples: Assigns the split of every labelled sample and returns all of them.
        watcher: Makes a watcher for a child.
        run: Runs a round that was prepared; returns its outcome.
        on_probation: Whether a version is on probation, which is no time for another.
    """

    context: RoundContext
    part: FleetPart
    samples: Callable[[Config], list[SampleInfo]]
    watcher: Callable[[], ChildWatcher]
    run: Callable[[RoundPart], Outcome]
    on_probation: Callable[[], bool]

    def step(self, hold: str | None) -> Outcome | None:
        """Do what is due: offer the live model, score a candidate, judge the published release.

        Args:
            hold: Why no round may run now; an offer is no round.

        Returns:
            The outcome of the round that judged a release; None if there was none.
        """
        box, live = self.part.box, self.context.versions.live()
        if live is None or self.on_probation():
            return None
        # Its channels are others than the fleet's of the same numbers: values must go neither way.
        fault = _of_another_root(live, self.part.root)
        box.trouble("root", fault)
        if fault:
            return None
        try:
            self._offer(live)
            if hold is not None:
                return None
            self._vote(live)
            outcome = self._judge(live)
            box.trouble("model", "")
            box.trouble("disk", "")
            return outcome
        except OSError as error:
            box.trouble("disk", f"the disk: {error.strerror or error}")
        except CheckpointError as error:
            box.trouble("model", str(error))
        return None

    def _offer(self, live: Live) -> None:
        """Offer the live model, if a round of this board has made it."""
        box, version = self.part.box, live.pointer.version
        facts = box.snapshot().facts
        whole = _wanted_whole(facts)
        if facts.offered == version and not whole:
            return
        training = live.card.get("training") or {}
        if not training.get("round") or not training.get("steps"):
            return  # a base model, or a release of the fleet as it came
        card, tensors, numbers = read_arrays(self.context.versions.directory(version))
        taken = lineage(training)
        against = None if whole else self._against(taken)
        about = About(
            root=card.root,
            base=len(taken),
            classes=card.classes,
            samples=samples_since(training) or int(training.get("new_samples") or 0),
            version=version,
            lineage=taken,
            against=against.name if against else "",
        )
        data = encode_offer(self.part.root, about, tensors, numbers, base=against.values if against else None)
        box.offer(version, data, against=about.against)
        log.info(
            "fleet offer version=%s samples=%d lineage=%d against=%s bytes=%d",
            version, about.samples, len(taken), about.against[:12] or "nothing", len(data),
        )  # fmt: skip

    def _against(self, taken: Sequence[str]) -> _Against | None:
        """The release that an offer is counted from: the one taken last, else the root's.

        None where the server does not read changes, or that release is not here any more.
        """
        box = self.part.box
        news = box.snapshot().facts.news
        if news is None or news.speaks < 2:
            return None
        data = box.content(taken[0] if taken else "")
        if data is None:
            return None
        name = release_name(data)
        try:
            return _Against(name, decode_release(data, self.part.root, name))
        except ReleaseError:
            return None

    def _vote(self, live: Live) -> None:
        """Score the fleet's candidate against its published version on this board's held-out frames."""
        box = self.part.box
        asked = self._asked()
        if asked is None:
            box.trouble("score", "")
            return
        candidate, published = asked
        found = self._scored(live, candidate, published)
        if found is None:
            return
        gain = found.candidate_miou - found.published_miou
        box.scored(found.ballot)
        box.judged(
            Judged(
                sha256=candidate.sha256,
                number=candidate.number,
                outcome="scored",
                reason=f"mIoU {found.published_miou:.3f} -> {found.candidate_miou:.3f} on its own frames",
                gain=gain,
            )
        )

    def _asked(self) -> tuple[Release, Release] | None:
        """The candidate that the fleet asks to score, and its published version, if both are here."""
        box = self.part.box
        facts = box.snapshot().facts
        news = facts.news
        if news is None or news.candidate is None or news.voted or facts.ballot is not None:
            return None
        candidate, published = news.candidate, news.published
        known = {(each.sha256, each.outcome) for each in facts.judged}
        if known & {(candidate.sha256, "scored"), (candidate.sha256, "failed")}:
            return None
        if not all(box.sound(each.sha256) for each in (candidate, published)):
            return None
        return candidate, published

    def _scored(self, live: Live, candidate: Release, published: Release) -> _Scores | None:
        c, config, box = self.context, self.context.config, self.part.box
        gate, images = self._frames(config)
        if not gate or len(images) < _LEAST_IMAGES:
            return None
        allowance = c.budget.ask(comparison_joules(config, 2 * (len(gate) + len(images))))
        if not allowance.allowed:
            box.trouble("score", f"the fleet's version waits: {allowance.reason}")
            return None
        box.trouble("score", "")
        scratch = c.paths.rounds / ".fleet"
        directory = c.versions.directory(live.pointer.version)
        try:
            for each in (published, candidate):
                gather(
                    self.part.root, box.release(each.sha256), each.sha256, directory, scratch / each.sha256
                )
            observed = compare_versions(
                c,
                config,
                self.watcher,
                name=f"fleet-{candidate.number}",
                before=scratch / published.sha256,
                live=scratch / candidate.sha256,
                samples=gate,
                joules=allowance.joules,
                estimate=images,
            )
        except (RuntimeError, *_UNFIT) as error:
            self._failed(candidate, error)
            return None
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        pairs = [(o.before, o.live) for o in observed or () if o.before is not None and o.live is not None]
        if not pairs:
            return None  # cut short: another time
        classes = config.model.classes
        old, new = (
            _tally([pair[side] for pair in pairs], classes, self.part.root.classes) for side in (0, 1)
        )
        return _Scores.of(candidate.sha256, new, published.sha256, old)

    def _judge(self, live: Live) -> Outcome | None:
        """Judge the published release at this board's own gate, by a round without training."""
        c, config, box = self.context, self.context.config, self.part.box
        due = self._due(live)
        if due is None:  # nothing waits for frames or joules
            box.trouble("frames", "")
            box.trouble("energy", "")
            return None
        release, verdicts, share = due
        gate, images = self._frames(config)
        if not gate or len(images) < _LEAST_IMAGES:
            box.trouble(
                "frames",
                f"version {release.number} cannot be judged: {len(gate)} held-out frames with a label and "
                f"{len(images)} to estimate statistics from; {_LEAST_IMAGES} of these and one of those are "
                "needed: label frames",
            )
            return None
        box.trouble("frames", "")
        try:
            part = prepare(
                c, self.part, release, config=config, live=live, gate=gate, images=images, share=share
            )
        except _UNFIT as error:
            self._failed(release, error)
            return None
        if isinstance(part, str):
            box.trouble("energy", f"version {release.number} waits: {part}")
            return None
        box.trouble("energy", "")
        outcome = self.run(part)
        if next_share([*verdicts, outcome.outcome]) is None:
            self._note(release, outcome.as_dict())
        return outcome

    def _due(self, live: Live) -> tuple[Release, list[str], float] | None:
        """The published release that is to be judged now, its verdicts here so far, and how far to go."""
        box = self.part.box
        facts = box.snapshot().facts
        if facts.news is None or facts.news.published.number == 0:
            return None
        release = facts.news.published
        training = live.card.get("training") or {}
        taken = lineage(training)[:1] == (release.sha256,)
        judged = [each for each in facts.judged if each.sha256 == release.sha256]
        noted = {each.outcome for each in judged if not each.scoring} - {"scored"}
        if (taken and noted) or "failed" in noted or not box.release(release.sha256).exists():
            return None
        store = self.context.store
        verdicts = store.submit(lambda db: round_record.verdicts_on(db, release.sha256)).result()
        share = next_share([row["outcome"] for row in verdicts])
        if share is None and not noted:  # the verdict came after a restart, or the box is a new one
            self._note(release, verdicts[-1])
        if taken or share is None or not box.sound(release.sha256):
            return None
        return release, [row["outcome"] for row in verdicts], share

    def _failed(self, release: Release, error: Exception) -> None:
        """Note that a release could not be used here, so that it is not tried again and again."""
        log.warning("fleet version cannot be used number=%d error=%s", release.number, error)
        # What does not fit now will not later; a child that failed may have met a full disk or memory.
        judged = Judged(
            sha256=release.sha256,
            number=release.number,
            outcome="failed",
            reason=str(error),
            scoring=isinstance(error, RuntimeError),
        )
        self.part.box.judged(judged)

    def _note(self, release: Release, row: Mapping[str, Any]) -> None:
        """Note what a round made of a release; ``row`` has the fields of an ``Outcome``, or is its record."""
        names: Mapping[str, Any] = {"promoted": "taken", "rejected": "refused", "failed": "failed"}
        if row["outcome"] in names:  # else it was cut short, and is judged another time
            reasons = row["reasons"] or ()
            judged = Judged(
                sha256=release.sha256,
                number=release.number,
                outcome=names[row["outcome"]],
                reason="; ".join(json.loads(reasons) if isinstance(reasons, str) else reasons),
                gain=(row["miou_after"] or 0.0) - (row["miou_before"] or 0.0),
            )
            self.part.box.judged(judged)

    def _frames(self, config: Config) -> tuple[tuple[JobSample, ...], tuple[JobSample, ...]]:
        """The held-out samples that judge, and those that statistics are estimated from, newest first."""
        c, samples = self.context, self.samples(config)
        gate = plan_round(samples, max_samples=1, seed=0, max_gate=config.training.gate_max_samples).gate
        taught = [each.id for each in samples if each.labelled and each.split == "train"][-IMAGES:]
        root = c.paths.root.resolve()
        return (
            c.store.submit(lambda db: round_record.job_samples(db, gate, root)).result(),
            c.store.submit(lambda db: round_record.job_samples(db, taught, root)).result(),
        )


def _of_another_root(live: Live, root: Root) -> str:
    """Why the live model can take no part in the fleet, such as one that was imported; empty if it can."""
    card = live.card
    found = str(card.get("root") or ("" if card.get("parent") else card.get("sha256", "")))
    if found in ("", root.sha256):  # without one reading it says why
        return ""
    return (
        f"this board's model {live.pointer.version} goes back to {found[:12]}, the fleet's to "
        f"{root.sha256[:12]}: it takes part again after `models rollback` or `models promote` to a version "
        "of that, or in a fleet of its own (`fleet init --model`)"
    )


def _wanted_whole(facts: BoxFacts) -> bool:
    """Whether the server lacks what the offer is counted from, or is an older one that reads no changes."""
    news, offer = facts.news, facts.offer
    if news is None or offer is None or news.offer is None or news.offer.id != offer.id or not offer.against:
        return False
    return news.offer.whole or (news.speaks < 2 and news.offer.state in ("unknown", "refused"))


@dataclass(frozen=True)
class _Against:
    """A release by its name, and its values."""

    name: str
    values: Mapping[str, Array]


@dataclass(frozen=True)
class _Scores:
    ballot: Ballot
    candidate_miou: float
    published_miou: float

    @staticmethod
    def of(candidate: str, new: Tally, published: str, old: Tally) -> _Scores:
        ballot = Ballot(sha256=candidate, candidate=new, against=published, published=old)
        return _Scores(ballot, miou_of([new]), miou_of([old]))


def _tally(counts: Sequence[Counts], classes: Sequence[str], fleet_classes: Sequence[str]) -> Tally:
    """Counts of this board's classes, in the fleet's order; classes that the fleet lacks are left out."""
    columns = {}
    for column in ("truth", "predicted", "hits"):
        totals = [sum(each) for each in zip(*(getattr(c, column) for c in counts), strict=True)]
        by_name = dict(zip(classes, totals, strict=True))
        columns[column] = tuple(by_name.get(name, 0) for name in fleet_classes)
    return Tally(**columns)
