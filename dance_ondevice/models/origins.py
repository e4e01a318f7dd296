"""Which channels of its root a model still has, as tensors beside its weights.

The root is the model that all slimming began with; its name is the SHA-256 of its tensors file. Models of one
root can be averaged channel by channel whatever each of them has lost, see :mod:`dance_ondevice.fleet`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dance_ondevice.models.channels import Origin, has_channels, is_channelwise, layer_channels
from dance_ondevice.models.channels import origin_of as layer_origin
from dance_ondevice.models.channels import set_origin

__all__ = ["origin_tensors", "origins_of", "restore_origins"]

#: Largest channel number that the tensors hold.
_MOST = torch.iinfo(torch.int16).max


def origins_of(model: nn.Module) -> dict[str, Origin]:
    """Return the channel numbers (inputs, outputs) in the root of every layer with channels, by module name."""
    return {name: layer_origin(module) for name, module in model.named_modules() if has_channels(module)}


def origin_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the channel numbers of a model for its tensors file.

    Returns:
        int16 tensors "<layer>/in" (inputs,) and "<layer>/out" (outputs,); of a layer that acts on each channel
        alone only the second. A layer wider than 32,768 channels is left out.
    """
    found: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if not has_channels(module):
            continue
        inputs, outputs = layer_origin(module)
        if max((*inputs, *outputs), default=0) > _MOST:
            continue
        found[f"{name}/out"] = torch.tensor(outputs, dtype=torch.int16)
        if not is_channelwise(module):
            found[f"{name}/in"] = torch.tensor(inputs, dtype=torch.int16)
    return found


def restore_origins(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Record on a model the channel numbers that :func:`origin_tensors` gave.

    A layer without tensors keeps the numbers it has.

    Raises:
        ValueError: Names the layer whose numbers do not fit it.
    """
    for name, module in model.named_modules():
        if not has_channels(module) or f"{name}/out" not in tensors:
            continue
        outputs = _numbers(tensors[f"{name}/out"])
        inputs = outputs if is_channelwise(module) else _numbers(tensors.get(f"{name}/in"))
        try:
            set_origin(module, (inputs, outputs))
        except ValueError as error:
            widths = layer_channels(module)[:2]
            raise ValueError(f"channel numbers of layer {name} {list(widths)}: {error}") from error


def _numbers(tensor: Tensor | None) -> tuple[int, ...]:
    if tensor is None or tensor.dim() != 1 or tensor.is_floating_point():
        return ()
    return tuple(int(number) for number in tensor.tolist())
