"""A release: a fleet version as its boards get it, one safetensors file of the root's shapes in 16 bits.

It is named by the SHA-256 of its bytes. The statistics of normalisation layers are no part of it, as each
board estimates its own. Who has one release gets the next as a file of changes (:func:`encode_change`), which
makes exactly the same bytes of it; what makes others is known by their name and fetched whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from dance_ondevice.fleet.changes import (
    ChangeError,
    arrays_of,
    file_limit,
    narrowed,
    pack,
    unpack,
    values_of,
)
from dance_ondevice.fleet.layers import Array
from dance_ondevice.fleet.root import Root, travels

__all__ = [
    "ReleaseError",
    "apply_change",
    "decode_release",
    "encode_change",
    "encode_release",
    "release_name",
]


class ReleaseError(ValueError):
    """Error: these bytes are no release of this fleet; the message says why."""


def encode_release(root: Root, tensors: Mapping[str, Array]) -> bytes:
    """Write a version; values in 16 bits, of a tensor with values beyond 65,504 in 32."""
    return safetensors.numpy.save(
        {name: narrowed(tensor) for name, tensor in tensors.items() if travels(root, name)},
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


def encode_change(root: Root, tensors: Mapping[str, Array], base: bytes) -> bytes:
    """Write what makes the next release of one.

    Args:
        root: Description of the root.
        tensors: Values of the next version, in 32 bits.
        base: The release that is there. It lacks what rounding has left out of its own version; counted from
            its bytes, that comes along now.
    """
    name = release_name(base)
    own = {key: tensor for key, tensor in tensors.items() if travels(root, key)}
    data = safetensors.numpy.save(
        arrays_of(own, decode_release(base, root, name)), metadata={"root": root.sha256, "base": name}
    )
    return pack(data)


def apply_change(root: Root, change: bytes, base: bytes) -> bytes:
    """Make the next release of one; the server does it as boards do.

    Args:
        root: Description of the root.
        change: What :func:`encode_change` wrote.
        base: The release that it was counted from.

    Raises:
        ReleaseError: The two do not fit each other, or one is damaged.
    """
    old = decode_release(base, root, release_name(base))
    try:
        data = unpack(change, file_limit({name: tensor.shape for name, tensor in old.items()}))
        found = safetensors.numpy.load(data)
        tensors = values_of(found, old)
    except (ChangeError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ReleaseError(f"a change of a release that cannot be used: {error}") from error
    if {name: tensor.shape for name, tensor in tensors.items()} != {n: t.shape for n, t in old.items()}:
        raise ReleaseError("a change of a release that does not have its tensors")
    return encode_release(root, tensors)
