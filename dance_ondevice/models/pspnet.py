"""PSPNet (Zhao et al.: "Pyramid Scene Parsing Network", CVPR 2017, arXiv 1612.01105) on ResNet-18 (He et al.,
CVPR 2016, arXiv 1512.03385).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from dance_ondevice.models.layers import (
    BasicBlock,
    ConvBNReLU,
    PyramidBranches,
    PyramidPooling,
    SegmentationHead,
)


class DilatedResNet(nn.Module):
    """ResNet of basic blocks without its classifier, at output stride 8.

    The last two strides of 2 are left out, and those stages are dilated by 2 and by 4 instead (section 3.2).
    """

    #: For each stage: stride of the first block, dilation of all blocks.
    STAGES: ClassVar = ((1, 1), (2, 1), (1, 2), (1, 4))

    def __init__(self, widths: Sequence[int], repeats: Sequence[int]) -> None:
        super().__init__()
        width = widths[0]
        self.stem = ConvBNReLU(3, width, 7, stride=2)
        stages = []
        for out, count, (stride, dilation) in zip(widths, repeats, self.STAGES, strict=True):
            blocks = []
            for index in range(count):
                blocks.append(BasicBlock(width, out, stride=stride if index == 0 else 1, dilation=dilation))
                width = out
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map an image (N, 3, H, W) to the features of the last two stages, both at 1/8."""
        x = F.max_pool2d(self.stem(x), 3, stride=2, padding=1)
        before = x
        for stage in self.stages:
            before, x = x, stage(x)
        return before, x


class PSPNet(PyramidBranches, nn.Module):
    """PSPNet with a dilated ResNet-18 as its encoder, at output stride 8.

    Args:
        num_classes: Number of classes, the channels of the output.
        widths: Widths of the encoder's four stages.
        repeats: Number of blocks in each stage.
        pyramid_bins: Grids of the pyramid pooling; its branches are the multi-scale groups.
        dropout: Dropout before the last layer, in training only.
        auxiliary: True adds the paper's auxiliary head behind the third stage (section 3.3). It runs in
            training mode only; checkpoints hold it.

    Raises:
        ValueError: There are not four widths or repeats, or a number is below 1.
    """

    #: Names of the modules that inference never runs; its parameters and MACs are counted without them.
    training_only: ClassVar[tuple[str, ...]] = ("auxiliary",)

    def __init__(
        self,
        num_classes: int,
        *,
        widths: Sequence[int] = (64, 128, 256, 512),
        repeats: Sequence[int] = (2, 2, 2, 2),
        pyramid_bins: Sequence[int] = (1, 2, 3, 6),
        dropout: float = 0.1,
        auxiliary: bool = True,
    ) -> None:
        super().__init__()
        for name, values in (("widths", widths), ("repeats", repeats)):
            if len(values) != len(DilatedResNet.STAGES):
                raise ValueError(f"{name} takes four numbers, found {list(values)}")
        if min(num_classes, *widths, *repeats, *pyramid_bins) < 1:
            raise ValueError("class count, widths, repeats and pyramid bins must all be at least 1")
        third, last = widths[2:]
        self.encoder = DilatedResNet(widths, repeats)
        self.pyramid = PyramidPooling(last, max(1, last // 4), bins=pyramid_bins, kernel_size=3)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Conv2d(max(1, last // 4), num_classes, 1))
        heads = [SegmentationHead(third, max(1, third // 4), num_classes, dropout=dropout)]
        self.auxiliary = nn.ModuleList(heads if auxiliary else [])

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Classify every pixel of (N, 3, H, W), H and W of any size.

        Returns:
            Logits (N, C, h, w) at the resolution of the last layer. In training mode with the auxiliary head:
            a tuple of those logits and of the head's.
        """
        third, last = self.encoder(x)
        logits: Tensor = self.classifier(self.pyramid(last))
        if self.training and len(self.auxiliary) > 0:
            return (logits, *(head(third) for head in self.auxiliary))
        return logits
