"""Models as users bring them, with traits that trip tools up. Nothing of this project is in them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Fire(nn.Module):
    """Squeeze, then two expansions side by side, put together and filtered channel by channel."""

    def __init__(self, inputs: int, squeezed: int, outputs: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.small = nn.Conv2d(squeezed, outputs // 2, 1)
        self.large = nn.Conv2d(squeezed, outputs // 2, 3, padding=1)
        self.norm = nn.BatchNorm2d(outputs)
        self.depthwise = nn.Conv2d(outputs, outputs, 3, padding=1, groups=outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze(x))
        return F.relu(self.depthwise(self.norm(torch.cat([self.small(x), self.large(x)], dim=1))))


class Awkward(nn.Module):
    """Channel concatenation, depthwise and grouped convolutions, functional interpolation, ``modules``.

    Its submodule named ``modules`` is reached through ``_modules``, since the method hides it.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.modules = nn.ModuleList([Fire(16, 8, 32), Fire(32, 12, 48)])
        self.grouped = nn.Conv2d(48, 48, 3, padding=1, groups=4)
        self.mix = nn.Conv2d(48 + 16, 24, 1)
        self.norm = nn.BatchNorm2d(24)
        self.last = nn.Conv2d(24, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        early = F.relu(self.stem(x))
        deep = early
        for fire in self._modules["modules"].children():
            deep = fire(F.max_pool2d(deep, 2))
        deep = F.interpolate(F.relu(self.grouped(deep)), scale_factor=4.0, mode="nearest")
        joined = F.relu(self.norm(self.mix(torch.cat([deep, early], dim=1))))
        out: Tensor = self.last(joined)
        return out


class ShadowedModules(nn.Module):
    """An attribute ``modules`` that is no module at all hides the method of that name."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.modules = ("first", "last")
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.last = nn.Conv2d(16, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(F.relu(self.norm(self.first(x))))
        return out


class Attentive(nn.Module):
    """Nothing in it can lose channels: attention has no rule, and the rest is input and output."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 16, 8, stride=8)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.last = nn.Conv2d(16, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        tokens = x.flatten(2).transpose(1, 2)
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        out: Tensor = self.last(tokens.transpose(1, 2).reshape(x.shape))
        return out


class Unusual(nn.Module):
    """Lazy layers, weights computed at each pass, a kept tensor, a recomputed block, outputs of all kinds."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.LazyConv2d(16, 3, stride=2, padding=1)
        self.norm = nn.LazyBatchNorm2d()
        self.weighed = nn.utils.parametrizations.weight_norm(nn.Conv2d(16, 16, 3, padding=1))
        self.block = nn.Sequential(nn.Conv2d(16, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU())
        self.first, self.second = nn.Conv2d(24, 24, 1), nn.Conv2d(24, 24, 1)
        self.second.weight = self.first.weight
        self.mix = nn.Conv2d(24, 48, 3, padding=2, dilation=2)
        self.last = nn.Conv2d(48, num_classes, 1)
        self.boundary = nn.Conv2d(16, 1, 1)
        self.ramps: dict[int, Tensor] = {}

    def forward(self, x: Tensor) -> dict[str, Tensor | None]:
        early = F.relu(self.norm(self.stem(x)))
        width = early.shape[3]
        if width not in self.ramps:
            self.ramps[width] = torch.linspace(0.5, 1.0, width) * 1.0
        early = F.relu(self.weighed(early * self.ramps[width]))
        deep = checkpoint(self.block, early, use_reentrant=False) if self.training else self.block(early)
        deep = F.relu(self.first(deep) + self.second(deep))
        boundary = self.boundary(early) if self.training else None
        return {"boundary": boundary, "out": self.last(input=F.relu(self.mix(deep))), "aux": None}


def make_unusual(num_classes: int) -> nn.Module:
    return Unusual(num_classes)


def make_awkward(num_classes: int) -> nn.Module:
    return Awkward(num_classes)


def make_shadowed(num_classes: int) -> nn.Module:
    return ShadowedModules(num_classes)


def make_attentive(num_classes: int) -> nn.Module:
    return Attentive(num_classes)
