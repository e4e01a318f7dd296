"""``dance-ondevice status``: what the daemon is doing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from dance_ondevice.daemon.cli import config_option, json_option, state_dir_option
from dance_ondevice.daemon.commands.access import ask, target
from dance_ondevice.daemon.terminal import print_json, print_pairs, show, show_bytes


@click.command()
@config_option
@state_dir_option
@json_option
def status(config_path: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """Show what the daemon is doing."""
    answer = ask(target(config_path, state_dir), "status")
    if as_json:
        print_json(answer)
        return
    print_pairs(_lines(answer))
    for warning in answer.get("warnings") or []:
        click.secho(f"warning: {warning}", fg="yellow")


def _lines(answer: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """The most important facts for people; ``--json`` has all of them."""
    energy, rounds = answer.get("energy") or {}, answer.get("rounds") or {}
    inference = answer.get("inference") or {}
    model = answer.get("version")
    if model and answer.get("macs"):
        model = f"{model} ({answer.get('architecture')}, {answer['macs'] / 1e6:,.0f} M MACs)"
    yield "live model", model
    if answer.get("about_model"):
        yield "", answer["about_model"]
    yield "mIoU", _counts(answer.get("miou")) if answer.get("miou") else "not measured yet: that takes labels"
    yield "frames", _counts(answer.get("frames"))
    yield "cameras", _cameras(answer.get("cameras"))
    yield "by condition", _by_condition(answer.get("frames_by_condition"))
    yield "masks", inference.get("masks") if inference.get("enabled") else "inference is off"
    yield "conditions", _conditions(answer.get("conditions"))
    if learnt := answer.get("scale_loss"):
        yield "smaller images", _learnt(learnt)
    yield "samples", _counts(answer.get("samples"))
    yield "rounds", _rounds(rounds, paused=bool(answer.get("paused")))
    if step := answer.get("next_step"):
        yield "next", step.get("line")
    for wanted in answer.get("labels_wanted") or []:
        yield "labels", wanted.get("words")
    yield "last round", _last(rounds.get("last"))
    yield "learning", _learning(rounds.get("learning"))
    if rounds.get("probation"):
        yield "probation", rounds["probation"]
    labelling = answer.get("labelling") or {}
    if labelling.get("state") not in (None, "off"):
        reason = f": {labelling['reason']}" if labelling.get("reason") else ""
        yield (
            "teacher",
            f"{labelling['state']}{reason}; {labelling.get('labelled', 0)} labels since the start",
        )
    if found := answer.get("fleet"):
        yield "fleet", _fleet(found)
    yield "budget", _joules(energy.get("budget_joules"))
    yield "used", f"{_joules(energy.get('gross_joules'))}, idle included"
    yield "workloads", _counts(energy.get("workload_joules"), " J")
    seen = _counts(energy.get("watts"), " W")
    yield "meter", f"{show(energy.get('source'))} ({show(energy.get('method'))}): {seen}"


def _cameras(cameras: Mapping[str, Any] | None) -> str:
    """How long ago each camera sent its last good frame."""
    return ", ".join(f"{name} {_ago(facts)}" for name, facts in (cameras or {}).items()) or "none yet"


def _ago(facts: Mapping[str, Any]) -> str:
    seconds = float(facts.get("last_frame_s") or 0.0)
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def _by_condition(cameras: Mapping[str, Mapping[str, Mapping[str, int]]] | None) -> str:
    """The counts of kept and dropped frames by camera and condition, or by light without conditions."""
    shown = [
        f"{camera} in {condition}: {_counts(outcomes)}"
        for camera, conditions in (cameras or {}).items()
        for condition, outcomes in conditions.items()
    ]
    return "; ".join(shown) or "-"


def _conditions(conditions: Mapping[str, Any] | None) -> str:
    """The condition that each camera is in, and the status of each condition's statistics."""
    if not conditions:
        return "-"
    if conditions.get("note"):
        return str(conditions["note"])
    known = ", ".join(f"{name} ({state})" for name, state in (conditions.get("known") or {}).items())
    cameras = ", ".join(f"{camera} in {name}" for camera, name in (conditions.get("cameras") or {}).items())
    return f"{cameras or 'no camera yet'}; known: {known}; drift alarms: {conditions.get('drift_alarms', 0)}"


def _counts(values: Mapping[str, Any] | None, unit: str = "") -> str:
    shown = [
        f"{name} {show_bytes(value) if name.endswith('bytes') else show(value) + unit}"
        for name, value in (values or {}).items()
    ]
    return ", ".join(shown) or "-"


def _learnt(found: Mapping[str, Any]) -> str:
    agreement = found.get("agreement")
    told = "not judged" if agreement is None else f"rank correlation {agreement:.2f} on what was left out"
    used = "used" if found.get("better_than_chance") else "not used, no better than chance"
    return f"loss learnt from {found.get('frames')} samples, {told}; {used} if complexity.indicator is learnt"


def _rounds(rounds: Mapping[str, Any], *, paused: bool) -> str:
    if rounds.get("running"):
        state = f"{rounds['running']} runs, step {rounds.get('step')} of {rounds.get('steps')}"
        progress = rounds.get("progress") or {}
        if progress.get("miou") is not None:
            state += f", mIoU so far {show(progress['miou'])} (live {show(progress.get('live_miou'))})"
        if progress.get("joules") is not None:
            state += f", {_joules(progress['joules'])}"
    else:
        waits = rounds.get("waiting_for")
        # It may be outdated by now; "next" is not.
        state = f"at the last look: {waits}" if waits else "none runs"
    return f"{rounds.get('count', 0)} since the start; {state}" + ("; paused" if paused else "")


def _learning(learning: Mapping[str, Any] | None) -> str:
    if not learning or learning.get("gain") is None:
        return "not measured yet"
    told = f"{learning['gain']:+.4f} mIoU over the first model for {_joules(learning.get('joules'))}"
    rate = learning.get("gain_per_kilojoule")
    return told if rate is None else f"{told}, {rate:+.4f} a kJ"


def _last(last: Mapping[str, Any] | None) -> str | None:
    if not last:
        return None
    before, after = show(last.get("miou_before")), show(last.get("miou_after"))
    cost = f"{_joules(last.get('joules'))} ({show(last.get('method'))})"
    told = f"{last.get('round')} {last.get('outcome')}, mIoU {before} -> {after}, {cost}"
    if last.get("expected_gain") is None or not last.get("expected_joules"):
        return told
    gross = f"{_joules(last.get('gross_joules'))} gross"
    return f"{told}, {gross}; expected +{last['expected_gain']:.4f} for {_joules(last['expected_joules'])}"


def _fleet(found: Mapping[str, Any]) -> str:
    """The board's version and the published one, and what keeps it from its fleet."""
    published = "none heard of" if found.get("published") is None else f"{found['published']} published"
    words = f"version {found['version']}, {published}"
    if found.get("trouble"):
        return f"{words}; {found['trouble']}"
    return f"{words}; not heard of lately: `dance-ondevice fleet status`" if found.get("quiet") else words


def _joules(value: float | None) -> str:
    return "-" if value is None else f"{show(float(value))} J"
