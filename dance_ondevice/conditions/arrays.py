"""Conditions as plain arrays, and their file: all that a program without torch needs of them.

The file ``conditions.safetensors`` lies beside a checkpoint's ``model.safetensors``: conditions are added and
removed while a version is live, but a checkpoint's tensors never change, since the card holds their SHA-256.
Keys are "norm.<condition>/<module>.<tensor>", such as "norm.c1/bottlenecks.0.expand.norm.running_mean", and
"learnt.<condition>/<parameter>" for the parameters that a condition has learnt. The file's metadata holds a
text about the conditions, which this module does not interpret.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from dance_ondevice import documents
from dance_ondevice.files import read_regular
from dance_ondevice.models.card import TENSORS_FILE, CheckpointError, directory_of

__all__ = [
    "CONDITIONS_FILE",
    "FIELDS",
    "ConditionArrays",
    "StatisticsMismatch",
    "check_fit",
    "decode",
    "encode",
    "load_arrays",
    "own_statistics",
    "shapes_in",
]

CONDITIONS_FILE = "conditions.safetensors"
#: Names of a batch norm's tensors, in the order of ``ConditionArrays.layers``.
FIELDS = ("running_mean", "running_var", "weight", "bias")

_FORMAT = "2"
#: Formats that can be read; format 1 had no learnt parameters.
_READ = ("1", _FORMAT)
_LEARNT = re.compile(r"learnt\.(?P<condition>[^/]+)/(?P<parameter>.+)")
_KEY = re.compile(rf"norm\.(?P<condition>[^/]+)/(?P<layer>.+)\.(?P<field>{'|'.join(FIELDS)})")
_MODEL_GROUP = "model/"
_LARGEST_HEADER = 1 << 26

#: An array of any type of numbers.
Array = NDArray[Any]


class StatisticsMismatch(ValueError):  # noqa: N818 - the name says what is wrong
    """Error: the statistics are of a model with other layers or widths."""


@dataclass(frozen=True, eq=False)
class ConditionArrays:
    """Normalisation statistics and learnt parameters of one condition.

    Attributes:
        layers: Arrays (running_mean, running_var), each (C,), by the batch norm's module name, or
            (running_mean, running_var, weight, bias). They are never changed in place.
        learnt: Arrays that the condition has learnt for itself, by parameter name.
    """

    layers: Mapping[str, tuple[Array, ...]] = field(default_factory=dict)
    learnt: Mapping[str, Array] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """The size of all arrays in bytes."""
        return sum(array.nbytes for array in self.by_name().values())

    def by_name(self) -> dict[str, Array]:
        """Every array by the name that it has in the model."""
        found = {
            f"{layer}.{name}": array
            for layer, arrays in self.layers.items()
            for name, array in zip(FIELDS, arrays, strict=False)
        }
        return found | dict(self.learnt)


def check_fit(arrays: ConditionArrays, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Check that arrays belong to a model.

    Args:
        arrays: The arrays of a condition.
        shapes: Shape of each tensor of the model, by name; see ``shapes_in``.

    Raises:
        StatisticsMismatch: The model has no such tensor, or one of another shape.
    """
    for name, array in arrays.by_name().items():
        if shapes.get(name) == tuple(array.shape):
            continue
        if name in arrays.learnt:
            raise StatisticsMismatch(
                f"what was learnt for {name!r} has shape {list(array.shape)}, in this model it is "
                f"{list(shapes.get(name, ())) or 'missing'}: learn it again"
            )
        layer = name.rpartition(".")[0]
        raise StatisticsMismatch(
            f"the statistics do not fit batch norm {layer!r} of this model: estimate them again"
        )


def shapes_in(directory: Path) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor of a checkpoint's model, by name, without reading the tensors.

    Raises:
        CheckpointError: The file cannot be read, or is no safetensors file.
    """
    file = directory_of(directory) / TENSORS_FILE
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            header = documents.decode(opened.read(min(length, _LARGEST_HEADER)), dict[str, Any])
        return {
            key.removeprefix(_MODEL_GROUP): tuple(int(side) for side in entry["shape"])
            for key, entry in header.items()
            if key.startswith(_MODEL_GROUP)
        }
    except OSError as error:
        raise CheckpointError(f"{file}: cannot read the tensors: {error.strerror}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{file}: not a safetensors file: {error}") from error


def own_statistics(directory: Path) -> ConditionArrays:
    """The statistics of a checkpoint's own batch norms, as a condition would have them.

    Raises:
        CheckpointError: The file cannot be read, or is no safetensors file.
    """
    file = directory_of(directory) / TENSORS_FILE
    ending = f".{FIELDS[0]}"
    try:
        with safetensors.safe_open(file, framework="numpy") as opened:
            layers = [key.removesuffix(ending) for key in opened.keys() if key.endswith(ending)]  # noqa: SIM118
            return ConditionArrays(
                {
                    layer.removeprefix(_MODEL_GROUP): tuple(
                        opened.get_tensor(f"{layer}.{name}") for name in FIELDS[:2]
                    )
                    for layer in layers
                    if layer.startswith(_MODEL_GROUP)
                }
            )
    except OSError as error:
        raise CheckpointError(f"{file}: cannot read the tensors: {error.strerror}") from error
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{file}: not a safetensors file: {error}") from error


def encode(conditions: Mapping[str, ConditionArrays], about: str = "") -> bytes:
    """Encode conditions as the bytes of the file.

    Args:
        conditions: Arrays by name of the condition, which must not contain "/".
        about: Text that is stored with them.
    """
    arrays = {
        f"norm.{name}/{layer}.{part}": array
        for name, one in conditions.items()
        for layer, found in one.layers.items()
        for part, array in zip(FIELDS, found, strict=False)
    } | {
        f"learnt.{name}/{parameter}": array
        for name, one in conditions.items()
        for parameter, array in one.learnt.items()
    }
    return safetensors.numpy.save(arrays, metadata={"format": _FORMAT, "about": about})


def decode(data: bytes, source: str) -> tuple[dict[str, ConditionArrays], str]:
    """Decode the bytes of :func:`encode`; ``source`` names the file in errors.

    Raises:
        CheckpointError: The bytes are damaged or of another format, or a layer lacks a tensor.
    """
    try:
        arrays = safetensors.numpy.load(data)
        metadata = _metadata(data)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        # The numpy reader knows fewer types than the format: KeyError or TypeError for the others.
        raise CheckpointError(f"{source}: not a file of conditions: {error}") from error
    if metadata.get("format") not in _READ:
        raise CheckpointError(f"{source}: unknown format {metadata.get('format')!r}: update this program")
    found: dict[str, dict[str, dict[str, Array]]] = {}
    learnt: dict[str, dict[str, Array]] = {}
    for key, array in arrays.items():
        match = _LEARNT.fullmatch(key)
        if match is not None:
            learnt.setdefault(match["condition"], {})[match["parameter"]] = array
            continue
        match = _KEY.fullmatch(key)
        if match is None:
            raise CheckpointError(f"{source}: unknown tensor {key!r}")
        found.setdefault(match["condition"], {}).setdefault(match["layer"], {})[match["field"]] = array
    return {
        name: ConditionArrays(
            {layer: _layer(source, layer, fields) for layer, fields in found.get(name, {}).items()},
            learnt.get(name, {}),
        )
        for name in dict.fromkeys((*found, *learnt))
    }, metadata.get("about", "")


def load_arrays(path: Path) -> tuple[dict[str, ConditionArrays], str]:
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


def _layer(source: str, layer: str, fields: Mapping[str, Array]) -> tuple[Array, ...]:
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
