"""The result of ``bench console``."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ConsoleReport", "Masks"]


@dataclass(frozen=True, kw_only=True)
class Masks:
    """Masks that came while so many people watched: their number, and milliseconds by percentile."""

    viewers: int
    masks: int
    latency_ms: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class ConsoleReport:
    """Everything that was measured.

    Attributes:
        size: (height, width) of the camera's frames.
        fps: Frames a second.
        first_page_ms: The page after the login, with its style and scripts: the first time, and the median.
        tap_pixels: Pixels of the frame that is tapped at, the most that a label is corrected at.
        tap_ms: What a tap's region takes in node, by percentile; drawing is not in it.
        tap_cpu_ms: The same in milliseconds of the processor, which other work on the machine hardly changes.
        resident_mb: Of the console's process: after its start, and after three people watched.
        alone: Masks while nobody watched.
        watched: Masks while three people watched.
        p99_ratio: 99th percentile of the one by that of the other.
    """

    size: tuple[int, int]
    fps: float
    first_page_ms: dict[str, float]
    tap_pixels: int
    tap_ms: dict[str, float]
    tap_cpu_ms: dict[str, float]
    resident_mb: dict[str, float]
    alone: Masks
    watched: Masks
    p99_ratio: float
