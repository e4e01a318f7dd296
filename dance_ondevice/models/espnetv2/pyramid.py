"""ESPNetv2's decoder: pyramid pooling with a channel shuffle, and the gated skip connections.

The published decoder is the one described by its authors as efficient pyramid pooling (DiCENet, arXiv
1906.03516, section 5): features are filtered at several scales at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dance_ondevice.models.channels import keep_channels, layer_channels
from dance_ondevice.models.layers import BatchNorm2d, Removed

#: Scales that the head filters at, relative to its input.
SCALES = (2.0, 1.5, 1.0, 0.5, 0.1)
#: The same as ratios of whole numbers.
_RATIOS = {2.0: (2, 1), 1.5: (3, 2), 1.0: (1, 1), 0.5: (1, 2), 0.1: (1, 10)}
#: Least side of the features that a branch filters where it reduces them.
_LEAST_SIDE = 5


class ConvNormAct(nn.Module):
    """Convolution without bias, batch normalisation and PReLU, under the names of the published weights."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, groups: int = 1) -> None:
        super().__init__()
        self.cbr = nn.Sequential(
            nn.Conv2d(
                in_channels, out_channels, kernel_size, padding=kernel_size // 2, groups=groups, bias=False
            ),
            BatchNorm2d(out_channels),
            nn.PReLU(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in, H, W) to (N, out, H, W)."""
        out: Tensor = self.cbr(x)
        return out


class NormAct(nn.Module):
    """Batch normalisation and PReLU, under the names of the published weights."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.br = nn.Sequential(BatchNorm2d(channels), nn.PReLU(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H, W)."""
        out: Tensor = self.br(x)
        return out


class PyramidHead(nn.Module):
    """Filters features at several scales and merges channel j of all scales into channel j.

    A 1 x 1 convolution reduces to ``width`` channels, a depthwise 3 x 3 filters them at each scale, a shuffle
    puts channel j of all scales next to each other, and a grouped 3 x 3 merges each such block into one
    channel. It maps (N, in, H, W) to (N, out, H, W).
    """

    def __init__(self, in_channels: int, out_channels: int, *, width: int, last: bool) -> None:
        super().__init__()
        self.scales = SCALES
        self.projection_layer = ConvNormAct(in_channels, width, 1)
        self.stages = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False) for _ in SCALES
        )
        joined = width * len(SCALES)
        self.merge_layer = nn.Sequential(
            NormAct(joined),
            nn.ChannelShuffle(len(SCALES)),
            ConvNormAct(joined, width, 3, groups=width),
            nn.Conv2d(width, out_channels, 1, bias=last),
        )
        self.br = nn.Identity() if last else NormAct(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in, H, W) to (N, out, H, W)."""
        x = self.projection_layer(x)
        levels = [
            _filtered(x, stage, scale)
            for scale, stage in zip(self.scales, self.stages, strict=True)
            if not isinstance(stage, Removed)
        ]
        out: Tensor = self.br(self.merge_layer(torch.cat(levels, dim=1)))
        return out

    def present(self) -> dict[float, int]:
        """Map the scales that are filtered at to the index of their stage."""
        return {
            scale: index
            for index, (scale, stage) in enumerate(zip(self.scales, self.stages, strict=True))
            if not isinstance(stage, Removed)
        }

    def remove(self, scale: float) -> None:
        """Stop filtering at a scale, and take what was read from there out of every merged block."""
        place, count = list(self.present()).index(scale), len(self.present())
        norm, shuffle, merge = self.merge_layer[0], self.merge_layer[1], self.merge_layer[2]
        assert isinstance(norm, NormAct)
        assert isinstance(shuffle, nn.ChannelShuffle)
        assert isinstance(merge, ConvNormAct)
        width = layer_channels(norm.br[0])[0] // count
        stay = [c for c in range(width * count) if c // width != place]
        for layer in norm.br:
            keep_channels(layer, None, stay)
        keep_channels(merge.cbr[0], [c for c in range(width * count) if c % count != place], None)
        shuffle.groups = count - 1
        self.stages[self.present()[scale]] = Removed()


class GatedSkip(nn.Module):
    """Brings the encoder's features to the decoder's width, each channel gated by the image's mean.

    It maps (N, in, H, W) to (N, out, H, W).
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.wt_layer = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.Sigmoid()
        )
        groups = math.gcd(in_channels, out_channels)
        self.expansion_layer = ConvNormAct(in_channels, out_channels, 3, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in, H, W) to (N, out, H, W)."""
        out: Tensor = self.expansion_layer(x) * self.wt_layer(x)
        return out


def enlarge(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resample (N, C, h, w) bilinearly to ``(N, C, *size)``, corners on corners as in training."""
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=True)


def _filtered(x: Tensor, stage: nn.Module, scale: float) -> Tensor:
    """Filter (N, C, H, W) at a scale; the result has the size of the input again."""
    size = (x.shape[2], x.shape[3])
    if scale == 1:
        same: Tensor = stage(x)
        return same
    inner = (_scaled(size[0], scale), _scaled(size[1], scale))
    if scale < 1:
        return enlarge(stage(F.adaptive_avg_pool2d(x, inner)), size)
    filtered = stage(enlarge(x, inner))
    # The same as the adaptive pooling below, which graphs for any size compute as two products of matrices.
    return F.avg_pool2d(filtered, 2) if scale == 2 else F.adaptive_avg_pool2d(filtered, size)


def _scaled(side: int | Tensor, scale: float) -> Any:
    """Return a side times a scale, rounded up; while a graph is traced for any size, sides are tensors."""
    above, below = _RATIOS[scale]
    found = (side * above + below - 1) // below
    if scale > 1:
        return found
    return found.clamp(min=_LEAST_SIDE) if isinstance(found, Tensor) else max(found, _LEAST_SIDE)
