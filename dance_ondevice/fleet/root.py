"""The root of a fleet: the one model that all its boards began with, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from dance_ondevice.documents import DocumentError, decode
from dance_ondevice.fleet.layers import Layer, Numbers
from dance_ondevice.models.card import Normalisation

__all__ = ["Root", "RootError", "decode_root", "encode_root", "layer_of"]

#: Tensors of a normalisation layer that describe a board's own images: they never leave it.
STATISTICS = frozenset({"running_mean", "running_var", "num_batches_tracked"})


class RootError(ValueError):
    """Error: this is not the description of a fleet's root."""


@dataclass(frozen=True, kw_only=True)
class Root:
    """What must be equal for models to be averaged, and how the root's tensors are arranged.

    Attributes:
        sha256: Of the root's tensors file; the name that model cards call ``root``.
        classes: Class names in the order of the root's output channels.
        layers: Its layers with channels, by module name.
        heads: Layers whose outputs are the classes; their outputs are matched by the name of the class.
        architecture: Name in the registry of architectures.
        factory: Name of the callable that builds a user's model, else "".
        arguments: Keyword arguments of the architecture.
        normalisation: Normalisation of the input.
    """

    sha256: str
    classes: tuple[str, ...]
    layers: dict[str, Layer]
    heads: tuple[str, ...]
    architecture: str = ""
    factory: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    normalisation: Normalisation = field(default_factory=Normalisation)

    def numbers(self) -> dict[str, Numbers]:
        """Return the channel numbers of the root itself, by layer."""
        return {
            name: (np.arange(layer.channels[0]), np.arange(layer.channels[1]))
            for name, layer in self.layers.items()
        }


def layer_of(root: Root, tensor: str) -> tuple[str, str] | None:
    """Split a tensor's name into its layer and its name there; None if its layer has no channels."""
    layer, _, own = tensor.rpartition(".")
    return (layer, own) if layer in root.layers else None


def travels(root: Root, tensor: str) -> bool:
    """Return whether a tensor leaves the board: all but the statistics of normalisation layers."""
    found = layer_of(root, tensor)
    return found is None or found[1] not in STATISTICS


def encode_root(root: Root) -> bytes:
    """Encode a root's description as JSON."""
    return msgspec.json.format(msgspec.json.encode(root), indent=2) + b"\n"


def decode_root(data: bytes) -> Root:
    """Decode what :func:`encode_root` wrote.

    Raises:
        RootError: The data is something else.
    """
    try:
        root = decode(data, Root)
    except DocumentError as error:
        raise RootError(f"not the description of a fleet's root: {error}") from error
    unknown = [name for name in root.heads if name not in root.layers]
    if unknown or not root.classes or len(set(root.classes)) != len(root.classes):
        raise RootError("not the description of a fleet's root: its heads or classes do not fit together")
    return root
