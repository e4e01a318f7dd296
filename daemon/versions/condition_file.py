"""Reads a version's file of conditions without torch: which ones are live, and their parents."""

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

#: Lies beside a checkpoint's tensors; the same name as in ``conditions.store``, which loads torch.
CONDITIONS_FILE = "conditions.safetensors"
_LARGEST_HEADER = 1 << 24


class About(msgspec.Struct, frozen=True, kw_only=True):
    """The description that the file holds beside the statistics.

    Attributes:
        state: State of ``policies.stream.conditions``, as JSON.
        refused: Conditions whose statistics were worse than those that served before.
    """

    state: msgspec.Raw
    refused: tuple[str, ...] = ()


@dataclass(frozen=True)
class Known:
    """The conditions that are live, and the parent from which each condition was opened.

    Attributes:
        live: Names of the conditions whose statistics serve.
        parents: The parent of each condition.
        opened: Number of conditions that were opened until then.
    """

    live: frozenset[str] = frozenset()
    parents: Mapping[str, str] = field(default_factory=dict)
    opened: int = 0

    def serving(self, condition: str) -> str:
        """The condition whose statistics serve a frame of ``condition``; see ``condition_rounds.serving``."""
        return condition_rounds.serving(condition, self.live, self.parents)


def about_of(text: str) -> About:
    """Decode the description beside the statistics.

    Raises:
        DocumentError: The text is not such a description.
    """
    return decode(text, About)


def known_of(live: Iterable[str], text: str) -> Known:
    """The conditions of a file; a set whose condition is not in the description is not served.

    Args:
        live: Names of the conditions whose sets the file holds.
        text: The description in the file; without one, no set is served.

    Raises:
        DocumentError: The text is not such a description.
    """
    if not text:
        return Known()
    state = decode(about_of(text).state, State)
    parents = {each.name: each.parent for each in state.conditions}
    return Known(frozenset(live) & parents.keys(), parents, state.opened)


def read(directory: Path) -> Known:
    """Read the conditions of a version; empty where the file is missing or unreadable."""
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
