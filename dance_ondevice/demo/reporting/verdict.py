"""The meaning of a demonstration's figures in sentences: failures, shortfalls, and the gain of each phase."""

from __future__ import annotations

from dataclasses import dataclass

from dance_ondevice.demo.reporting.report import DemoReport, Phase
from dance_ondevice.demo.shares import EPOCHS

#: Smallest change of MACs that is reported, as a share of the first model's.
_FEW = 0.005


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The conclusions of a demonstration, as sentences.

    Attributes:
        failures: Parts that did not work; the command then ends with status 1.
        shortfalls: Results that the demonstration should show and did not, without a failure.
        notes: Facts that are needed to interpret the figures.
        advice: Remedies for shortfalls and for phases that ended by their time limit.
    """

    failures: tuple[str, ...]
    shortfalls: tuple[str, ...]
    notes: tuple[str, ...]
    advice: str

    @property
    def passed(self) -> bool:
        """Whether the demonstration showed all expected results."""
        return not self.failures and not self.shortfalls


def judge(report: DemoReport) -> Verdict:
    """Draw the conclusions from a report."""
    shortfalls = _shortfalls(report)
    capped = any(p.capped for p in report.phases)
    return Verdict(
        failures=_failures(report),
        shortfalls=shortfalls,
        notes=_notes(report),
        advice=_advice(report, capped=capped) if shortfalls or capped else "",
    )


def _failures(report: DemoReport) -> tuple[str, ...]:
    found = []
    if report.frames.kept == 0:
        found.append("no frame was kept")
    if report.masks_received == 0:
        found.append("no mask came back")
    if report.rounds and all(r.outcome == "failed" for r in report.rounds):
        reasons = "; ".join(report.rounds[-1].reasons)
        found.append(f"every round failed, the last one because: {reasons}")
    if report.daemon_status != 0:
        found.append(f"the daemon ended with status {report.daemon_status} after SIGTERM instead of 0")
    return tuple(found)


def _shortfalls(report: DemoReport) -> tuple[str, ...]:
    found = []
    if report.frames.dropped == 0:
        found.append("no frame was dropped, so data slimming did not show")
    if len(report.rounds) < 2:
        found.append(f"{len(report.rounds)} of at least 2 rounds ran")
    if not any(r.outcome == "promoted" for r in report.rounds):
        # Which implies that it is better nowhere.
        return (*found, "no candidate was promoted: the live model is still the first one")
    found += [
        f"on {p.name} the live model ({p.miou_live:.3f} mIoU) does not beat the frozen one "
        f"({p.miou_frozen:.3f}) after {counted(p.rounds, 'round')}"
        for p in report.phases
        if p.drifted and p.miou_live <= p.miou_frozen
    ]
    return tuple(found)


def _notes(report: DemoReport) -> tuple[str, ...]:
    found = []
    if report.epochs < EPOCHS:
        found.append(f"time was enough for {report.epochs} of {EPOCHS} epochs of pretraining the first model")
    if capped := [p for p in report.phases if p.capped]:
        begun = ", ".join(f"{p.name} had {p.rounds} of {p.rounds_wanted}" for p in capped)
        found.append(f"time was over before all rounds were done: {begun}")
    failed = [r for r in report.rounds if r.outcome == "failed"]
    if failed and len(failed) < len(report.rounds):
        found.append(
            f"{len(failed)} of {counted(len(report.rounds), 'round')} failed: {'; '.join(failed[-1].reasons)}"
        )
    return tuple(found)


def _advice(report: DemoReport, *, capped: bool) -> str:
    if capped:
        longer = round(2 * report.max_seconds / 10) * 10
        return (
            f"this machine is too busy or slow for more in {report.max_seconds:.0f} s: run again with less "
            f"beside it, or give it longer: make run DEMO_ARGS='--max-seconds {longer}'"
        )
    return f"this seed came out so: try another one: make run DEMO_ARGS='--seed {report.seed + 1}'"


def described(phase: Phase, frames: int) -> str:
    """Describe a phase: the gain of its live model, whether it exceeds the noise, and the change of MACs."""
    point, low, high = phase.gain.point, phase.gain.at_least(), phase.gain.at_most()
    macs = macs_in_words(phase.macs_change)
    if low == point == high == 0.0 and not macs:
        return "still the first model: no candidate was promoted before its end"
    if low > 0:
        return f"{point:+.3f} mIoU, more than noise ({low:+.3f} to {high:+.3f}){_beside(macs)}"
    if high < 0:
        return (
            f"{macs or 'as many MACs'}, {-point:.3f} mIoU less than frozen on {phase.name}, more than noise "
            f"({low:+.3f} to {high:+.3f}): {_price(phase)}"
        )
    return (
        f"{point:+.3f} mIoU: as good as frozen, within the noise of {frames} frames "
        f"({low:+.3f} to {high:+.3f}){_beside(macs)}"
    )


def _price(phase: Phase) -> str:
    if phase.macs_change < -_FEW:
        return "the price of slimming, of which the gate allows a little at each step"
    return "more rounds are needed, or the gate's few frames did not show it"


def _beside(macs: str) -> str:
    return f", with {macs}" if macs else ""


def macs_in_words(change: float) -> str:
    """Describe a relative change of MACs, as "20 % fewer MACs"; "" for a negligible one."""
    if abs(change) < _FEW:
        return ""
    return f"{100 * abs(change):.0f} % {'fewer' if change < 0 else 'more'} MACs"


def counted(number: int, noun: str) -> str:
    """A number with its noun, in the plural unless the number is 1."""
    return f"{number} {noun}" + ("" if number == 1 else "s")
