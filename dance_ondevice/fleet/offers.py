"""An offer: what a board hands to its fleet after it has learnt, as one safetensors file.

It holds the weights, whole in 16 bits or as packed changes against a release that the server has
(:mod:`dance_ondevice.fleet.changes`), the numbers of the channels that they belong to, and a few numbers
about the round. It never holds images, labels, or the statistics of normalisation layers, which describe a
board's own images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from dance_ondevice.documents import DocumentError, decode
from dance_ondevice.fleet.changes import ChangeError, arrays_of, file_limit, pack, unpack, values_of
from dance_ondevice.fleet.layers import Array, Numbers, PlacementError, gather, kept_shape
from dance_ondevice.fleet.root import Root, layer_of, travels

__all__ = [
    "About",
    "Offer",
    "OfferError",
    "UnknownRelease",
    "decode_offer",
    "encode_offer",
]

_ABOUT, _ORIGIN = "about", "origin/"
#: Largest number of bytes that the description of an offer may have.
_MOST_ABOUT = 65536
#: No model that can be used has larger values; sums over many boards' stay finite.
_LARGEST = 1e9


class OfferError(ValueError):
    """Error: an offer cannot be taken; the message says why, for the board's log."""


class UnknownRelease(OfferError):  # noqa: N818 - says what is wrong
    """Error: an offer is counted from a release that is not here: it must come whole."""


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
        against: SHA-256 of the release that its changes are counted from; empty for a whole offer.
    """

    root: str
    base: int
    classes: tuple[str, ...]
    samples: int
    version: str = ""
    lineage: tuple[str, ...] = ()
    against: str = ""


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
    root: Root,
    about: About,
    tensors: Mapping[str, Array],
    numbers: Mapping[str, Numbers],
    *,
    base: Mapping[str, Array] | None = None,
) -> bytes:
    """Write an offer.

    Args:
        root: Description of the fleet's root.
        about: What the offer says about itself.
        tensors: The model's state; what does not leave the board is left out here.
        numbers: Its channels in the root, by layer.
        base: Values of the release ``about.against``, as :func:`releases.decode_release` gives them; None
            where the offer is whole.
    """
    own = {name: tensor for name, tensor in tensors.items() if travels(root, name)}
    known = {name: sides for name, sides in numbers.items() if name in root.layers}
    old = {} if base is None else _kept(root, base, known, own)
    out = arrays_of(own, old)
    for name, (inputs, outputs) in known.items():
        out[f"{_ORIGIN}{name}/in"] = inputs.astype(np.int16)
        out[f"{_ORIGIN}{name}/out"] = outputs.astype(np.int16)
    data = safetensors.numpy.save(out, metadata={_ABOUT: msgspec.json.encode(about).decode()})
    return data if base is None else pack(data)


def decode_offer(
    data: bytes,
    root: Root,
    shapes: Mapping[str, tuple[int, ...]],
    releases: Callable[[str], Mapping[str, Array] | None] = lambda _: None,
) -> Offer:
    """Read an offer from a board that nobody vouches for.

    Args:
        data: The file.
        root: Description of the fleet's root.
        shapes: Shapes of the root's tensors, by name.
        releases: Returns the values of a release by its name; None where it is not known.

    Raises:
        UnknownRelease: Its changes are counted from a release that is not known.
        OfferError: It is too large, not safetensors, of another root, its classes are none of the fleet's, a
            tensor is missing, is not finite or huge, or does not have the shape that its channels ask for.
    """
    most = file_limit(shapes)
    if len(data) > most:
        raise OfferError(f"{len(data)} bytes; an offer of this root has at most {most}")
    try:
        data = unpack(data, most)
    except ChangeError as error:
        raise OfferError(str(error)) from error
    about = _about(data)
    if about.root != root.sha256:
        raise OfferError(f"it began with the model {about.root[:12]}, this fleet with {root.sha256[:12]}")
    if about.samples < 0 or about.base < 0:
        raise OfferError("it names a negative number of samples or a negative version")
    if len(set(about.classes)) != len(about.classes) or not set(about.classes) & set(root.classes):
        raise OfferError("its classes stand twice, or none of them is one of the fleet's")
    base = releases(about.against) if about.against else {}
    if base is None:
        raise UnknownRelease(f"it is counted from version {about.against[:12]}, which is not known here")
    try:
        found = safetensors.numpy.load(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        # The numpy reader knows fewer types than the format: it raises KeyError or TypeError for the others.
        raise OfferError(f"not a safetensors file that can be read: {error}") from error
    numbers = {name: _numbers(found, name) for name in root.layers if f"{_ORIGIN}{name}/out" in found}
    changed = [name.partition("/")[2] for name in found if name.startswith("change/")]
    try:
        tensors = values_of(found, _kept(root, base, numbers, changed))
    except (ChangeError, PlacementError) as error:
        raise OfferError(str(error)) from error
    for name, tensor in tensors.items():
        if np.abs(tensor).max(initial=0.0) > _LARGEST:
            raise OfferError(f"{name} holds values beyond {_LARGEST:g}: this model has run away")
    _check_names(root, shapes, tensors, numbers)
    return _by_class(root, about, shapes, tensors, numbers)


def _kept(
    root: Root, base: Mapping[str, Array], numbers: Mapping[str, Numbers], names: Iterable[str]
) -> dict[str, Array]:
    """What changes of a board's tensors are counted from: a release's values of the channels that it has.

    The last layers are left out: a board may have other classes.

    Raises:
        PlacementError: The channel numbers do not fit the root.
    """
    found = {}
    for name in names:
        owner = layer_of(root, name)
        if name in base and owner is None:
            found[name] = base[name]
        elif name in base and owner is not None and owner[0] in numbers and owner[0] not in root.heads:
            found[name] = gather(root.layers[owner[0]], owner[1], numbers[owner[0]], base[name])
    return found


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
    # safetensors gives them in another order at each reading, and sums over them must not depend on it: a
    # version that is averaged twice has the same bytes.
    return Offer(about=about, tensors=dict(sorted(placed.items())), numbers=known)
