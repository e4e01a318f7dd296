"""BiSeNetV2 (Yu et al.: "BiSeNet V2: Bilateral Network with Guided Aggregation for Real-time Semantic
Segmentation", IJCV 2021, arXiv 2004.02147).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dance_ondevice.models.layers import BatchNorm2d, ConvBNReLU, Removed, SegmentationHead, resize


def detail_branch(widths: Sequence[int]) -> nn.Sequential:
    """Build the wide and shallow branch: (N, 3, H, W) to (N, widths[2], H/8, W/8), table 1 of the paper."""
    layers = []
    width = 3
    for out, count in zip(widths, (2, 3, 3), strict=True):
        for index in range(count):
            layers.append(ConvBNReLU(width, out, 3, stride=2 if index == 0 else 1))
            width = out
    return nn.Sequential(*layers)


class Stem(nn.Module):
    """Stem that halves the image twice, the second time by two parallel paths (figure 4a)."""

    def __init__(self, out_channels: int) -> None:
        super().__init__()
        self.first = ConvBNReLU(3, out_channels, 3, stride=2)
        self.left = nn.Sequential(
            ConvBNReLU(out_channels, max(1, out_channels // 2), 1),
            ConvBNReLU(max(1, out_channels // 2), out_channels, 3, stride=2),
        )
        self.fuse = ConvBNReLU(2 * out_channels, out_channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, out, H/4, W/4)."""
        x = self.first(x)
        pooled = F.max_pool2d(x, 3, stride=2, padding=1)
        out: Tensor = self.fuse(torch.cat([self.left(x), pooled], dim=1))
        return out


class GatherExpansion(nn.Module):
    """Gather-and-expansion layer (section 4.2, figure 5).

    A 3 x 3 convolution gathers and expands, 3 x 3 convolutions filter each channel of the expansion (one, or
    two where the stride is 2), and a 1 x 1 convolution projects back. A separable convolution adjusts the
    shape of the input before it is added. (N, in, H, W) -> (N, out, H / stride, W / stride).
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1, expansion: int = 6) -> None:
        super().__init__()
        wide = in_channels * expansion
        self.gather = ConvBNReLU(in_channels, wide, 3)
        first = ConvBNReLU(wide, wide, 3, stride=stride, groups=wide, activation=stride == 1)
        second = [ConvBNReLU(wide, wide, 3, groups=wide)] if stride == 2 else []
        self.depthwise = nn.Sequential(first, *second)
        self.project = ConvBNReLU(wide, out_channels, 1, activation=False)
        self.shortcut = (
            nn.Identity()
            if stride == 1 and in_channels == out_channels
            else nn.Sequential(
                ConvBNReLU(in_channels, in_channels, 3, stride=stride, groups=in_channels, activation=False),
                ConvBNReLU(in_channels, out_channels, 1, activation=False),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in, H, W) to (N, out, H', W')."""
        return F.relu(self.project(self.depthwise(self.gather(x))) + self.shortcut(x), inplace=True)


class ContextEmbedding(nn.Module):
    """Context embedding, which adds the mean of the whole image to each position (figure 4b)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm: nn.Module = BatchNorm2d(channels)
        self.context: nn.Module = ConvBNReLU(channels, channels, 1)
        self.fuse = ConvBNReLU(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H, W)."""
        if not isinstance(self.context, Removed):
            x = x + self.context(self.norm(F.adaptive_avg_pool2d(x, 1)))
        out: Tensor = self.fuse(x)
        return out

    def remove(self) -> None:
        """Remove the mean of the image; the 3 x 3 convolution stays."""
        self.norm = self.context = Removed()


