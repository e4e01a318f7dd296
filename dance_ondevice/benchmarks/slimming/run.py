"""Runs the variants of a plan, each in its own process, and times their models side by side."""

from __future__ import annotations

import copy
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from dance_ondevice.benchmarks.device import device_clock
from dance_ondevice.benchmarks.slimming import images
from dance_ondevice.benchmarks.slimming.first_model import why_not_slimmed
from dance_ondevice.benchmarks.slimming.plan import Plan, Trained, read_plan, read_trained, write_json
from dance_ondevice.benchmarks.slimming.recipes import Recipe, recipe
from dance_ondevice.benchmarks.slimming.report import SlimmingReport, Timed, make_report
from dance_ondevice.datasets.registry import open_dataset
from dance_ondevice.images.masks import Prediction
from dance_ondevice.images.scaling import resize_for_inference
from dance_ondevice.models import checkpoint
from dance_ondevice.models.card import ModelCard
from dance_ondevice.models.forward import channels_last, predict
from dance_ondevice.policies.stream.conditions import BASE
from dance_ondevice.runtime.comparing import compare
from dance_ondevice.runtime.engine_table import order
from dance_ondevice.runtime.engines import EngineName
from dance_ondevice.runtime.folding import Folded
from dance_ondevice.runtime.formats import ExportError
from dance_ondevice.runtime.serving import GraphServer, Server
from dance_ondevice.runtime.serving_graph import graph_of
from dance_ondevice.runtime.torch_server import TorchServer
from dance_ondevice.training.batches import TrainingSample, read_image

#: Number of images for timing inference, spread over the last evaluated split.
_TIMED_IMAGES = 24
_TIMED_ROUNDS = 3

#: Function from an image (h, w, 3) uint8 BGR and the size of its mask to a prediction.
Infer: TypeAlias = Callable[[NDArray[np.uint8], Sequence[int]], Prediction]


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
    models: dict[tuple[str, bool], Infer] = {}
    engines = {}
    for name in trained:
        model, card = checkpoint.load(plan.folder(name) / "model")
        models[name, False] = _merged(model, card, plan)
        models[name, True], engines[name] = _as_served(model, card, plan)
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
            for (name, served), infer in models.items():
                seconds = _seconds(infer, samples[name][index], clock)
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


def _merged(model: torch.nn.Module, card: ModelCard, plan: Plan) -> Infer:
    """The model with its layers merged and channels last, in torch."""
    if plan.device == "cpu":
        model = Folded(channels_last(copy.deepcopy(model))).model
    else:
        model = model.to(plan.device)
    return lambda image, out_size: predict(model, image, card.normalisation, out_size)


def _as_served(model: torch.nn.Module, card: ModelCard, plan: Plan) -> tuple[Infer, EngineName]:
    """What the service would run here, and the engine's name."""
    if plan.device != "cpu":
        return _merged(model, card, plan), "torch"
    try:
        graph = graph_of(model, plan.size, card.sha256)
    except ExportError:  # the packages are not installed, or the model cannot be exported
        graph = None
    laid_out = channels_last(model)
    table = compare(laid_out, card, graph, clock=time.process_time)
    name = order(table, "auto")[0]
    server: Server
    if graph is None or name == "torch":
        server = TorchServer(laid_out, card.normalisation, size=plan.size)
    else:
        server = GraphServer(graph, name, card.normalisation, threads=1, often=1)
    return lambda image, out_size: server.predict(image, BASE, None, out_size), name


def _seconds(infer: Infer, sample: TrainingSample, clock: Callable[[], float]) -> float:
    image = read_image(sample)
    before = clock()
    infer(resize_for_inference(image, sample.scale), image.shape[:2])
    return clock() - before
