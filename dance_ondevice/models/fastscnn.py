"""Fast-SCNN (Poudel, Liwicki, Cipolla: "Fast Semantic Segmentation Network", BMVC 2019, arXiv 1902.04502)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from dance_ondevice.models.layers import (
    ConvBNReLU,
    DSConv,
    InvertedResidual,
    PyramidBranches,
    PyramidPooling,
    resize,
)


class FeatureFusion(nn.Module):
    """Feature fusion: adds the deep features (1/32) to the shallow ones (1/8), table 3 of the paper.

    The deep ones are upsampled, then filtered by a dilated 3 x 3 per channel.
    """

    def __init__(
        self, shallow_channels: int, deep_channels: int, out_channels: int, *, dilation: int = 4
    ) -> None:
        super().__init__()
        self.depthwise = ConvBNReLU(deep_channels, deep_channels, 3, dilation=dilation, groups=deep_channels)
        self.deep = ConvBNReLU(deep_channels, out_channels, 1, activation=False)
        self.shallow = ConvBNReLU(shallow_channels, out_channels, 1, activation=False)

    def forward(self, shallow: Tensor, deep: Tensor) -> Tensor:
        """Fuse (N, a, H, W) and (N, b, h, w) to (N, out, H, W)."""
        deep = self.deep(self.depthwise(resize(deep, shallow.shape[2:])))
        return F.relu(self.shallow(shallow) + deep, inplace=True)


class AuxiliaryHead(nn.Sequential):
    """A small classifier on inner features, for the loss of a training step only."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__(DSConv(in_channels, in_channels), nn.Conv2d(in_channels, num_classes, 1))


class FastSCNN(PyramidBranches, nn.Module):
    """Fast-SCNN with the paper's widths by default: 1.1 million parameters.

    Args:
        num_classes: Number of classes, the channels of the output.
        downsample: Widths of the three stride-2 layers of learning to downsample (to 1/8).
        bottlenecks: Widths of the three bottleneck stages; the first two have stride 2 (to 1/32).
        repeats: Number of blocks in each bottleneck stage.
        expansion: Factor t on the width inside a bottleneck.
        pyramid_bins: Grids of the pyramid pooling; its branches are the multi-scale groups.
        fusion: Width of the pyramid's output, of the feature fusion and of the classifier.
        dropout: Dropout before the last layer, in training only.
        auxiliary: True adds the paper's two auxiliary heads (section 4.1), after learning to downsample and
            after the global features. They run in training mode only; checkpoints hold them.

    Raises:
        ValueError: There are not three widths or repeats, or a number is below 1.
    """

    #: Names of the modules that inference never runs; its parameters and MACs are counted without them.
    training_only: ClassVar[tuple[str, ...]] = ("auxiliary",)

    def __init__(
        self,
        num_classes: int,
        *,
        downsample: Sequence[int] = (32, 48, 64),
        bottlenecks: Sequence[int] = (64, 96, 128),
        repeats: Sequence[int] = (3, 3, 3),
        expansion: int = 6,
        pyramid_bins: Sequence[int] = (1, 2, 3, 6),
        fusion: int = 128,
        dropout: float = 0.1,
        auxiliary: bool = False,
    ) -> None:
        super().__init__()
        for name, values in (("downsample", downsample), ("bottlenecks", bottlenecks), ("repeats", repeats)):
            if len(values) != 3:
                raise ValueError(f"{name} takes three numbers, found {list(values)}")
        if min(num_classes, expansion, fusion, *downsample, *bottlenecks, *repeats, *pyramid_bins) < 1:
            raise ValueError(
                "class count, widths, repeats, expansion and pyramid bins must all be at least 1"
            )
        first, second, shallow = downsample
        self.downsample = nn.Sequential(
            ConvBNReLU(3, first, 3, stride=2),
            DSConv(first, second, stride=2),
            DSConv(second, shallow, stride=2),
        )
        blocks: list[nn.Module] = []
        width = shallow
        for out, count, stride in zip(bottlenecks, repeats, (2, 2, 1), strict=True):
            for index in range(count):
                blocks.append(
                    InvertedResidual(width, out, stride=stride if index == 0 else 1, expansion=expansion)
                )
                width = out
        self.bottlenecks = nn.Sequential(*blocks)
        self.pyramid = PyramidPooling(width, fusion, bins=pyramid_bins)
        self.fusion = FeatureFusion(shallow, fusion, fusion)
        self.classifier = nn.Sequential(
            DSConv(fusion, fusion),
            DSConv(fusion, fusion),
            nn.Dropout(dropout),
            nn.Conv2d(fusion, num_classes, 1),
        )
        heads = [AuxiliaryHead(shallow, num_classes), AuxiliaryHead(fusion, num_classes)] if auxiliary else []
        self.auxiliary = nn.ModuleList(heads)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Classify every pixel of (N, 3, H, W), H and W of any size.

        Returns:
            Logits (N, C, h, w) at the resolution of the last layer. In training mode with auxiliary heads: a
            tuple of those logits and of the logits of each head, each at its own resolution.
        """
        shallow = self.downsample(x)
        deep = self.pyramid(self.bottlenecks(shallow))
        logits: Tensor = self.classifier(self.fusion(shallow, deep))
        if self.training and len(self.auxiliary) > 0:
            heads = zip(self.auxiliary, (shallow, deep), strict=True)
            return (logits, *(head(features) for head, features in heads))
        return logits
