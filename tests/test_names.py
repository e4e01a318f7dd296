"""Names that stand apart from what they name are those of what they name."""

from __future__ import annotations

from dance_ondevice import complexity, names
from dance_ondevice.images import labels


def test_indicators_are_those_that_there_are() -> None:
    assert tuple(complexity.INDICATORS) == names.INDICATORS
    assert complexity.LEARNT == names.LEARNT
    assert names.LEARNT not in names.INDICATORS


def test_classes_of_the_street_are_those_of_its_colours() -> None:
    assert labels.STREET_CLASSES == names.STREET_CLASSES
    assert len(set(names.STREET_CLASSES)) == len(names.STREET_CLASSES) == 11
