"""Slimming in the middle of a training: the optimiser's moments lose the channels that the weights lose."""

from __future__ import annotations

import copy

import torch
from torch import nn

from dance_ondevice.models.branches import branches_of, remove_branches
from dance_ondevice.slimming.importance import Scores
from dance_ondevice.slimming.slim import slim
from dance_ondevice.training.stages import BranchPlan
from dance_ondevice.training.trainer import Moments


def slim_with_moments(
    model: nn.Module,
    moments: Moments,
    *,
    target_macs: int,
    size: tuple[int, int],
    scores: Scores | None = None,
    branches: BranchPlan | None = None,
) -> Moments:
    """Slim a model in place; the optimiser's moments lose the same channels.

    Args:
        model: Model as for :func:`dance_ondevice.slimming.slim.slim`.
        moments: Moments of this model from :meth:`dance_ondevice.training.trainer.Trainer.moments`.
        target_macs: Multiply-accumulates of one image after slimming.
        size: (height, width) at which MACs are counted.
        scores: Importance of the channels, of which the least is removed; by default normalisation scales.
        branches: Slimming of the multi-scale branches, whose removals are done first; None: like the rest.

    Returns:
        The moments of the remaining parameters.

    Raises:
        NotPrunable: No channel was removed.
        BranchError: A branch does not exist, or cannot be removed.
    """
    branches = branches or BranchPlan()
    keys = ("exp_avg", "exp_avg_sq")
    companions = {key: _holding(model, moments, key) for key in keys} if moments else {}
    together = tuple(companions.values())
    remove_branches(model, branches.remove, companions=together)
    shares = {name: share for name, share in branches.shares.items() if name in branches_of(model)}
    if scores is not None:
        there = dict(model.named_modules())
        scores = {name: values for name, values in scores.items() if name in there}
    slim(
        model,
        target_macs=target_macs,
        size=size,
        importance=scores,
        shares=shares,
        companions=together,
    )
    cut = {key: dict(companion.named_parameters()) for key, companion in companions.items()}
    return {
        name: {"step": state["step"], **{key: cut[key][name].detach() for key in keys if key in state}}
        for name, state in moments.items()
        if all(name in parameters for parameters in cut.values())
    }


def _holding(model: nn.Module, moments: Moments, key: str) -> nn.Module:
    """Return a copy of the model with one of the moments as its parameters; zero where there is none."""
    held = copy.deepcopy(model)
    with torch.no_grad():
        for name, parameter in held.named_parameters():
            value = moments.get(name, {}).get(key)
            if value is None:
                parameter.zero_()
            else:
                parameter.copy_(value)
    return held
