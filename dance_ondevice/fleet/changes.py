"""Values as they travel: whole in 16 bits, or as changes against a release that both ends have.

A change is a whole number of steps in 8 bits. The step of each row (the first axis: an output channel) is
an eighth of the root mean square of its changes, so that of all distributions none takes more than about 5.1
bits a value once it is packed: for a given variance the normal one has the most entropy. Vectors (scales,
shifts, biases) are small and stay whole.

Both ends compute the same values from the same bytes: a product and a sum in 32 bits, each rounded once. What
rounding to a step leaves out is never lost: whoever sends keeps its own values, and the next change is
counted from what the other end has.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np

from dance_ondevice.fleet.layers import Array

__all__ = ["MAGIC", "ChangeError", "arrays_of", "file_limit", "narrowed", "pack", "unpack", "values_of"]

#: Begins a packed file. It is absurd as the length of a safetensors header: old readers say so.
MAGIC = b"dance-f1"
_MODEL, _CHANGE, _STEP = "model/", "change/", "step/"
#: Steps in the root mean square of a row's changes.
_STEPS = 8
#: Steps of the longest change of a row at most.
_MOST = 127
#: A row with fewer values has no step of its own: all rows of its tensor share one.
_LEAST_ROW = 64
_HALF = float(np.finfo(np.float16).max)


class ChangeError(ValueError):
    """Error: these bytes hold no values that can be read; the message says why."""


def file_limit(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Return the most bytes of a file of this root: all its channels in 32 bits, and their numbers."""
    values = sum(int(np.prod(shape, dtype=np.int64)) for shape in shapes.values())
    return 4 * values + 64 * 1024 + 512 * len(shapes)


def narrowed(tensor: Array) -> np.ndarray:
    """Return a tensor in 16 bits, in C order; in 32 if it has a value beyond 65,504."""
    fits = float(np.abs(tensor).max(initial=0.0)) <= _HALF
    # safetensors writes memory as it lies: another order than C would scramble the values.
    return tensor.astype(np.float16 if fits else np.float32, order="C")


def arrays_of(tensors: Mapping[str, Array], base: Mapping[str, Array]) -> dict[str, np.ndarray]:
    """Return tensors as the arrays of a file.

    Args:
        tensors: float32, by name.
        base: What changes are counted from; a tensor that it lacks, or has in another shape, stays whole.
    """
    out: dict[str, np.ndarray] = {}
    for name, tensor in tensors.items():
        old = base.get(name)
        change = None if old is None or old.shape != tensor.shape or tensor.ndim < 2 else tensor - old
        if change is None or not np.isfinite(change).all():
            out[_MODEL + name] = narrowed(tensor)
        else:
            out[_CHANGE + name], out[_STEP + name] = _in_steps(change)
    return out


def values_of(found: Mapping[str, np.ndarray], base: Mapping[str, Array]) -> dict[str, Array]:
    """Read what :func:`arrays_of` wrote; arrays of other names are left alone.

    Args:
        found: The arrays of a file.
        base: What its changes are counted from.

    Returns:
        float32 tensors by name, all finite.

    Raises:
        ChangeError: A tensor stands twice, has a wrong type or shape, or is not finite.
    """
    tensors: dict[str, Array] = {}
    for key, value in found.items():
        group, _, name = key.partition("/")
        if group not in ("model", "change"):
            continue
        if name in tensors:
            raise ChangeError(f"{name} stands twice")
        wide = _whole(key, value) if group == "model" else _changed(name, value, found, base)
        if not np.isfinite(wide).all():
            raise ChangeError(f"{key} holds values that are not finite")
        tensors[name] = wide
    return tensors


def pack(data: bytes) -> bytes:
    """Pack a safetensors file."""
    # Noise has nothing that repeats: its bytes are coded one by one, by how often each occurs.
    engine = zlib.compressobj(6, strategy=zlib.Z_FILTERED)
    return MAGIC + engine.compress(data) + engine.flush()


def unpack(data: bytes, most: int) -> bytes:
    """Return the safetensors file in what :func:`pack` wrote; other bytes as they are.

    Raises:
        ChangeError: It is damaged, or has more than ``most`` bytes.
    """
    if not data.startswith(MAGIC):
        return data
    engine = zlib.decompressobj()
    try:
        found = engine.decompress(data[len(MAGIC) :], most + 1)
    except zlib.error as error:
        raise ChangeError(f"a packed file that is damaged: {error}") from error
    if len(found) > most or engine.unconsumed_tail:
        raise ChangeError(f"it unpacks to more than the {most} bytes that a file of this root has at most")
    if not engine.eof or engine.unused_data:
        raise ChangeError("a packed file that is cut short, or has something behind it")
    return found


def _in_steps(change: Array) -> tuple[np.ndarray, np.ndarray]:
    """A change as numbers of steps, and the step of each row, or one of all."""
    long = change[0].size >= _LEAST_ROW
    rows = change.reshape(len(change) if long else 1, -1)
    typical = np.sqrt(np.mean(np.square(rows, dtype=np.float64), axis=1)) / _STEPS
    step = np.maximum(typical, np.abs(rows).max(axis=1) / _MOST).astype(np.float32)
    counted = np.rint(rows / np.where(step > 0, step, 1)[:, None]).clip(-_MOST, _MOST)
    return counted.astype(np.int8).reshape(change.shape), step


def _whole(key: str, value: np.ndarray) -> Array:
    if value.dtype not in (np.float16, np.float32):
        raise ChangeError(f"{key} is {value.dtype}; float16 or float32 are taken")
    return value.astype(np.float32)


def _changed(
    name: str, counted: np.ndarray, found: Mapping[str, np.ndarray], base: Mapping[str, Array]
) -> Array:
    old, step = base.get(name), found.get(_STEP + name)
    if old is None or counted.dtype != np.int8 or counted.shape != old.shape or counted.size == 0:
        raise ChangeError(f"{name} does not fit the release that its change is counted from")
    if step is None or step.dtype != np.float32 or step.shape not in ((1,), counted.shape[:1]):
        raise ChangeError(f"the steps of {name} are missing or of a wrong type")
    if not (np.isfinite(step).all() and (step >= 0).all()):
        raise ChangeError(f"the steps of {name} are not finite, or negative")
    with np.errstate(over="ignore"):  # it is looked for afterwards
        moved = counted.astype(np.float32).reshape(len(step), -1) * step[:, None]
        whole: Array = old + moved.reshape(old.shape)
    return whole
