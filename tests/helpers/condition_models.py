"""A tiny model of the street whose condition ``c1`` has its own statistics, as the service keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import msgspec
import torch
from small_models import SMALL

from dance_ondevice.conditions import statistics as conditions
from dance_ondevice.conditions import store as condition_store
from dance_ondevice.conditions.learning import own_parameters
from dance_ondevice.conditions.statistics import NormStatistics
from dance_ondevice.daemon.versions.condition_file import CONDITIONS_FILE, About
from dance_ondevice.datasets.street import StreetCamera
from dance_ondevice.models import checkpoint
from dance_ondevice.models.card import ModelCard, Normalisation
from dance_ondevice.models.forward import logits, to_tensor
from dance_ondevice.models.registry import build
from dance_ondevice.policies.stream.conditions import FIGURES, Condition, State

SIZE = (48, 64)


def about(parents: Mapping[str, str], refused: tuple[str, ...] = ()) -> str:
    """The text beside conditions that opened from these parents."""
    nothing = tuple(0.0 for _ in FIGURES)
    known = tuple(
        Condition(name=name, parent=parent, frames=64, mean=nothing, squares=nothing)
        for name, parent in {"base": "base", **parents}.items()
    )
    state = msgspec.json.encode(State(conditions=known, opened=len(parents)))
    return msgspec.json.encode(About(state=msgspec.Raw(state), refused=refused)).decode()


def dusk_statistics(model: torch.nn.Module) -> NormStatistics:
    """Measured on frames of the street at dusk."""
    camera = StreetCamera(seed=1, height=SIZE[0], width=SIZE[1])
    frames = [camera.render(index, "dusk")[0] for index in range(8)]
    return conditions.estimate(model, frames, Normalisation())


def _tell_classes_apart(model: torch.nn.Module) -> None:
    """A fresh network sees one class everywhere; this one sees several, others by day than at dusk."""
    last = [module for module in model.modules() if isinstance(module, torch.nn.Conv2d)][-1]
    frame = StreetCamera(seed=1, height=SIZE[0], width=SIZE[1]).render(0, "day")[0]
    with torch.no_grad():
        last.weight.normal_(0.0, 3.0)
        found = logits(model, to_tensor(frame, Normalisation()))
        assert last.bias is not None
        last.bias -= found.mean(dim=(0, 2, 3))


ARGUMENTS = {**SMALL["fastscnn"], "auxiliary": False}


@cache
def _model(classes: int) -> tuple[torch.nn.Module, NormStatistics, torch.Tensor]:
    """A model, its statistics of dusk, and where the random numbers stand after that; made once."""
    torch.manual_seed(0)
    model = build("fastscnn", classes, ARGUMENTS).eval()
    _tell_classes_apart(model)
    return model, dusk_statistics(model), torch.get_rng_state()


def write_version(folder: Path, *, learnt: bool = False, classes: tuple[str, ...]) -> None:
    """A version whose condition c1 has statistics of its own, and c2 opened from it has none."""
    model, dusk, numbers = _model(len(classes))
    torch.set_rng_state(numbers)
    card = ModelCard(
        version=folder.name, architecture="fastscnn", arguments=ARGUMENTS, classes=classes, macs_at=SIZE
    )
    checkpoint.save(folder, model, card)
    if learnt:
        own = conditions.capture(model, learnt=own_parameters(model)).learnt
        dusk = NormStatistics(dusk.layers, {name: tensor * 0.5 for name, tensor in own.items()})
    data = condition_store.encode({"c1": dusk}, about({"c1": "base", "c2": "c1"}))
    (folder / CONDITIONS_FILE).write_bytes(data)
