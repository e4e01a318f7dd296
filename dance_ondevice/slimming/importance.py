"""Importance of channels: a score for every output channel of every layer.

:func:`dance_ondevice.slimming.slim.slim` removes the channels with the smallest scores first, within each
group of channels that can only be removed together; a group's score is the mean of its layers' scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from dance_ondevice.models.branches import branch_of, branches_of, removable_branches
from dance_ondevice.models.channels import has_channels

#: Scores (output channels,), 0 or more, by module name.
Scores = Mapping[str, Tensor]
Importance = Literal["bn_scale", "taylor", "combined"]


def scale_scores(model: nn.Module) -> dict[str, Tensor]:
    """Score each channel by the size of its weights, relative to the mean of its layer.

    For a normalisation the size is ``|scale|``, by which "Network slimming" ranks (Liu et al., ICCV 2017,
    arXiv 1708.06519); for other layers it is the L1 norm of the filter. The scores are relative so that
    layers that share channels count equally.
    """
    return {
        name: _relative(_by_channel(layer, weight.detach().double().abs()))
        for name, layer in model.named_modules()
        if (weight := _weight(layer)) is not None
    }


class TaylorImportance:
    """Taylor importance: the first-order change of the loss if a channel were zero, measured in training.

    (Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019, arXiv 1906.10771,
    equation 8, summed up as absolute values.) For a normalisation it is
    ``|scale * its gradient + bias * its gradient|``. For a layer without a normalisation behind it, it is
    ``|sum of weight * gradient|`` over the filter and its bias; with a normalisation behind it that sum is
    always about zero, so such layers are ranked by their normalisation.

    Call :meth:`accumulate` after each backward pass, before the gradients are clipped or cleared. Make a new
    object after slimming.
    """

    def __init__(self, model: nn.Module) -> None:
        """Prepare to accumulate over the layers of a model."""
        self._layers = {name: layer for name, layer in model.named_modules() if _weight(layer) is not None}
        self._sums: dict[str, Tensor] = {}
        self.batches = 0

    def accumulate(self) -> None:
        """Add the importance by the gradients of one batch; layers without gradients are left out."""
        for name, layer in self._layers.items():
            weight = _weight(layer)
            if weight is None or weight.grad is None:
                continue
            change = _by_channel(layer, weight.detach().float() * weight.grad.float())
            bias = layer.bias
            if isinstance(bias, Tensor) and bias.grad is not None:
                change = change + bias.detach().float() * bias.grad.float()
            known = self._sums.get(name)
            self._sums[name] = change.abs() if known is None else known + change.abs()
        self.batches += 1

    def scores(self) -> dict[str, Tensor]:
        """Return the mean importance over the batches so far.

        Raises:
            ValueError: No batch was accumulated yet.
        """
        if not self.batches:
            raise ValueError("no gradients were accumulated yet: call accumulate() after a backward pass")
        return {name: total.double() / self.batches for name, total in self._sums.items()}


def combined_scores(*scores: Scores) -> dict[str, Tensor]:
    """Average several scores, after each is divided by the mean of its layer."""
    names = dict.fromkeys(name for one in scores for name in one)
    return {
        name: torch.stack([_relative(one[name].double().cpu()) for one in scores if name in one]).mean(dim=0)
        for name in names
    }


def scores_by(
    kind: Importance, model: nn.Module, taylor: TaylorImportance | None = None
) -> dict[str, Tensor]:
    """Compute the scores with a given name.

    Args:
        kind: Name: "bn_scale" for :func:`scale_scores`, "taylor" for the accumulated Taylor importance,
            "combined" for the mean of both.
        model: Model to score.
        taylor: Accumulated importance, needed for the last two.

    Raises:
        ValueError: Nothing was accumulated, or the name is unknown.
    """
    if kind == "bn_scale":
        return scale_scores(model)
    if kind not in ("taylor", "combined"):
        raise ValueError(f"importance is {kind!r}; it must be 'bn_scale', 'taylor' or 'combined'")
    if taylor is None:
        raise ValueError(f"importance {kind!r} needs the gradients of some training steps")
    return taylor.scores() if kind == "taylor" else combined_scores(scale_scores(model), taylor.scores())


def branch_scores(model: nn.Module, taylor: TaylorImportance | None = None) -> dict[str, float]:
    """Score each removable multi-scale branch by the mean score of its normalised channels.

    The scores are relative to the mean over these branches. They use the size of the scales, or the Taylor
    importance if given; a branch without normalisation, or without gradients, is left out.
    """
    branches = branches_of(model)
    known = taylor.scores() if taylor is not None else {}
    found = {}
    for branch in removable_branches(model):
        values = [
            known.get(name) if taylor is not None else layer.weight.detach().abs().double()
            for name, layer in model.named_modules()
            if isinstance(layer, _NormBase)
            and layer.weight is not None
            and branch_of(name, {branch: branches[branch]})
        ]
        scores = [value.cpu() for value in values if value is not None]
        if scores:
            found[branch] = float(torch.cat(scores).mean())
    mean = sum(found.values()) / max(1, len(found))
    return {branch: score / max(mean, 1e-12) for branch, score in found.items()}


def _relative(sizes: Tensor) -> Tensor:
    return sizes / sizes.mean().clamp_min(1e-12)


def _by_channel(layer: nn.Module, values: Tensor) -> Tensor:
    """Sum values in the shape of a layer's weight over all but its output channels."""
    if isinstance(layer, _ConvNd) and layer.transposed:  # (in, out / groups, *kernel)
        by_group = values.reshape(layer.groups, -1, values.shape[1], values[0, 0].numel())
        return by_group.sum(dim=(1, 3)).flatten()
    return values.flatten(start_dim=1).sum(dim=1) if values.dim() > 1 else values


def _weight(layer: nn.Module) -> Tensor | None:
    if not has_channels(layer) or not isinstance(layer, (_ConvNd, nn.Linear, _NormBase)):
        return None
    found: Tensor | None = layer.weight
    return found
