"""What a person must see to, from the parts' snapshots: labels that are wanted, and warnings."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dance_ondevice.daemon.control import status
from dance_ondevice.daemon.control.webhook import Notice

__all__ = ["notices"]

#: Reasons for which no round starts that only a person ends.
_STUCK = frozenset({"suspended", "no_energy_meter"})
_NUMBER = re.compile(r"\d+")


def notices(parts: status.Parts) -> Iterator[Notice]:
    """Each notice that holds now, the most urgent first."""
    for wanted in parts.rounds.snapshot().labels_wanted:
        yield Notice(
            key=f"labels {wanted.camera} {wanted.condition}",
            kind="labels_wanted",
            text=f"{wanted.words}. The console's page for labels shows them, and `dance-ondevice samples "
            "export --for-labelling` writes them to a folder.",
            facts={"camera": wanted.camera, "condition": wanted.condition, "frames": wanted.frames},
        )
    step = parts.advisor.now()
    for obstacle in step.obstacles:
        if obstacle.reason in _STUCK:
            yield _warning(f"no round starts: {obstacle.words}; next: {obstacle.command}")
    for text in status.warnings(parts):
        yield _warning(text)


def _warning(text: str) -> Notice:
    # Counts in a warning grow; it is the same warning still.
    return Notice(key=f"warning {_NUMBER.sub('#', text)}", kind="warning", text=text)
