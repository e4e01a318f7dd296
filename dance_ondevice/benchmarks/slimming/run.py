"""Runs the variants of a plan, each in its own process, and times their models side by side."""

from __future__ import annotations

import copy
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from dance_ondevice.benchmarks.device import device_clock
from dance_ondevice.benchmarks.slimming import images
from dance_ondevice.benchmarks.slimming.first_model import why_not_slimmed
from dance_ondevice.benchmarks.slimming.plan import Plan, Trained, read_plan, read_trained, write_json
from dance_ondevice.benchmarks.slimming.recipes import Recipe, recipe
from dance_ondevice.benchmarks.slimming.report import SlimmingReport, Timed, make_report
from dance_ondevice.conditions import statistics as conditions
from dance_ondevice.datasets.registry import open_dataset
from dance_ondevice.images.codec import resize_area
from dance_ondevice.models import checkpoint
from dance_ondevice.models.card import Normalisation
from dance_ondevice.models.forward import channels_last, predict
from dance_ondevice.policies.stream.conditions import BASE
from dance_ondevice.runtime.formats import ExportError
from dance_ondevice.runtime.onnx_engine import graph_of
from dance_ondevice.runtime.runners import Runners
from dance_ondevice.training.batches import TrainingSample, read_image

#: Number of images for timing inference, spread over the last evaluated split.
_TIMED_IMAGES = 24
_TIMED_ROUNDS = 3


class VariantFailed(RuntimeError):  # noqa: N818 - the name says what happened
    """Error: the process of a variant failed; the message names the variant and its folder."""


class OtherPlan(ValueError):  # noqa: N818 - the name says what is wrong
    """Error: the work folder holds the state of a different call."""


class NothingToTrain(RuntimeError):  # noqa: N818 - the name says what is wrong
    """Error: the model allows none of the variants; the message gives the reason."""


def run(plan: Plan, variants: Sequence[str], say: Callable[[str], None]) -> SlimmingReport:
    """Train the variants that are not trained yet, one after the other, and make the report.

    Args:
        plan: Options of the call. Its work folder is created, or used again if it is of the same plan.
        variants: Names of recipes.
        say: Called with each line that the processes print, and with each variant that is left out.

    Raises:
        ValueError: See :func:`checked_recipes`.
        NothingToTrain: The model allows none of the variants.
        OtherPlan: The work folder is of another plan.
        VariantFailed: A process failed; results of the others are kept.
        DatasetError: The images are missing.
    """
    recipes = checked_recipes(plan, variants)
    plan.work.mkdir(parents=True, exist_ok=True)
    file = plan.work / "plan.json"
    if file.is_file() and read_plan(file) != plan:
        raise OtherPlan(f"{plan.work} holds what another call has trained: name another folder, or delete it")
    write_json(file, plan)
    for split in ("train", *plan.evaluated):
        images.labelled(plan, split)  # a wrong root is an error before anything is trained
    left_out = _left_out(plan, recipes)
    for name, reason in left_out.items():
        say(f"{name}: left out, {reason}")
    if len(left_out) == len(recipes):
        raise NothingToTrain(f"none of {', '.join(recipes)} can be trained: {next(iter(left_out.values()))}")
    trained = {}
    for name in recipes:
        if name not in left_out:
            _train(plan, file, name, say)
            trained[name] = read_trained(plan.trained_file(name))
    return make_report(plan, trained, time_inference(plan, trained), left_out)


def checked_recipes(plan: Plan, variants: Sequence[str]) -> dict[str, Recipe]:
    """Return the recipes of variants by name.

    Raises:
        ValueError: No variant is given, one is unknown in the plan's setting, or one shares a model that is
            not trained before it.
    """
    found: dict[str, Recipe] = {}
    for name in variants:
        made = recipe(name, plan.protocol, plan.setting, plan.architecture)
        source = made.trained_as
        if source and source not in found and not plan.trained_file(source).is_file():
            raise ValueError(f"{name} takes over the model of {source}: name {source} before it")
        found[name] = made
    if not found:
        raise ValueError("no variant is named")
    return found


def _left_out(plan: Plan, recipes: Mapping[str, Recipe]) -> dict[str, str]:
    """Variants that slim -> the reason, if the model cannot be slimmed; else nothing."""
    slimmed = [n for n, made in recipes.items() if made.slims and not plan.trained_file(n).is_file()]
    if not slimmed:
        return {}
    reason = why_not_slimmed(plan, open_dataset(plan.dataset, plan.root).classes)
    return dict.fromkeys(slimmed, f"the model cannot be slimmed: {reason}") if reason else {}


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


def time_inference(plan: Plan, trained: Mapping[str, Trained]) -> dict[str, Timed]:
    """Milliseconds of inference for an image, by variant; models take turns so that load affects all alike.

    Each variant infers each image at its own scale: in torch with merged layers, and with the engine that the
    service would choose here. Resizing is timed, decoding is not. An image's time is the shortest of a few.
    """
    models, cards, engines = {}, {}, {}
    for name in trained:
        model, card = checkpoint.load(plan.folder(name) / "model")
        cards[name] = card
        models[name, False] = _merged(model, plan)
        models[name, True], engines[name] = _as_served(model, plan)
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
    clock = device_clock(plan.device)
    totals = dict.fromkeys(models, 0.0)
    for index in range(len(chosen)):
        best = dict.fromkeys(models, float("inf"))
        for _ in range(_TIMED_ROUNDS):
            for (name, served), model in models.items():
                seconds = _seconds(model, cards[name].normalisation, samples[name][index], clock)
                best[name, served] = min(best[name, served], seconds)
        for key, seconds in best.items():
            totals[key] += seconds
    return {
        name: Timed(
            infer_ms=1000 * totals[name, False] / len(chosen),
            infer_cpu_ms_served=1000 * totals[name, True] / len(chosen),
            engine=engine,
        )
        for name, engine in engines.items()
    }


def _merged(model: torch.nn.Module, plan: Plan) -> torch.nn.Module:
    """Return the model in torch with merged layers and channels last in memory."""
    if plan.device != "cpu":
        return model.to(plan.device)
    laid_out = channels_last(copy.deepcopy(model))
    runners = Runners(laid_out, "torch", size=plan.size, threads=1, clock=time.perf_counter)
    return runners.module(BASE, conditions.capture(laid_out))


def _as_served(model: torch.nn.Module, plan: Plan) -> tuple[torch.nn.Module, str]:
    """Return the module that the service would run here, and the engine's name."""
    if plan.device != "cpu":
        return model.to(plan.device), "torch"
    laid_out = channels_last(model)
    try:
        graph = graph_of(laid_out, plan.size)
    except ExportError:  # the packages are not installed, or the model cannot be exported
        graph = None
    runners = Runners(laid_out, "auto", size=plan.size, threads=1, clock=time.process_time, graph=graph)
    # The module keeps its runners alive, which it needs.
    return _Owning(runners.module(BASE, conditions.capture(laid_out)), runners), runners.name


class _Owning(torch.nn.Module):
    """A module that keeps its runners alive, since a session may fall back to their torch module."""

    def __init__(self, module: torch.nn.Module, runners: Runners) -> None:
        super().__init__()
        self.module = module
        self._runners = runners
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.module(x)
        return found


def _seconds(
    model: torch.nn.Module, normalisation: Normalisation, sample: TrainingSample, clock: Callable[[], float]
) -> float:
    image = read_image(sample)
    before = clock()
    predict(model, resize_area(image, sample.scale), normalisation, out_size=image.shape[:2])
    return clock() - before
