"""Sparsity: training that presses normalisation's scales towards zero, so that channels may go unnoticed.

"Network slimming" (Liu et al., ICCV 2017, arXiv 1708.06519) adds strength * |scale| to the loss, for each
scale. Its subgradient, strength * sign(scale), is added to the gradients here, which leaves the loss that is
reported alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from dance_ondevice.models.branches import branch_of, branches_of
from dance_ondevice.slimming.groups import find_groups


def sparsity_factors(model: nn.Module, shares: Mapping[str, float] | None = None) -> dict[str, float]:
    """The normalisations whose channels can be removed, each with a factor for the strength.

    Traces the model, which takes seconds: once before training, and again after slimming.

    Args:
        model: left as it is.
        shares: multi-scale branch -> factor of the normalisations in it, 1 where not named: what shall be
            slimmed more (:func:`dance_ondevice.slimming.slim.slim`) can be pressed harder.

    Returns:
        Module name -> factor.

    Raises:
        NotPrunable: the model cannot be traced, or has nothing that could be removed.
    """
    modules, branches = dict(model.named_modules()), branches_of(model)
    found: dict[str, float] = {}
    for group in find_groups(model):
        for member in group.members:
            layer = modules[member.layer]
            if isinstance(layer, _NormBase) and layer.weight is not None:
                found[member.layer] = (shares or {}).get(branch_of(member.layer, branches) or "", 1.0)
    return found


def add_sparsity_gradient(
    model: nn.Module, strength: float, factors: Mapping[str, float] | None = None
) -> None:
    """Add the subgradient of ``strength * |scale|`` to the gradients of normalisation scales.

    Call it after the backward pass and before the optimiser's step. A scale of zero is left in peace, and so
    is one without a gradient. With weight decay on the scales as well, both press.

    Args:
        model: whose gradients have been computed.
        strength: per step; the paper's are 1e-5 to 1e-4.
        factors: module name -> factor of the strength, from :func:`sparsity_factors`, which is called, for
            seconds, where they are not given.

    Raises:
        ValueError: a strength that is negative or not finite.
        NotPrunable: see :func:`sparsity_factors`.
    """
    if not (math.isfinite(strength) and strength >= 0):
        raise ValueError(f"strength is {strength}; it must be 0 or more")
    factors = sparsity_factors(model) if factors is None else factors
    with torch.no_grad():
        for name, layer in model.named_modules():
            if name in factors and isinstance(layer.weight, nn.Parameter) and layer.weight.grad is not None:
                layer.weight.grad.add_(layer.weight.sign(), alpha=strength * factors[name])
