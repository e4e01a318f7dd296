"""Conditions on disk: ``conditions.safetensors`` beside a checkpoint's ``model.safetensors``.

A file of its own, since conditions come and go while a version serves, and a checkpoint's tensors never
change: the card holds their SHA-256. Keys are "norm.<condition>/<module>.<tensor>", as they would be in there
("norm.c1/bottlenecks.0.expand.norm.running_mean"), and "learnt.<condition>/<parameter>" for what a condition
has learnt; what the statistics are of stands in the file's metadata, as text that this module does not look
into.
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
from dance_ondevice.models.card import CheckpointError, directory_of

__all__ = ["CONDITIONS_FILE", "decode", "encode", "load_conditions"]

CONDITIONS_FILE = "conditions.safetensors"

_FORMAT = "2"
#: Format 1 had no tensors that were learnt.
_READ = ("1", _FORMAT)
_LEARNT = re.compile(r"learnt\.(?P<condition>[^/]+)/(?P<parameter>.+)")
_KEY = re.compile(rf"norm\.(?P<condition>[^/]+)/(?P<layer>.+)\.(?P<field>{'|'.join(FIELDS)})")


def encode(conditions: Mapping[str, NormStatistics], about: str = "") -> bytes:
    """The file's bytes.

    Args:
        conditions: by name; no "/" in it.
        about: kept with them.
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
    """Read what :func:`encode` made; ``source`` names it in errors.

    Raises:
        CheckpointError: damaged, of another format, or a layer that lacks a tensor.
    """
    try:
        tensors = safetensors.torch.load(data)
        metadata = _metadata(data)
    except (safetensors.SafetensorError, ValueError) as error:
        raise CheckpointError(f"{source}: not a file of conditions: {error}") from error
    if metadata.get("format") not in _READ:
        raise CheckpointError(f"{source}: format {metadata.get('format')!r} is not known here: update")
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
    """The conditions of a checkpoint and what is written about them; none where it has no such file.

    Args:
        path: the checkpoint's directory, or one of its files.

    Raises:
        CheckpointError: see :func:`decode`, or the file cannot be read.
    """
    file = directory_of(path) / CONDITIONS_FILE
    try:
        data = file.read_bytes()
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
    """The header's ``__metadata__``: safetensors reads it from files only."""
    length = int.from_bytes(data[:8], "little")
    header = documents.decode(data[8 : 8 + length], dict[str, Any])
    return {str(k): str(v) for k, v in dict(header.get("__metadata__", {})).items()}
