"""``pause``, ``resume`` and ``train-now``: commands about rounds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from dance_ondevice.daemon.cli import FiniteRange, WorkFailed, config_option, json_option, state_dir_option
from dance_ondevice.daemon.commands.access import ask, target
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.terminal import Waiting, print_json, print_pairs, show

#: Outcomes of a finished round that are known here; the daemon may add others.
RESULT_KEYS = (
    "round",
    "outcome",
    "miou_before",
    "miou_after",
    "miou_frozen",
    "joules",
    "method",
    "reasons",
)

_POLL_SECONDS = 0.5


@click.command()
@config_option
@state_dir_option
def pause(config_path: Path | None, state_dir: Path | None) -> None:
    """Start no more rounds until resumed."""
    ask(target(config_path, state_dir), "pause")
    click.echo("paused: no round starts until `dance-ondevice resume`")


@click.command()
@config_option
@state_dir_option
def resume(config_path: Path | None, state_dir: Path | None) -> None:
    """Let rounds start again."""
    ask(target(config_path, state_dir), "resume")
    click.echo("resumed")


@click.command(name="train-now")
@config_option
@state_dir_option
@click.option("--wait", is_flag=True, help="Wait for the round and print what came of it.")
@click.option(
    "--timeout",
    type=FiniteRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Longest wait; the round itself goes on.",
)
@json_option
@click.pass_context
def train_now(
    ctx: click.Context,
    *,
    config_path: Path | None,
    state_dir: Path | None,
    wait: bool,
    timeout: float | None,
    as_json: bool,
) -> None:
    """Run one round now.

    With --wait the exit status is 0 when the round ran, whether its candidate was promoted or rejected, and 1
    when it failed, was stopped or did not start.
    """
    if timeout is not None and not wait:
        raise click.UsageError("--timeout needs --wait")
    paths = target(config_path, state_dir)
    answer = ask(paths, "train_now")
    if not wait:
        print_json(answer) if as_json else click.echo(f"a round is asked for (request {answer['request']})")
        return
    waiting = Waiting()
    try:
        result = await_request(
            paths, answer["request"], timeout, on_answer=lambda told: waiting.say(in_words(told))
        )
    finally:
        waiting.close()
    if as_json:
        print_json({**dict.fromkeys(RESULT_KEYS), **result})
    else:
        _print_result(result)
        if result.get("outcome") == "refused" and (step := ask(paths, "status").get("next_step")):
            click.echo(f"what keeps it from learning: {step['line']}")
    if result.get("outcome") not in ("promoted", "rejected"):
        ctx.exit(1)


def await_request(
    paths: StatePaths,
    request: int,
    timeout: float | None = None,
    *,
    on_answer: Callable[[Mapping[str, Any]], None] = lambda _: None,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Poll the daemon until a request is done; returns its answer without the ``state``.

    ``on_answer`` is called with each answer before the last.

    Raises:
        WorkFailed: the daemon went away, forgot the request, or ``timeout`` seconds passed.
    """
    deadline = None if timeout is None else monotonic() + timeout
    while True:
        answer = ask(paths, "train_status", request=request)
        if not isinstance(answer, dict):
            raise WorkFailed(
                f"the daemon does not know request {request}; it may have restarted: see its log"
            )
        if answer.get("state") == "done":
            return {key: value for key, value in answer.items() if key != "state"}
        on_answer(answer)
        if deadline is not None and monotonic() >= deadline:
            raise WorkFailed(
                f"{answer.get('state')} after {timeout:g} s; it goes on, see `dance-ondevice status`"
            )
        sleep(_POLL_SECONDS)


def in_words(answer: Mapping[str, Any]) -> str:
    """How far a request is that waits or is being done."""
    progress = answer.get("progress")
    before = "waits for what runs now" if answer.get("state") == "queued" else ""
    if not progress or not progress.get("steps"):
        return (
            before
            or "the round is prepared: samples, joules, trainer, which yields to others (training.priority)"
        )
    step, steps = progress.get("step") or 0, progress["steps"]
    known = [before, f"step {step} of {steps}" + (", being judged" if step >= steps else "")]
    if progress.get("miou") is not None:
        known.append(f"mIoU so far {show(progress['miou'])}, live {show(progress.get('live_miou'))}")
    if progress.get("joules") is not None:
        known.append(f"{show(progress['joules'])} J")
    return "; ".join(filter(None, known))


def _print_result(result: dict[str, Any]) -> None:
    joules = result.get("joules")
    print_pairs(
        [
            ("round", result.get("round")),
            ("outcome", result.get("outcome")),
            ("mIoU before", result.get("miou_before")),
            ("mIoU after", result.get("miou_after")),
            ("mIoU of the first model", result.get("miou_frozen")),
            (
                "joules",
                None if joules is None else f"{show(joules)} ({result.get('method') or 'method unknown'})",
            ),
        ]
    )
    for reason in result.get("reasons") or []:
        click.echo(f"- {reason}")
