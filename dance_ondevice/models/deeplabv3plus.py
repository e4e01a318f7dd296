"""DeepLabv3+ (Chen et al.: "Encoder-Decoder with Atrous Separable Convolution for Semantic Image
Segmentation", ECCV 2018, arXiv 1802.02611) on MobileNetV2 (Sandler et al., CVPR 2018, arXiv 1801.04381).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dance_ondevice.models.channels import drop_inputs
from dance_ondevice.models.layers import ConvBNReLU, InvertedResidual, Removed, resize


def conv3x3(in_channels: int, out_channels: int, *, dilation: int = 1, separable: bool = True) -> nn.Module:
    """Build a 3 x 3 convolution, separable as in section 3.1 of the paper or not: both are in its tables.

    If separable, each of its two convolutions has its own normalisation and ReLU.
    """
    if not separable:
        return ConvBNReLU(in_channels, out_channels, 3, dilation=dilation)
    return nn.Sequential(
        ConvBNReLU(in_channels, in_channels, 3, dilation=dilation, groups=in_channels),
        ConvBNReLU(in_channels, out_channels, 1),
    )


class MobileNetV2(nn.Module):
    """MobileNetV2 without its classifier, at output stride 16 (its table 2; DeepLab's section 3.1).

    The last stride of 2 is left out, and the blocks behind it are dilated by 2 instead. ReLU replaces the
    paper's ReLU6, which matters in low-precision arithmetic only.
    """

    #: For each stage: expansion inside a block, stride of the first block, dilation of the first and of
    #: others.
    STAGES: ClassVar = (
        (1, 1, 1, 1),
        (6, 2, 1, 1),
        (6, 2, 1, 1),
        (6, 2, 1, 1),
        (6, 1, 1, 1),
        (6, 1, 1, 2),
        (6, 1, 2, 2),
    )

    def __init__(self, stem: int, widths: Sequence[int], repeats: Sequence[int]) -> None:
        super().__init__()
        self.stem = ConvBNReLU(3, stem, 3, stride=2)
        stages = []
        width = stem
        for out, count, (expansion, stride, first, others) in zip(widths, repeats, self.STAGES, strict=True):
            blocks = []
            for index in range(count):
                blocks.append(
                    InvertedResidual(
                        width,
                        out,
                        stride=stride if index == 0 else 1,
                        expansion=expansion,
                        dilation=first if index == 0 else others,
                    )
                )
                width = out
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map an image (N, 3, H, W) to features at 1/4, with the width of stage 2, and at 1/16."""
        x = self.stem(x)
        early = x
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index == 1:
                early = x
        return early, x


class ImagePooling(nn.Module):
    """Image pooling: the mean over the whole image, filtered and copied to every position again."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.project = ConvBNReLU(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in, H, W) to (N, out, H, W), with the same values at every position."""
        return resize(self.project(F.adaptive_avg_pool2d(x, 1)), x.shape[2:])


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: a 1 x 1, a dilated 3 x 3 for each rate, and image pooling in parallel.

    It maps (N, in, H, W) to (N, out, H, W).
    """

    def __init__(self, in_channels: int, out_channels: int, rates: Sequence[int], *, separable: bool) -> None:
        super().__init__()
        self.rates = tuple(rates)
        self.pointwise = ConvBNReLU(in_channels, out_channels, 1)
        self.branches = nn.ModuleList(
            conv3x3(in_channels, out_channels, dilation=rate, separable=separable) for rate in rates
        )
        self.pooling: nn.Module = ImagePooling(in_channels, out_channels)
        self.project = ConvBNReLU((2 + len(self.rates)) * out_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in, H, W) to (N, out, H, W)."""
        branches = [b for b in (*self.branches, self.pooling) if not isinstance(b, Removed)]
        out: Tensor = self.project(torch.cat([self.pointwise(x), *(b(x) for b in branches)], dim=1))
        return out

    def names(self) -> dict[str, str]:
        """Map the names of the present branches of larger context to their submodules."""
        every = {f"dilation {rate}": f"branches.{index}" for index, rate in enumerate(self.rates)}
        every["image pooling"] = "pooling"
        return {
            n: module for n, module in every.items() if not isinstance(self.get_submodule(module), Removed)
        }

    def remove(self, name: str) -> None:
        """Remove such a branch, and the channels that the last convolution read from it."""
        order = [self.get_submodule(module) for module in self.names().values()]
        index = list(self.names()).index(name)
        widths = [self._width(branch) for branch in order]
        start = self.project.conv.in_channels - sum(widths[index:])
        drop_inputs(self.project.conv, start, widths[index])
        if name == "image pooling":
            self.pooling = Removed()
        else:
            self.branches[[*self.branches].index(order[index])] = Removed()

    @staticmethod
    def _width(branch: nn.Module) -> int:
        return [m for m in branch.modules() if isinstance(m, nn.Conv2d)][-1].out_channels


class Decoder(nn.Module):
    """Decoder that joins the pyramid's features with those at 1/4 and refines them (figure 2).

    A separable convolution filters each channel by itself first, which can also happen before the two are
    joined. It is done so here, so that slimming can remove channels from either independently.
    """

    def __init__(self, deep: int, early: int, widths: Sequence[int], *, separable: bool) -> None:
        super().__init__()
        self.filter_deep = ConvBNReLU(deep, deep, 3, groups=deep) if separable else nn.Identity()
        self.filter_early = ConvBNReLU(early, early, 3, groups=early) if separable else nn.Identity()
        layers: list[nn.Module] = [ConvBNReLU(deep + early, widths[0], 1 if separable else 3)]
        for before, after in itertools.pairwise(widths):
            layers.append(conv3x3(before, after, separable=separable))
        self.refine = nn.Sequential(*layers)

    def forward(self, deep: Tensor, early: Tensor) -> Tensor:
        """Map (N, deep, h, w) and (N, early, H, W) to (N, widths[-1], H, W)."""
        deep = self.filter_deep(resize(deep, early.shape[2:]))
        out: Tensor = self.refine(torch.cat([deep, self.filter_early(early)], dim=1))
        return out


class DeepLabV3Plus(nn.Module):
    """DeepLabv3+ with MobileNetV2 as its encoder, at output stride 16.

    Args:
        num_classes: Number of classes, the channels of the output.
        stem: Width of the first convolution.
        widths: Widths of the encoder's seven stages; the decoder also reads the second, at 1/4.
        repeats: Number of blocks in each stage.
        rates: Dilations of the pyramid's 3 x 3 branches; with image pooling they are the multi-scale groups.
        pyramid: Width of each branch and of the pyramid's output.
        low_level: Width that the decoder reduces the features at 1/4 to (48 by the paper's table 1).
        decoder: Widths of the decoder's 3 x 3 convolutions (two of 256 by its table 2).
        separable: True makes the 3 x 3 convolutions of pyramid and decoder separable, which costs far less
            and is as accurate (section 4.3 of the paper).
        dropout: Dropout after the pyramid, in training only.

    Raises:
        ValueError: There are not seven widths or repeats, there is no decoder, or a number is below 1.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        stem: int = 32,
        widths: Sequence[int] = (16, 24, 32, 64, 96, 160, 320),
        repeats: Sequence[int] = (1, 2, 3, 4, 3, 3, 1),
        rates: Sequence[int] = (6, 12, 18),
        pyramid: int = 256,
        low_level: int = 48,
        decoder: Sequence[int] = (256, 256),
        separable: bool = True,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        for name, values in (("widths", widths), ("repeats", repeats)):
            if len(values) != len(MobileNetV2.STAGES):
                raise ValueError(f"{name} takes seven numbers, found {list(values)}")
        if not decoder:
            raise ValueError("decoder takes at least one number, found none")
        if min(num_classes, stem, pyramid, low_level, *widths, *repeats, *rates, *decoder) < 1:
            raise ValueError("class count, widths, repeats and rates must all be at least 1")
        self.encoder = MobileNetV2(stem, widths, repeats)
        self.aspp = ASPP(widths[-1], pyramid, rates, separable=separable)
        self.dropout = nn.Dropout(dropout)
        self.low_level = ConvBNReLU(widths[1], low_level, 1)
        self.decoder = Decoder(pyramid, low_level, decoder, separable=separable)
        self.classifier = nn.Conv2d(decoder[-1], num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Classify every pixel of (N, 3, H, W), H and W of any size: logits at a quarter of their size."""
        early, deep = self.encoder(x)
        deep = self.dropout(self.aspp(deep))
        out: Tensor = self.classifier(self.decoder(deep, self.low_level(early)))
        return out

    def multi_scale_groups(self) -> dict[str, tuple[str, ...]]:
        """Map each of the pyramid's branches of larger context to the names of its modules.

        Slimming may treat these groups unevenly: the smaller the input, the less a wide dilation is worth,
        since beyond the image's edge it covers padding only.
        """
        return {name: (f"aspp.{module}",) for name, module in self.aspp.names().items()}

    def branch_contexts(self) -> dict[str, float]:
        """Map each group to the side of its receptive field, in positions at output stride 16.

        A 3 x 3 of dilation d covers 2 d + 1; image pooling covers all, which at 1024 pixels is 64.
        """
        every = {f"dilation {rate}": 2.0 * rate + 1 for rate in self.aspp.rates}
        every["image pooling"] = max(64.0, *every.values())
        return {name: every[name] for name in self.aspp.names()}

    def removable_branches(self) -> tuple[str, ...]:
        """List the groups that can be removed whole: all, since the 1 x 1 convolution always stays."""
        return tuple(self.aspp.names())

    def remove_branch(self, name: str) -> None:
        """Remove one of these groups; see :func:`dance_ondevice.models.branches.remove_branches`."""
        self.aspp.remove(name)
