"""What a model costs: multiply-accumulates and parameters, the figures that slimming and reports go by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from dance_ondevice.models.forward import outputs


def count_macs(model: nn.Module, height: int, width: int) -> int:
    """Multiply-accumulates of one image (3, height, width) in inference: see :func:`layer_macs`."""
    return sum(layer_macs(model, height, width).values())


def layer_macs(model: nn.Module, height: int, width: int) -> dict[str, int]:
    """Multiply-accumulates of one image by layer: convolutions (transposed too) and linear layers.

    Normalisation, activations, pooling, interpolation and biases are left out, as is usual. The image goes
    through the padding of :mod:`dance_ondevice.models.forward`, so this is what the device computes, not what
    the frame's size suggests. Not for a model that another thread is running: it counts with forward hooks.

    Args:
        model: left as it was, its training mode included.
        height: of the image, pixels.
        width: of the image, pixels.

    Returns:
        Module name -> MACs, for the layers that ran; a layer that runs twice counts twice.

    Raises:
        ValueError: a size below 1.
    """
    if height < 1 or width < 1:
        raise ValueError(f"an image has at least 1 x 1 pixels, found {height} x {width}")
    macs: defaultdict[str, int] = defaultdict(int)

    def watch(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            macs[name] += _macs_of(layer, inputs[0], output)

        return module.register_forward_hook(count)

    layers = [(name, m) for name, m in model.named_modules() if isinstance(m, (_ConvNd, nn.Linear))]
    handles = [watch(name, module) for name, module in layers]
    try:
        with evaluating(model), torch.inference_mode():
            outputs(model, torch.zeros(1, 3, height, width, device=next(model.parameters()).device))
    finally:
        for handle in handles:
            handle.remove()
    return dict(macs)


def count_parameters(model: nn.Module) -> int:
    """Trainable numbers that inference uses.

    What the model lists in ``training_only`` (names of submodules, such as auxiliary heads) is left out.
    """
    skipped = tuple(f"{name}." for name in training_only(model))
    return sum(p.numel() for name, p in model.named_parameters() if not name.startswith(skipped))


def training_only(model: nn.Module) -> tuple[str, ...]:
    """Names of the submodules with parameters that inference never runs, by the model's own word."""
    names: tuple[str, ...] = getattr(model, "training_only", ())
    return tuple(name for name in names if any(True for _ in model.get_submodule(name).parameters()))


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model in eval mode for a while; each module then gets its own mode back."""
    modes = {module: module.training for _, module in model.named_modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _macs_of(layer: nn.Module, x: Tensor, y: Tensor) -> int:
    if isinstance(layer, _ConvTransposeNd):  # weight (in, out / groups, *kernel)
        return x.numel() * layer.weight[0].numel()
    if isinstance(layer, (_ConvNd, nn.Linear)):  # weight (out, in / groups, *kernel)
        return y.numel() * layer.weight[0].numel()
    raise TypeError(f"no rule for {type(layer).__name__}")
