"""What learning on CamVid's dusk is meant to reach, and whether it did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dance_ondevice.benchmarks.stream.results.report import StreamReport, VariantReport

__all__ = ["PEAK_TARGET", "Target", "peak_of_dance", "targets"]

_DAY, _DUSK = "day", "dusk"
_DANCE = ("dance_none", "dance_teacher", "dance_teacher_judges", "dance_three", "dance_tenth", "dance")
_LABELLED = ("dance_three", "dance_tenth", "dance")
_GAIN, _CPU_SECONDS, _DAY_LOSS = 0.20, 10.0, 0.005
_OF_JOINT_THREE, _OF_JOINT_TENTH = 0.97, 1.0
_OF_NAIVE_JOULES, _OF_JOINT_JOULES = 0.10, 0.05
#: Bytes of resident memory that a DANCE variant may take at most.
PEAK_TARGET = 1 << 30


@dataclass(frozen=True)
class Target:
    """One line: what is asked for, what was found, and whether that is it."""

    asked: str
    found: str
    met: bool


def targets(report: StreamReport) -> list[Target]:
    """The targets that the report's variants allow to check; none for a stream without day and dusk."""
    variants = report.variants
    first = next(iter(variants.values()), None)
    if first is None or set(first.final_miou) != {_DAY, _DUSK}:
        return []
    ours = {name: variants[name] for name in _DANCE if name in variants}
    found = [*_without_labels(variants), *_against_joint(variants)]
    if ours:
        worst = max(ours, key=lambda name: ours[name].forgetting or 0.0)
        lost = ours[worst].forgetting or 0.0
        found.append(
            Target(
                f"forgetting at most {_DAY_LOSS:.3f} in every DANCE variant",
                f"{lost:+.4f} ({worst})",
                lost <= _DAY_LOSS,
            )
        )
        found += _joules(variants)
        bad = sum(one.bad_promotions for one in ours.values())
        found.append(Target("bad promotions of the DANCE variants, all seeds: 0", str(bad), bad == 0))
        peak = peak_of_dance(report)
        asked = f"peak memory of the DANCE variants at most {PEAK_TARGET >> 20} MiB"
        found.append(Target(asked, f"{peak / 2**20:.0f} MiB", peak <= PEAK_TARGET))
    return found


def peak_of_dance(report: StreamReport) -> int:
    """Highest resident memory of the process while a DANCE variant ran, in bytes; 0 where none did."""
    return max((v.peak_bytes for name, v in report.variants.items() if name in _DANCE), default=0)


def _without_labels(variants: Mapping[str, VariantReport]) -> list[Target]:
    frozen, none = variants.get("frozen"), variants.get("dance_none")
    if frozen is None or none is None:
        return []
    gain = none.final_miou[_DUSK] - frozen.final_miou[_DUSK]
    change = none.final_miou[_DAY] - frozen.final_miou[_DAY]
    least = min(none.final_miou, key=lambda task: none.final_miou[task] - frozen.final_miou[task])
    below = none.final_miou[least] - frozen.final_miou[least]
    return [
        Target("no labels: no test below frozen", f"{below:+.4f} ({least})", below >= 0),
        Target(f"no labels: dusk +{_GAIN:.2f} over frozen", f"{gain:+.4f}", gain >= _GAIN),
        Target(
            f"no labels: day within {_DAY_LOSS:.3f} of frozen", f"{change:+.4f}", abs(change) <= _DAY_LOSS
        ),
        Target(
            f"no labels: at most {_CPU_SECONDS:.0f} CPU seconds",
            f"{none.cpu_seconds:.1f}",
            none.cpu_seconds <= _CPU_SECONDS,
        ),
    ]


def _against_joint(variants: Mapping[str, VariantReport]) -> list[Target]:
    joint = variants.get("joint")
    wanted = (
        ("3 labelled frames", "dance_three", _OF_JOINT_THREE),
        ("10 % of the labels", "dance_tenth", _OF_JOINT_TENTH),
    )
    found = []
    for words, name, share in wanted:
        if joint is not None and name in variants:
            reached = variants[name].final_miou[_DUSK] / joint.final_miou[_DUSK]
            found.append(
                Target(f"{words}: dusk at least {share:.0%} of joint", f"{reached:.1%}", reached >= share)
            )
    return found


def _joules(variants: Mapping[str, VariantReport]) -> list[Target]:
    ours = {name: variants[name].joules for name in _LABELLED if name in variants}
    found = []
    for other, most in (("naive", _OF_NAIVE_JOULES), ("joint", _OF_JOINT_JOULES)):
        if other not in variants or not ours or variants[other].joules <= 0:
            continue
        shares = {name: joules / variants[other].joules for name, joules in ours.items()}
        words = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
        found.append(Target(f"joules at most {most:.0%} of {other}", words, max(shares.values()) <= most))
    return found
