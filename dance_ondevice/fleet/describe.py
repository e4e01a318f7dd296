"""The description of a fleet's root, made from a model; the one module of this folder that needs torch."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from dance_ondevice.fleet.layers import Layer
from dance_ondevice.fleet.root import Root, RootError
from dance_ondevice.models import checkpoint
from dance_ondevice.models.channels import channels_of, is_channelwise

__all__ = ["describe", "layers_of"]


def describe(directory: Path) -> Root:
    """Describe the model in a folder as the root of a fleet.

    Raises:
        CheckpointError: There is no model in the folder, or it is damaged.
        RootError: The model was made from another one, whose boards would not know it as their root.
    """
    model, card = checkpoint.load(directory)
    if card.root != card.sha256:
        raise RootError(
            f"{directory}: this model was made from another ({card.parent or 'unknown'}); a fleet begins "
            "with the model that its boards were installed with"
        )
    heads = checkpoint.heads_of(model, card, str(directory))
    layers = layers_of(model)
    if any(layers[name].transposed for name in heads):
        raise RootError(f"{directory}: a transposed convolution as the last layer cannot be matched by class")
    return Root(
        sha256=card.sha256,
        classes=card.classes,
        layers=layers,
        heads=tuple(heads),
        architecture=card.architecture,
        factory=card.factory,
        arguments=card.arguments,
        normalisation=card.normalisation,
    )


def layers_of(model: nn.Module) -> dict[str, Layer]:
    """Return the layers with channels of a model that was never slimmed, by module name."""
    found, modules = {}, dict(model.named_modules())
    for name, channels in channels_of(model).items():
        module = modules[name]
        found[name] = Layer(
            kind="channelwise" if is_channelwise(module) else "mixing",
            channels=channels,
            transposed=bool(getattr(module, "transposed", False)),
        )
    return found
