"""An offer: what a board hands to its fleet after it has learnt, as one safetensors file.

It holds the weights in 16 bits, the numbers of the channels that they belong to, and a few numbers about the
round. It never holds images, labels, or the statistics of normalisation layers, which describe a board's own
images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from dance_ondevice.documents import DocumentError, decode
from dance_ondevice.fleet.layers import Array, Numbers, PlacementError, kept_shape
from dance_ondevice.fleet.root import Root, layer_of, travels

__all__ = ["About", "Offer", "OfferError", "decode_offer", "encode_offer", "offer_limit"]

_ABOUT, _ORIGIN, _MODEL = "about", "origin/", "model/"
#: Largest number of bytes that the description of an offer may have.
_MOST_ABOUT = 65536


class OfferError(ValueError):
    """Error: an offer cannot be taken; the message says why, for the board's log."""


class About(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """What an offer says about itself.

    Attributes:
        root: SHA-256 of the root's tensors file.
        base: Number of the fleet version that the board's round started from; 0 is the root.
        classes: Class names in the order of the outputs.
        samples: Labelled samples that the board has learnt from since that version.
        version: The board's own name of the version.
        lineage: SHA-256 of the fleet versions that the board has taken, the newest first; empty where only
            ``base`` is known.
    """

    root: str
    base: int
    classes: tuple[str, ...]
    samples: int
    version: str = ""
    lineage: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A decoded and checked offer.

    Attributes:
        about: What it says about itself.
        tensors: float32, by their names in the model, with the shapes of the slimmed model.
        numbers: The channels in the root, by layer; the outputs of heads are numbers of the root's classes.
    """

    about: About
    tensors: Mapping[str, Array]
    numbers: Mapping[str, Numbers]


def encode_offer(
    root: Root, about: About, tensors: Mapping[str, Array], numbers: Mapping[str, Numbers]
) -> bytes:
    """Write an offer; values in 16 bits, beyond 65,504 in 32.

    Args:
        root: Description of the fleet's root.
        about: What the offer says about itself.
        tensors: The model's state; what does not leave the board is left out here.
        numbers: Its channels in the root, by layer.
    """
    out: dict[str, np.ndarray] = {}
    for name, tensor in tensors.items():
        if travels(root, name):
            fits = float(np.abs(tensor).max(initial=0.0)) <= float(np.finfo(np.float16).max)
            # safetensors writes memory as it lies: another order than C would scramble the values.
            out[_MODEL + name] = tensor.astype(np.float16 if fits else np.float32, order="C")
    for name, (inputs, outputs) in numbers.items():
        if name in root.layers:
            out[f"{_ORIGIN}{name}/in"] = inputs.astype(np.int16)
            out[f"{_ORIGIN}{name}/out"] = outputs.astype(np.int16)
    return safetensors.numpy.save(out, metadata={_ABOUT: msgspec.json.encode(about).decode()})


def offer_limit(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Return the most bytes of an offer of this root: all its channels in 32 bits, and their numbers."""
    values = sum(int(np.prod(shape, dtype=np.int64)) for shape in shapes.values())
    return 4 * values + 64 * 1024 + 512 * len(shapes)


def decode_offer(data: bytes, root: Root, shapes: Mapping[str, tuple[int, ...]]) -> Offer:
    """Read an offer from a board that nobody vouches for.

    Args:
        data: The file.
        root: Description of the fleet's root.
        shapes: Shapes of the root's tensors, by name.

    Raises:
        OfferError: It is too large, not safetensors, of another root, its classes are none of the fleet's, a
            tensor is missing, is not finite, or does not have the shape that its channels ask for.
    """
    if len(data) > offer_limit(shapes):
        raise OfferError(f"{len(data)} bytes; an offer of this root has at most {offer_limit(shapes)}")
    about = _about(data)
    if about.root != root.sha256:
        raise OfferError(f"it began with the model {about.root[:12]}, this fleet with {root.sha256[:12]}")
    if about.samples < 0 or about.base < 0:
        raise OfferError("it names a negative number of samples or a negative version")
    if len(set(about.classes)) != len(about.classes) or not set(about.classes) & set(root.classes):
        raise OfferError("its classes stand twice, or none of them is one of the fleet's")
    try:
        found = safetensors.numpy.load(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        # The numpy reader knows fewer types than the format: it raises KeyError or TypeError for the others.
        raise OfferError(f"not a safetensors file that can be read: {error}") from error
    numbers = {name: _numbers(found, name) for name in root.layers if f"{_ORIGIN}{name}/out" in found}
    tensors: dict[str, Array] = {}
    for key, value in found.items():
        if key.startswith(_MODEL):
            tensors[key.removeprefix(_MODEL)] = _checked(key, value)
    _check_names(root, shapes, tensors, numbers)
    return _by_class(root, about, shapes, tensors, numbers)


def _about(data: bytes) -> About:
    """The description in the header of a safetensors file: 8 bytes of length, then JSON."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or not 2 <= size <= len(data) - 8:
        raise OfferError("not a safetensors file")
    try:
        header = decode(data[8 : 8 + size], dict[str, msgspec.Raw])
        metadata = decode(bytes(header.get("__metadata__", b"{}")), dict[str, str])
        text = metadata.get(_ABOUT, "")
        if len(text) > _MOST_ABOUT:
            raise OfferError("its description is too long")
        return decode(text, About)
    except DocumentError as error:
        raise OfferError(f"its description cannot be read: {error}") from error


def _numbers(found: Mapping[str, np.ndarray], layer: str) -> Numbers:
    sides = [found.get(f"{_ORIGIN}{layer}/{side}") for side in ("in", "out")]
    for side in sides:
        if side is None or side.ndim != 1 or side.dtype != np.int16:
            raise OfferError(f"the channel numbers of {layer} are missing or of a wrong type")
    inputs, outputs = (np.asarray(side, np.intp) for side in sides)
    return inputs, outputs


def _checked(name: str, value: np.ndarray) -> Array:
    if value.dtype not in (np.float16, np.float32):
        raise OfferError(f"{name} is {value.dtype}; float16 or float32 are taken")
    wide = value.astype(np.float32)
    if not np.isfinite(wide).all():
        raise OfferError(f"{name} holds values that are not finite")
    return wide


def _check_names(
    root: Root,
    shapes: Mapping[str, tuple[int, ...]],
    tensors: Mapping[str, Array],
    numbers: Mapping[str, Numbers],
) -> None:
    """Compare the names with the root: of a branch that was removed, whole layers may be missing."""
    for name in tensors:
        if name not in shapes or not travels(root, name):
            raise OfferError(f"{name} is no tensor that this fleet averages")
    for name in shapes:
        owner = layer_of(root, name)
        if travels(root, name) and name not in tensors and (owner is None or owner[0] in numbers):
            raise OfferError(f"{name} is missing")
    for name in tensors:
        owner = layer_of(root, name)
        if owner is not None and owner[0] not in numbers:
            raise OfferError(f"the channel numbers of {owner[0]} are missing")


def _by_class(
    root: Root,
    about: About,
    shapes: Mapping[str, tuple[int, ...]],
    tensors: Mapping[str, Array],
    numbers: Mapping[str, Numbers],
) -> Offer:
    """Check all shapes, and bring the heads' outputs to the fleet's classes by name."""
    rows = [index for index, name in enumerate(about.classes) if name in root.classes]
    classes = np.array([root.classes.index(about.classes[index]) for index in rows], np.intp)
    placed: dict[str, Array] = {}
    known = dict(numbers)
    for name in root.heads:
        if name in known:
            if len(known[name][1]) != len(about.classes):
                raise OfferError(f"{name} has {len(known[name][1])} outputs for {len(about.classes)} classes")
            known[name] = (known[name][0], classes)
    for name, tensor in tensors.items():
        owner = layer_of(root, name)
        value = tensor
        if owner is not None and owner[0] in root.heads:
            if value.ndim == 0 or value.shape[0] != len(about.classes):
                raise OfferError(f"{name} has shape {list(value.shape)} for {len(about.classes)} classes")
            value = value[rows]
        try:
            expected = (
                shapes[name]
                if owner is None
                else kept_shape(root.layers[owner[0]], owner[1], known[owner[0]], shapes[name])
            )
        except PlacementError as error:
            raise OfferError(f"{name}: {error}") from error
        if value.shape != expected:
            raise OfferError(f"{name} has shape {list(value.shape)}, its channels ask for {list(expected)}")
        placed[name] = value
    return Offer(about=about, tensors=placed, numbers=known)
