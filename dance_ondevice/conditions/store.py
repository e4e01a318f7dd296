"""Conditions on disk: ``conditions.safetensors`` beside a checkpoint's ``model.safetensors``.

They have their own file, since conditions are added and removed while a version is live, but a checkpoint's
tensors never change: the card holds their SHA-256. Keys are "norm.<condition>/<module>.<tensor>", such as
"norm.c1/bottlenecks.0.expand.norm.running_mean", and "learnt.<condition>/<parameter>" for the parameters that
a condition has learnt. The file's metadata holds a text about the conditions, which this module does not
interpret.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from dance_ondevice import documents
from dance_ondevice.conditions.statistics import FIELDS, NormStatistics
from dance_ondevice.files import read_regular
from dance_ondevice.models.card import CheckpointError, directory_of

__all__ = ["CONDITIONS_FILE", "decode", "encode", "load_conditions"]

CONDITIONS_FILE = "conditions.safetensors"

_FORMAT = "2"
#: Formats that can be read; format 1 had no learnt parameters.
_READ = ("1", _FORMAT)
_LEARNT = re.compile(r"learnt\.(?P<condition>[^/]+)/(?P<parameter>.+)")
_KEY = re.compile(rf"norm\.(?P<condition>[^/]+)/(?P<layer>.+)\.(?P<field>{'|'.join(FIELDS)})")


def encode(conditions: Mapping[str, NormStatistics], about: str = "") -> bytes:
    """Encode conditions as the bytes of the file.

    Args:
        conditions: Statistics by name of the condition, which must not contain "/".
        about: Text that is stored with them.
    """
    tensors = {
        f"norm.{name}/{layer}.{field}": tensor.detach().cpu().contiguous()
        for name, statistics in conditions.items()
        for layer, found in statistics.layers.items()
        for field, tensor in zip(FIELDS, found, strict=False)
    } | {
        f"learnt.{name}/{parameter}": tensor.detach().cpu().contiguous()
        for name, statistics in conditions.items()
        for parameter, tensor in statistics.learnt.items()
    }
    return safetensors.torch.save(tensors, metadata={"format": _FORMAT, "about": about})


def decode(data: bytes, source: str) -> tuple[dict[str, NormStatistics], str]:
    """Decode the bytes of :func:`encode`; ``source`` names the file in errors.

    Raises:
        CheckpointError: The bytes are damaged or of another format, or a layer lacks a tensor.
    """
    try:
        tensors = safetensors.torch.load(data)
        metadata = _metadata(data)
    except (safetensors.SafetensorError, ValueError) as error:
        raise CheckpointError(f"{source}: not a file of conditions: {error}") from error
    if metadata.get("format") not in _READ:
        raise CheckpointError(f"{source}: unknown format {metadata.get('format')!r}: update this program")
    found: dict[str, dict[str, dict[str, Tensor]]] = {}
    learnt: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        match = _LEARNT.fullmatch(key)
        if match is not None:
            learnt.setdefault(match["condition"], {})[match["parameter"]] = tensor
            continue
        match = _KEY.fullmatch(key)
        if match is None:
            raise CheckpointError(f"{source}: unknown tensor {key!r}")
        found.setdefault(match["condition"], {}).setdefault(match["layer"], {})[match["field"]] = tensor
    return {
        name: NormStatistics(
            {layer: _layer(source, layer, fields) for layer, fields in found.get(name, {}).items()},
            learnt.get(name, {}),
        )
        for name in dict.fromkeys((*found, *learnt))
    }, metadata.get("about", "")


def load_conditions(path: Path) -> tuple[dict[str, NormStatistics], str]:
    """Load the conditions of a checkpoint and the text about them; none if it has no such file.

    Args:
        path: Directory of the checkpoint, or one of its files.

    Raises:
        CheckpointError: The file cannot be read or decoded, see :func:`decode`.
    """
    file = directory_of(path) / CONDITIONS_FILE
    try:
        data = read_regular(file)
    except FileNotFoundError:
        return {}, ""
    except OSError as error:
        raise CheckpointError(f"{file}: cannot read the conditions: {error.strerror}") from error
    return decode(data, str(file))


def _layer(source: str, layer: str, fields: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    names = FIELDS[: 2 if len(fields) <= 2 else 4]
    if set(fields) != set(names):
        raise CheckpointError(
            f"{source}: {layer} has {', '.join(sorted(fields))}, needed are {', '.join(names)}"
        )
    return tuple(fields[name] for name in names)


def _metadata(data: bytes) -> dict[str, str]:
    """Read the header's ``__metadata__``, which safetensors itself reads from files only."""
    length = int.from_bytes(data[:8], "little")
    header = documents.decode(data[8 : 8 + length], dict[str, Any])
    return {str(k): str(v) for k, v in dict(header.get("__metadata__", {})).items()}
