"""ESPNetv2's units: spatial pyramids of dilated depthwise convolutions (arXiv 1811.11431, section 3).

The modules have the names that the published weights use, so that these load as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dance_ondevice.models.layers import BatchNorm2d, Removed

#: Number of branches of a unit, and of groups of its 1 x 1 convolutions.
BRANCHES = 4


class ConvNormAct(nn.Module):
    """Convolution without bias, batch normalisation, and PReLU unless ``activation`` is off.

    It maps (N, in, H, W) to (N, out, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        groups: int = 1,
        activation: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2,
            groups=groups,
            bias=False,
        )
        self.bn = BatchNorm2d(out_channels)
        self.act = nn.PReLU(out_channels) if activation else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in, H, W) to (N, out, H', W')."""
        out: Tensor = self.act(self.bn(self.conv(x)))
        return out


class NormAct(nn.Module):
    """Batch normalisation and PReLU: (N, C, H, W) to (N, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = BatchNorm2d(channels)
        self.act = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H, W)."""
        out: Tensor = self.act(self.bn(x))
        return out


class DilatedDepthwise(nn.Module):
    """Depthwise 3 x 3 convolution with a dilation: (N, C, H, W) to (N, C, ceil(H / stride), ...)."""

    def __init__(self, channels: int, *, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            channels,
            channels,
            3,
            stride=stride,
            padding=dilation,
            dilation=dilation,
            groups=channels,
            bias=False,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H', W')."""
        out: Tensor = self.conv(x)
        return out


class Unread(nn.PReLU):
    """Holds a tensor that the published weights have and nothing reads; a buffer, since nothing trains it."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        values = self.weight.detach()
        del self.weight
        self.register_buffer("weight", values)


class EESP(nn.Module):
    """Extremely efficient spatial pyramid of depthwise dilated convolutions (figure 1c).

    A grouped 1 x 1 convolution reduces, a depthwise 3 x 3 filters for each dilation, each branch is added to
    the one after it (hierarchical feature fusion), and a grouped 1 x 1 convolution expands each branch by
    itself. With stride 1 the input is added. (N, in, H, W) to (N, out, H / stride, W / stride).

    A branch whose dilation was removed repeats the sum of those before it, so that no channel moves.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, dilations: Sequence[int], stride: int = 1
    ) -> None:
        super().__init__()
        width = out_channels // len(dilations)
        self.dilations = tuple(dilations)
        self.strided = stride > 1
        self.proj_1x1 = ConvNormAct(in_channels, width, 1, groups=len(dilations))
        self.spp_dw = nn.ModuleList(DilatedDepthwise(width, stride=stride, dilation=d) for d in dilations)
        self.br_after_cat = NormAct(width * len(dilations))
        self.conv_1x1_exp = ConvNormAct(
            width * len(dilations), out_channels, 1, groups=len(dilations), activation=False
        )
        # A unit with a stride is activated by what holds it, after the concatenation.
        self.module_act = Unread(out_channels) if self.strided else nn.PReLU(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in, H, W) to (N, out, H', W')."""
        reduced = self.proj_1x1(x)
        sums = [self.spp_dw[0](reduced)]
        for branch in self.spp_dw[1:]:
            sums.append(sums[-1] if isinstance(branch, Removed) else branch(reduced) + sums[-1])
        expanded: Tensor = self.conv_1x1_exp(self.br_after_cat(torch.cat(sums, dim=1)))
        if self.strided:
            return expanded
        if expanded.shape == x.shape:
            expanded = expanded + x
        out: Tensor = self.module_act(expanded)
        return out


class StridedEESP(nn.Module):
    """Unit that halves the resolution and widens (figure 2): average pooling beside an EESP unit.

    The image, brought to the same resolution by repeated average pooling, is added through two convolutions.
    It maps (N, in, H, W) and the image (N, 3, ...) to (N, out, H / 2, W / 2); ``out`` includes the pooled
    input's channels, which come first.
    """

    def __init__(self, in_channels: int, out_channels: int, *, dilations: Sequence[int]) -> None:
        super().__init__()
        self.eesp = EESP(in_channels, out_channels - in_channels, dilations=dilations, stride=2)
        self.inp_reinf = nn.Sequential(
            ConvNormAct(3, 3, 3), ConvNormAct(3, out_channels, 1, activation=False)
        )
        self.act = nn.PReLU(out_channels)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        """Map (N, in, H, W) and an image of at least that size to (N, out, H / 2, W / 2)."""
        pooled = halve(x)
        found = torch.cat([pooled, self.eesp(x)], dim=1)
        while image.shape[2] > pooled.shape[2]:
            image = halve(image)
        out: Tensor = self.act(found + self.inp_reinf(image))
        return out


def halve(x: Tensor) -> Tensor:
    """Average (N, C, H, W) over 3 x 3 windows, two apart: (N, C, ceil(H / 2), ceil(W / 2))."""
    return F.avg_pool2d(x, 3, stride=2, padding=1)
