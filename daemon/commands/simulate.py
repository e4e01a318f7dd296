"""``dance-ondevice simulate``: what another budget or policy would have done."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dance_ondevice.daemon.cli import (
    FiniteRange,
    WorkFailed,
    config_option,
    json_option,
    load_config,
    state_dir_option,
)
from dance_ondevice.daemon.commands.access import index, target
from dance_ondevice.daemon.commands.energy import bar
from dance_ondevice.daemon.terminal import print_json, show
from dance_ondevice.documents import decode
from dance_ondevice.files import read_regular

if TYPE_CHECKING:
    from dance_ondevice.daemon.config.sections import Config
    from dance_ondevice.daemon.planning.simulation import Day
    from dance_ondevice.daemon.system.state import StatePaths

_BAR_WIDTH = 24
#: At most so many days are named under their bars.
_NAMED_DAYS = 15


def _svg(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    if value is not None and value.suffix.lower() != ".svg":
        raise click.BadParameter(f"{value} does not end in .svg, which the picture is", ctx, param)
    return value


@click.command()
@config_option
@state_dir_option
@click.option(
    "--budget",
    type=FiniteRange(min=0),
    metavar="JOULES",
    help="Joules a day; by default energy.budget_joules_per_day.",
)
@click.option("--days", type=click.IntRange(1, 3660), default=30, show_default=True, help="Days to simulate.")
@click.option("--window", metavar="HH:MM-HH:MM", help="Hours to train in instead of training.window.")
@click.option("--min-new-samples", type=click.IntRange(min=1), help="Instead of training.min_new_samples.")
@click.option(
    "--policy",
    type=click.Choice(["value", "always"]),
    default="value",
    show_default=True,
    help="value: train when the expected gain is worth its joules; always: whenever the joules reach.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of costs and gains.")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=_svg,
    metavar="FILE.svg",
    help="Write a picture.",
)
@json_option
def simulate(
    *,
    config_path: Path | None,
    state_dir: Path | None,
    budget: float | None,
    days: int,
    window: str | None,
    min_new_samples: int | None,
    policy: str,
    seed: int,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Replay the stored stream under another energy budget."""
    from dance_ondevice.daemon.planning import simulation

    changes = {
        "energy.budget_joules_per_day": budget,
        "training.window": window,
        "training.min_new_samples": min_new_samples,
    }
    chosen = {key: value for key, value in changes.items() if value is not None}
    config = load_config(config_path, state_dir, chosen).config
    paths = target(config_path, state_dir)
    with index(paths) as database:
        try:
            record = simulation.read_record(
                database, config, macs=_live_macs(paths), utc_offset=float(time.localtime().tm_gmtoff)
            )
        except simulation.NothingStoredError as error:
            raise WorkFailed(f"{paths.root}: {error}") from error
    result = simulation.simulate(record, config, days=days, seed=seed, weigh_value=policy == "value")
    totals = simulation.summary(result, config.energy.budget_joules_per_day)
    if plot is not None:
        try:
            plot.write_text(picture(result, config.energy.budget_joules_per_day), encoding="utf-8")
        except OSError as error:
            raise WorkFailed(f"the picture cannot be written: {error}") from error
    if as_json:
        print_json(
            {
                **totals,
                "policy": policy,
                "seed": seed,
                "cost": asdict(record.cost),
                "assumptions": record.assumptions,
                "by_day": [asdict(day) for day in result],
            }
        )
        return
    _print_days(result, config)
    _print_totals(totals, record.assumptions)
    if not totals["rounds"] and not any(totals["refused"].values()):
        click.echo(
            f"no round was due: that takes {config.training.min_new_samples} new labelled samples "
            "(training.min_new_samples, or --min-new-samples)"
        )


def picture(days: Sequence[Day], budget_joules: float) -> str:
    """Draw joules and rounds by day as one self-contained SVG, with a line at the day's budget."""
    from dance_ondevice.charts import Bar, Group, Level, Series, grouped_bars

    every = -(-len(days) // _NAMED_DAYS)
    named = [index % every == 0 for index in range(len(days))]
    bars = tuple(
        Bar(
            value=day.joules,
            label=str(day.rounds) if day.rounds and shown else "",
            title=f"day {day.day}: {day.joules:,.0f} J, {day.rounds} rounds, {day.arrived} new samples, "
            f"{day.balance:,.0f} J left",
        )
        for day, shown in zip(days, named, strict=True)
    )
    return grouped_bars(
        "Joules of training by simulated day (number of rounds above the bar)",
        [Group(name=str(day.day) if shown else "") for day, shown in zip(days, named, strict=True)],
        (Series(name="joules", css_class="bar", bars=bars),),
        (
            Level(value=0.0, label="0"),
            Level(value=max(budget_joules, 1.0), label=f"{budget_joules:,.0f} J", marked=True),
        ),
        below="day",
        standalone=True,
    )


def _live_macs(paths: StatePaths) -> int:
    """MACs of the live model; 0 when there is none."""
    try:
        version = decode(read_regular(paths.live_file), dict[str, Any])["version"]
        return int(decode(read_regular(paths.models / version / "card.json"), dict[str, Any])["macs"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _print_days(days: Sequence[Day], config: Config) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:  # a pipe or file has no width, and cut words would be lost
        console = Console(highlight=False, width=200)
    budget = config.energy.budget_joules_per_day
    table = Table(title=f"Simulated days at {budget:,.0f} J a day", title_justify="left")
    for column in ("day", "new samples", "rounds", "with a gain", "joules"):
        table.add_column(column, justify="right")
    table.add_column("of the budget", no_wrap=True)
    table.add_column("J left", justify="right")
    table.add_column("refused")
    most = max(budget, *(day.joules for day in days))
    for day in days:
        drawn = bar(day.joules, most, ascii_only=console.options.ascii_only, width=_BAR_WIDTH)
        cells = (day.day, day.arrived, day.rounds, day.promoted, f"{day.joules:,.0f}")
        left = f"{day.balance:,.0f}"
        table.add_row(*map(str, cells), Text(drawn, "cyan"), left, Text(_refusals(day.refused)))
    console.print(table)


def _print_totals(totals: Mapping[str, Any], assumptions: Sequence[str]) -> None:
    click.echo(
        f"{totals['rounds']} rounds in {totals['days']} days, {totals['promoted']} with a gain, "
        f"{show(float(totals['joules_per_day']))} J a day on average, "
        f"{show(float(totals['most_joules_on_a_day']))} J at most; "
        f"refused: {_refusals(totals['refused']) or 'none'}"
    )
    for assumption in assumptions:
        click.secho(f"assumed: {assumption}", fg="yellow")


def _refusals(refused: Mapping[str, int]) -> str:
    said = {"budget": "too few joules", "value": "would not pay", "window": "outside the window"}
    return ", ".join(f"{count} x {said[reason]}" for reason, count in refused.items() if count)
