"""The base model that comes with the package."""

from __future__ import annotations

import pytest

from dance_ondevice.images.labels import STREET_CLASSES
from dance_ondevice.models import checkpoint, packaged
from dance_ondevice.models.card import TENSORS_FILE


def test_it_is_small_and_loads() -> None:
    model, card = checkpoint.load(packaged.FOLDER)

    assert (packaged.FOLDER / TENSORS_FILE).stat().st_size <= 3_000_000
    assert card.classes == STREET_CLASSES
    assert not model.training


def test_its_card_says_how_it_was_made() -> None:
    made = packaged.card().training

    assert made["dataset"]["name"] == "street"
    assert made["dataset"]["varied"] is True
    assert {"seed", "epochs", "samples", "size", "cpu_seconds", "validation"} <= made.keys()
    assert "untrained" not in made


@pytest.mark.parametrize(
    ("architecture", "factory", "classes", "fits"),
    [
        ("fastscnn", "", STREET_CLASSES, True),
        ("fastscnn", "", STREET_CLASSES[::-1], False),
        ("fastscnn", "", ("rail", "ballast"), False),
        ("hrnet", "", STREET_CLASSES, False),
        ("fastscnn", "my.module:net", STREET_CLASSES, False),
    ],
)
def test_it_fits_its_own_kind_alone(
    architecture: str, factory: str, classes: tuple[str, ...], fits: bool
) -> None:
    assert packaged.fits(architecture, factory, classes) is fits
