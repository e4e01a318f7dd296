"""Sparsity: training that pulls the scales of normalisation towards zero, so that channels can be removed.

"Network slimming" (Liu et al., ICCV 2017, arXiv 1708.06519) adds ``strength * |scale|`` to the loss, for each
scale. Its subgradient, strength * sign(scale), is added to the gradients here, so that the reported loss does
not change.
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
    """Return a factor for the strength of each normalisation whose channels can be removed.

    The model is traced, which takes seconds: call it once before training, and again after slimming.

    Args:
        model: Model, which stays unchanged.
        shares: Factor for the normalisations of each multi-scale branch, 1 for branches that are missing:
            branches that are slimmed more (:func:`dance_ondevice.slimming.slim.slim`) can get a larger one.

    Returns:
        Factors by module name.

    Raises:
        NotPrunable: The model cannot be traced, or has no channels that could be removed.
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

    Call it after the backward pass and before the optimiser's step. A scale of zero, and one without a
    gradient, is left unchanged. Weight decay on the scales acts in addition.

    Args:
        model: Model whose gradients have been computed.
        strength: Strength per step; the paper uses 1e-5 to 1e-4.
        factors: Factors of the strength by module name, from :func:`sparsity_factors`; None calls that
            function, which takes seconds.

    Raises:
        ValueError: The strength is negative or not finite.
        NotPrunable: See :func:`sparsity_factors`.
    """
    if not (math.isfinite(strength) and strength >= 0):
        raise ValueError(f"strength is {strength}; it must be 0 or more")
    factors = sparsity_factors(model) if factors is None else factors
    with torch.no_grad():
        for name, layer in model.named_modules():
            if name in factors and isinstance(layer.weight, nn.Parameter) and layer.weight.grad is not None:
                layer.weight.grad.add_(layer.weight.sign(), alpha=strength * factors[name])
