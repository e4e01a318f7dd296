"""What is fuzzed: for each kind of input from outside, the code that reads it, as a function of bytes.

A target tells why it refused its input, or None where it took it. Only the errors that the code declares are
caught, so anything else that comes out of a target is a finding.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import pytest

from dance_ondevice.daemon.config import load as config
from dance_ondevice.daemon.config import sections
from dance_ondevice.daemon.ingest.pixels import check_frame, check_label_png, encode_for_store
from dance_ondevice.daemon.wire import codec as wire
from dance_ondevice.daemon.wire.messages import Buffer, Goodbye, LabelMessage, Reason, WireError
from dance_ondevice.images.codec import decode_label
from dance_ondevice.images.headers import ImageError
from dance_ondevice.images.labels import STREET_CLASSES, LabelError, check_label
from dance_ondevice.label_formats import colours, masks
from dance_ondevice.label_formats.class_map import ClassMap, ClassMapError, read_class_map
from dance_ondevice.label_formats.reader import Format, read_bytes
from dance_ondevice.label_formats.regions import FormatError, names, paint
from dance_ondevice.models.card import CheckpointError, decode_card, encode_card

#: Between the parts of a message in one string of bytes.
PART_END = b"\n~~\n"
MAX_PIXELS = 1 << 16
LIMITS = sections.Ingest(max_message_bytes=1 << 20, max_pixels=MAX_PIXELS, max_header_bytes=4096)
N_CLASSES = 11
CORPUS = Path(__file__).with_name("corpus")

Target = Callable[[bytes], "str | None"]


def read_message(data: bytes) -> str | None:
    """A message as ingest sees it: header, parts, image, label."""
    try:
        message = wire.parse(data.split(PART_END), LIMITS)
        if isinstance(message, Goodbye):
            return None
        if isinstance(message, LabelMessage):
            check_label_png(message.label, size=None, max_pixels=MAX_PIXELS, n_classes=N_CLASSES)
            return None
        _check_image(
            message.image,
            encoding=getattr(message, "encoding", None),
            shape=message.shape,
            label=getattr(message, "label", None),
        )
    except WireError as error:
        return _reason(error)
    return None


def read_answer(data: bytes) -> str | None:
    """What a sender and a subscriber get to read."""
    reasons = []
    for read in (wire.parse_reply, lambda text: wire.parse_mask(text.split(PART_END))):
        try:
            read(data)
        except WireError as error:
            reasons.append(_reason(error))
    return reasons[0] if len(reasons) == 2 else None


def read_image(data: bytes) -> str | None:
    """An image without a header, in both decodes."""
    try:
        _check_image(data, encoding=None, shape=None, label=None)
    except WireError as error:
        return _reason(error)
    return None


def read_label(data: bytes) -> str | None:
    """A label mask, over the wire and in the library."""
    try:
        check_label_png(data, size=None, max_pixels=MAX_PIXELS, n_classes=N_CLASSES)
    except WireError as error:
        reason = _reason(error)
        # The library alone has no limit of its own: as large as it says is what it takes.
        if reason != "pixels":
            with pytest.raises((ImageError, LabelError)):
                check_label(decode_label(data), N_CLASSES)
        return reason
    check_label(decode_label(data), N_CLASSES)
    return None


def read_config(data: bytes) -> str | None:
    """A configuration file."""
    with _file(data) as path:
        try:
            loaded = config.load(path)
        except config.ConfigError as error:
            return "config" if str(error) else None
    for _, value in config.items(loaded.config):
        config.toml_value(value)
    return None


def read_model_card(data: bytes) -> str | None:
    """A model card, which must survive being written again."""
    try:
        card = decode_card(data, "card.json")
    except CheckpointError:
        return "card"
    assert decode_card(encode_card(card), "again") == card
    return None


def read_labels_of_tools(data: bytes, kind: Format = "auto") -> str | None:
    """An export of a labelling tool, painted where it is small."""
    try:
        export = read_bytes("export", data, kind)
    except FormatError:
        return "format"
    refused = bool(export.refused)
    for image in export.images:
        if image.width * image.height > MAX_PIXELS:
            continue
        try:
            mask = paint(image, dict.fromkeys(names([image]), 1))
        except FormatError:
            refused = True
        else:
            assert mask.shape == (image.height, image.width)
    return "image" if refused else None


def read_tool_mask(data: bytes) -> str | None:
    """A tool's PNG mask: a palette's indices, or colours by a table."""
    try:
        decoded = masks.decode_mask(data)
        if decoded.colours is not None:
            masks.from_colours(decoded.colours, ClassMap({"#804080": 3}), None, lambda _: 0)
    except ImageError:
        return "image"
    return None


def read_colours(data: bytes) -> str | None:
    """A table of colours, in each of its forms."""
    refused = []
    for name in colours.TABLES:
        try:
            colours.read_table(name, data)
        except FormatError as error:
            refused.append(str(error))
    return "table" if len(refused) == len(colours.TABLES) else None


def read_classes(data: bytes) -> str | None:
    """A class map."""
    try:
        read_class_map(data.decode("utf-8", "replace"), STREET_CLASSES)
    except ClassMapError:
        return "class map"
    return None


#: By the prefix of the files in the corpus that are of this kind.
TARGETS: Mapping[str, Target] = {
    "message": read_message,
    "answer": read_answer,
    "image": read_image,
    "label": read_label,
    "config": read_config,
    "card": read_model_card,
    "export": read_labels_of_tools,
    "coco": functools.partial(read_labels_of_tools, kind="coco"),
    "cvat": functools.partial(read_labels_of_tools, kind="cvat"),
    "labelstudio": functools.partial(read_labels_of_tools, kind="labelstudio"),
    "classmap": read_classes,
    "toolmask": read_tool_mask,
    "colours": read_colours,
}


def corpus(target: str) -> list[bytes]:
    """The committed inputs of a target; ``export`` reads those of every tool."""
    kinds = ("coco", "cvat", "labelstudio") if target == "export" else (target,)
    return [path.read_bytes() for path in sorted(CORPUS.iterdir()) if path.name.split("-")[0] in kinds]


def _check_image(image: Buffer, *, encoding: Any, shape: Any, label: Any) -> None:
    frame = check_frame(
        image,
        encoding=None if encoding == "raw" else encoding,
        shape=shape,
        label=label,
        max_pixels=MAX_PIXELS,
        n_classes=N_CLASSES,
    )
    encode_for_store(frame, 0.5)


def _reason(error: WireError) -> str:
    # Each is a time series of the counter of refusals: others would be counted as nothing that is known.
    assert error.reason in get_args(Reason)
    assert len(wire.refused(error)) < 4096
    return error.reason


@contextmanager
def _file(data: bytes) -> Iterator[Path]:
    """A file that is never on a disk."""
    descriptor = os.memfd_create("fuzz")
    try:
        os.write(descriptor, data)
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
