"""A model version's files as plain arrays, read and written without torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from dance_ondevice.files import write_durably
from dance_ondevice.fleet.layers import Array, Numbers
from dance_ondevice.models.card import (
    CARD_FILE,
    TENSORS_FILE,
    CheckpointError,
    ModelCard,
    encode_card,
    read_card,
)

__all__ = ["Arrays", "read_arrays", "with_values"]

Arrays = dict[str, np.ndarray]
_MODEL, _ORIGIN = "model/", "origin/"


def read_arrays(directory: Path) -> tuple[ModelCard, dict[str, Array], dict[str, Numbers]]:
    """Read a version's card, tensors and channel numbers.

    Returns:
        The card; the tensors in float32 (counters too) by their names in the model; for every layer that has
        channels the numbers of its inputs and outputs in the root.

    Raises:
        CheckpointError: A file is missing or damaged, or its channel numbers were never recorded.
    """
    card = read_card(directory)
    found = _load(directory, card)
    if not card.root:
        raise CheckpointError(
            f"{directory}: this model was slimmed before channel numbers were recorded: it cannot join a "
            "fleet"
        )
    tensors = {k.removeprefix(_MODEL): v.astype(np.float32) for k, v in found.items() if k.startswith(_MODEL)}
    numbers = {}
    for layer, (inputs, outputs, _) in card.channels.items():
        out = found.get(f"{_ORIGIN}{layer}/out", np.arange(outputs))
        into = found.get(f"{_ORIGIN}{layer}/in", out if inputs == outputs else np.arange(inputs))
        numbers[layer] = (into.astype(np.intp), out.astype(np.intp))
    return card, tensors, numbers


def with_values(directory: Path, out: Path, values: Mapping[str, Array], card: ModelCard) -> ModelCard:
    """Write a version that differs from another one in its values alone.

    Args:
        directory: The version whose shapes, types and channel numbers it has.
        out: Its folder, created if missing.
        values: Tensors by their names in the model; a missing one keeps its value.
        card: Its card; the SHA-256 is set here.

    Raises:
        CheckpointError: The version cannot be read, or a tensor has another shape.
        OSError: The files cannot be written.
    """
    found = _load(directory, read_card(directory))
    for name, value in values.items():
        old = found.get(_MODEL + name)
        if old is None or old.shape != value.shape:
            raise CheckpointError(
                f"{directory}: {name} of shape {list(value.shape)} does not fit this version"
            )
        # safetensors writes memory as it lies: another order than C would scramble the values.
        found[_MODEL + name] = value.astype(old.dtype, order="C")
    data = safetensors.numpy.save(found, metadata={"format": "pt"})
    written = replace(card, sha256=hashlib.sha256(data).hexdigest())
    out.mkdir(parents=True, exist_ok=True)
    write_durably(out / TENSORS_FILE, data)
    write_durably(out / CARD_FILE, encode_card(written))
    return written


def _load(directory: Path, card: ModelCard) -> Arrays:
    file = directory / TENSORS_FILE
    try:
        data = file.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{file}: cannot read the tensors: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != card.sha256:
        raise CheckpointError(f"{file}: damaged, or not the file that its card was written for")
    try:
        return safetensors.numpy.load(data)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{file}: not a safetensors file that can be read here: {error}") from error
