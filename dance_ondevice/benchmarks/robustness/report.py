"""What ``make soak`` and ``make faults`` measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class SoakReport:
    """A daemon through a world that changes fast.

    Attributes:
        seconds: that it ran.
        looks: at the process, between rounds.
        warm_up: share of the time that counts as the warm-up.
        resident_median: bytes of resident memory after the warm-up.
        resident_highest: bytes, of all looks.
        growth: of the resident memory after the warm-up, as a share: median of the last fifth of the looks
            against that of the first.
        descriptors: open at the end, most often.
        descriptors_more: by how many that changed since the warm-up.
        threads: at the end, most often.
        threads_more: by how many that changed since the warm-up.
        frames: by outcome.
        rounds: by outcome.
        failures: what the rounds that failed say.
        conditions: that are known at the end.
        load: of the machine, as a mean over the run of what ``uptime`` shows.
    """

    seconds: float
    looks: int
    warm_up: float
    resident_median: int
    resident_highest: int
    growth: float
    descriptors: int
    descriptors_more: int
    threads: int
    threads_more: int
    frames: dict[str, int]
    rounds: dict[str, int]
    failures: tuple[str, ...]
    conditions: tuple[str, ...]
    load: float


@dataclass(frozen=True, kw_only=True)
class Kills:
    """``kill -9`` under load.

    Attributes:
        of: what was killed.
        kills: how often.
        sent: frames.
        kept: samples that were acknowledged.
        lost: of these, those that were not there afterwards.
        refunds: entries of the ledger that became smaller.
    """

    of: str
    kills: int
    sent: int
    kept: int
    lost: int
    refunds: int


@dataclass(frozen=True, kw_only=True)
class FleetKills:
    """``kill -9`` of a fleet's server and of its boards' links.

    Attributes:
        kills: by what was killed.
        updates: that boards offered.
        versions: that were published.
        lost: updates of a board that neither a version nor the server's shelf has, of its last five.
        doubled: updates that two versions have.
    """

    kills: dict[str, int]
    updates: int
    versions: int
    lost: int
    doubled: int


@dataclass(frozen=True, kw_only=True)
class Disk:
    """Writes that fail.

    Attributes:
        fault: which.
        refused: frames that got an answer saying so.
        kept: samples that were acknowledged, before, meanwhile or afterwards.
        lost: of these, those that were not there afterwards.
    """

    fault: str
    refused: int
    kept: int
    lost: int


@dataclass(frozen=True, kw_only=True)
class Overload:
    """More frames than the board takes.

    Attributes:
        seconds: that it went on.
        capacity: frames a second that were taken from a sender that waits.
        offered: frames a second that were then sent.
        sent: frames in all.
        counted: by outcome, as the daemon counts them.
        resident_highest: bytes.
        growth: of the resident memory after the first third, as a share.
        masks: that were published.
    """

    seconds: float
    capacity: float
    offered: float
    sent: int
    counted: dict[str, int]
    resident_highest: int
    growth: float
    masks: int


@dataclass(frozen=True, kw_only=True)
class DayReport:
    """A day at accelerated time.

    Attributes:
        frames: of the day.
        lives: of the daemon.
        ends: how the lives ended, and how many amid a round.
        killed_trainers: how many.
        kept: samples that were acknowledged.
        stored: samples at the end.
        evicted: samples, each told by the log.
        lost: samples that are gone and were not evicted.
        rounds: by outcome.
        resumes: of interrupted rounds.
        entries: of the ledger.
        reserved: of these, those that a kill left open and that were settled in full.
        joules: that the ledger holds.
        versions: by status.
        conditions: that were noticed.
        drift_alarms: how many.
    """

    frames: int
    lives: int
    ends: dict[str, int]
    killed_trainers: int
    kept: int
    stored: int
    evicted: int
    lost: int
    rounds: dict[str, int]
    resumes: int
    entries: int
    reserved: int
    joules: float
    versions: dict[str, int]
    conditions: tuple[str, ...]
    drift_alarms: int


@dataclass(frozen=True, kw_only=True)
class FaultsReport:
    """Everything that one call measured; what did not run is empty.

    Attributes:
        tests: by outcome.
        kills: of the daemon, and of daemon and trainer amid rounds.
        fleet: kills of a fleet's server and links.
        disks: failing writes.
        overload: ten times what the board takes.
        day: of drift, eviction, rounds and restarts.
    """

    tests: dict[str, int]
    kills: tuple[Kills, ...] = ()
    fleet: tuple[FleetKills, ...] = ()
    disks: tuple[Disk, ...] = ()
    overload: Overload | None = None
    day: DayReport | None = None
