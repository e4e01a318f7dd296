"""Prints the certificate of a version: its origin, its cost and the gate's verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dance_ondevice.daemon.terminal import print_pairs, print_table, show, show_time


def print_certificate(card: Mapping[str, Any]) -> None:
    """Print a card; missing facts are shown as a dash or left out."""
    print_pairs(_pairs(card))
    gate = card.get("gate") or {}
    table = gate.get("table") or {}
    classes = _class_rows(card, gate, table)
    if classes:
        print_table(
            "Gate, by class (IoU)",
            ("class", "before", "after", "change", "lower", "upper", "pixels"),
            classes,
        )
    if table.get("groups"):
        print_table(
            "Gate, by condition (mIoU)",
            ("group", "before", "after", "change", "lower", "upper", "samples"),
            [_figures(group["name"], group) for group in table["groups"]],
        )


def _pairs(card: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    training, gate = card.get("training") or {}, card.get("gate") or {}
    yield "version", card.get("version")
    yield "parent", card.get("parent")
    yield "created", show_time(card.get("created_at"))
    yield "architecture", card.get("architecture") or card.get("factory")
    yield "MACs", _of_whole(card.get("macs"), card.get("unslimmed_macs"))
    yield "parameters", card.get("parameters")
    yield "slimming", _slimming(card.get("slimming") or {})
    yield "round", training.get("round")
    if training.get("condition"):
        yield "learnt for", f"condition {training['condition']} alone"
    yield "samples", _counts(card.get("samples") or {}, ("new", "rehearsal", "gate"))
    samples = card.get("samples") or {}
    yield "label sources", _counts(samples.get("label_sources") or {})
    yield "conditions", _counts(samples.get("conditions") or {})
    yield "seed", training.get("seed")
    yield "steps", training.get("steps")
    yield "joules", _joules(card.get("energy") or {})
    yield "gate", gate.get("outcome")
    yield "mIoU", _gain(gate)
    yield "mIoU of the first model", gate.get("miou_frozen")
    yield "ms of a core a mask", _change(gate.get("live_ms"), gate.get("candidate_ms"))
    for reason in gate.get("reasons") or ():
        yield "reason", reason
    probation = card.get("probation")
    if probation:
        yield "probation", f"{probation.get('outcome')}: {probation.get('reason')}"


def _of_whole(macs: int | None, whole: int | None) -> str | None:
    if not macs:
        return None
    return f"{macs:,}" + (f" ({macs / whole:.0%} of the unslimmed network)" if whole else "")


def _slimming(facts: Mapping[str, Any]) -> str | None:
    if not facts:
        return None
    return f"MACs {facts['macs_before']:,} -> {facts['macs_after']:,} in this round"


def _counts(facts: Mapping[str, Any], names: tuple[str, ...] = ()) -> str | None:
    return ", ".join(f"{facts[name]} {name}" for name in names or facts if name in facts) or None


def _joules(energy: Mapping[str, Any]) -> str | None:
    if energy.get("joules") is None:
        return None
    return (
        f"{show(energy['joules'])} above idle, {show(energy.get('gross_joules'))} gross "
        f"({show(energy.get('method'))})"
    )


def _gain(gate: Mapping[str, Any]) -> str | None:
    change = _change(gate.get("miou_before"), gate.get("miou_after"))
    table = gate.get("table") or {}
    if change is None or table.get("lower") is None:
        return change
    return (
        f"{change}, by {table['gain']:+.4f}, between {table['lower']:+.4f} and {table['upper']:+.4f} "
        f"(each bound at {gate.get('confidence', 0):.0%}, over {table['units']} {table['unit']}s)"
    )


def _change(before: float | None, after: float | None) -> str | None:
    return None if not before and not after else f"{show(before)} -> {show(after)}"


def _class_rows(
    card: Mapping[str, Any], gate: Mapping[str, Any], table: Mapping[str, Any]
) -> list[tuple[object, ...]]:
    names = list(card.get("classes") or ())
    before = dict(zip(names, gate.get("iou_per_class_before") or (), strict=False))
    after = dict(zip(names, gate.get("iou_per_class") or (), strict=False))
    return [
        (
            row["class"],
            before.get(row["class"]),
            after.get(row["class"]),
            row["change"],
            row["lower"],
            row["upper"],
            row["pixels"],
        )
        for row in table.get("classes") or ()
    ]


def _figures(name: str, figures: Mapping[str, Any]) -> tuple[object, ...]:
    return (
        name,
        figures["live"],
        figures["candidate"],
        figures["gain"],
        figures["lower"],
        figures["upper"],
        figures["samples"],
    )
