"""Headers of encoded images, and the check that an image is complete: JPEG, PNG and WebP.

The bytes come from the network: nothing is allocated by what a header says, the time is bounded, and the only
error that bad bytes cause is an ``ImageError``. The module uses the standard library only.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass, field
from typing import Literal

__all__ = [
    "ImageError",
    "ImageInfo",
    "as_bytes",
    "check_complete",
    "in_one_scan",
    "orientation",
    "png_chunks",
    "probe",
    "without_exif",
]

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: Channels once decoded and allowed bit depths by colour type; PNG specification, table 11.1.
_PNG_COLOURS = {
    0: (1, (1, 2, 4, 8, 16)),
    2: (3, (8, 16)),
    3: (3, (1, 2, 4, 8)),
    4: (2, (8, 16)),
    6: (4, (8, 16)),
}

#: Beginnings of JPEG, PNG and WebP as base64, and of an address that holds one.
_BASE64 = (b"/9j/", b"iVBORw0KGgo", b"UklGR", b"data:image/")
_EXIF, _ORIENTATION = b"Exif\0\0", 0x0112
_TEXT_PROFILES = (b"Raw profile type exif", b"Raw profile type APP1", b"XML:com.adobe.xmp")

#: A JPEG marker, after any number of fill bytes; ITU-T T.81, B.1.1.2.
_JPEG_MARKER = re.compile(rb"\xff+([^\xff])", re.DOTALL)
#: The marker that ends entropy-coded data: neither a stuffed zero nor a restart marker. Of fixed length, with
#: a literal first byte, so that a search is linear and runs at the speed of memchr.
_JPEG_SCAN_END = re.compile(rb"\xff[^\xff\x00\xd0-\xd7]", re.DOTALL)
_SOI, _EOI, _SOS, _APP1 = 0xD8, 0xD9, 0xDA, 0xE1
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
#: Frames whose coefficients come in one go: baseline and extended sequential DCT (T.81, B.2.2).
_JPEG_SEQUENTIAL = frozenset({0xC0, 0xC1})
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD8)})
# These bound the time that hostile bytes can cost: encoders write some tens of segments and a dozen scans,
# and chunks of 8 KiB and more.
_MAX_JPEG_SEGMENTS = 1024
_MAX_JPEG_SCANS = 100
_MAX_PNG_CHUNKS = 1 << 16


class ImageError(ValueError):
    """Error: the bytes are not a usable image, or the pixels cannot be encoded."""


@dataclass(frozen=True, kw_only=True)
class ImageInfo:
    """Facts that the header of an encoded image declares.

    Attributes:
        format: Container, recognised by its signature.
        width: Width in pixels as stored: EXIF orientation is applied neither here nor when decoding.
        height: Height in pixels as stored.
        channels: 1 for grey, 2 grey and alpha, 3 colour (also a PNG palette), 4 colour and alpha.
        bit_depth: Bits of a sample (of an index for a palette).
        body: Offset of the data behind the frame header of a JPEG.
        sequential: Whether it is a JPEG of sequential DCT.
    """

    format: Literal["jpeg", "png", "webp"]
    width: int
    height: int
    channels: int
    bit_depth: int
    body: int = field(default=0, compare=False)
    sequential: bool = field(default=False, compare=False)


def as_bytes(data: bytes | memoryview) -> bytes | memoryview:
    """The same bytes, whose items are numbers from 0 to 255: those of a numpy array would overflow in sums.

    OpenCV's encoders return such arrays.
    """
    return data if isinstance(data, bytes) else memoryview(data).cast("B")


def probe(data: bytes | memoryview) -> ImageInfo:
    """Read an image's header without decoding it.

    Allocates nothing by what the header declares, and takes time bounded by the header's length.

    Args:
        data: An encoded image; any object with a buffer will do, such as an array of OpenCV's.

    Raises:
        ImageError: empty, truncated within the header, inconsistent, or neither JPEG, PNG nor WebP.
    """
    data = as_bytes(data)
    if len(data) == 0:
        raise ImageError("the image is empty (0 bytes)")
    head = bytes(data[:16])
    if head.startswith(b"\xff\xd8"):
        return _probe_jpeg(data)
    if head.startswith(_PNG_SIGNATURE):
        return _probe_png(data)
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return _probe_webp(data)
    if any(magic.startswith(head) for magic in (b"\xff\xd8", _PNG_SIGNATURE)):
        raise ImageError(f"the image is truncated: only {len(data)} bytes")
    text = "; it is text in base64: send the bytes themselves" if head.startswith(_BASE64) else ""
    raise ImageError(f"neither JPEG, PNG nor WebP: the data begins with {head[:8].hex(' ')}{text}")


def check_complete(data: bytes | memoryview, info: ImageInfo) -> None:
    """Check that the file is not truncated; decoders silently fill the missing part with grey.

    Raises:
        ImageError: no JPEG end-of-image marker, a PNG chunk longer than the data, no PNG IEND chunk, or fewer
            bytes than a WebP declares.
    """
    if info.format == "jpeg":
        _check_jpeg_complete(data, info.body)
    elif info.format == "png":
        _check_png_complete(data)
    else:
        (length,) = struct.unpack("<I", data[4:8])
        if length + 8 > len(data):
            raise ImageError(f"the WebP is truncated: {len(data)} of {length + 8} bytes")


def in_one_scan(data: bytes | memoryview, info: ImageInfo) -> bool:
    """Return whether one scan holds the whole image, as cameras write it.

    libjpeg decodes such a JPEG as it reads, refuses any further scan, and warns of a missing end, so a decode
    without a warning shows that it is complete.

    Raises:
        ImageError: truncated before the scan, or inconsistent.
    """
    if not info.sequential:
        return False
    position = info.body
    for _ in range(_MAX_JPEG_SEGMENTS):
        marker, body, position = _jpeg_segment(data, position)
        if marker == _SOS:
            return body[:1] == bytes((info.channels,))
        if marker == _EOI:
            break
    return False


def without_exif(data: bytes) -> bytes:
    """Remove the EXIF and XMP data of an image, so that no program rotates it; the pixels are unchanged.

    Args:
        data: JPEG or PNG; any other image is returned unchanged.

    Raises:
        ImageError: The header is damaged.
    """
    info = probe(data)
    if info.format == "jpeg":
        return _jpeg_without_exif(data)
    if info.format == "png":
        kept = [chunk for kind, chunk in png_chunks(data) if kind != b"eXIf" and not _is_profile(chunk)]
        return b"".join([_PNG_SIGNATURE, *kept])
    return data


def orientation(data: bytes) -> int:
    """Return the EXIF orientation of a JPEG, by which many programs turn it: 2 to 8; 1 where there is none.

    Raises:
        ImageError: The header is damaged.
    """
    if probe(data).format != "jpeg":
        return 1
    position = 2
    for _ in range(_MAX_JPEG_SEGMENTS):
        marker, body, position = _jpeg_segment(data, position)
        if marker in _JPEG_FRAMES:
            break
        if marker == _APP1 and body.startswith(_EXIF):
            return _exif_orientation(bytes(body[len(_EXIF) :]))
    return 1


def _exif_orientation(exif: bytes) -> int:
    """Find the tag in the first directory (TIFF 6.0, section 2)."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for number in range(count):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", exif, start + 2 + 12 * number)
            if tag == _ORIENTATION:
                return value if 2 <= value <= 8 else 1
    except struct.error:
        pass  # it is cut off, and programs do not turn the image
    return 1


