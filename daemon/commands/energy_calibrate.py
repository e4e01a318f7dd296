"""``dance-ondevice energy calibrate``: the two powers of the modelled meter, measured on this board."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dance_ondevice.daemon.cli import FiniteRange, WorkFailed, config_option, json_option, load_config
from dance_ondevice.daemon.terminal import print_json, print_table

if TYPE_CHECKING:
    from dance_ondevice.daemon.config.sections import Energy
    from dance_ondevice.daemon.energy.calibration import LoadPoint, PowerLine
    from dance_ondevice.energy.reading import Meter


@click.command()
@config_option
@click.option(
    "--reference",
    "references",
    metavar="WATTS",
    type=FiniteRange(min=0),
    multiple=True,
    help="What a meter of yours shows: idle first, then under each load; what is not given is asked for.",
)
@click.option("--from-meter", is_flag=True, help="Read this board's own meter instead.")
@click.option(
    "--loads",
    type=click.IntRange(min=2, max=64),
    default=2,
    show_default=True,
    help="How many loads, from idle to every core busy.",
)
@click.option(
    "--seconds",
    type=FiniteRange(min=0.1, max=600),
    default=20.0,
    show_default=True,
    help="How long each load runs.",
)
@json_option
def calibrate(
    *,
    config_path: Path | None,
    references: tuple[float, ...],
    from_meter: bool,
    loads: int,
    seconds: float,
    as_json: bool,
) -> None:
    """Fit the modelled meter to this board.

    Prints energy.idle_watts and energy.max_watts. The board is left alone for a while, then kept busy, and
    you say what a meter between it and its supply showed meanwhile. With --from-meter a meter of the board
    itself is read, for the use of other boards of the same type that have none.
    """
    from dance_ondevice.daemon.energy import calibration

    if from_meter and references:
        raise click.UsageError("--from-meter and --reference exclude each other")
    energy = load_config(config_path).config.energy
    board = calibration.this_board(Path(energy.procfs_root))
    levels = calibration.load_levels(board.cores, loads)
    if len(references) > len(levels):
        raise click.UsageError(f"{len(references)} times --reference for {len(levels)} loads")
    meter = _hardware_meter(energy) if from_meter else None
    points: list[LoadPoint] = []
    try:
        for step, busy in enumerate(levels):
            watch = "" if meter or step < len(references) else "; watch your meter"
            _say(f"{step + 1} of {len(levels)}: {_describe(busy, board.cores)} for {seconds:g} s{watch}")
            utilisation, watts = calibration.run_load(board, busy, seconds, meter)
            if watts is None:
                watts = references[step] if step < len(references) else _ask()
            points.append(calibration.LoadPoint(busy_cores=busy, utilisation=utilisation, watts=watts))
        line = calibration.fit(points)
    except calibration.CalibrationError as error:
        raise WorkFailed(str(error)) from error
    _show(points, line, as_json=as_json)


def _show(points: list[LoadPoint], line: PowerLine, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "idle_watts": line.idle_watts,
                "max_watts": line.max_watts,
                "rms_watts": line.rms_watts,
                "points": [
                    {"busy_cores": p.busy_cores, "utilisation": p.utilisation, "watts": p.watts}
                    for p in points
                ],
            }
        )
        return
    print_table(
        "Loads",
        ("busy cores", "utilisation", "watts", "fitted watts"),
        [(p.busy_cores, p.utilisation, p.watts, line.watts(p.utilisation)) for p in points],
    )
    click.echo("Put these lines under [energy]:")
    click.echo(f"idle_watts = {line.idle_watts:.2f}")
    click.echo(f"max_watts = {line.max_watts:.2f}")


def _hardware_meter(energy: Energy) -> Meter:
    """The board's own meter, even if the configuration names another one.

    Raises:
        WorkFailed: There is none.
    """
    import msgspec

    from dance_ondevice.daemon.energy import meters
    from dance_ondevice.energy.sensors import MeterUnavailable

    if energy.meter == "modelled":
        energy = msgspec.structs.replace(energy, meter="auto")
    unused: Callable[[], float] = lambda: 0.0  # noqa: E731 - only the modelled meter uses CPU seconds
    try:
        meter, _ = meters.choose_meter(energy, unused)
    except MeterUnavailable as error:
        raise WorkFailed(str(error)) from error
    if meter.method == "modelled":
        raise WorkFailed(
            "this board has no meter that can be read (`dance-ondevice doctor` says more); "
            "measure with one of your own and give --reference"
        )
    _say(f"the meter: {meter.about}")
    return meter


def _describe(busy: int, cores: int) -> str:
    if busy == 0:
        return "leaving the board alone"
    return f"keeping {'every core' if busy == cores else f'{busy} of {cores} cores'} busy"


def _ask() -> float:
    watts: float = click.prompt(
        "Mean watts that your meter showed meanwhile", type=FiniteRange(min=0), err=True
    )
    return watts


def _say(text: str) -> None:
    click.echo(text, err=True)
