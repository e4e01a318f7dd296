"""Folding: a faster copy of a model, with batch norms merged into the convolutions before them.

In inference a batch norm scales and shifts each channel, which the convolution's weight and bias can do as
well; merged, one pass over each feature map is saved. Only ``ConvBNReLU`` is merged, since nothing else reads
its convolution's output.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import nn

from dance_ondevice.models.layers import ConvBNReLU

__all__ = ["Folded"]


@dataclass(frozen=True)
class _Pair:
    source: ConvBNReLU
    target: nn.Conv2d


class Folded:
    """A model and its merged copy; :meth:`refresh` brings the model's weights and statistics to the copy."""

    def __init__(self, model: nn.Module, *, merge: bool = True) -> None:
        """Make the merged copy.

        Args:
            model: Model in eval mode; it stays unchanged.
            merge: True merges; False uses the model itself.
        """
        self._pairs: list[_Pair] = []
        self._kept: list[tuple[torch.Tensor, torch.Tensor]] = []
        #: Module to run instead of the model; the model itself if nothing was merged.
        self.model = model
        blocks = [block for block in model.modules() if type(block) is ConvBNReLU]
        if not blocks or not merge:
            return
        merged = copy.deepcopy(model)
        for source, target in zip(
            blocks, [block for block in merged.modules() if type(block) is ConvBNReLU], strict=True
        ):
            target.conv.bias = nn.Parameter(torch.empty_like(source.norm.bias))
            target.add_module("norm", nn.Identity())
            self._pairs.append(_Pair(source, target.conv))
        # Layers that were not merged stay, and must follow their originals, too.
        sources = model.state_dict(keep_vars=True)
        made = {id(tensor) for pair in self._pairs for tensor in pair.target.parameters()}
        self._kept = [
            (sources[name], tensor)
            for name, tensor in merged.state_dict(keep_vars=True).items()
            if id(tensor) not in made
        ]
        self.model = merged.requires_grad_(False)
        self.refresh()

    def refresh(self) -> None:
        """Copy the model's present weights and statistics to the merged copy."""
        with torch.no_grad():
            for pair in self._pairs:
                conv, norm = pair.source.conv, pair.source.norm
                mean, variance = norm.running_mean, norm.running_var
                assert mean is not None
                assert variance is not None
                scale = norm.weight * (variance + norm.eps).rsqrt()
                torch.mul(conv.weight, scale.view(-1, 1, 1, 1), out=pair.target.weight)
                assert pair.target.bias is not None
                torch.addcmul(norm.bias, mean, scale, value=-1.0, out=pair.target.bias)
            for kept, copied in self._kept:
                copied.copy_(kept)
