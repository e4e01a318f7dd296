"""``dance-ondevice bench fleet``."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dance_ondevice.benchmarks.fleet.page import lines
from dance_ondevice.benchmarks.fleet.ways import ARMS, USUAL
from dance_ondevice.benchmarks.options import (
    folder_option,
    hand_over,
    made_here,
    model_option,
    note_option,
    out_option,
    say,
    work_option,
)
from dance_ondevice.benchmarks.result import command_line
from dance_ondevice.daemon.cli import FiniteRange, WorkFailed, json_option
from dance_ondevice.datasets.listing import DatasetError
from dance_ondevice.models import packaged
from dance_ondevice.models.card import CheckpointError

if TYPE_CHECKING:
    from dance_ondevice.training.precision import Precision


@click.command("fleet")
@click.option("--dataset", type=click.Choice(["camvid", "idd_lite"]), required=True, help="Its layout.")
@folder_option("--root", required=True, help="Folder that holds the data set.")
@model_option("--model", "model_path", help="Train the root from this base instead of the package's own.")
@click.option(
    "--arm",
    "arms",
    type=click.Choice(list(ARMS)),
    multiple=True,
    default=USUAL,
    help="What to compare, once for each; the first is what the others are set against.",
)
@click.option("--boards", type=click.IntRange(2), default=8, show_default=True, help="idd_lite: how many.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="How many, from 0 on.")
@click.option(
    "--rounds", type=click.IntRange(1), default=5, show_default=True, help="That each board trains."
)
@click.option("--steps", type=click.IntRange(1), default=40, show_default=True, help="Of each round.")
@click.option(
    "--max-own-drop",
    type=FiniteRange(0.0, 1.0),
    default=0.01,
    show_default=True,
    help="mIoU that a fleet version may cost a board on its own gate.",
)
@click.option("--root-steps", type=click.IntRange(1), default=200, show_default=True, help="Of the root.")
@click.option(
    "--precision", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True, help="Of training."
)
@click.option(
    "--scale",
    type=FiniteRange(0.1, 1.0),
    default=1.0,
    show_default=True,
    help="Of the images, as the network sees them.",
)
@work_option("Keep finished runs here, and go on from those that are there.")
@out_option()
@note_option
@json_option
def fleet(
    *,
    dataset: str,
    root: Path,
    model_path: Path | None,
    arms: tuple[str, ...],
    boards: int,
    seeds: int,
    rounds: int,
    steps: int,
    max_own_drop: float,
    root_steps: int,
    precision: Precision,
    scale: float,
    work: Path | None,
    out: Path | None,
    note: str,
    as_json: bool,
) -> None:
    """Compare boards that learn together with boards that learn alone.

    Every board has a scene and a model slimmed in its own way. `alone`, `fleet`, `fleet, own late layers` and
    `all data` in one place take the same training steps. Three boards share CamVid; IDD-Lite's drives are
    shared out among --boards. Further arms: `fleet, whole models` travel in 16 bits and not as changes;
    `fleet, one board mislabelled` and `fleet, without that board` show what a board with wrong labels does.
    """
    from dance_ondevice.benchmarks.fleet.run import Plan, run
    from dance_ondevice.benchmarks.fleet.scenes import camvid_fleet, idd_fleet, resized
    from dance_ondevice.training.batches import SampleError

    plan = Plan(
        arms=arms,
        seeds=tuple(range(seeds)),
        rounds=rounds,
        steps=steps,
        root_steps=root_steps,
        precision=precision,
        max_own_drop=max_own_drop,
    )
    with contextlib.ExitStack() as stack:
        folder = work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dance-bench-fleet-")))
        try:
            scenes = camvid_fleet(root) if dataset == "camvid" else idd_fleet(root, boards)
            report = run(plan, model_path or packaged.FOLDER, resized(scenes, scale), folder, say=say)
        except DatasetError as error:
            raise click.BadParameter(str(error), param_hint="--root") from error
        except (CheckpointError, SampleError) as error:
            raise WorkFailed(str(error)) from error
    options: dict[str, object] = {
        "--dataset": dataset,
        "--root": "DIR",
        "--model": "BASE" if model_path else "",
        **({} if arms == USUAL else {"--arm": " --arm ".join(f'"{name}"' for name in arms)}),
        "--boards": boards if dataset == "idd_lite" else "",
        "--seeds": seeds,
        "--rounds": rounds,
        "--steps": steps,
        "--max-own-drop": max_own_drop,
        "--root-steps": root_steps,
        "--precision": precision,
        "--scale": scale,
        "--out": "FILE.json",
    }
    about = made_here("fleet", command_line("bench fleet", options), scenes.data, seed=0, note=note)
    hand_over(about, report, lambda found: click.echo("\n".join(lines(found))), out=out, as_json=as_json)