def png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Split a PNG into its chunks, by name, each complete: length, name, content and checksum.

    Raises:
        ImageError: the PNG is truncated.
    """
    _check_png_complete(data)
    position, found = len(_PNG_SIGNATURE), list[tuple[bytes, bytes]]()
    while not found or found[-1][0] != b"IEND":
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        found.append((data[position + 4 : position + 8], data[position:end]))
        position = end
    return found


def _is_profile(chunk: bytes) -> bool:
    """Return whether a text chunk holds EXIF or XMP as ImageMagick and others write them."""
    kind, text = chunk[4:8], chunk[8:64]
    return kind in (b"zTXt", b"tEXt", b"iTXt") and text.startswith(_TEXT_PROFILES)


def _jpeg_without_exif(data: bytes) -> bytes:
    """Drop the APP1 segments before the frame header: EXIF and XMP (T.81, B.2.4.6)."""
    kept, position = [data[:2]], 2
    for _ in range(_MAX_JPEG_SEGMENTS):
        marker, body, end = _jpeg_segment(data, position)
        if marker in _JPEG_FRAMES:
            return b"".join([*kept, data[position:]])
        if not (marker == _APP1 and body.startswith((b"Exif\0", b"http://ns.adobe.com/"))):
            kept.append(data[position:end])
        position = end
    raise ImageError(f"the JPEG has no frame header within {_MAX_JPEG_SEGMENTS} segments")


def _check_size(kind: str, width: int, height: int) -> None:
    if width == 0 or height == 0:
        raise ImageError(f"the {kind} declares {width}x{height} pixels")


def _probe_jpeg(data: bytes | memoryview) -> ImageInfo:
    """Find the frame header (ITU-T T.81, B.2.2)."""
    position = 2
    for _ in range(_MAX_JPEG_SEGMENTS):
        marker, body, position = _jpeg_segment(data, position)
        if marker in _JPEG_FRAMES:
            if len(body) < 6 or len(body) != 6 + 3 * body[5]:
                raise ImageError("the JPEG's frame header has a wrong length")
            depth, height, width, channels = struct.unpack(">BHHB", body[:6])
            _check_size("JPEG", width, height)
            return ImageInfo(
                format="jpeg",
                width=width,
                height=height,
                channels=channels,
                bit_depth=depth,
                body=position,
                sequential=marker in _JPEG_SEQUENTIAL,
            )
        if marker in (_SOI, _EOI, _SOS):
            raise ImageError(f"the JPEG has a marker ff{marker:02x} before its frame header")
    raise ImageError(f"the JPEG has no frame header within {_MAX_JPEG_SEGMENTS} segments")


def _check_jpeg_complete(data: bytes | memoryview, position: int) -> None:
    """Walk the segments to the end-of-image marker, so that one inside an EXIF thumbnail does not count.

    ``position`` is behind the frame header, see ``ImageInfo.body``.
    """
    scans = 0
    for _ in range(_MAX_JPEG_SEGMENTS):
        marker, _, position = _jpeg_segment(data, position)
        if marker == _EOI:
            if scans == 0:
                raise ImageError("the JPEG holds no scan")
            return
        if marker == _SOS:
            scans += 1
            if scans > _MAX_JPEG_SCANS:
                raise ImageError(f"the JPEG has more than {_MAX_JPEG_SCANS} scans")
            end = _JPEG_SCAN_END.search(data, position)
            if end is None:
                raise ImageError(f"the JPEG is truncated: no end-of-image marker in {len(data)} bytes")
            position = end.start()
    raise ImageError(f"the JPEG does not end within {_MAX_JPEG_SEGMENTS} segments")


def _jpeg_segment(data: bytes | memoryview, position: int) -> tuple[int, bytes, int]:
    """Return the marker at ``position``, its body without the length, and the offset after it."""
    if position + 1 < len(data) and data[position] == 0xFF != data[position + 1]:
        marker, start = data[position + 1], position + 2  # as usual, without fill bytes
    else:
        match = _JPEG_MARKER.match(data, position)
        if match is None:
            if position + 1 < len(data) and data[position] != 0xFF:
                raise ImageError(f"the JPEG has no marker where one is due, at byte {position}")
            raise ImageError(f"the JPEG is truncated at byte {len(data)}")
        marker, start = match[1][0], match.end()
    if marker in (_SOI, _EOI) or marker in _JPEG_BARE:
        return marker, b"", start
    if start + 2 > len(data):
        raise ImageError(f"the JPEG is truncated at byte {len(data)}")
    length = data[start] << 8 | data[start + 1]
    if length < 2:
        raise ImageError(f"the JPEG has a segment of length {length} at byte {start}")
    if start + length > len(data):
        raise ImageError(f"the JPEG is truncated at byte {len(data)}")
    return marker, bytes(data[start + 2 : start + length]), start + length


def _probe_png(data: bytes | memoryview) -> ImageInfo:
    """Read the header of a PNG (specification, 11.2.1: IHDR comes first)."""
    header = bytes(data[8:33])
    if len(header) < 25:
        raise ImageError(f"the PNG is truncated within its header: {len(data)} bytes")
    length, kind, width, height, depth, colour, compression, filtering, interlace, crc = struct.unpack(
        ">I4sIIBBBBBI", header
    )
    if kind != b"IHDR" or length != 13 or zlib.crc32(header[4:21]) != crc:
        raise ImageError("the PNG does not begin with a valid IHDR chunk")
    _check_size("PNG", width, height)
    channels, depths = _PNG_COLOURS.get(colour, (0, ()))
    if depth not in depths or compression or filtering or interlace > 1 or max(width, height) >= 1 << 31:
        raise ImageError(
            f"the PNG declares {width}x{height}, colour type {colour}, bit depth {depth}, "
            f"interlace {interlace}: not allowed"
        )
    return ImageInfo(format="png", width=width, height=height, channels=channels, bit_depth=depth)


def _check_png_complete(data: bytes | memoryview) -> None:
    """Walk the chunks to IEND (PNG specification, 5.3).

    OpenCV allocates the declared length of a chunk before it checks that so many bytes follow: two gigabytes,
    and seconds to clear them, for a file of a hundred bytes.
    """
    position = len(_PNG_SIGNATURE)
    for _ in range(_MAX_PNG_CHUNKS):
        head = bytes(data[position : position + 8])
        length = int.from_bytes(head[:4], "big")
        # Length, name, content, checksum.
        position += 12 + length
        if len(head) < 8 or position > len(data):
            raise ImageError(f"the PNG is truncated: no IEND chunk in {len(data)} bytes")
        if head[4:] == b"IEND":
            return
    raise ImageError(f"the PNG does not end within {_MAX_PNG_CHUNKS} chunks")


def _probe_webp(data: bytes | memoryview) -> ImageInfo:
    """Read the header of a WebP (container specification; RFC 6386, 9.1 for VP8, lossless one for VP8L)."""
    head = bytes(data[12:30])
    if len(head) < 18:
        raise ImageError(f"the WebP is truncated within its header: {len(data)} bytes")
    kind, body = head[:4], head[8:]
    alpha = False
    if kind == b"VP8 ":
        if body[0] & 1 or body[3:6] != b"\x9d\x01\x2a":
            raise ImageError("the WebP does not begin with a VP8 key frame")
        width, height = (side & 0x3FFF for side in struct.unpack("<HH", body[6:10]))
        _check_size("WebP", width, height)
    elif kind == b"VP8L":
        (bits,) = struct.unpack("<I", body[1:5])
        if body[0] != 0x2F or bits >> 29:
            raise ImageError("the WebP has a wrong VP8L signature")
        width, height, alpha = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1)
    elif kind == b"VP8X":
        width, height = (int.from_bytes(body[i : i + 3], "little") + 1 for i in (4, 7))
        alpha = bool(body[0] & 0x10)
    else:
        raise ImageError(f"the WebP begins with an unknown chunk {kind!r}")
    return ImageInfo(format="webp", width=width, height=height, channels=4 if alpha else 3, bit_depth=8)