class SemanticBranch(nn.Module):
    """Narrow, deep branch down to 1/32: stem, gather-and-expansion layers, context embedding (table 1)."""

    def __init__(self, widths: Sequence[int], *, expansion: int) -> None:
        super().__init__()
        self.stem = Stem(widths[0])
        stages = []
        width = widths[0]
        for out, count in zip(widths[1:], (2, 2, 4), strict=True):
            blocks = []
            for index in range(count):
                stride = 2 if index == 0 else 1
                blocks.append(GatherExpansion(width, out, stride=stride, expansion=expansion))
                width = out
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.context = ContextEmbedding(width)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Map (N, 3, H, W) to features at 1/32, and to the intermediate ones at 1/4, 1/8, 1/16 and 1/32."""
        inner = [self.stem(x)]
        for stage in self.stages:
            inner.append(stage(inner[-1]))
        return self.context(inner[-1]), inner


class GuidedAggregation(nn.Module):
    """Bilateral guided aggregation (figure 6): each branch is gated by the other, at either's resolution.

    It maps detail (N, a, H, W) and semantics (N, b, h, w) to (N, out, H, W).
    """

    def __init__(self, detail_channels: int, semantic_channels: int, out_channels: int) -> None:
        super().__init__()
        a, b, out = detail_channels, semantic_channels, out_channels
        self.detail_fine = nn.Sequential(
            ConvBNReLU(a, a, 3, groups=a, activation=False), nn.Conv2d(a, out, 1, bias=False)
        )
        self.detail_coarse = ConvBNReLU(a, out, 3, stride=2, activation=False)
        self.semantic_fine = ConvBNReLU(b, out, 3, activation=False)
        self.semantic_coarse = nn.Sequential(
            ConvBNReLU(b, b, 3, groups=b, activation=False), nn.Conv2d(b, out, 1, bias=False)
        )
        self.fuse = ConvBNReLU(out, out, 3, activation=False)

    def forward(self, detail: Tensor, semantic: Tensor) -> Tensor:
        """Fuse (N, a, H, W) and (N, b, h, w) to (N, out, H, W)."""
        size = detail.shape[2:]
        guide = torch.sigmoid(resize(self.semantic_fine(semantic), size))
        fine = self.detail_fine(detail) * guide
        pooled = F.avg_pool2d(self.detail_coarse(detail), 3, stride=2, padding=1)
        coarse = pooled * torch.sigmoid(self.semantic_coarse(semantic))
        out: Tensor = self.fuse(fine + resize(coarse, size))
        return out


class BiSeNetV2(nn.Module):
    """BiSeNetV2 with the paper's widths by default.

    Args:
        num_classes: Number of classes, the channels of the output.
        detail: Widths of the detail branch's three stages (to 1/8).
        semantic: Widths of the semantic branch: stem (1/4), then its three stages (to 1/32).
        expansion: Factor on the width inside a gather-and-expansion layer.
        head: Width of the last 3 x 3 convolution, by which the paper trades accuracy for cost. The default is
            the multiple of 128 that comes closest to the 21.15 GFLOPs at 1024 x 512 that it reports.
        dropout: Dropout before the last layer, in training only.
        auxiliary: True adds the booster's four heads to the semantic branch (section 4.4). They run in
            training mode only; checkpoints hold them.
        auxiliary_width: Width of the 3 x 3 convolutions of those heads.

    Raises:
        ValueError: The number of widths is not that of the stages, or a number is below 1.
    """

    #: Names of the modules that inference never runs; its parameters and MACs are counted without them.
    training_only: ClassVar[tuple[str, ...]] = ("auxiliary",)

    def __init__(
        self,
        num_classes: int,
        *,
        detail: Sequence[int] = (64, 64, 128),
        semantic: Sequence[int] = (16, 32, 64, 128),
        expansion: int = 6,
        head: int = 384,
        dropout: float = 0.1,
        auxiliary: bool = True,
        auxiliary_width: int = 128,
    ) -> None:
        super().__init__()
        for name, values, count in (("detail", detail, 3), ("semantic", semantic, 4)):
            if len(values) != count:
                raise ValueError(f"{name} takes {count} numbers, found {list(values)}")
        if min(num_classes, expansion, head, auxiliary_width, *detail, *semantic) < 1:
            raise ValueError("class count, widths and expansion must all be at least 1")
        self.detail = detail_branch(detail)
        self.semantic = SemanticBranch(semantic, expansion=expansion)
        self.aggregation = GuidedAggregation(detail[-1], semantic[-1], detail[-1])
        self.head = SegmentationHead(detail[-1], head, num_classes, dropout=dropout)
        self.auxiliary = nn.ModuleList(
            SegmentationHead(width, auxiliary_width, num_classes, dropout=dropout)
            for width in (semantic if auxiliary else ())
        )

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Classify every pixel of (N, 3, H, W), H and W of any size.

        Returns:
            Logits (N, C, h, w) at the resolution of the last layer. In training mode with auxiliary heads: a
            tuple of those logits and of the logits of each head, each at its own resolution.
        """
        semantic, inner = self.semantic(x)
        logits: Tensor = self.head(self.aggregation(self.detail(x), semantic))
        if self.training and len(self.auxiliary) > 0:
            heads = zip(self.auxiliary, inner, strict=True)
            return (logits, *(head(features) for head, features in heads))
        return logits

    def multi_scale_groups(self) -> dict[str, tuple[str, ...]]:
        """Map the two branches and the context embedding (end of the second) to the names of their modules.

        Slimming may treat these groups unevenly: the smaller the input, the less context is worth, and the
        sharper the scene, the more its details are worth.
        """
        return {
            "detail branch": ("detail",),
            "semantic branch": ("semantic.stem", "semantic.stages", "semantic.context.fuse"),
            **dict.fromkeys(self.removable_branches(), ("semantic.context.norm", "semantic.context.context")),
        }

    def branch_contexts(self) -> dict[str, float]:
        """Map each group to the side of its receptive field, in pixels of the image.

        For the two branches it follows from their convolutions; the context embedding covers the whole image,
        here 1024.
        """
        every = {"detail branch": 67.0, "semantic branch": 719.0, "context embedding": 1024.0}
        return {name: every[name] for name in self.multi_scale_groups()}

    def removable_branches(self) -> tuple[str, ...]:
        """List the groups that can be removed whole: the context embedding, which saves very little.

        The two branches gate each other, so neither can be removed.
        """
        return () if isinstance(self.semantic.context.context, Removed) else ("context embedding",)

    def remove_branch(self, name: str) -> None:
        """Remove one of these groups; see :func:`dance_ondevice.models.branches.remove_branches`."""
        if name not in self.removable_branches():
            raise KeyError(name)
        self.semantic.context.remove()
