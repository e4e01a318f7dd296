"""The model card: the description of a checkpoint's model. Reading a card does not import torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import msgspec

from dance_ondevice.documents import DocumentError, decode
from dance_ondevice.learnt_loss import LossWeights
from dance_ondevice.models.mapping.class_map import ClassMap, ClassMapError

#: Format number of cards. It grows only when an older program could misread a newer card, not for new fields.
FORMAT = 1

TENSORS_FILE = "model.safetensors"
CARD_FILE = "card.json"

Positive = Annotated[int, msgspec.Meta(ge=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]


class CheckpointError(ValueError):
    """Error: a checkpoint cannot be written, is missing or damaged, or does not fit, as the message says."""


@dataclass(frozen=True)
class Normalisation:
    """Mean and deviation that pixel values in [0, 1] are centred and scaled by, in the order R, G, B.

    The default is ImageNet's mean and deviation.

    Raises:
        ValueError: A number is not finite, or a deviation is not positive.
    """

    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        if not all(math.isfinite(value) for value in (*self.mean, *self.std)) or min(self.std) <= 0:
            raise ValueError(f"mean must be finite and std positive, found mean {self.mean}, std {self.std}")


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """Description of one version of a model, in ``card.json`` beside its tensors.

    ``checkpoint.save`` sets the fields marked (saved) from the model itself and overwrites their values.

    Attributes:
        version: Name of this version; empty until it gets one.
        architecture: Name in the registry; only a label if there is a factory.
        factory: Name "package.module:callable" that builds a user's model, else "".
        arguments: Keyword arguments of the architecture.
        classes: Class names in the order of the output channels.
        class_map: Classes that the network itself tells apart, and which of them stand for each of
            ``classes``; None if it tells ``classes`` apart.
        normalisation: Normalisation of the input.
        parent: Version that this one was made from.
        root: SHA-256 of the tensors file that all slimming began with, to whose channels the recorded channel
            numbers refer; empty if it is not known.
        created_at: Time of creation in seconds since the epoch; None if the time was unknown.
        channels: Channels [in, out, groups] of each layer that has channels, by module name (saved).
        removed_branches: Multi-scale branches that were removed whole, in that order (saved).
        training_only: Submodules in the tensors file that inference never runs, such as auxiliary heads
            (saved).
        macs_at: Size (height, width) that the MACs are counted at.
        macs: Multiply-accumulates of one inference at that size (saved).
        parameters: Number of trainable values that inference uses (saved).
        unslimmed_macs: MACs before any slimming, at the same size; 0 means not slimmed, and is saved as
            ``macs``.
        training: Facts of its training as the trainer reports them: frames, steps, joules.
        gate: Results of the promotion gate.
        scale_loss: What the model loses on smaller images, learnt by a round; None if none has learnt it.
        sha256: SHA-256 of the tensors file (saved).
        format: Format number of the card and the tensors file.
    """

    classes: tuple[str, ...]
    macs_at: tuple[Positive, Positive]
    version: str = ""
    architecture: str = ""
    factory: str = ""
    class_map: ClassMap | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    normalisation: Normalisation = Normalisation()
    parent: str | None = None
    root: str = ""
    created_at: float | None = None
    channels: dict[str, tuple[Positive, Positive, Positive]] = field(default_factory=dict)
    removed_branches: tuple[str, ...] = ()
    training_only: tuple[str, ...] = ()
    macs: Count = 0
    parameters: Count = 0
    unslimmed_macs: Count = 0
    training: dict[str, Any] = field(default_factory=dict)
    gate: dict[str, Any] = field(default_factory=dict)
    scale_loss: LossWeights | None = None
    sha256: str = ""
    format: int = FORMAT

    @property
    def macs_fraction(self) -> float:
        """Return the MACs as a fraction of the unslimmed model's; 1.0 if it was never slimmed."""
        return self.macs / self.unslimmed_macs if self.unslimmed_macs else 1.0


def read_card(path: Path) -> ModelCard:
    """Read the card of a checkpoint, without its tensors.

    Args:
        path: Directory of the checkpoint, or one of the two files in it.

    Raises:
        CheckpointError: There is no card, it is not JSON, a field (named) is missing or wrong, or its format
            is newer.
    """
    file = directory_of(path) / CARD_FILE
    try:
        data = file.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{file}: cannot read the model card: {error.strerror}") from error
    return decode_card(data, str(file))


def decode_card(data: bytes, source: str) -> ModelCard:
    """Decode a card; see :func:`read_card`. ``source`` names it in errors."""
    try:
        raw = decode(data, object)
        found = raw.get("format") if isinstance(raw, Mapping) else None
        if isinstance(found, int) and found > FORMAT:
            raise CheckpointError(
                f"{source}: the card has format {found}, this program reads up to {FORMAT}: update it"
            )
        card = msgspec.convert(raw, ModelCard)
    except (DocumentError, msgspec.ValidationError) as error:
        raise CheckpointError(f"{source}: not a model card: {error}") from error
    if not card.classes:
        raise CheckpointError(f"{source}: the card names no classes")
    if card.class_map is not None:
        try:
            card.class_map.check(card.classes)
        except ClassMapError as error:
            raise CheckpointError(f"{source}: class_map: {error}") from error
    return with_root(card)


def with_root(card: ModelCard) -> ModelCard:
    """Return the card with its root, if it has none and was made from no other model: then it is a root.

    A model that was slimmed before channels were recorded has a parent and no root, and gets none.
    """
    return card if card.root or card.parent is not None else replace(card, root=card.sha256)


def encode_card(card: ModelCard) -> bytes:
    """Encode a card as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(card), indent=2) + b"\n"


def directory_of(path: Path) -> Path:
    """Return the directory of a checkpoint, given the directory or one of its files."""
    return path.parent if path.name in (TENSORS_FILE, CARD_FILE) else path
