"""The model card: what a checkpoint says about its model. Reading one does not import torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec

from dance_ondevice.documents import DocumentError, decode

#: Raised only when an older program could misread a newer card; new fields alone do not need it.
FORMAT = 1

TENSORS_FILE = "model.safetensors"
CARD_FILE = "card.json"

Positive = Annotated[int, msgspec.Meta(ge=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]


class CheckpointError(ValueError):
    """A checkpoint cannot be written, or is missing, damaged or does not fit; the message says which."""


@dataclass(frozen=True)
class Normalisation:
    """How pixel values in [0, 1] are centred and scaled for a model, by channel in the order R, G, B.

    The default is ImageNet's mean and deviation.

    Raises:
        ValueError: a number that is not finite, or a deviation that is not positive.
    """

    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        if not all(math.isfinite(value) for value in (*self.mean, *self.std)) or min(self.std) <= 0:
            raise ValueError(f"mean must be finite and std positive, found mean {self.mean}, std {self.std}")


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """Everything that is known about one version of a model, in ``card.json`` beside its tensors.

    ``checkpoint.save`` sets the fields marked (saved) from the model itself, whatever they were.

    Attributes:
        version: name of this version; empty until it gets one.
        architecture: name in the registry; only a label where there is a factory.
        factory: "package.module:callable" of a model that the user brought, else "".
        arguments: keyword arguments of the architecture.
        classes: class names in the order of the output channels.
        normalisation: of the input.
        parent: version that this one was made from.
        created_at: seconds since the epoch, None where no clock was at hand.
        channels: module name -> [in, out, groups] of each layer that has channels (saved).
        removed_branches: multi-scale branches that were taken out whole, in that order (saved).
        training_only: submodules in the tensors file that inference never runs, such as auxiliary heads
            (saved).
        macs_at: (height, width) that the MACs are counted at.
        macs: multiply-accumulates of one inference at that size (saved).
        parameters: trainable numbers that inference uses (saved).
        unslimmed_macs: MACs before any slimming, at the same size; 0 means not slimmed, and is saved as
            ``macs``.
        training: what it was trained on and how, as the trainer tells it: frames, steps, joules.
        gate: results of the promotion gate.
        sha256: of the tensors file (saved).
        format: of the card and the tensors file.
    """

    classes: tuple[str, ...]
    macs_at: tuple[Positive, Positive]
    version: str = ""
    architecture: str = ""
    factory: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    normalisation: Normalisation = Normalisation()
    parent: str | None = None
    created_at: float | None = None
    channels: dict[str, tuple[Positive, Positive, Positive]] = field(default_factory=dict)
    removed_branches: tuple[str, ...] = ()
    training_only: tuple[str, ...] = ()
    macs: Count = 0
    parameters: Count = 0
    unslimmed_macs: Count = 0
    training: dict[str, Any] = field(default_factory=dict)
    gate: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""
    format: int = FORMAT

    @property
    def macs_fraction(self) -> float:
        """MACs as a fraction of the unslimmed model's; 1.0 if it was never slimmed."""
        return self.macs / self.unslimmed_macs if self.unslimmed_macs else 1.0


def read_card(path: Path) -> ModelCard:
    """Read the card of a checkpoint, without its tensors.

    Args:
        path: the checkpoint's directory, or one of the two files in it.

    Raises:
        CheckpointError: no card, not JSON, a field that is missing or wrong (named), or a newer format.
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
    return card


def encode_card(card: ModelCard) -> bytes:
    """The card as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(card), indent=2) + b"\n"


def directory_of(path: Path) -> Path:
    """The checkpoint's directory, given it or one of its files."""
    return path.parent if path.name in (TENSORS_FILE, CARD_FILE) else path
