"""The model that both builds serve: the one that comes along, slimmed as far as a round would slim it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dance_ondevice.models import checkpoint, packaged
from dance_ondevice.models.cost import count_macs
from dance_ondevice.slimming.slim import slim


def slimmed(folder: Path, share: float, base: Path | None = None) -> str:
    """Write a slimmed model without training: its masks are poor, its cost is what counts.

    Args:
        folder: Where to write it.
        share: Share of the multiply-accumulates that is left; 1 for all.
        base: Folder of another model to begin with.

    Returns:
        What it is, in words.

    Raises:
        CheckpointError: There is no such model.
        NotPrunable: Its channels cannot be removed.
    """
    model, card = checkpoint.load(base or packaged.FOLDER)
    before = count_macs(model, *card.macs_at)
    if share < 1.0:
        slim(model, target_macs=round(share * before), size=card.macs_at)
    checkpoint.save(folder, model, replace(card, gate={}, version=""))
    height, width = card.macs_at
    return (
        f"{card.architecture}, {count_macs(model, *card.macs_at) / 1e6:.0f} of {before / 1e6:.0f} MMAC "
        f"at {width}x{height}"
    )
