"""``dance-ondevice samples``: lists stored samples and explains why they are kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from dance_ondevice.daemon.cli import CommandGroup, WorkFailed, config_option, json_option, state_dir_option
from dance_ondevice.daemon.commands.access import index, target
from dance_ondevice.daemon.commands.samples.export import export
from dance_ondevice.daemon.commands.samples.purge import purge
from dance_ondevice.daemon.terminal import print_json, print_pairs, print_table, show, show_bytes, show_time

_SPLITS = {
    "train": "train: rounds learn from it",
    "gate": "gate: held out, candidates are judged on it",
    "guard": "guard: beside held-out samples, so it serves for nothing",
    "duplicate": "duplicate: nearly an earlier training sample, so it serves for nothing",
    None: "not yet assigned",
}


@click.group(cls=CommandGroup)
def samples() -> None:
    """List, explain, export and remove stored samples."""


samples.add_command(export)
samples.add_command(purge)


@samples.command(name="list")
@config_option
@state_dir_option
@click.option("--camera", metavar="NAME", help="Only this camera's.")
@click.option("--labelled/--unlabelled", default=None, help="Only those with, or without, a label.")
@click.option(
    "--limit", type=click.IntRange(1, 10**9), default=50, show_default=True, help="At most so many."
)
@json_option
def list_(
    *,
    config_path: Path | None,
    state_dir: Path | None,
    camera: str | None,
    labelled: bool | None,
    limit: int,
    as_json: bool,
) -> None:
    """List the newest samples."""
    conditions, values = ["1"], dict[str, object](limit=limit)
    if camera is not None:
        conditions.append("camera = :camera")
        values["camera"] = camera
    if labelled is not None:
        conditions.append(f"label_path is {'not null' if labelled else 'null'}")
    with index(target(config_path, state_dir)) as database:
        where = " and ".join(conditions)
        rows = [
            _decoded(row)
            for row in database.query(
                f"select * from samples where {where} order by captured_at desc, id limit :limit", values
            )
        ]
        total = next(database.query(f"select count(*) as n from samples where {where}", values))["n"]
    if as_json:
        if len(rows) < total:
            click.echo(f"these are {len(rows)} of {total} samples; --limit {total} gives all", err=True)
        print_json(rows)
        return
    print_table(
        f"Samples ({len(rows)} of {total})",
        ("id", "captured", "size", "label", "split", "score", "scale", "weight", "rounds", "bytes"),
        [
            (
                row["id"],
                show_time(row["captured_at"]),
                f"{row['width']}x{row['height']}",
                row["label_source"],
                row["split"],
                row["score"],
                row["scale"],
                row["weight"],
                row["rounds_used"],
                show_bytes(row["bytes"]),
            )
            for row in rows
        ],
    )


@samples.command()
@click.argument("sample_id", metavar="ID")
@config_option
@state_dir_option
@json_option
def explain(sample_id: str, config_path: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """Say why a sample was kept and labelled by whom, which rounds used it, which versions know it."""
    from dance_ondevice.daemon.curation.lineage import versions_knowing

    with index(target(config_path, state_dir)) as database:
        row = next(database.query("select * from samples where id = ?", [sample_id]), None)
        if row is None:
            raise WorkFailed(f"no sample {sample_id!r}; `dance-ondevice samples list` shows them")
        rounds = list(
            database.query(
                "select rounds.id as round, role, outcome, started_at from round_samples "
                "join rounds on rounds.id = round_id where sample_id = ? order by started_at",
                [sample_id],
            )
        )
        knowing = versions_knowing(database, [sample_id])
    sample = {**_decoded(row), "rounds": rounds, "versions": knowing}
    if as_json:
        print_json(sample)
        return
    print_pairs(
        [
            ("id", row["id"]),
            ("camera", row["camera"]),
            ("captured", show_time(row["captured_at"])),
            ("score", f"{show(row['score'])}, above {row['quantile']:.0%} of the camera's recent frames"),
            ("decision", row["reason"]),
            ("stored", f"{row['width']}x{row['height']} of {row['native_width']}x{row['native_height']}"),
            ("loss weight", row["weight"]),
            *([("unreadable", row["unreadable"])] if row["unreadable"] else []),
            ("condition", row["condition"]),
            ("uncertainty", row["uncertainty"]),
            ("label", _label(row)),
            ("classes", sample["classes"]),
            ("split", _SPLITS.get(row["split"], row["split"])),
            ("file", row["path"]),
            ("rounds", [f"{r['round']} ({r['role']}, {r['outcome'] or 'running'})" for r in rounds]),
            (
                "known to",
                [f"{v.version} ({v.status}{'' if v.direct else ', by its parent'})" for v in knowing],
            ),
        ]
    )


def _label(row: Mapping[str, Any]) -> str | None:
    """The label's source, and a model's confidence in it."""
    source: str | None = row["label_source"]
    if row["label_path"] is None or row["label_confidence"] is None:
        return source
    return f"{source}, mean confidence {row['label_confidence']:.2f}"


def _decoded(row: dict[str, Any]) -> dict[str, Any]:
    """The row with its JSON column as a list."""
    return {**row, "classes": json.loads(row["classes"]) if row["classes"] else None}
