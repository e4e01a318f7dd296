"""The base model that comes with the package: it knows streets from synthetic scenes alone.

``model.safetensors`` and ``card.json`` lie in ``dance_ondevice/base``; the card says how they were made, and
docs/base-model.md what they are worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dance_ondevice.models.card import CARD_FILE, ModelCard, read_card

#: What ``pretrain --init`` calls it.
NAME = "builtin"
FOLDER = Path(__file__).resolve().parent.parent / "base"


def card() -> ModelCard:
    """Its card.

    Raises:
        CheckpointError: the package was installed without it.
    """
    return read_card(FOLDER)


def fits(architecture: str, factory: str, classes: Sequence[str]) -> bool:
    """Whether a network of this kind for these classes, in this order, can start from it as it is."""
    if factory or not (FOLDER / CARD_FILE).is_file():
        return False
    found = card()
    return found.architecture == architecture and found.classes == tuple(classes)
