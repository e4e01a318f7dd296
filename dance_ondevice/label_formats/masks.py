"""Decoding of PNG masks: ids in grey or in a palette, or a colour for each class."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dance_ondevice.images.codec import decode_label, decode_unchanged
from dance_ondevice.images.headers import ImageError, png_chunks, probe
from dance_ondevice.images.labels import IGNORE
from dance_ondevice.label_formats.class_map import ClassMap
from dance_ondevice.label_formats.colours import Colour, ColourTable

__all__ = ["PngMask", "by_colour", "decode_mask", "from_colours", "shares", "show_colours"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _PALETTE = 0, 3
#: Largest number of colours in a mask, one for each class; a photograph, or smoothed edges, have more.
_MOST_COLOURS = 256
_SHOWN = 12
_BLACK: Colour = (0, 0, 0)


@dataclass(frozen=True)
class PngMask:
    """Content of a PNG mask: ids, colours, or both if it has a palette.

    Attributes:
        ids: Ids (H, W) uint8 as written; None if the pixels are colours, or greys in a palette
            of another order.
        colours: Colours (H, W) int32 as 65536 R + 256 G + B, -1 where transparent; None for grey.
        thrice: Whether the ids were written as three equal channels, which also are a colour.
    """

    ids: NDArray[np.uint8] | None
    colours: NDArray[np.int32] | None
    thrice: bool = False


def decode_mask(png: bytes) -> PngMask:
    """Decode a mask.

    Raises:
        ImageError: It is not a PNG of at most 8 bits, or it is grey with transparency; the message says how
            to export it.
    """
    info = probe(png)
    if info.format != "png":
        raise ImageError(f"it is a {info.format}, whose pixels are not kept exactly: export masks as PNG")
    if info.bit_depth > 8:
        raise ImageError(
            "it is a 16-bit PNG, which holds ids of instances in most layouts (in KITTI's also classes, but "
            "there pixels without a drawing have the first class): export COCO, or 8-bit masks"
        )
    kind = png[25]
    if kind == _GREY:
        return PngMask(_grey(png, info.bit_depth), None)
    if kind == _PALETTE:
        indices, colours = _grey(_as_grey(png), info.bit_depth), _packed(decode_unchanged(png))
        return PngMask(None if _renumbered(png, indices) else indices, colours)
    if info.channels == 2:
        raise ImageError("it is grey with transparency: export masks without transparency")
    pixels = decode_unchanged(png)
    first = pixels[..., 0]
    opaque = pixels.shape[2] < 4 or bool((pixels[..., 3] == 255).all())
    if opaque and np.array_equal(first, pixels[..., 1]) and np.array_equal(first, pixels[..., 2]):
        return PngMask(np.ascontiguousarray(first), _packed(pixels), thrice=True)
    return PngMask(None, _packed(pixels))


def from_colours(
    colours: NDArray[np.int32], class_map: ClassMap, table: ColourTable | None, lookup: Callable[[str], int]
) -> NDArray[np.uint8]:
    """Convert a mask of colours to ids.

    Args:
        colours: Colours as in ``PngMask``.
        class_map: Class map, whose colours are used first.
        table: Table of names by colour; None without one.
        lookup: Function that returns the id of a name.

    Raises:
        ImageError: A colour is in neither; the message holds the lines that a class map needs.
    """
    own, named = class_map.colours, {} if table is None else table.by_colour
    values, inverse, counts = np.unique(colours, return_inverse=True, return_counts=True)
    if len(values) > _MOST_COLOURS:
        raise ImageError(
            f"it has {len(values)} colours: a photograph, or a mask whose edges were smoothed; export masks "
            "without smoothing"
        )
    ids = np.zeros(len(values), np.uint8)
    unknown: dict[Colour, int] = {}
    for index, value in enumerate(values.tolist()):
        colour = (value >> 16, value >> 8 & 255, value & 255)
        if value < 0:
            ids[index] = IGNORE
        elif colour in own:
            ids[index] = own[colour]
        elif colour in named:
            ids[index] = lookup(named[colour])
        elif colour == _BLACK and (own or named):
            ids[index] = class_map.background
        else:
            unknown[colour] = int(counts[index])
    if unknown:
        raise ImageError(_unknown_colours(unknown, colours.size, table))
    return ids[inverse].reshape(colours.shape)


def by_colour(mask: PngMask, class_map: ClassMap, table: ColourTable | None) -> bool:
    """Return whether a mask means its colours: it has no ids, or a class is known for every used colour.

    Equal channels are a colour where any colour has a class, else ids.
    """
    if mask.colours is None or mask.ids is None:
        return mask.ids is None
    known = {*class_map.colours, *({} if table is None else table.by_colour)}
    if not known or mask.thrice:
        return bool(known)
    packed = {-1, 0, *(red << 16 | green << 8 | blue for red, green, blue in known)}
    return packed.issuperset(np.unique(mask.colours).tolist())


def shares(counts: Mapping[str, int]) -> str:
    """List keys with their shares of pixels, the largest first."""
    whole = max(1, sum(counts.values()))
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    shown = [f"{name} {count / whole:.1%}" for name, count in ordered[:_SHOWN] if count]
    return ", ".join(shown) + (", ..." if len(ordered) > _SHOWN else "")


def show_colours(colours: Mapping[Colour, int]) -> str:
    """Return lines of a class map for colours, the most frequent first, with names to fill in."""
    ordered = sorted(colours, key=lambda colour: -colours[colour])[:_SHOWN]
    return "\n".join(["[classes]", *(f'"{r},{g},{b}" = "ignore"' for r, g, b in ordered)])


def _unknown_colours(unknown: Mapping[Colour, int], pixels: int, table: ColourTable | None) -> str:
    counts = {f"({r}, {g}, {b})": count for (r, g, b), count in unknown.items()}
    named = sum(counts.values()) / pixels
    beside = (
        "there is no labelmap.txt or label_colors.txt beside it"
        if table is None
        else f"{table.name} beside it names no colours"
        if not table.by_colour
        else f"{table.name} beside it does not name them"
    )
    return (
        f"it is a mask of colours, and the class of {named:.1%} of its pixels is unknown "
        f"({shares(counts)}): {beside}. Export with such a file, as COCO or CVAT XML, or give "
        f"--class-map with the right names in\n{show_colours(unknown)}\n"
    )


def _grey(png: bytes, depth: int) -> NDArray[np.uint8]:
    if depth == 8:
        return decode_label(png)
    # Decoders scale fewer bits to the whole range; this restores the ids as written.
    return np.asarray(decode_unchanged(png) // (255 // ((1 << depth) - 1)), np.uint8)


def _as_grey(png: bytes) -> bytes:
    """Return the same PNG with its palette's indices declared as grey: both store rows in the same way."""
    kept = [chunk for kind, chunk in png_chunks(png) if kind in (b"IDAT", b"IEND")]
    header = png[16:25] + bytes([_GREY]) + png[26:29]
    chunk = b"IHDR" + header
    return b"".join(
        [_SIGNATURE, struct.pack(">I", len(header)), chunk, struct.pack(">I", zlib.crc32(chunk)), *kept]
    )


def _renumbered(png: bytes, indices: NDArray[np.uint8]) -> bool:
    """Return whether a palette holds nothing but greys, and a used one at another index than its value.

    Programs that make PNGs smaller without loss write a grey mask so: its ids are the greys, not the indices.
    """
    palette = next((chunk[8:-4] for kind, chunk in png_chunks(png) if kind == b"PLTE"), b"")
    levels = np.frombuffer(palette, np.uint8, len(palette) // 3 * 3).reshape(-1, 3)
    used = np.unique(indices)
    return bool((levels == levels[:, :1]).all() and (levels[used[used < len(levels)], 0] != used).any())


def _packed(pixels: NDArray[np.uint8]) -> NDArray[np.int32]:
    wide = pixels.astype(np.int32)
    if pixels.ndim == 2:
        return np.asarray(wide * 0x010101, np.int32)
    packed = wide[..., 2] << 16 | wide[..., 1] << 8 | wide[..., 0]
    if pixels.shape[2] == 4:
        packed[pixels[..., 3] == 0] = -1
    return np.asarray(packed, np.int32)
