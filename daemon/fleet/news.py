"""What a fleet's server tells its boards of its versions."""

from __future__ import annotations

from dance_ondevice.daemon.fleet.facts import VersionFacts
from dance_ondevice.daemon.fleet.shelf import Shelf
from dance_ondevice.daemon.wire import fleet_messages as messages

__all__ = ["changes_told", "told"]

#: Published versions whose changes boards are told: a longer chain has more bytes than the newest release.
_CHANGES_TOLD = 4


def told(facts: VersionFacts) -> messages.Release:
    """A version's release."""
    return messages.Release(number=facts.number, sha256=facts.sha256, size=facts.size)


def changes_told(shelf: Shelf) -> tuple[messages.Change, ...]:
    """What makes the newest releases of those before."""
    newest = sorted((v for v in shelf.versions.values() if v.status == "published"), key=lambda v: -v.number)
    return tuple(
        messages.Change(release=v.sha256, base=v.change.base, sha256=v.change.sha256, size=v.change.size)
        for v in (shelf.candidate, *newest[:_CHANGES_TOLD])
        if v is not None and v.change is not None
    )
