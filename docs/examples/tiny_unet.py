"""A network of one's own for dance-ondevice: a U-Net of three levels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class TinyUNet(nn.Module):
    """(N, 3, H, W) -> class scores (N, num_classes, H, W); H and W are multiples of 32."""

    def __init__(self, num_classes: int, width: int = 16) -> None:
        super().__init__()
        self.down = nn.ModuleList([_block(3, width), _block(width, 2 * width), _block(2 * width, 4 * width)])
        self.up = nn.ModuleList([_block(6 * width, 2 * width), _block(3 * width, width)])
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Down three levels and up again."""
        first = self.down[0](x)
        second = self.down[1](F.max_pool2d(first, 2))
        third = self.down[2](F.max_pool2d(second, 2))
        second = self.up[0](torch.cat([F.interpolate(third, scale_factor=2.0), second], dim=1))
        first = self.up[1](torch.cat([F.interpolate(second, scale_factor=2.0), first], dim=1))
        scores: Tensor = self.head(first)
        return scores


def build(num_classes: int) -> nn.Module:
    """What model.factory = "tiny_unet:build" names."""
    return TinyUNet(num_classes)
