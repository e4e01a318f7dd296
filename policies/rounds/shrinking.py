"""Shrinking a round that does not fit the memory: smaller batches first, then smaller images."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RoundSize", "regrow", "shrink"]

#: Least batch size: batch normalisation needs a variance over more than one image.
MIN_BATCH = 2
#: Least factor on the stored sides of an image: training on smaller images is useless.
MIN_SCALE = 0.5
_SCALE_STEP = 0.75


@dataclass(frozen=True, slots=True)
class RoundSize:
    """Size that decides a round's memory: images in a step, and the factor on the sides of each of them."""

    batch_size: int
    scale: float = 1.0


def shrink(size: RoundSize) -> RoundSize | None:
    """Return the next smaller size: half the batch, then three quarters of the sides; None at the least."""
    if size.batch_size > MIN_BATCH:
        return RoundSize(max(MIN_BATCH, size.batch_size // 2), size.scale)
    if size.scale > MIN_SCALE:
        return RoundSize(size.batch_size, max(MIN_SCALE, size.scale * _SCALE_STEP))
    return None


def regrow(full: RoundSize, last: RoundSize, peak_bytes: int | None, limit_bytes: int) -> RoundSize:
    """Return the size to begin the next round with, given the size that fitted last time.

    A size that fitted is kept, and grows by a step (scale first) if the trainer's peak was below half of the
    current limit: a step less than doubles the memory. A size that needed no shrinking is the full one.

    Args:
        full: Size from the configuration.
        last: Size that the last round ended with.
        peak_bytes: Peak memory of its trainer in bytes; None if unknown.
        limit_bytes: Memory in bytes that a trainer may use now.
    """
    if last.batch_size >= full.batch_size and last.scale >= full.scale:
        return full
    if peak_bytes is None or 2 * peak_bytes > limit_bytes:
        return RoundSize(min(full.batch_size, last.batch_size), min(full.scale, last.scale))
    if last.scale < full.scale:
        return RoundSize(min(full.batch_size, last.batch_size), min(full.scale, last.scale / _SCALE_STEP))
    return RoundSize(min(full.batch_size, last.batch_size * 2), full.scale)
