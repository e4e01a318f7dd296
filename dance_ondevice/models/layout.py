"""How a model's weights lie in memory."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

__all__ = ["channels_last"]

Model = TypeVar("Model", bound=nn.Module)


def channels_last(model: Model) -> Model:
    """The same model, its convolutions' weights now with the channels last in memory, as images have them."""
    moved: Model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its stubs
    return moved
