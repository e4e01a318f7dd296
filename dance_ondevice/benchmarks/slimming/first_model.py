"""The model that every variant of a plan starts from, and whether it can be slimmed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import nn

from dance_ondevice.benchmarks.slimming.plan import Plan
from dance_ondevice.benchmarks.slimming.recipes import TARGET_MACS
from dance_ondevice.models import checkpoint, registry
from dance_ondevice.models.card import ModelCard
from dance_ondevice.models.cost import count_macs
from dance_ondevice.slimming.groups import NotPrunable
from dance_ondevice.slimming.slim import slim


def first_model(plan: Plan, classes: tuple[str, ...]) -> tuple[nn.Module, ModelCard]:
    """Return the model of ``plan.init``, or a fresh one from torch's global generator, on the plan's device.

    Raises:
        CheckpointError: ``plan.init`` cannot be loaded.
    """
    if plan.init:
        model, card = checkpoint.load(Path(plan.init))
        card = replace(card, parent=card.version, macs_at=plan.size, unslimmed_macs=0, gate={}, training={})
    else:
        model = registry.build(plan.architecture, len(classes))
        card = ModelCard(architecture=plan.architecture, classes=classes, macs_at=plan.size)
    return model.to(plan.device), card


def why_not_slimmed(plan: Plan, classes: tuple[str, ...]) -> str:
    """Slim a copy of the plan's model; returns why that fails, or "" if it succeeds.

    Raises:
        CheckpointError: ``plan.init`` cannot be loaded.
    """
    model, _ = first_model(plan, classes)
    try:
        slim(model, target_macs=round(TARGET_MACS * count_macs(model, *plan.size)), size=plan.size)
    except NotPrunable as error:
        return " ".join(str(error).split())  # messages of tracing may have several lines
    return ""
