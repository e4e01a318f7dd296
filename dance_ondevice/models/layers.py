"""The convolution blocks that the architectures share, written so that their channels can be removed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dance_ondevice.models.channels import drop_inputs, layer_channels


class Removed(nn.Identity):
    """Placeholder for a branch that slimming removed: it has no weights and computes nothing.

    With it the names of the modules beside it stay the same.
    """


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """Return the layers of a model that normalise by the statistics of batches, in the model's order."""
    return [layer for layer in model.modules() if isinstance(layer, _BatchNorm)]


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation that also trains on a single value per channel.

    One image through a 1 x 1 pyramid bin leaves one value per channel, which has no variance, so that PyTorch
    raises. Such a batch is normalised by the running statistics, which stay unchanged.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (N, C, H, W)."""
        if self.training and input.shape[0] * input.shape[2] * input.shape[3] == 1:
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        return super().forward(input)


class ConvBNReLU(nn.Module):
    """Convolution without bias, batch normalisation, and ReLU unless ``activation`` is off.

    Padding keeps the size at stride 1. It maps (N, in, H, W) to (N, out, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        activation: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=dilation * (kernel_size // 2),
            dilation=dilation,
            groups=groups,
            bias=False,
        )
        self.norm = BatchNorm2d(out_channels)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in, H, W) to (N, out, H', W')."""
        x = self.norm(self.conv(x))
        return F.relu(x, inplace=True) if self.activation else x


class DSConv(nn.Module):
    """Depthwise separable convolution: 3 x 3 per channel, then 1 x 1 with normalisation and ReLU.

    Nothing stands between the two convolutions, as in Fast-SCNN (arXiv 1902.04502, section 3.2.1) and
    Xception.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(
            in_channels, in_channels, 3, stride=stride, padding=1, groups=in_channels, bias=False
        )
        self.pointwise = ConvBNReLU(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in, H, W) to (N, out, H', W')."""
        out: Tensor = self.pointwise(self.depthwise(x))
        return out


class InvertedResidual(nn.Module):
    """MobileNetV2's bottleneck (arXiv 1801.04381): expand, filter per channel, project linearly.

    The input is added to the output if both have the same shape. With ``expansion`` 1 the expanding layer is
    left out, as in the paper's first block.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int = 1, expansion: int = 6, dilation: int = 1
    ) -> None:
        super().__init__()
        wide = in_channels * expansion
        self.expand = ConvBNReLU(in_channels, wide, 1) if expansion > 1 else nn.Identity()
        self.depthwise = ConvBNReLU(wide, wide, 3, stride=stride, dilation=dilation, groups=wide)
        self.project = ConvBNReLU(wide, out_channels, 1, activation=False)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in, H, W) to (N, out, H', W')."""
        out: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + out if self.residual else out


class BasicBlock(nn.Module):
    """ResNet's block of two 3 x 3 convolutions (He et al., arXiv 1512.03385, figure 5, left).

    The input is added to the output, through a 1 x 1 convolution where their shapes differ.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.first = ConvBNReLU(in_channels, out_channels, 3, stride=stride, dilation=dilation)
        self.second = ConvBNReLU(out_channels, out_channels, 3, dilation=dilation, activation=False)
        same = stride == 1 and in_channels == out_channels
        self.shortcut = (
            nn.Identity()
            if same
            else ConvBNReLU(in_channels, out_channels, 1, stride=stride, activation=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in, H, W) to (N, out, H', W')."""
        return F.relu(self.second(self.first(x)) + self.shortcut(x), inplace=True)


class SegmentationHead(nn.Sequential):
    """A 3 x 3 convolution, dropout, and a 1 x 1 classifier: (N, in, H, W) to (N, classes, H, W)."""

    def __init__(self, in_channels: int, width: int, num_classes: int, *, dropout: float = 0.1) -> None:
        super().__init__(
            ConvBNReLU(in_channels, width, 3), nn.Dropout(dropout), nn.Conv2d(width, num_classes, 1)
        )


class PyramidPooling(nn.Module):
    """PSPNet's pyramid pooling (arXiv 1612.01105): the input, concatenated with averages over grids.

    Each of the k grids is a branch with in / k channels; a last convolution joins all of them. It maps
    (N, in, H, W) to (N, out, H, W), for any H, W >= 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bins: Sequence[int] = (1, 2, 3, 6),
        kernel_size: int = 1,
    ) -> None:
        super().__init__()
        self.bins = tuple(bins)
        width = max(1, in_channels // len(self.bins))
        self.branches = nn.ModuleList(ConvBNReLU(in_channels, width, 1) for _ in self.bins)
        self.project = ConvBNReLU(in_channels + width * len(self.bins), out_channels, kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in, H, W) to (N, out, H, W)."""
        size = x.shape[2:]
        levels = [x]
        for cells, branch in zip(self.bins, self.branches, strict=True):
            if not isinstance(branch, Removed):
                levels.append(resize(branch(F.adaptive_avg_pool2d(x, cells)), size))
        out: Tensor = self.project(torch.cat(levels, dim=1))
        return out

    def names(self) -> dict[str, int]:
        """Map the names of the present bins to the index of their branch."""
        return {
            f"pyramid bin {cells}": index
            for index, (cells, branch) in enumerate(zip(self.bins, self.branches, strict=True))
            if not isinstance(branch, Removed)
        }

    def remove(self, name: str) -> None:
        """Remove a bin, and the channels that the last convolution read from it."""
        index = self.names()[name]
        widths = [
            0 if isinstance(branch, Removed) else layer_channels(branch.get_submodule("conv"))[1]
            for branch in self.branches
        ]
        start = self.project.conv.in_channels - sum(widths[index:])
        drop_inputs(self.project.conv, start, widths[index])
        self.branches[index] = Removed()


class PyramidBranches:
    """The multi-scale branches of a network with a pyramid pooling: its bins; see ``branches.MultiScale``."""

    pyramid: PyramidPooling

    def multi_scale_groups(self) -> dict[str, tuple[str, ...]]:
        """Map each of the pyramid's bins to the names of its modules.

        Slimming may treat these groups unevenly: the smaller the input, the less a bin of large context is
        worth.
        """
        return {name: (f"pyramid.branches.{index}",) for name, index in self.pyramid.names().items()}

    def branch_contexts(self) -> dict[str, float]:
        """Map each group to the side of its receptive field, as a share of the image's."""
        return {name: 1 / self.pyramid.bins[index] for name, index in self.pyramid.names().items()}

    def removable_branches(self) -> tuple[str, ...]:
        """List the groups that can be removed whole: every bin, independently of the others."""
        return tuple(self.pyramid.names())

    def remove_branch(self, name: str) -> None:
        """Remove one of these groups; see :func:`dance_ondevice.models.branches.remove_branches`."""
        self.pyramid.remove(name)


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resample (N, C, h, w) bilinearly to ``(N, C, *size)``; the same tensor if it has that size already."""
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)
