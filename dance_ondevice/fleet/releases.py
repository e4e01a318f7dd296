"""A release: a fleet version as its boards get it, one safetensors file of the root's shapes in 16 bits.

It is named by the SHA-256 of its bytes. The statistics of normalisation layers are no part of it, as each
board estimates its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from dance_ondevice.fleet.layers import Array
from dance_ondevice.fleet.root import Root, travels

__all__ = ["ReleaseError", "decode_release", "encode_release", "release_name", "rounded"]


class ReleaseError(ValueError):
    """Error: these bytes are no release of this fleet; the message says why."""


def encode_release(root: Root, tensors: Mapping[str, Array]) -> bytes:
    """Write a version; values in 16 bits, of a tensor with values beyond 65,504 in 32."""
    return safetensors.numpy.save(
        {
            name: tensor.astype(np.float16 if _fits(tensor) else np.float32, order="C")
            for name, tensor in tensors.items()
            if travels(root, name)
        },
        metadata={"root": root.sha256},
    )


def decode_release(data: bytes, root: Root, sha256: str) -> dict[str, Array]:
    """Read a release.

    Args:
        data: The file.
        root: Description of the fleet's root.
        sha256: Its name.

    Returns:
        float32 tensors in the root's shapes, by their names in the model.

    Raises:
        ReleaseError: The bytes have another name, are not safetensors, or hold what the root does not have or
            values that are not finite.
    """
    if release_name(data) != sha256:
        raise ReleaseError("damaged: its SHA-256 is not its name")
    try:
        found = safetensors.numpy.load(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ReleaseError(f"not a safetensors file that can be read: {error}") from error
    tensors: dict[str, Array] = {}
    for name, value in found.items():
        wide = value.astype(np.float32) if value.dtype in (np.float16, np.float32) else None
        if wide is None or not travels(root, name) or not np.isfinite(wide).all():
            raise ReleaseError(f"{name} is not finite, or nothing that this fleet averages")
        tensors[name] = wide
    return tensors


def release_name(data: bytes) -> str:
    """Return the name of a release: its SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def rounded(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """Return the values as boards get them: what a board's change is counted from."""
    return {
        name: tensor.astype(np.float16).astype(np.float32) if _fits(tensor) else tensor
        for name, tensor in tensors.items()
    }


def _fits(tensor: Array) -> bool:
    return float(np.abs(tensor).max(initial=0.0)) <= float(np.finfo(np.float16).max)
