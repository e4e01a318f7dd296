"""Runs the variants of a plan, each in its own process, and times their models side by side."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from dance_ondevice.batches import TrainingSample, read_image
from dance_ondevice.benchmarks.slimming import images
from dance_ondevice.benchmarks.slimming.plan import Plan, Trained, read_plan, read_trained, write_json
from dance_ondevice.benchmarks.slimming.recipes import recipe
from dance_ondevice.benchmarks.slimming.report import SlimmingReport, make_report
from dance_ondevice.images import resize_area
from dance_ondevice.models import checkpoint
from dance_ondevice.models.forward import predict

#: Images that inference is timed on, spread over the last evaluated split.
_TIMED_IMAGES = 24
_TIMED_ROUNDS = 3


class VariantFailed(RuntimeError):  # noqa: N818 - the name says what happened
    """The process of a variant ended with an error; the message names the variant and its log."""


class OtherPlan(ValueError):  # noqa: N818 - the name says what is wrong
    """The work folder holds the state of a different call."""


def run(plan: Plan, variants: Sequence[str], say: Callable[[str], None]) -> SlimmingReport:
    """Train what is not trained yet, one variant after the other, and report.

    Args:
        plan: the call; its work folder is made, or gone on with when it is of the same plan.
        variants: names of recipes.
        say: is told what the processes print.

    Raises:
        ValueError: there is no such variant.
        OtherPlan: the work folder is of another plan.
        VariantFailed: a process failed; what the others did is kept.
        DatasetError: the images are not there.
    """
    for name in variants:
        recipe(name, plan.protocol, plan.setting, plan.architecture)
    plan.work.mkdir(parents=True, exist_ok=True)
    file = plan.work / "plan.json"
    if file.is_file() and read_plan(file) != plan:
        raise OtherPlan(f"{plan.work} holds what another call has trained: name another folder, or delete it")
    write_json(file, plan)
    for split in ("train", *plan.evaluated):
        images.labelled(plan, split)  # a wrong root is told before anything is trained
    for name in variants:
        _train(plan, file, name, say)
    trained = {name: read_trained(plan.folder(name) / "trained.json") for name in variants}
    return make_report(plan, trained, time_inference(plan, trained))


def _train(plan: Plan, file: Path, name: str, say: Callable[[str], None]) -> None:
    command = [sys.executable, "-m", "dance_ondevice.benchmarks.slimming.variant_main", str(file), name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            say(line.rstrip())
    if process.returncode != 0:
        raise VariantFailed(
            f"the process that trained {name} ended with {process.returncode}; its messages are above, and "
            f"what it did so far is in {plan.folder(name)}: the same command goes on from there"
        )


def time_inference(plan: Plan, trained: Mapping[str, Trained]) -> dict[str, float]:
    """Milliseconds an image of every variant's model, taken in turns so that all meet the same machine.

    Each variant infers each image at its own scale; resizing is timed, decoding is not. The least of a few
    rounds is an image's time.
    """
    models = {}
    for name in trained:
        model, card = checkpoint.load(plan.folder(name) / "model")
        models[name] = (model.to(plan.device), card)
    everything = images.labelled(plan, plan.evaluated[-1])
    chosen = everything[:: max(1, len(everything) // _TIMED_IMAGES)]
    training = images.labelled(plan, "train")
    samples = {
        name: images.for_inference(
            chosen,
            plan,
            recipe(name, plan.protocol, plan.setting, plan.architecture).inference_scales,
            training,
        )
        for name in trained
    }
    clock = _clock(plan.device)
    totals = dict.fromkeys(trained, 0.0)
    for index, sample in enumerate(chosen):
        best = dict.fromkeys(trained, float("inf"))
        for _ in range(_TIMED_ROUNDS):
            for name, (model, card) in models.items():
                best[name] = min(best[name], _seconds(model, card.normalisation, samples[name][index], clock))
        for name, seconds in best.items():
            totals[name] += seconds
        del sample
    return {name: 1000 * total / len(chosen) for name, total in totals.items()}


def _seconds(
    model: torch.nn.Module, normalisation: object, sample: TrainingSample, clock: Callable[[], float]
) -> float:
    image = read_image(sample)
    before = clock()
    predict(model, resize_area(image, sample.scale), normalisation, out_size=image.shape[:2])  # type: ignore[arg-type]
    return clock() - before


def _clock(device: str) -> Callable[[], float]:
    if device == "cpu":
        return time.process_time

    def drained() -> float:
        torch.cuda.synchronize()
        return time.monotonic()

    return drained
