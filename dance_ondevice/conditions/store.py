"""Conditions on disk as torch's tensors; ``arrays`` has the format of the file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from dance_ondevice.conditions import arrays
from dance_ondevice.conditions.arrays import Array, ConditionArrays
from dance_ondevice.conditions.statistics import NormStatistics

__all__ = ["as_arrays", "as_tensors", "decode", "encode", "load_conditions"]


def as_arrays(statistics: NormStatistics) -> ConditionArrays:
    """Copy statistics and learnt parameters into arrays."""
    return ConditionArrays(
        {layer: tuple(map(_array, found)) for layer, found in statistics.layers.items()},
        {name: _array(tensor) for name, tensor in statistics.learnt.items()},
    )


def as_tensors(found: ConditionArrays) -> NormStatistics:
    """Copy the arrays of a condition into tensors."""
    return NormStatistics(
        {layer: tuple(map(_tensor, each)) for layer, each in found.layers.items()},
        {name: _tensor(array) for name, array in found.learnt.items()},
    )


def encode(conditions: Mapping[str, NormStatistics], about: str = "") -> bytes:
    """Encode conditions as the bytes of the file; see ``arrays.encode``."""
    return arrays.encode({name: as_arrays(each) for name, each in conditions.items()}, about)


def decode(data: bytes, source: str) -> tuple[dict[str, NormStatistics], str]:
    """Decode the bytes of :func:`encode`; see ``arrays.decode``."""
    found, about = arrays.decode(data, source)
    return {name: as_tensors(each) for name, each in found.items()}, about


def load_conditions(path: Path) -> tuple[dict[str, NormStatistics], str]:
    """Load the conditions of a checkpoint and the text about them; see ``arrays.load_arrays``."""
    found, about = arrays.load_arrays(path)
    return {name: as_tensors(each) for name, each in found.items()}, about


def _array(tensor: Tensor) -> Array:
    copied: Array = tensor.detach().cpu().contiguous().clone().numpy()
    return copied


def _tensor(array: Array) -> Tensor:
    return torch.tensor(array)
