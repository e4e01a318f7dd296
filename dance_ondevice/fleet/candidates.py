"""A board's candidate: its own model with the values of a fleet version in the places of its channels."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from dance_ondevice.fleet.layers import Array, Numbers, PlacementError, gather
from dance_ondevice.fleet.root import Root, layer_of, travels

__all__ = ["candidate", "fleet_numbers"]


def fleet_numbers(root: Root, classes: tuple[str, ...], numbers: Mapping[str, Numbers]) -> dict[str, Numbers]:
    """Return a board's channel numbers with the outputs of heads as numbers of the fleet's classes.

    A class of the board that the fleet does not know has the number -1.
    """
    known = {name: index for index, name in enumerate(root.classes)}
    outputs = np.array([known.get(name, -1) for name in classes], np.intp)
    return {
        layer: (sides[0], outputs if layer in root.heads else sides[1]) for layer, sides in numbers.items()
    }


def candidate(
    root: Root,
    version: Mapping[str, Array],
    own: Mapping[str, Array],
    numbers: Mapping[str, Numbers],
    *,
    local: Collection[str] = (),
    share: float = 1.0,
) -> dict[str, Array]:
    """Return a board's tensors with the values of a fleet version, or with values between its own and those.

    The statistics of normalisation layers stay the board's own and must be estimated again on its images
    (:func:`dance_ondevice.training.recalibration.recalibrate`): they fit neither the one nor the other.

    Args:
        root: Description of the root.
        version: The fleet version, in the root's shapes.
        own: The board's own tensors.
        numbers: Its channels in the root, by layer, as :func:`fleet_numbers` gives them.
        local: Modules that stay the board's own, such as the last layers.
        share: How far to go from the board's own values to the fleet's, above 0 and at most 1. Part of the
            way costs a board less of what it knows of its own scene.

    Raises:
        PlacementError: The board's model is none of this root.
    """

    def value(name: str, tensor: Array) -> Array:
        if not travels(root, name) or any(name.startswith(f"{module}.") for module in local):
            return tensor
        theirs = _value(root, name, tensor, version, numbers)
        return theirs if share == 1 else tensor + (share * (theirs - tensor)).astype(tensor.dtype)

    return {name: value(name, tensor) for name, tensor in own.items()}


def _value(
    root: Root, name: str, own: Array, version: Mapping[str, Array], numbers: Mapping[str, Numbers]
) -> Array:
    if name not in version:
        raise PlacementError(f"the fleet's root has no tensor {name}")
    owner = layer_of(root, name)
    if owner is None:
        return _fitting(name, version[name].copy(), own)
    layer, tensor = owner
    if layer not in numbers:
        raise PlacementError(f"the channel numbers of {layer} are not known")
    inputs, outputs = numbers[layer]
    if layer not in root.heads:
        return _fitting(name, gather(root.layers[layer], tensor, (inputs, outputs), version[name]), own)
    known = np.flatnonzero(outputs >= 0)
    merged: Array = own.copy()
    merged[known] = _fitting(
        name, gather(root.layers[layer], tensor, (inputs, outputs[known]), version[name]), own[known]
    )
    return merged


def _fitting(name: str, found: Array, own: Array) -> Array:
    if found.shape != own.shape:
        raise PlacementError(f"{name} has shape {list(own.shape)}, its channels ask for {list(found.shape)}")
    return found
