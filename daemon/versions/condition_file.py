"""What a version's file of conditions says, read without torch: what serves, and what stands in for it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from dance_ondevice.documents import decode
from dance_ondevice.policies.rounds import condition_rounds
from dance_ondevice.policies.stream.conditions import State

__all__ = ["CONDITIONS_FILE", "About", "Known", "about_of", "known_of", "read"]

log = logging.getLogger(__name__)

#: Beside a checkpoint's tensors; the same as in ``models.condition_store``, which loads torch.
CONDITIONS_FILE = "conditions.safetensors"
_LARGEST_HEADER = 1 << 24


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What stands beside the statistics in the file.

    Attributes:
        state: of ``policies.conditions``, as JSON.
        refused: conditions whose statistics were worse than what served before.
    """

    state: msgspec.Raw
    refused: tuple[str, ...] = ()


@dataclass(frozen=True)
class Known:
    """Which conditions serve, and from which each one opened."""

    live: frozenset[str] = frozenset()
    parents: Mapping[str, str] = field(default_factory=dict)

    def serving(self, condition: str) -> str:
        """The condition whose statistics serve a frame of ``condition``; see ``condition_rounds.serving``."""
        return condition_rounds.serving(condition, self.live, self.parents)


def about_of(text: str) -> About:
    """Read what stands beside the statistics.

    Raises:
        DocumentError: it is not what the service writes.
    """
    return decode(text, About)


def known_of(live: Iterable[str], text: str) -> Known:
    """What the file says; a set of a condition that its text does not know is not served.

    Args:
        live: names of the conditions in it.
        text: that stands beside them; a file without any is not served at all.

    Raises:
        DocumentError: the text is not what the service writes.
    """
    if not text:
        return Known()
    state = decode(about_of(text).state, State)
    parents = {each.name: each.parent for each in state.conditions}
    return Known(frozenset(live) & parents.keys(), parents)


def read(directory: Path) -> Known:
    """What is known of a version's conditions; nothing where there is no file, or none that can be read."""
    file = directory / CONDITIONS_FILE
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            header = decode(opened.read(min(length, _LARGEST_HEADER)), dict[str, Any])
        keys = [key.partition(".")[2].partition("/")[0] for key in header if key != "__metadata__"]
        return known_of(keys, header.get("__metadata__", {}).get("about", ""))
    except FileNotFoundError:
        return Known()
    except (OSError, ValueError, AttributeError, TypeError) as error:
        log.warning("conditions not read file=%s error=%s", file, error)
        return Known()
