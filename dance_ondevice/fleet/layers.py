"""How a layer's tensors lie in those of the fleet's root: from channel numbers to places.

An update of a slimmed model holds for every layer the channels that the model still has. Their numbers in the
root, the model that all slimming of the fleet began with, say where each value belongs: :func:`gather` cuts a
slimmed tensor out of a root's, :func:`scatter` puts it back. Gathering what was scattered gives the same
tensor again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Array",
    "Layer",
    "Numbers",
    "PlacementError",
    "are_all",
    "gather",
    "kept_shape",
    "places",
    "scatter",
]

Array = NDArray[np.float32]
#: The numbers of a layer's input and output channels in the root: each at most once.
Numbers = tuple[NDArray[np.intp], NDArray[np.intp]]
#: Where the values of a tensor belong: an index of the root's tensor.
Places = tuple[NDArray[np.intp], ...]


class PlacementError(ValueError):
    """Error: channel numbers do not fit the root, or a tensor does not fit its channel numbers."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer of the root.

    Attributes:
        kind: "mixing" for a layer whose outputs read several inputs (its weight has an axis for each side),
            "channelwise" for one that acts on each channel alone.
        channels: Input channels, output channels and groups in the root.
        transposed: Whether the input channels are the first axis of its weight.
    """

    kind: Literal["mixing", "channelwise"]
    channels: tuple[int, int, int]
    transposed: bool = False


def places(layer: Layer, tensor: str, numbers: Numbers) -> Places:
    """Return where a layer's tensor lies in the root's.

    Args:
        layer: The layer in the root.
        tensor: Name of the tensor within the layer: "weight", "bias", "running_mean"...
        numbers: The channels that the layer still has.

    Raises:
        PlacementError: A number stands twice or is beyond the root's channels, or the groups of a grouped
            convolution did not lose the same number of channels; some may have gone whole.
    """
    inputs, outputs = numbers
    root_in, root_out, groups = layer.channels
    for side, width in ((inputs, root_in), (outputs, root_out)):
        if side.ndim != 1 or len(side) == 0 or side.min() < 0 or side.max() >= width:
            raise PlacementError(f"channel numbers must lie from 0 to {width - 1}")
        if np.bincount(side).max() > 1:
            raise PlacementError("a channel number stands twice")
    if layer.kind == "channelwise" or tensor != "weight":
        return (outputs,)
    if groups == 1:
        rows, columns = outputs[:, None], inputs[None, :]
        return (columns, rows) if layer.transposed else (rows, columns)
    per_group_in, per_group_out = root_in // groups, root_out // groups
    by_group = np.bincount(inputs // per_group_in, minlength=groups)
    present, of_outputs = np.flatnonzero(by_group), outputs // per_group_out
    uneven = len(set(by_group[present].tolist())) != 1 or not np.isin(of_outputs, present).all()
    if uneven or np.any(np.diff(inputs) < 0):
        raise PlacementError("the groups of a grouped convolution must keep as many inputs each, in order")
    local = (inputs % per_group_in).reshape(len(present), -1)
    rows = outputs[:, None]
    columns = local[np.searchsorted(present, of_outputs)]
    return (columns, rows) if layer.transposed else (rows, columns)


def are_all(layer: Layer, numbers: Numbers) -> bool:
    """Return whether these are all channels of a layer, in their order."""
    return all(
        len(side) == width and np.array_equal(side, np.arange(width))
        for side, width in zip(numbers, layer.channels[:2], strict=True)
    )


def kept_shape(layer: Layer, tensor: str, numbers: Numbers, root: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape that a tensor has with these channels, given its shape in the root.

    Raises:
        PlacementError: as :func:`places`.
    """
    if not root:
        return ()
    index = places(layer, tensor, numbers)
    leading = np.broadcast_shapes(*(axis.shape for axis in index))
    if layer.transposed and len(index) == 2:
        leading = leading[::-1]
    return (*leading, *root[len(index) :])


def gather(layer: Layer, tensor: str, numbers: Numbers, root: Array) -> Array:
    """Cut the values of the kept channels out of a root's tensor.

    Args:
        layer: The layer in the root.
        tensor: Name of the tensor within the layer.
        numbers: The channels that the layer still has.
        root: The root's tensor.

    Raises:
        PlacementError: as :func:`places`.
    """
    if root.ndim == 0 or are_all(layer, numbers):
        same: Array = root.copy()
        return same
    index = places(layer, tensor, numbers)
    found: Array = root[index]
    if layer.transposed and len(index) == 2:
        found = np.swapaxes(found, 0, 1)
    compact: Array = np.array(found, order="C")
    return compact


def scatter(layer: Layer, tensor: str, numbers: Numbers, values: Array, into: Array) -> None:
    """Add values to the places of their channels in a root's tensor, in place.

    Args:
        layer: The layer in the root.
        tensor: Name of the tensor within the layer.
        numbers: The channels that the layer still has.
        values: The slimmed tensor.
        into: A tensor of the root's shape.

    Raises:
        PlacementError: The values have another shape than the channels ask for, or as :func:`places`.
    """
    expected = kept_shape(layer, tensor, numbers, into.shape)
    if values.shape != expected:
        raise PlacementError(
            f"{tensor} has shape {list(values.shape)}, its channels ask for {list(expected)}"
        )
    if into.ndim == 0:
        into += values
        return
    index = places(layer, tensor, numbers)
    if layer.transposed and len(index) == 2:
        values = np.swapaxes(values, 0, 1)
    into[index] += values
