"""The first steps of a new installation, and which of them is next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Step", "advice", "finished", "steps"]

#: Labelled frames that the guide asks for; the service says itself how many a round needs.
_LABELS = 3


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step: its title, what to do, a command or a page for it, and whether it is done, next or later."""

    title: str
    text: str
    state: Literal["done", "next", "later"]
    command: str = ""
    link: str = ""
    link_text: str = ""


def steps(status: Mapping[str, Any]) -> Sequence[Step]:
    """The steps from an empty installation to a model that learns.

    Args:
        status: The daemon's report of itself.
    """
    samples, inference = status.get("samples") or {}, status.get("inference") or {}
    stored = (samples.get("labelled") or 0) + (samples.get("unlabelled") or 0)
    frames = bool(stored or sum((status.get("frames") or {}).values()))
    labelled = samples.get("labelled") or 0
    # A round's version counts as trained as well as one that was imported.
    # No word of a warning tells: it may quote a file's name, or what a sender wrote.
    trained = bool(status.get("version")) and not status["untrained"]
    endpoint = next(iter((status.get("endpoints") or {}).get("ingest") or ()), "tcp://127.0.0.1:5555")
    classes = ", ".join(status.get("classes") or ())
    wanted: list[tuple[bool, dict[str, str]]] = [
        (
            frames,
            {
                "title": "Send frames",
                "text": (
                    "A camera of this board, an address or a recording. "
                    f"Programs of your own send to {endpoint}."
                ),
                "command": "dance-ondevice stream /dev/video0 --camera front",
            },
        ),
        (
            trained,
            {
                "title": "Name the classes and bring a base model",
                "text": (
                    f"The classes are {classes or 'not set'}; model.classes in the configuration names "
                    "others. "
                    "A base model that knows streets already needs far fewer labels. Without one, learning "
                    "starts from nothing, which works too."
                ),
                "command": "dance-ondevice models import FOLDER",
            },
        ),
        (
            labelled >= _LABELS,
            {
                "title": "Label three frames",
                "text": "The device shows the frames that it needs most. A few taps each will do to begin.",
                "link": "/label",
                "link_text": "Open the first frame",
            },
        ),
    ]
    if not inference.get("enabled"):
        wanted.insert(
            1,
            (
                False,
                {
                    "title": "Switch inference on",
                    "text": "Without it there are no masks to look at, and none to start a label from.",
                    "command": "inference.enabled = true",
                },
            ),
        )
    found: list[Step] = []
    for done, facts in wanted:
        waits = not done and any(step.state == "next" for step in found)
        found.append(Step(state="done" if done else "later" if waits else "next", **facts))
    return found


def finished(found: Sequence[Step]) -> bool:
    """Whether nothing is left to do."""
    return all(step.state == "done" for step in found)


def advice(step: Mapping[str, Any]) -> str:
    """The reason why nothing is learnt now, without the command that a button stands for."""
    return str(step["line"]).removesuffix(f"; next: {step['command']}")
