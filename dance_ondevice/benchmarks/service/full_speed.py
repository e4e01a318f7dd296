"""Ingest at full speed in turns: a loop that only receives and decodes grey, then each build."""

from __future__ import annotations

import contextlib
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dance_ondevice.benchmarks.ingest.baseline import receiver
from dance_ondevice.benchmarks.ingest.sending import Cameras
from dance_ondevice.benchmarks.service.counters import cpu_time
from dance_ondevice.benchmarks.service.daemons import Daemon
from dance_ondevice.benchmarks.service.report import Pace, Race

_WINDOW = 32


@dataclass
class _Lane:
    """A receiver that takes its turns."""

    cameras: Cameras
    pid: int
    rates: list[float] = field(default_factory=list)
    #: CPU seconds of each turn.
    cpu: list[float] = field(default_factory=list)
    frames: int = 0
    kept: int = 0
    scales: Counter[float] = field(default_factory=Counter)

    def turn(self, frames: int) -> None:
        before = cpu_time(self.pid)
        tally = self.cameras.stream(frames)
        # Ended children are not counted: they are no part of ingest.
        self.cpu.append((cpu_time(self.pid) - before).own)
        self.rates.append(tally.answered / tally.seconds)
        self.frames += tally.answered
        self.kept += tally.kept
        self.scales += tally.scales

    def pace(self) -> Pace:
        return Pace(
            frames_per_second=statistics.median(self.rates),
            cpu_ms=1e3 * sum(self.cpu) / max(1, self.frames),
            kept_share=self.kept / max(1, self.frames),
            scale_shares={f"{scale:g}": count / self.kept for scale, count in sorted(self.scales.items())},
        )


def race(
    name: str,
    daemons: Sequence[Daemon],
    frames: Sequence[bytes],
    *,
    reduction: int,
    count: int,
    turns: int,
    say: Callable[[str], None],
) -> Race:
    """Send frames as fast as they are answered, to one receiver after the other.

    Args:
        name: How frames are stored.
        daemons: This build's, and the other's if there is one.
        frames: JPEGs, sent in turn.
        reduction: Of the loop's grey decode.
        count: Frames of a turn.
        turns: How many turns each has.
        say: Told what goes on.

    Raises:
        Stuck: One does not answer.
    """
    say(f"ingest, {name}: {turns} turns of {count} frames")
    with contextlib.ExitStack() as stack:
        loop = stack.enter_context(receiver(reduction))
        ends = [(loop.endpoint, loop.pid), *((d.facts.ingest[0], d.facts.pid) for d in daemons)]
        lanes = [
            _Lane(stack.enter_context(Cameras(end, ["front"], frames, _WINDOW)), pid) for end, pid in ends
        ]
        for lane in lanes:
            lane.cameras.stream(max(20, count // 5))
        for _ in range(turns):
            for lane in lanes:
                lane.turn(count)
    paces = [lane.pace() for lane in lanes]
    shares = [
        statistics.median(own / loop for own, loop in zip(lane.rates, lanes[0].rates, strict=True))
        for lane in lanes[1:]
    ]
    there = paces[2] if len(paces) > 2 else None
    ratio = kept_ratio = None
    if there is not None:
        # By turns: both of a pair had the same machine, which may have other work.
        pairs = zip(lanes[1].cpu, lanes[2].cpu, strict=True)
        ratio = statistics.median(own / max(1e-9, other) for own, other in pairs)
        kept_ratio = ratio * there.kept_share / max(1e-9, paces[1].kept_share)
    return Race(
        name=name,
        loop=paces[0],
        here=paces[1],
        there=there,
        of_loop=shares[0],
        of_loop_there=shares[1] if len(shares) > 1 else None,
        cpu_ratio=ratio,
        kept_cpu_ratio=kept_ratio,
    )
