"""``dance-ondevice energy``: the joules of each day by workload, and of each round."""

from __future__ import annotations

import csv
import itertools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from dance_ondevice.daemon.cli import CommandGroup, config_option, json_option, state_dir_option
from dance_ondevice.daemon.commands.access import index, target
from dance_ondevice.daemon.commands.energy_calibrate import calibrate
from dance_ondevice.daemon.terminal import print_json, print_table, show, show_time

_COLUMNS = ("day", "workload", "source", "method", "joules")
#: Days that people are shown unless they ask for more, and rounds, of which a year has thousands.
_DAYS = 14
_ROUNDS = 50
_BAR_WIDTH = 32
_LEAST_BAR = 8
#: Characters for the end of a bar, by eighths of a character.
_EIGHTHS = ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")
#: The colour for each method of measurement.
_COLOURS = {"counter": "green", "integrated": "cyan", "modelled": "yellow"}


@click.group(cls=CommandGroup, invoke_without_command=True)
@config_option
@state_dir_option
@click.option(
    "--days",
    type=click.IntRange(min=1),
    help=f"Only the last so many days on record; by default {_DAYS} in the chart, all with --json and --csv.",
)
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@click.pass_context
def energy(
    context: click.Context,
    *,
    config_path: Path | None,
    state_dir: Path | None,
    days: int | None,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Show joules by day, workload, source and method.

    A running daemon writes them once a minute and at the end of each round.
    """
    if context.invoked_subcommand is not None:
        return
    if as_json and as_csv:
        raise click.UsageError("--json and --csv exclude each other")
    with index(target(config_path, state_dir)) as database:
        rows = list(
            database.query(
                f"select {', '.join(_COLUMNS)} from energy where day in "
                "(select distinct day from energy order by day desc limit :days) "
                "order by day desc, workload, source, method",
                # For SQLite a negative limit means no limit.
                {"days": days or (-1 if as_json or as_csv else _DAYS)},
            )
        )
        first = min((row["day"] for row in rows), default="") if days else ""
        ledger = list(
            database.query(
                "select * from ledger where date(opened_at, 'unixepoch') >= :first order by id desc",
                {"first": first},
            )
        )
    if as_json:
        print_json({"days": rows, "ledger": ledger})
    elif as_csv:
        table = csv.writer(sys.stdout, lineterminator="\n")
        table.writerow(_COLUMNS)
        table.writerows([row[column] for column in _COLUMNS] for row in rows)
    else:
        if rows:
            _print_chart(rows)
        else:
            click.echo("no joules are on record yet; a running daemon writes the first after a minute")
        _print_ledger(ledger if days else ledger[:_ROUNDS])
        if not days and len(ledger) > _ROUNDS:
            click.echo(f"and {len(ledger) - _ROUNDS} earlier rounds; --json lists all of them")


energy.add_command(calibrate)


def _print_chart(rows: Sequence[Mapping[str, Any]]) -> None:
    """One line a workload and method, grouped by day, with bars of one scale over all days."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:  # a pipe or file has no width, and cut words would be lost
        console = Console(highlight=False, width=200)
    table = Table(title="Joules", title_justify="left")
    for column in _COLUMNS:
        table.add_column(column, justify="right" if column == "joules" else "left", overflow="fold")
    table.add_column("", no_wrap=True)
    most = max((row["joules"] for row in rows), default=0.0)
    ascii_only = console.options.ascii_only
    texts = sum(max(len(show(row[column])) for row in (*rows, {column: column})) for column in _COLUMNS)
    # A column takes three characters more for its frame, the table one: words stay whole, bars get the rest.
    width = max(_LEAST_BAR, min(_BAR_WIDTH, console.width - texts - 3 * (len(_COLUMNS) + 1) - 1))
    for day, of_day in itertools.groupby(rows, key=lambda row: row["day"]):
        lines = list(of_day)
        for number, row in enumerate(lines):
            drawn = bar(row["joules"], most, ascii_only=ascii_only, width=width)
            table.add_row(
                Text(day if number == 0 else ""),
                *(Text(show(row[column])) for column in _COLUMNS[1:]),
                Text(drawn, _COLOURS.get(row["method"], "")),
            )
        total = sum(row["joules"] for row in lines)
        table.add_row("", Text("all", "bold"), "", "", Text(show(float(total)), "bold"), "", end_section=True)
    console.print(table)


def bar(value: float, most: float, *, ascii_only: bool, width: int = _BAR_WIDTH) -> str:
    """A horizontal bar, ``width`` characters long where ``value`` is ``most``."""
    if most <= 0 or value <= 0:
        return ""
    eighths = max(1, round(8 * width * min(1.0, value / most)))
    if ascii_only:
        return "#" * max(1, round(eighths / 8))
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8]


def _print_ledger(ledger: Sequence[Mapping[str, Any]]) -> None:
    if not ledger:
        return
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
