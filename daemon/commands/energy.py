"""``dance-ondevice energy``: where the joules went."""

from __future__ import annotations

from pathlib import Path

import click

from dance_ondevice.daemon.cli import config_option, json_option, state_dir_option
from dance_ondevice.daemon.commands import index, target
from dance_ondevice.daemon.output import print_json, print_table, show_time


@click.command()
@config_option
@state_dir_option
@json_option
def energy(config_path: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """Show joules by day, workload, source and method."""
    with index(target(config_path, state_dir)) as database:
        days = list(
            database.query(
                "select day, workload, source, method, joules from energy "
                "order by day desc, workload, source, method"
            )
        )
        ledger = list(database.query("select * from ledger order by id desc"))
    if as_json:
        print_json({"days": days, "ledger": ledger})
        return
    print_table("Joules", ("day", "workload", "source", "method", "joules"), [row.values() for row in days])
    print_table(
        "Ledger of rounds",
        ("round", "opened", "reserved", "settled", "attributed", "method"),
        [
            (
                row["round_id"],
                show_time(row["opened_at"]),
                row["reserved_joules"],
                row["settled_joules"],
                row["attributed_joules"],
                row["method"],
            )
            for row in ledger
        ],
    )
