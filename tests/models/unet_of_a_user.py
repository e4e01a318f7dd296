"""A model as a user may bring it: nothing of this project in it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.BatchNorm2d(outputs),
        nn.PReLU(outputs),
    )


class UNet(nn.Module):
    def __init__(self, num_classes: int, width: int = 16) -> None:
        super().__init__()
        self.first = block(3, width)
        self.second = block(width, 2 * width)
        self.bottom = block(2 * width, 4 * width)
        self.pool = nn.MaxPool2d(2)
        self.up_second = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.down_second = block(4 * width, 2 * width)
        self.up_first = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.down_first = block(2 * width, width)
        self.last = nn.Conv2d(width, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        second = self.second(self.pool(first))
        bottom = self.bottom(self.pool(second))
        second = self.down_second(torch.cat([second, self.up_second(bottom)], dim=1))
        first = self.down_first(torch.cat([self.up_first(second), first], dim=1))
        out: Tensor = self.last(first)
        return out


def make_unet(num_classes: int) -> nn.Module:
    return UNet(num_classes)


def make_quarter_size(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=4, padding=1), nn.ReLU(), nn.Conv2d(8, num_classes, 1))


def make_wrong_classes(num_classes: int) -> nn.Module:
    return nn.Conv2d(3, num_classes + 1, 1)


def make_broken(num_classes: int) -> nn.Module:
    return nn.Conv2d(4, num_classes, 1)


def make_raising(num_classes: int) -> nn.Module:
    raise RuntimeError("no weights here")


def make_number(num_classes: int) -> int:
    return num_classes


def make_nothing_to_train(num_classes: int) -> nn.Module:
    return nn.ReLU()


def make_probabilities(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, num_classes, 1), nn.Softmax2d())


def make_parallel(num_classes: int) -> nn.Module:
    return nn.DataParallel(nn.Conv2d(3, num_classes, 1))


def make_bounded(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, num_classes, 1), nn.Sigmoid())


def make_fresh_head(num_classes: int) -> nn.Module:
    head = nn.Conv2d(3, num_classes, 1)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def make_fresh_probabilities(num_classes: int) -> nn.Module:
    return nn.Sequential(make_fresh_head(num_classes), nn.Softmax2d())


class KeepsNotes(nn.Conv2d):
    """Its state is not of tensors alone."""

    def get_extra_state(self) -> dict[str, int]:
        return {"version": 3}


def make_keeping_notes(num_classes: int) -> nn.Module:
    return KeepsNotes(3, num_classes, 1)


def make_frozen(num_classes: int) -> nn.Module:
    return nn.Conv2d(3, num_classes, 1).requires_grad_(False)


class GivesItsLoss(nn.Module):
    """In training it wants the labels, and gives the loss."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.last = nn.Conv2d(3, num_classes, 1)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        scores: Tensor = self.last(x)
        if not self.training:
            return scores
        assert labels is not None, "where are the labels?"
        return nn.functional.cross_entropy(scores, labels)


class MultiplesOf64(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.last = nn.Conv2d(3, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        low = nn.functional.interpolate(nn.functional.avg_pool2d(x, 64), scale_factor=64.0)
        scores: Tensor = self.last(x + low)
        return scores


def make_giving_its_loss(num_classes: int) -> nn.Module:
    return GivesItsLoss(num_classes)


def make_multiples_of_64(num_classes: int) -> nn.Module:
    return MultiplesOf64(num_classes)


NOT_CALLABLE = 3
