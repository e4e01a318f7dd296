"""How much each channel matters: a score for every output channel of every layer.

:func:`dance_ondevice.slimming.slim.slim` takes the channels with the smallest scores out first, within each
group of channels that can only go together; a group's score is the mean of those of its layers.
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

#: Module name -> (output channels,) scores, 0 or more.
Scores = Mapping[str, Tensor]
Importance = Literal["bn_scale", "taylor", "combined"]


def scale_scores(model: nn.Module) -> dict[str, Tensor]:
    """The size of each channel's weights, relative to the mean of its layer.

    Of a normalisation that is its |scale|, by which "Network slimming" ranks (Liu et al., ICCV 2017, arXiv
    1708.06519); of other layers the L1 norm of its filter. Relative, so that no layer outweighs another that
    it shares channels with.
    """
    return {
        name: _relative(_by_channel(layer, weight.detach().double().abs()))
        for name, layer in model.named_modules()
        if (weight := _weight(layer)) is not None
    }


class TaylorImportance:
    """What the loss would change by if a channel were zero, to first order, as training shows it.

    (Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019, arXiv 1906.10771,
    equation 8, summed up as absolute values.) At a normalisation that is |scale * its gradient + bias * its
    gradient|. Of a layer without one behind it |sum of weight * gradient| over the filter and its bias; with
    one behind it that sum is always about zero, and such layers are ranked by their normalisation.

    Call :meth:`accumulate` after each backward pass, before the gradients are clipped or cleared. Make a new
    one after slimming.
    """

    def __init__(self, model: nn.Module) -> None:
        """Watch this model's layers."""
        self._layers = {name: layer for name, layer in model.named_modules() if _weight(layer) is not None}
        self._sums: dict[str, Tensor] = {}
        self.batches = 0

    def accumulate(self) -> None:
        """Add what the gradients of one batch say; layers without gradients are left out."""
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
        """The mean over the batches so far.

        Raises:
            ValueError: there was no batch yet.
        """
        if not self.batches:
            raise ValueError("no gradients were accumulated yet: call accumulate() after a backward pass")
        return {name: total.double() / self.batches for name, total in self._sums.items()}


def combined_scores(*scores: Scores) -> dict[str, Tensor]:
    """The mean of several scores, each relative to the mean of its layer first."""
    names = dict.fromkeys(name for one in scores for name in one)
    return {
        name: torch.stack([_relative(one[name].double().cpu()) for one in scores if name in one]).mean(dim=0)
        for name in names
    }


def scores_by(
    kind: Importance, model: nn.Module, taylor: TaylorImportance | None = None
) -> dict[str, Tensor]:
    """The scores that go by a name.

    Args:
        kind: "bn_scale" for :func:`scale_scores`, "taylor" for what was accumulated, "combined" for the mean
            of both.
        model: to be scored.
        taylor: needed for the last two.

    Raises:
        ValueError: nothing was accumulated, or another name.
    """
    if kind == "bn_scale":
        return scale_scores(model)
    if kind not in ("taylor", "combined"):
        raise ValueError(f"importance is {kind!r}; it must be 'bn_scale', 'taylor' or 'combined'")
    if taylor is None:
        raise ValueError(f"importance {kind!r} needs the gradients of some training steps")
    return taylor.scores() if kind == "taylor" else combined_scores(scale_scores(model), taylor.scores())


def branch_scores(model: nn.Module, taylor: TaylorImportance | None = None) -> dict[str, float]:
    """How much each removable multi-scale branch matters: the mean score of its normalised channels.

    Relative to the mean over these branches. By the size of the scales, or by what was accumulated; a branch
    without normalisation, or one that none of the gradients reached, is left out.
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
