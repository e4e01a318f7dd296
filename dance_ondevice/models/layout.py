"""Memory layout of a model's weights."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

__all__ = ["channels_last"]

Model = TypeVar("Model", bound=nn.Module)


def channels_last(model: Model) -> Model:
    """Convert a model in place to the channels-last memory format, which images have, and return it."""
    moved: Model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its stubs
    return moved
