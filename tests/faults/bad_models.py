"""A model of the user's own that does in training what the file named by ``DANCE_BAD_MODEL`` says."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn

#: Far more than a log keeps.
SPEWED_BYTES = 3 << 20


class Misbehaving(nn.Module):
    """One convolution, and trouble."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, num_classes, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            misbehave(Path(os.environ["DANCE_BAD_MODEL"]).read_text())
        out: Tensor = self.layer(x)
        return out


def misbehave(how: str) -> None:
    """Hang, run out of memory, spew, or do nothing of the kind."""
    if how == "hang":
        while True:
            time.sleep(60)
    if how == "memory":
        raise torch.OutOfMemoryError("there is no memory left")
    if how == "spew":
        sys.stderr.write(("all work and no play " * 50 + "\n") * (SPEWED_BYTES // 1050))
        print('{"event": "done"}\n' * 1000)


def misbehaving(num_classes: int) -> nn.Module:
    """The factory."""
    return Misbehaving(num_classes)
