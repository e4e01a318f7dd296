"""Cost of a model: multiply-accumulates (MACs) and parameters, the figures for slimming and reports."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from dance_ondevice.models.forward import outputs


def count_macs(model: nn.Module, height: int, width: int) -> int:
    """Count the multiply-accumulates of one image (3, height, width) in inference: see :func:`layer_macs`."""
    return sum(layer_macs(model, height, width).values())


def layer_macs(model: nn.Module, height: int, width: int) -> dict[str, int]:
    """Count the multiply-accumulates of one image by layer: convolutions (also transposed) and linear layers.

    Normalisation, activations, pooling, interpolation and biases are left out, as is usual. The image goes
    through the padding of :mod:`dance_ondevice.models.forward`, so these are the MACs that the device
    computes. No other thread may run the model meanwhile, since the count uses forward hooks.

    Args:
        model: Model; it is unchanged afterwards, its training mode included.
        height: Height of the image in pixels.
        width: Width of the image in pixels.

    Returns:
        MACs by module name, for the layers that ran; a layer that runs twice counts twice.

    Raises:
        ValueError: A side is below 1.
    """
    if height < 1 or width < 1:
        raise ValueError(f"an image has at least 1 x 1 pixels, found {height} x {width}")
    macs: defaultdict[str, int] = defaultdict(int)

    def note(name: str, layer: nn.Module, x: Tensor, y: Tensor) -> None:
        macs[name] += _macs_of(layer, x, y)

    _watch(model, (height, width), note, gradients=False)
    return dict(macs)


def training_macs(model: nn.Module, height: int, width: int) -> int:
    """Count the multiply-accumulates of training on one image (3, height, width), see :func:`layer_macs`.

    A layer's backward pass computes two products, each as costly as its forward pass: the gradient of its
    weights, and that of its input. Without frozen weights that makes three forward passes; frozen weights
    save the first product, and layers with nothing to train in them or before them save the second as well.
    The input of the first trained layer is counted like any other, although its gradient is not used, so that
    "three forward passes" holds, as is usual. Heads that inference never runs are left out.

    Args:
        model: Model; it is unchanged afterwards. ``requires_grad`` marks the weights that are trained.
        height: Height of the image in pixels.
        width: Width of the image in pixels.

    Raises:
        ValueError: A side is below 1.
    """
    macs = 0

    def note(_name: str, layer: nn.Module, x: Tensor, y: Tensor) -> None:
        nonlocal macs
        weight = layer.weight
        assert isinstance(weight, Tensor)
        macs += _macs_of(layer, x, y) * (1 + weight.requires_grad + y.requires_grad)

    _watch(model, (height, width), note, gradients=True)
    return macs


def count_parameters(model: nn.Module) -> int:
    """Count the parameters that inference uses.

    Submodules that the model lists in ``training_only``, such as auxiliary heads, are left out.
    """
    skipped = tuple(f"{name}." for name in training_only(model))
    return sum(p.numel() for name, p in model.named_parameters() if not name.startswith(skipped))


def training_only(model: nn.Module) -> tuple[str, ...]:
    """Return the names of submodules with parameters that inference never runs, as the model lists them."""
    names: tuple[str, ...] = getattr(model, "training_only", ())
    return tuple(name for name in names if any(True for _ in model.get_submodule(name).parameters()))


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model in eval mode within a context; afterwards each module gets its own mode back."""
    modes = {module: module.training for _, module in model.named_modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _watch(
    model: nn.Module,
    size: tuple[int, int],
    note: Callable[[str, nn.Module, Tensor, Tensor], None],
    *,
    gradients: bool,
) -> None:
    """Run an image of a size (height, width) in eval mode and call `note` for each layer.

    `note` gets the layer's name, the layer, its input and its output. With ``gradients``, the tensors show
    by ``requires_grad`` whether the backward pass would reach them.
    """
    if min(size) < 1:
        raise ValueError(f"an image has at least 1 x 1 pixels, found {size[0]} x {size[1]}")

    def hooked(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        return module.register_forward_hook(
            lambda layer, inputs, named, output: note(name, layer, (*inputs, *named.values())[0], output),
            with_kwargs=True,
        )

    layers = [(name, m) for name, m in model.named_modules() if isinstance(m, (_ConvNd, nn.Linear))]
    handles = [hooked(name, module) for name, module in layers]
    try:
        with evaluating(model), torch.set_grad_enabled(gradients):
            outputs(model, torch.zeros(1, 3, *size, device=next(model.parameters()).device))
    finally:
        for handle in handles:
            handle.remove()


def _macs_of(layer: nn.Module, x: Tensor, y: Tensor) -> int:
    if isinstance(layer, _ConvTransposeNd):  # weight (in, out / groups, *kernel)
        return x.numel() * layer.weight[0].numel()
    if isinstance(layer, (_ConvNd, nn.Linear)):  # weight (out, in / groups, *kernel)
        return y.numel() * layer.weight[0].numel()
    raise TypeError(f"no rule for {type(layer).__name__}")
